"""The public fakes keep the contract that plugins rely on."""

from datetime import timedelta

import pytest

from bot.plugin_api import (
    BASE,
    AdapterStatus,
    Bot,
    BotError,
    ConflictError,
    Feedback,
    FeedbackKind,
    NotFoundError,
    RunStatus,
    SourceRef,
    TaskKind,
    TicketStatus,
    Turn,
)
from bot.testing import FakeBot, FakeClock, score_labels

SOURCE = SourceRef("slack", "C1/1")


@pytest.fixture
def bot():
    return FakeBot()


async def decide(bot, kind, *, key="k1", value=None, text="My laptop dock is dead"):
    card = await bot.classify(text, source=SOURCE) if not bot.tickets else (await bot.inbox.get_ticket(1)).classification
    return await bot.record_feedback(Feedback(card.inference_id, kind, "desk", key, value=value))


def test_fake_is_a_bot_for_the_type_checker():
    def take(bot: Bot) -> Bot:
        return bot

    assert take(FakeBot()).inbox.get_label_set().names


async def test_classify_suggests_by_shared_words_and_probabilities_sum_to_one(bot):
    card = await bot.classify("The battery of my laptop is dead", source=SOURCE)
    assert card.label == "Hardware"
    assert sum(score.probability for score in card.candidates) == pytest.approx(1.0)
    assert card.fields == {"queue": "Workplace", "priority": "normal", "escalate": "no"}
    assert card.adapter_digest == BASE


async def test_same_source_twice_is_one_ticket(bot):
    first = await bot.classify("one", source=SOURCE)
    second = await bot.classify("two", source=SOURCE)
    assert (first.ticket_id, len(bot.tickets)) == (second.ticket_id, 1)


async def test_summarize_uses_the_stored_ticket_and_refuses_an_unknown_one(bot):
    await bot.classify("", source=SOURCE, turns=[Turn("customer", "It broke. Badly."), Turn("agent", "When?")])
    assert (await bot.summarize("", source=SOURCE)).text == "It broke.\nWhen?"
    with pytest.raises(NotFoundError, match="no ticket C1/2"):
        await bot.summarize("", source=SourceRef("slack", "C1/2"))


async def test_same_key_twice_is_one_feedback(bot):
    first = await decide(bot, FeedbackKind.ACCEPT)
    second = await decide(bot, FeedbackKind.ACCEPT)
    assert (first.is_new, second.is_new, first.feedback_id) == (True, False, second.feedback_id)
    assert len(bot.feedback) == 1


async def test_later_feedback_replaces_the_earlier(bot):
    first = await decide(bot, FeedbackKind.ACCEPT)
    second = await decide(bot, FeedbackKind.OVERRIDE, key="k2", value="Billing")
    assert second.replaced_id == first.feedback_id
    detail = await bot.inbox.get_ticket(1)
    assert (detail.decision, detail.decided_label, detail.item.status) == (FeedbackKind.OVERRIDE, "Billing", TicketStatus.DECIDED)


async def test_handoff_teaches_no_example_and_shows_as_handed_off(bot):
    receipt = await decide(bot, FeedbackKind.HANDOFF)
    assert receipt.example_id is None
    assert (await bot.inbox.get_ticket(1)).item.status is TicketStatus.HANDED_OFF


@pytest.mark.parametrize(
    ("kind", "value", "sentence"),
    [
        (FeedbackKind.OVERRIDE, "Nonsense", "not in the label set"),
        (FeedbackKind.OVERRIDE, None, "needs a value"),
        (FeedbackKind.EDIT, "x", "only a summary can be edited"),
    ],
)
async def test_wrong_feedback_is_refused(bot, kind, value, sentence):
    with pytest.raises(BotError, match=sentence):
        await decide(bot, kind, value=value)
    assert bot.feedback == []


async def test_feedback_on_an_unknown_inference_is_not_found(bot):
    with pytest.raises(NotFoundError):
        await bot.record_feedback(Feedback(7, FeedbackKind.ACCEPT, "desk", "k"))


async def test_blind_ticket_hides_its_label_in_the_inbox_until_decided(bot):
    bot.is_blind = True
    card = await bot.classify("My laptop dock is dead", source=SOURCE)
    item = (await bot.inbox.list_tickets())[0]
    assert (card.is_blind, item.is_blind, item.label, item.confidence) == (True, True, None, None)
    await decide(bot, FeedbackKind.OVERRIDE, value="Hardware")
    item = (await bot.inbox.list_tickets())[0]
    assert (item.is_blind, item.label, bot.feedback[0].kind) == (False, "Hardware", FeedbackKind.ACCEPT)


async def test_paused_and_unmaskable_tickets_get_a_notice_and_no_inference(bot):
    bot.is_paused = True
    paused = await bot.classify("Hello", source=SOURCE)
    bot.is_paused, bot.is_masking_broken = False, True
    withheld = await bot.classify("secret", source=SourceRef("slack", "2"))
    assert (paused.inference_id, withheld.inference_id, paused.label) == (None, None, None)
    assert "paused" in paused.notice
    assert (await bot.inbox.get_ticket(withheld.ticket_id)).turns == ()


async def test_planned_error_is_raised_once(bot):
    bot.fail_with = BotError("no")
    with pytest.raises(BotError, match="no"):
        await bot.classify("x", source=SOURCE)
    await bot.classify("x", source=SOURCE)
    assert bot.calls == [("classify", "C1/1"), ("classify", "C1/1")]


