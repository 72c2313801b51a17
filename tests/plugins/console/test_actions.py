"""What each button does to the bot, and what is refused with one sentence."""

import pytest

from bot.plugin_api import BASE, AdapterStatus, BotError, BusyError, FeedbackKind, SourceRef, TaskKind
from tests.plugins.console.console_helpers import MOUNT, parse_forms

DECISION = "/tickets/14/decision"


async def test_accept_records_feedback_with_actor_and_time(console):
    response = await console.submit("/tickets/14", DECISION, kind="accept")
    given = console.bot.feedback[-1]
    assert (given.kind, given.actor, given.value) == (FeedbackKind.ACCEPT, "console", None)
    assert 0 <= given.decision_ms < 60_000
    assert response.headers["location"] == f"{MOUNT}/tickets/14?done=accept"
    html = await console.get("/tickets/14?done=accept")
    assert "console accepted the suggestion" in html
    assert "Change decision" in html


async def test_double_click_is_one_feedback(console):
    form = next(f for a, f in parse_forms(await console.get("/tickets/14")) if f.get("kind") == "accept")
    first = await console.client.post(MOUNT + DECISION, data=form)
    second = await console.client.post(MOUNT + DECISION, data=form)
    assert len(console.bot.feedback) == 1
    assert first.headers["location"].endswith("done=accept")
    assert second.headers["location"].endswith("done=already")


async def test_override_records_label_and_reason(console):
    await console.submit("/tickets/14", DECISION, kind="override", changes={"label": "Hardware", "reason": "old phone"})
    given = console.bot.feedback[-1]
    assert (given.kind, given.value, given.reason) == (FeedbackKind.OVERRIDE, "Hardware", "old phone")


async def test_override_with_the_suggested_label_is_an_accept(console):
    await console.submit("/tickets/14", DECISION, kind="override", changes={"label": "Account access"})
    assert console.bot.feedback[-1].kind is FeedbackKind.ACCEPT


async def test_hand_off_records_the_reason(console):
    await console.submit("/tickets/14", DECISION, kind="handoff", changes={"reason": "needs a phone call"})
    given = console.bot.feedback[-1]
    assert (given.kind, given.reason) == (FeedbackKind.HANDOFF, "needs a phone call")
    assert "Handed off" in await console.get("/tickets/14")


async def test_decision_can_be_corrected(console):
    await console.submit("/tickets/14", DECISION, kind="accept")
    await console.submit("/tickets/14", DECISION, kind="override", changes={"label": "Other"})
    html = await console.get("/tickets/14")
    assert [f.kind for f in console.bot.feedback] == [FeedbackKind.ACCEPT, FeedbackKind.OVERRIDE]
    assert "chose another label" in html


async def test_blind_choice_reveals_the_suggestion(console, bot):
    bot.answer, bot.is_blind = ("Hardware", 0.87), True
    card = await bot.classify("Blank pages", source=SourceRef("slack", "b"))
    page = f"/tickets/{card.ticket_id}"
    await console.submit(page, f"{page}/decision", kind="override", changes={"label": "Billing"})
    html = await console.get(page)
    assert "What was suggested, unseen" in html
    assert "87%" in html


async def test_blind_choice_equal_to_the_suggestion_counts_as_accepted(console, bot):
    bot.answer, bot.is_blind = ("Hardware", 0.87), True
    card = await bot.classify("Blank pages", source=SourceRef("slack", "b"))
    page = f"/tickets/{card.ticket_id}"
    await console.submit(page, f"{page}/decision", kind="override", changes={"label": "Hardware"})
    assert bot.feedback[-1].kind is FeedbackKind.ACCEPT


async def test_summary_is_accepted_and_edited(console):
    detail = await console.bot.inbox.get_ticket(14)
    inference = str(detail.summary.inference_id)
    await console.submit("/tickets/14", DECISION, kind="accept", inference_id=inference)
    await console.submit(
        "/tickets/14", DECISION, kind="edit", inference_id=inference, changes={"text": "Locked out.\r\nNeeds a reset."}
    )
    given = console.bot.feedback[-1]
    assert (given.kind, given.value) == (FeedbackKind.EDIT, "Locked out.\nNeeds a reset.")
    assert "Needs a reset." in await console.get("/tickets/14")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kind": "nonsense"}, "does not say what was decided"),
        ({"inference_id": "x"}, "form is incomplete"),
        ({"idempotency_key": ""}, "form is incomplete"),
        ({"idempotency_key": "<b>"}, "form is incomplete"),
        ({"kind": "override"}, "Choose a label first"),
        ({"kind": "override", "label": "No such label"}, "is not in the label set"),
        ({"kind": "edit", "text": "  "}, "summary is empty"),
        ({"reason": "x" * 301}, "301 characters, 300 are taken"),
    ],
)
async def test_incomplete_decision_is_refused_with_a_sentence(console, changes, sentence):
    response = await console.submit("/tickets/14", DECISION, status=400, kind="accept", changes=changes)
    assert sentence in response.text
    assert console.bot.feedback == []


async def test_decision_on_an_overtaken_suggestion_is_refused(console):
    response = await console.submit("/tickets/14", DECISION, status=409, kind="accept", changes={"inference_id": "1"})
    assert "has changed since this page was shown" in response.text


async def test_forged_time_is_not_recorded(console):
    await console.submit("/tickets/14", DECISION, kind="accept", changes={"stamp": "0.abc"})
    assert console.bot.feedback[-1].decision_ms is None


