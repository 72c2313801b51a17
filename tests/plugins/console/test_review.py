"""The review pages: both sides of a question, and what each answer does to the bot."""

import pytest

from bot.plugin_api import ReviewStatus
from bot.testing import FakeBot
from tests.plugins.console.console_helpers import MOUNT, Console, build_app, connect


async def test_open_questions_are_listed_the_most_pressing_first(console):
    html = await console.get("/review")
    assert html.index("Two people, two labels") < html.index("The model is unsure")
    assert "Account access / Security incident" in html


async def test_both_sides_of_a_question_are_shown_masked_with_who_and_how_sure(console):
    html = await console.get("/review/1")
    assert "Mira Okafor" in html
    assert "Jonas Lind" in html
    assert "&lt;PERSON_1&gt; lost a laptop" in html
    assert "31% sure" in await console.get("/review/2")


async def test_an_answer_settles_the_question_under_the_persons_name(console, bot):
    changes = {"answer": "label", "label": "Security incident", "golden": "yes", "reason": "a lost device"}
    response = await console.submit("/review/1", "/review/1", changes=changes)
    assert response.headers["location"] == f"{MOUNT}/review?done=settled"
    assert bot.manager.audit[-1] == ("console", "resolve_review", "1 Security incident golden a lost device")
    assert "question 1" not in await console.get("/review")
    assert "Settled" in await console.get("/review?show=all")
    assert '<form method="post" action="/plugins/console/review/1"' not in await console.get("/review/1")


@pytest.mark.parametrize(("answer", "status"), [("withdraw", ReviewStatus.RESOLVED), ("dismiss", ReviewStatus.DISMISSED)])
async def test_a_question_is_withdrawn_or_dismissed(console, bot, answer, status):
    await console.submit("/review/2", "/review/2", changes={"answer": answer})
    assert bot.manager.reviews[2].status is status


@pytest.mark.parametrize("changes", [{}, {"answer": "label", "label": ""}, {"answer": "nonsense"}])
async def test_an_answer_without_a_label_is_one_sentence(console, bot, changes):
    response = await console.submit("/review/1", "/review/1", status=400, changes=changes)
    assert "Choose the right label first" in response.text
    assert bot.manager.reviews[1].status is ReviewStatus.OPEN


async def test_a_settled_question_cannot_be_answered_again_and_an_unknown_one_is_not_there(console, bot):
    await bot.manager.dismiss_review(1, actor="ana")
    form = {"csrf": "", "answer": "dismiss"}
    page = await console.client.post(f"{MOUNT}/review/1", data=form)
    assert page.status_code in {400, 403}
    await console.get("/review/99", status=404)


async def test_an_empty_queue_says_so():
    async with connect(build_app(FakeBot())) as client:
        assert "Nothing is doubtful right now" in await Console(FakeBot(), client).get("/review")
