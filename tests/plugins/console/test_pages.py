"""What each page shows, and that whatever people wrote is shown as text."""

import pytest

from bot.plugin_api import RunStatus, SourceRef, Turn
from bot.testing import FakeBot, FakeClock
from tests.plugins.console.console_helpers import Console, build_app, connect


async def test_inbox_shows_open_tickets_with_suggestion_and_figures(console):
    html = await console.get("/")
    assert "Locked out after changing my phone" in html
    assert "very likely, 93%" in html
    assert "Invoice shows the same charge twice" not in html
    assert "Override rate" in html
    assert "14%" in html


async def test_inbox_hides_the_label_of_a_blind_ticket(console):
    console.bot.answer = ("Hardware", 0.97)
    console.bot.is_blind = True
    await console.bot.classify("Blank pages", source=SourceRef("slack", "blind"))
    html = await console.get("/")
    assert "Blind: choose first" in html
    assert "97%" not in html


@pytest.mark.parametrize(
    ("shown", "subject"),
    [("decided", "VPN drops every ten minutes"), ("handed-off", "Question about a second site"), ("all", "Text withheld")],
)
async def test_filter_shows_tickets_of_that_state(console, shown, subject):
    assert subject in await console.get(f"/?show={shown}")
    assert subject not in await console.get("/")


async def test_inbox_pages_on_until_the_last_ticket(console, bot):
    for n in range(30):
        await bot.classify(f"ticket {n}", source=SourceRef("slack", f"more-{n}"), subject=f"Number {n:02}")
    first = await console.get("/?show=all")
    assert "Number 29" in first
    assert "Number 04" not in first
    second = await console.get("/?show=all&before=20")
    assert "Number 04" in second
    assert ">Older<" not in second


async def test_wrong_filter_and_page_fall_back_to_the_start(console):
    assert "Locked out" in await console.get("/?show=nonsense&before=abc")


async def test_empty_inbox_says_what_to_do():
    async with connect(build_app(FakeBot())) as client:
        html = await Console(FakeBot(), client).get("/")
    assert "Nothing is waiting" in html
    assert "/tickets/new" in html


async def test_ticket_shows_conversation_card_and_summary(console):
    html = await console.get("/tickets/14")
    for text in (
        "recovery codes",
        "Account access",
        "Very likely",
        "Identity",
        "Or is it",
        "Suggested reply",
        "Excerpt",
        "History",
    ):
        assert text in html


async def test_low_confidence_is_phrased_as_a_question(console, bot):
    bot.answer = ("Hardware", 0.31)
    card = await bot.classify("Hm", source=SourceRef("slack", "low"))
    html = await console.get(f"/tickets/{card.ticket_id}")
    assert "Is this “Hardware”?" in html
    assert "Yes, it is" in html


async def test_blind_ticket_shows_no_trace_of_the_suggestion(console, bot):
    bot.answer, bot.is_blind = ("Hardware", 0.87), True
    card = await bot.classify("Blank pages", source=SourceRef("slack", "b"))
    html = await console.get(f"/tickets/{card.ticket_id}")
    assert "Which label fits?" in html
    assert "87%" not in html
    assert card.reason not in html
    assert 'value="accept"' not in html


async def test_withheld_ticket_says_why_there_is_no_text(console):
    html = await console.get("/tickets/8")
    assert "Personal data could not be masked" in html
    assert "No suggestion" in html


async def test_paused_bot_is_said_on_every_page_and_on_the_card(console, bot):
    bot.is_paused = True
    card = await bot.classify("Hello", source=SourceRef("slack", "p"))
    for path in ("/", "/adapters", "/training", f"/tickets/{card.ticket_id}"):
        assert "Suggestions are paused" in await console.get(path)


async def test_text_of_a_ticket_is_never_markup(console, bot):
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'"
    turns = (Turn(evil, evil),)
    card = await bot.classify(evil, source=SourceRef("slack", "evil"), subject=evil, turns=turns)
    await bot.summarize("", source=SourceRef("slack", "evil"))
    bot.answer = ("Hardware", 0.9)
    for path in ("/", f"/tickets/{card.ticket_id}"):
        html = await console.get(path)
        assert "<script>alert" not in html
        assert "<img src=x" not in html
        assert "&lt;script&gt;alert" in html