async def test_new_ticket_is_classified_and_summarised_once(console):
    response = await console.submit(
        "/tickets/new", "/tickets/new", changes={"subject": "Dock", "text": "My laptop dock is dead."}
    )
    html = await console.get(response.headers["location"].removeprefix(MOUNT))
    assert "Hardware" in html
    assert [verb for verb, _ in console.bot.calls[-2:]] == ["classify", "summarize"]


async def test_new_ticket_without_text_is_refused(console):
    response = await console.submit("/tickets/new", "/tickets/new", status=400, changes={"text": " "})
    assert "The text is empty" in response.text


async def test_refusal_of_the_core_is_shown(console):
    console.bot.fail_with = BotError("the queue is full, try again in a minute")
    response = await console.submit("/tickets/new", "/tickets/new", status=400, changes={"text": "Hello"})
    assert "The queue is full, try again in a minute." in response.text


async def test_a_busy_core_is_429_and_says_when_to_come_back(console):
    console.bot.fail_with = BusyError("no suggestion: 256 requests wait already")
    response = await console.submit("/tickets/new", "/tickets/new", status=429, changes={"text": "Hello"})
    assert response.headers["Retry-After"] == "1"
    assert "256 requests wait already" in response.text


async def test_form_longer_than_the_limit_is_refused(console):
    response = await console.submit("/tickets/new", "/tickets/new", status=400, changes={"text": "x" * 600_000})
    assert "longer than the 512 kB" in response.text


async def test_missing_suggestion_and_summary_can_be_made(console, bot):
    bot.is_paused = True
    card = await bot.classify("My laptop dock is dead", source=SourceRef("slack", "p"))
    bot.is_paused = False
    page = f"/tickets/{card.ticket_id}"
    await console.submit(page, f"{page}/suggestion")
    await console.submit(page, f"{page}/summary")
    html = await console.get(page)
    assert "Hardware" in html
    assert "Excerpt" in html


async def test_promote_asks_for_a_reason_and_makes_the_adapter_live(console):
    candidate = next(a for a in await console.bot.manager.list_adapters() if a.status is AdapterStatus.CANDIDATE)
    page = f"/adapters/{candidate.digest}/promote"
    assert "reason is empty" in (await console.submit(page, page, status=400)).text
    await console.submit(page, page, changes={"reason": "reviewed with the team"})
    assert console.bot.manager.live(TaskKind.CLASSIFICATION) == candidate.digest
    assert "reviewed with the team" in await console.get("/adapters")


async def test_the_first_of_two_approvals_is_noted_and_nothing_goes_live(console):
    console.bot.manager.approvers_needed = 2
    before = console.bot.manager.live(TaskKind.CLASSIFICATION)
    candidate = next(a for a in await console.bot.manager.list_adapters() if a.status is AdapterStatus.CANDIDATE)
    page = f"/adapters/{candidate.digest}/promote"
    response = await console.submit(page, page, changes={"reason": "reviewed"})
    assert response.headers["location"].endswith("done=approved")
    assert console.bot.manager.live(TaskKind.CLASSIFICATION) == before
    assert "Your approval is noted" in await console.get("/adapters?done=approved")


async def test_promote_of_a_rejected_adapter_is_refused(console):
    rejected = next(a for a in await console.bot.manager.list_adapters() if a.status is AdapterStatus.REJECTED)
    page = f"/adapters/{rejected.digest}/promote"
    response = await console.submit(page, page, status=409, changes={"reason": "x"})
    assert "only a candidate or retired one can be promoted" in response.text


async def test_roll_back_returns_to_the_adapter_before(console):
    before = console.bot.manager.live(TaskKind.CLASSIFICATION)
    page = "/adapters/rollback/classification"
    await console.submit(page, page, changes={"reason": "complaints"})
    assert console.bot.manager.live(TaskKind.CLASSIFICATION) not in {before, BASE}


async def test_roll_back_from_an_overtaken_page_is_refused(console):
    page = "/adapters/rollback/classification"
    response = await console.submit(page, page, status=400, changes={"reason": "x", "live": "0" * 64})
    assert "Another adapter has gone live" in response.text


async def test_roll_back_twice_ends_at_the_base_model_and_then_is_refused(console):
    page = "/adapters/rollback/summary"
    await console.submit(page, page, changes={"reason": "worse than the base"})
    assert console.bot.manager.live(TaskKind.SUMMARY) == BASE
    assert "nothing to go back to" in (await console.submit(page, page, status=409, changes={"reason": "again"})).text


async def test_retrain_starts_one_run_and_refuses_a_second(console):
    response = await console.submit("/training", "/training/start", task="classification")
    assert "/training/runs/3?done=started" in response.headers["location"]
    response = await console.submit("/training", "/training/start", status=409, task="summary")
    assert "already going" in response.text


async def test_cancel_ends_the_run(console):
    await console.submit("/training", "/training/start", task="classification")
    await console.submit("/training", "/training/runs/3/cancel")
    assert "Cancelled" in await console.get("/training/runs/3")


async def test_pause_and_resume(console):
    await console.submit("/training", "/training/pause", paused="yes")
    assert console.bot.is_paused
    await console.submit("/training", "/training/pause", paused="no")
    assert not console.bot.is_paused


async def test_name_is_kept_in_the_browser_and_recorded(console):
    await console.submit("/", "/actor", changes={"actor": "  Désk\x07 One "})
    assert "Désk One" in await console.get("/")
    await console.submit("/tickets/14", DECISION, kind="accept")
    assert console.bot.feedback[-1].actor == "Désk One"


async def test_empty_name_is_refused(console):
    assert "Enter your name" in (await console.submit("/", "/actor", status=400, changes={"actor": " "})).text