async def test_forced_answer_is_given(bot):
    bot.answer = ("Billing", 0.31)
    card = await bot.classify("x", source=SOURCE)
    assert (card.label, card.confidence) == ("Billing", 0.31)


async def test_inbox_pages_newest_first(bot):
    for n in range(5):
        await bot.classify("x", source=SourceRef("slack", str(n)))
    assert [t.ticket_id for t in await bot.inbox.list_tickets(limit=2)] == [5, 4]
    assert [t.ticket_id for t in await bot.inbox.list_tickets(limit=2, before_id=4)] == [3, 2]
    with pytest.raises(NotFoundError):
        await bot.inbox.get_ticket(9)


async def test_run_follows_the_clock_to_its_verdict_and_goes_live(bot):
    run = await bot.manager.start_run(TaskKind.CLASSIFICATION, actor="lead")
    seen = [state async for state in bot.manager.follow_run(run.run_id)]
    assert [s.fraction for s in seen] == sorted({s.fraction for s in seen})
    assert list(dict.fromkeys(s.status for s in seen)) == [
        RunStatus.QUEUED,
        RunStatus.PREPARING,
        RunStatus.TRAINING,
        RunStatus.EVALUATING,
        RunStatus.PROMOTED,
    ]
    assert bot.manager.live(TaskKind.CLASSIFICATION) == seen[-1].adapter_digest
    assert (await bot.inbox.get_overview()).live[TaskKind.CLASSIFICATION] == seen[-1].adapter_digest


@pytest.mark.parametrize(
    ("outcome", "adapter"),
    [
        (RunStatus.REJECTED, AdapterStatus.REJECTED),
        (RunStatus.AWAITING_APPROVAL, AdapterStatus.CANDIDATE),
        (RunStatus.FAILED, None),
    ],
)
async def test_run_ends_as_planned_and_nothing_goes_live(outcome, adapter):
    clock = FakeClock()
    bot = FakeBot(clock=clock)
    bot.manager.outcome = outcome
    run = await bot.manager.start_run(TaskKind.SUMMARY, actor="lead")
    clock.advance(bot.manager.run_s)
    assert (await bot.manager.get_run(run.run_id)).status is outcome
    assert [a.status for a in await bot.manager.list_adapters()] == ([adapter] if adapter else [])
    assert bot.manager.live(TaskKind.SUMMARY) == BASE


async def test_second_run_and_cancel_of_an_ended_one_conflict(bot):
    run = await bot.manager.start_run(TaskKind.SUMMARY, actor="lead")
    with pytest.raises(ConflictError, match="already going"):
        await bot.manager.start_run(TaskKind.CLASSIFICATION, actor="lead")
    assert (await bot.manager.cancel_run(run.run_id, actor="lead")).status is RunStatus.CANCELLED
    with pytest.raises(ConflictError, match="already ended"):
        await bot.manager.cancel_run(run.run_id, actor="lead")
    assert [entry[:2] for entry in bot.manager.audit] == [("lead", "start_run"), ("lead", "cancel_run")]


async def test_promote_by_short_digest_and_roll_back():
    manager = FakeBot.with_samples().manager
    before = manager.live(TaskKind.CLASSIFICATION)
    candidate = next(a for a in await manager.list_adapters() if a.status is AdapterStatus.CANDIDATE)
    assert (await manager.promote(candidate.digest[:8], actor="lead", reason="r")).is_serving
    assert (await manager.rollback(TaskKind.CLASSIFICATION, actor="lead", reason="r")).digest == before
    with pytest.raises(ConflictError, match="is active"):
        await manager.promote(before, actor="lead", reason="r")
    with pytest.raises(NotFoundError):
        await manager.promote(before[:7], actor="lead", reason="r")


async def test_rollback_without_an_earlier_adapter_leads_to_the_base_model():
    manager = FakeBot.with_samples().manager
    assert await manager.rollback(TaskKind.SUMMARY, actor="lead", reason="r") is None
    with pytest.raises(ConflictError, match="nothing to go back to"):
        await manager.rollback(TaskKind.SUMMARY, actor="lead", reason="r")


async def test_samples_hold_tickets_in_every_state():
    bot = FakeBot.with_samples()
    assert {t.status for t in await bot.inbox.list_tickets()} == set(TicketStatus)
    assert bot.feedback == []


async def test_clock_moves_only_by_hand_or_sleep():
    clock = FakeClock()
    start = clock.now()
    assert clock.now() == start
    clock.advance(5)
    await clock.sleep(2)
    assert clock.now() - start == timedelta(seconds=7)


def test_scores_of_a_text_without_known_words_are_even():
    scores = score_labels("xyz", FakeBot().label_set)
    assert len({score.probability for score in scores}) == 1


async def test_the_fake_time_line_tells_what_was_live_at_a_time_and_traces_are_the_tests_own():
    manager = FakeBot.with_samples().manager
    live = manager.live(TaskKind.CLASSIFICATION)
    periods = await manager.get_timeline(task=TaskKind.CLASSIFICATION)
    now = next(period for period in periods if period.digest == live)
    assert now.until is None
    found = await manager.get_timeline(task=TaskKind.CLASSIFICATION, at=now.since)
    assert live in {period.digest for period in found}
    assert await manager.trace_ticket(1) == ()