async def test_adapters_show_what_is_live_and_both_charts(console):
    html = await console.get("/adapters")
    for text in (
        "Live since",
        "85.8%",
        "before and after the last change",
        "+4.9 points",
        "Share of suggestions accepted, from 58%",
    ):
        assert text in html
    assert html.count(">Promote<") == 3  # a candidate and two retired ones; neither live nor rejected


async def test_adapters_without_any_name_the_base_model():
    async with connect(build_app(FakeBot())) as client:
        html = await Console(FakeBot(), client).get("/adapters")
    assert "the bare base model answers" in html
    assert "begins with the second 50 decisions" in html


async def test_training_shows_the_dry_run_and_what_is_left_out(console):
    html = await console.get("/training")
    for text in (
        "414 examples would be used",
        "Left out: 38",
        "contradicts another decision",
        "Recall of Security incident fell",
    ):
        assert text in html


async def test_training_without_enough_examples_offers_no_run(console, bot):
    bot.manager.is_enough = False
    html = await console.get("/training")
    assert "Too few examples" in html
    assert html.count(" disabled>Retrain") == 2


async def test_run_page_without_scripts_reloads_itself_until_the_verdict(console, bot):
    run = await bot.manager.start_run("classification", actor="x")
    bot.clock.advance(bot.manager.run_s / 2)
    html = await console.get(f"/training/runs/{run.run_id}")
    assert '<noscript><meta http-equiv="refresh"' in html
    assert "Training, step 60 of 120" in html
    bot.clock.advance(bot.manager.run_s)
    html = await console.get(f"/training/runs/{run.run_id}")
    assert "http-equiv" not in html
    assert "Accuracy rose" in html


async def test_run_that_waits_for_approval_leads_to_its_adapter(console, bot):
    bot.manager.outcome = RunStatus.AWAITING_APPROVAL
    run = await bot.manager.start_run("classification", actor="x")
    bot.clock.advance(bot.manager.run_s)
    assert "Review and promote" in await console.get(f"/training/runs/{run.run_id}")


async def test_events_tell_progress_up_to_the_verdict(console, bot):
    run = await bot.manager.start_run("classification", actor="x")
    response = await console.client.get(f"/plugins/console/training/runs/{run.run_id}/events")
    assert response.headers["content-type"].startswith("text/event-stream")
    assert '"percent": 50' in response.text
    assert '"isOver": true' in response.text.strip().splitlines()[-1]


@pytest.mark.parametrize(
    "path", ["/nope", "/tickets/999", "/tickets/abc", "/training/runs/99", "/training/runs/99/events", "/static/nope.css"]
)
async def test_unknown_address_gets_a_friendly_page(console, path):
    html = await console.get(path, status=404)
    assert 'role="alert"' in html
    assert "Go to the inbox" in html


async def test_fault_of_the_core_gets_a_friendly_page(console, bot, monkeypatch, caplog):
    async def fail():
        raise RuntimeError("disk on fire")

    monkeypatch.setattr(bot.inbox, "get_overview", fail)
    html = await console.get("/", status=500)
    assert "Something went wrong on our side" in html
    assert "disk on fire" not in html
    assert "RuntimeError" in caplog.text


@pytest.mark.parametrize("name", ["console.css", "console.js", "icon.svg"])
async def test_static_file_comes_with_its_type_and_may_be_kept(console, name):
    response = await console.client.get(f"/plugins/console/static/{name}?v=1")
    assert response.status_code == 200
    assert "immutable" in response.headers["cache-control"]
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_times_of_the_inbox_are_relative_to_now():
    bot = FakeBot(clock=FakeClock())  # a ticket of a fixed day in the past or future never fails the page
    await bot.classify("Hello", source=SourceRef("slack", "1"), subject="Old")
    async with connect(build_app(bot)) as client:
        assert "<time datetime=" in await Console(bot, client).get("/")
