"""What plugins may ask of the real bot beyond a card: some labels only, streams, taking back, passive feedback, history, figures."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import Session, select

from bot.app import App
from bot.masking import Masker
from bot.plugin_api import (
    BotError,
    ConflictError,
    Feedback,
    FeedbackKind,
    NotFoundError,
    PastTicket,
    SourceRef,
    TaskKind,
    TicketStatus,
    Turn,
)
from db.queries.audit import list_audit
from db.tables import Example, Ticket
from tests.scenario.conftest import make_settings, run_app

TEXT = "My laptop screen stays black since this morning, please help."
SOURCE = SourceRef("test", "1")


async def test_a_narrowed_choice_is_a_distribution_over_those_labels_alone(app: App):
    chosen = app.core.label_set.names[1:3]
    whole = await app.bot.classify(TEXT, source=SOURCE)
    card = await app.bot.classify(TEXT, source=SOURCE, labels=chosen)
    again = await app.bot.classify(TEXT, source=SOURCE, labels=tuple(reversed(chosen)))
    assert {score.label for score in card.candidates} == set(chosen)
    assert sum(score.probability for score in card.candidates) == pytest.approx(1.0)
    assert card.inference_id != whole.inference_id
    assert again == card


async def test_a_narrowed_choice_with_an_unknown_label_is_refused_before_anything_is_stored(app: App):
    with pytest.raises(BotError, match="'Weather' is not in the label set"):
        await app.bot.classify(TEXT, source=SOURCE, labels=["Weather"])
    with Session(app.db_engine) as session:
        assert session.exec(select(Ticket)).all() == []


async def test_a_streamed_summary_ends_with_the_stored_one(app: App):
    turns = (Turn("customer", TEXT), Turn("agent", "Have you tried another cable?"))
    made = [summary async for summary in app.bot.stream_summary("", source=SOURCE, turns=turns)]
    assert made[-1].inference_id is not None
    assert made[-1].text
    detail = await app.bot.inbox.find_ticket(SOURCE)
    assert detail.summary == made[-1]


async def test_a_feedback_taken_back_teaches_nothing_and_opens_the_ticket_again(app: App):
    card = await app.bot.classify(TEXT, source=SOURCE)
    receipt = await app.bot.record_feedback(Feedback(card.inference_id, FeedbackKind.ACCEPT, "ana", idempotency_key="a"))
    await app.bot.withdraw_feedback(receipt.feedback_id, actor="ana")
    await app.bot.withdraw_feedback(receipt.feedback_id, actor="ana")
    detail = await app.bot.inbox.get_ticket(card.ticket_id)
    with Session(app.db_engine) as session:
        example = session.exec(select(Example)).one()
        audited = [row.action for row in list_audit(session)]
    assert example.is_withdrawn
    assert (detail.decision, detail.item.status) == (None, TicketStatus.OPEN)
    assert detail.history[-1][2] == "accepted the suggestion (taken back)"
    assert audited.count("feedback.withdraw") == 1
    again = await app.bot.record_feedback(Feedback(card.inference_id, FeedbackKind.ACCEPT, "ana", idempotency_key="b"))
    assert again.is_new
    assert again.replaced_id is None


async def test_a_feedback_that_another_replaced_cannot_be_taken_back(app: App):
    card = await app.bot.classify(TEXT, source=SOURCE)
    other = next(name for name in app.core.label_set.names if name != card.label)
    first = await app.bot.record_feedback(Feedback(card.inference_id, FeedbackKind.ACCEPT, "ana", idempotency_key="a"))
    await app.bot.record_feedback(Feedback(card.inference_id, FeedbackKind.OVERRIDE, "bo", idempotency_key="b", value=other))
    with pytest.raises(ConflictError, match="changed by a later one"):
        await app.bot.withdraw_feedback(first.feedback_id, actor="ana")
    with pytest.raises(NotFoundError, match="no feedback 99"):
        await app.bot.withdraw_feedback(99, actor="ana")


async def test_passive_feedback_weighs_less_than_a_click_and_is_not_counted_as_anybodys(app: App):
    card = await app.bot.classify(TEXT, source=SOURCE)
    other = next(name for name in app.core.label_set.names if name != card.label)
    click = Feedback(card.inference_id, FeedbackKind.OVERRIDE, "ana", idempotency_key="a", value=other, is_passive=True)
    await app.bot.record_feedback(click)
    with Session(app.db_engine) as session:
        assert session.exec(select(Example)).one().weight == pytest.approx(0.6)
    assert (await app.bot.inbox.count_decisions(actor="ana"))[FeedbackKind.OVERRIDE] == 0


async def test_a_plugin_is_told_of_decisions_on_its_tickets_that_stand(app: App, monkeypatch):
    monkeypatch.setattr("bot.inbox._SETTLED", timedelta(0))
    inbox = app.bot.inbox
    assert await inbox.get_newest_decision_id() == 0
    cards = [await app.bot.classify(f"{TEXT} {n}", source=SourceRef("desk", str(n))) for n in range(3)]
    elsewhere = await app.bot.classify(TEXT, source=SOURCE)
    other = next(name for name in app.core.label_set.names if name != cards[0].label)
    click = Feedback(cards[0].inference_id, FeedbackKind.OVERRIDE, "ana", idempotency_key="a", value=other, reason="ask 10.1.2.3")
    first = await app.bot.record_feedback(click)
    await app.bot.record_feedback(Feedback(cards[1].inference_id, FeedbackKind.ACCEPT, "bo", idempotency_key="b"))
    await app.bot.record_feedback(Feedback(elsewhere.inference_id, FeedbackKind.ACCEPT, "bo", idempotency_key="c"))
    taken_back = await app.bot.record_feedback(Feedback(cards[2].inference_id, FeedbackKind.HANDOFF, "bo", idempotency_key="d"))
    await app.bot.withdraw_feedback(taken_back.feedback_id, actor="bo")
    told = await inbox.list_decisions("desk", after_id=0)
    assert [(d.source.external_id, d.kind, d.label, d.suggested, d.actor) for d in told] == [
        ("0", FeedbackKind.OVERRIDE, other, cards[0].label, "ana"),
        ("1", FeedbackKind.ACCEPT, cards[1].label, cards[1].label, "bo"),
    ]
    assert [d.feedback_id for d in await inbox.list_decisions("desk", after_id=first.feedback_id)] == [told[1].feedback_id]
    assert await inbox.get_newest_decision_id() == taken_back.feedback_id


async def test_a_decision_is_told_only_once_it_has_settled(app: App):
    card = await app.bot.classify(TEXT, source=SOURCE)
    await app.bot.record_feedback(Feedback(card.inference_id, FeedbackKind.ACCEPT, "bo", idempotency_key="b"))
    assert await app.bot.inbox.list_decisions(SOURCE.plugin, after_id=0) == []


async def test_an_edited_summary_is_told_with_its_text(app: App, monkeypatch):
    monkeypatch.setattr("bot.inbox._SETTLED", timedelta(0))
    summary = await app.bot.summarize(TEXT, source=SOURCE)
    text = "VPN is broken since Monday."
    await app.bot.record_feedback(Feedback(summary.inference_id, FeedbackKind.EDIT, "bo", idempotency_key="b", value=text))
    told = (await app.bot.inbox.list_decisions(SOURCE.plugin, after_id=0))[0]
    assert (told.task, told.kind, told.value) == (TaskKind.SUMMARY, FeedbackKind.EDIT, text)
    assert (told.label, told.suggested) == (None, summary.text)


async def test_figures_tell_who_did_what_and_which_label_is_overridden(app: App):
    cards = [await app.bot.classify(f"{TEXT} {n}", source=SourceRef("test", str(n))) for n in range(3)]
    other = next(name for name in app.core.label_set.names if name != cards[0].label)
    await app.bot.record_feedback(Feedback(cards[0].inference_id, FeedbackKind.OVERRIDE, "ana", idempotency_key="a", value=other))
    await app.bot.record_feedback(Feedback(cards[1].inference_id, FeedbackKind.ACCEPT, "bo", idempotency_key="b"))
    mine, all_of_us = await app.bot.inbox.count_decisions(actor="ana"), await app.bot.inbox.count_decisions()
    assert (mine[FeedbackKind.OVERRIDE], mine[FeedbackKind.ACCEPT]) == (1, 0)
    assert (all_of_us[FeedbackKind.OVERRIDE], all_of_us[FeedbackKind.ACCEPT]) == (1, 1)
    first = (await app.bot.inbox.list_label_rates())[0]
    assert (first.label, first.n_overridden) == (cards[0].label, 1)
    assert first.n_suggested == sum(card.label == first.label for card in cards)
    assert first.share_before is None


async def test_past_tickets_become_examples_once_and_stay_masked(app: App):
    label = app.core.label_set.names[0]
    past = [
        PastTicket("41", text="maria@example.com cannot log in", label=label, created_at=datetime(2026, 1, 2, tzinfo=UTC)),
        PastTicket("42", text="The printer is on fire", label="Weather"),
    ]
    counts = await app.bot.manager.import_past(past, plugin="zendesk", actor="setup")
    again = await app.bot.manager.import_past(past, plugin="zendesk", actor="setup")
    assert (counts.n_imported, counts.n_unknown_label) == (1, 1)
    assert (again.n_imported, again.n_known) == (0, 1)
    with Session(app.db_engine) as session:
        example = session.exec(select(Example)).one()
        ticket = session.get_one(Ticket, example.ticket_id)
    assert (ticket.plugin, ticket.external_id, example.target) == ("zendesk", "41", label)
    assert "maria@" not in example.text


async def test_the_plot_of_a_run_is_read_from_its_records(app: App):
    folder = app.settings.runs_dir / "3"
    folder.mkdir(parents=True)
    (folder / "labels.png").write_bytes(b"\x89PNG")
    assert await app.bot.manager.get_plot(3, "labels") == b"\x89PNG"
    assert await app.bot.manager.get_plot(3, "loss") is None
    with pytest.raises(NotFoundError, match="no plot"):
        await app.bot.manager.get_plot(3, "../../understudy.db")


async def test_an_unknown_source_has_no_ticket(app: App):
    with pytest.raises(NotFoundError, match="test has brought no ticket 7"):
        await app.bot.inbox.find_ticket(SourceRef("test", "7"))


async def test_a_plugins_queue_and_store_work_in_the_running_bot(app: App):
    queue, store = app.bot.open_queue("test"), app.bot.open_store("test")

    async def handle(event):
        await store.put(event.key, event.payload)

    await queue.start(handle)
    await queue.put("a", "message", {"n": 1})
    await queue.join()
    await queue.stop()
    assert await store.get("a") == {"n": 1}


async def test_a_refused_try_is_audited(app: App):
    await app.bot.manager.note_refusal(actor="slack:U9", what="retrain")
    with Session(app.db_engine) as session:
        row = list_audit(session)[0]
    assert (row.actor, row.action, row.subject_id) == ("slack:U9", "access.refused", "retrain")


async def test_a_policy_of_dropping_tickets_says_which_type_it_met_and_not_its_value(tmp_path, model_home, monkeypatch):
    monkeypatch.setattr("bot.app.Masker", Masker)  # the shared one masks by the defaults
    settings = make_settings(tmp_path / "home", model_home, masking={"actions": {"CREDIT_CARD": "drop"}})
    async for app in run_app(settings):
        card = await app.bot.classify("my card is 4111 1111 1111 1111", source=SOURCE)
        with Session(app.db_engine) as session:
            detail = next(row.detail for row in list_audit(session) if row.action == "ticket.withheld")
    assert card.notice is not None
    assert "CREDIT_CARD" in card.notice
    assert "CREDIT_CARD" in detail["because"]
    assert "4111" not in card.notice + str(detail)
