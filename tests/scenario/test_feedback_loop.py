"""A ticket's way through the real bot: taken in, masked, classified, summarised, decided, corrected; nothing raw stored."""

import asyncio

import pytest
from sqlmodel import Session, select

from bot.app import App
from bot.plugin_api import BotError, Feedback, FeedbackKind, NotFoundError, SourceRef, TicketStatus, Turn
from db.queries.feedback import list_feedback
from db.tables import Example, Inference, Ticket

TEXT = "Hello, Maria Gonzalez here (maria.gonzalez@example.com). My laptop screen stays black since this morning, please help."
SOURCE = SourceRef("test", "1")


async def test_a_ticket_gets_a_card_whose_probabilities_are_a_distribution(app: App):
    card = await app.bot.classify(TEXT, source=SOURCE, subject="Laptop is broken")
    assert card.label in app.core.label_set.names
    assert card.candidates[0].label == card.label
    assert card.candidates[0].probability == card.confidence
    assert 0 < sum(score.probability for score in card.candidates) <= 1.0001
    assert card.adapter_digest == "base"
    assert card.reason


async def test_personal_data_reaches_neither_table_nor_card_of_others(app: App):
    await app.bot.classify(TEXT, source=SOURCE)
    with Session(app.db_engine) as session:
        ticket = session.exec(select(Ticket)).one()
    assert "maria.gonzalez" not in ticket.text.lower()
    assert "Gonzalez" not in ticket.text
    assert "laptop screen" in ticket.text


async def test_the_same_ticket_again_gets_the_same_inference_and_a_changed_one_a_new_inference(app: App):
    first = await app.bot.classify(TEXT, source=SOURCE)
    again = await app.bot.classify(TEXT, source=SOURCE)
    changed = await app.bot.classify(TEXT + " It is a new one.", source=SOURCE)
    assert again == first
    assert changed.inference_id != first.inference_id
    assert changed.ticket_id == first.ticket_id


async def test_the_same_click_twice_is_one_feedback_and_one_example(app: App):
    card = await app.bot.classify(TEXT, source=SOURCE)
    click = Feedback(card.inference_id, FeedbackKind.ACCEPT, "ana", idempotency_key="click-1", decision_ms=9000)
    first, second = await app.bot.record_feedback(click), await app.bot.record_feedback(click)
    assert (first.is_new, second.is_new) == (True, False)
    assert first.feedback_id == second.feedback_id
    with Session(app.db_engine) as session:
        example = session.exec(select(Example)).one()
    assert (example.target, example.weight, example.is_negative) == (card.label, 0.5, False)


async def test_an_override_corrects_an_accept_and_withdraws_its_example(app: App):
    card = await app.bot.classify(TEXT, source=SOURCE)
    other = next(name for name in app.core.label_set.names if name != card.label)
    await app.bot.record_feedback(Feedback(card.inference_id, FeedbackKind.ACCEPT, "ana", idempotency_key="a"))
    receipt = await app.bot.record_feedback(
        Feedback(card.inference_id, FeedbackKind.OVERRIDE, "ana", idempotency_key="b", value=other, reason="it is about access")
    )
    assert receipt.replaced_id is not None
    with Session(app.db_engine) as session:
        examples = session.exec(select(Example).order_by(Example.id)).all()
        rows = list_feedback(session, ticket_id=card.ticket_id)
    assert [(e.target, e.is_withdrawn) for e in examples] == [(card.label, True), (other, False)]
    assert rows[0].replaced_by_id == rows[1].id
    detail = await app.bot.inbox.get_ticket(card.ticket_id)
    assert (detail.decided_label, detail.item.status) == (other, TicketStatus.DECIDED)
    assert detail.history[-1][2] == f"chose '{other}': it is about access"


async def test_the_example_is_the_text_that_the_model_read(app: App):
    card = await app.bot.classify(TEXT, source=SOURCE, subject="Broken screen")
    await app.bot.record_feedback(Feedback(card.inference_id, FeedbackKind.ACCEPT, "ana", idempotency_key="a"))
    with Session(app.db_engine) as session:
        example = session.exec(select(Example)).one()
    assert example.text.startswith("Broken screen\n")


async def test_a_handoff_teaches_not_this_and_its_reason_is_masked(app: App):
    card = await app.bot.classify(TEXT, source=SOURCE)
    await app.bot.record_feedback(
        Feedback(
            card.inference_id, FeedbackKind.HANDOFF, "ana", idempotency_key="a", reason="call Maria Gonzalez on +44 20 7946 0958"
        )
    )
    with Session(app.db_engine) as session:
        example = session.exec(select(Example)).one()
        rows = list_feedback(session, ticket_id=card.ticket_id)
    assert (example.is_negative, example.target) == (True, card.label)
    assert "7946" not in rows[0].reason
    assert (await app.bot.inbox.get_ticket(card.ticket_id)).item.status is TicketStatus.HANDED_OFF


async def test_a_label_outside_the_set_is_refused_and_nothing_is_recorded(app: App):
    card = await app.bot.classify(TEXT, source=SOURCE)
    with pytest.raises(BotError, match="not in the label set"):
        await app.bot.record_feedback(
            Feedback(card.inference_id, FeedbackKind.OVERRIDE, "ana", idempotency_key="a", value="Nonsense")
        )
    with Session(app.db_engine) as session:
        assert session.exec(select(Example)).all() == []


async def test_feedback_on_an_unknown_inference_is_refused(app: App):
    with pytest.raises(NotFoundError):
        await app.bot.record_feedback(Feedback(999, FeedbackKind.ACCEPT, "ana", idempotency_key="a"))


async def test_a_summary_is_an_excerpt_and_an_edit_becomes_an_example(app: App):
    turns = (
        Turn("customer", "Hi there"),
        Turn("agent", "Hello, how can I help you today?"),
        Turn("customer", "The printer on the third floor prints blank pages since we replaced the toner cartridge yesterday."),
        Turn("agent", "Thank you, let me check."),
        Turn("customer", "We need it before the board meeting at noon."),
    )
    summary = await app.bot.summarize("", source=SOURCE, turns=turns)
    assert summary.is_excerpt
    assert "printer" in summary.text
    await app.bot.record_feedback(
        Feedback(
            summary.inference_id,
            FeedbackKind.EDIT,
            "ana",
            idempotency_key="a",
            value="Printer prints blank pages after a toner change.",
        )
    )
    with Session(app.db_engine) as session:
        example = session.exec(select(Example)).one()
    assert (example.task, example.target, example.weight) == ("summary", "Printer prints blank pages after a toner change.", 1.0)
    assert len(example.turns) == len(turns)


@pytest.mark.parametrize("text", ["", "   \n"])
async def test_an_empty_ticket_gets_a_notice_instead_of_a_suggestion(app: App, text: str):
    card = await app.bot.classify(text, source=SOURCE)
    assert (card.label, card.inference_id) == (None, None)
    assert "no text" in card.notice


async def test_a_huge_ticket_is_withheld_or_said_to_be_truncated(app: App):
    card = await app.bot.classify("my printer is broken " * 50_000, source=SOURCE)
    assert card.notice
    assert (await app.bot.classify("my printer is broken", source=SourceRef("test", "2"))).label is not None


async def test_a_paused_bot_takes_tickets_in_and_suggests_nothing(app: App):
    await app.bot.manager.set_paused(is_paused=True, actor="boss")
    card = await app.bot.classify(TEXT, source=SOURCE)
    assert card.label is None
    assert "paused" in card.notice
    await app.bot.manager.set_paused(is_paused=False, actor="boss")
    assert (await app.bot.classify(TEXT, source=SOURCE)).label is not None


async def test_a_blind_ticket_says_so_and_a_matching_choice_counts_as_accept(blind_app: App):
    card = await blind_app.bot.classify(TEXT, source=SOURCE)
    assert card.is_blind
    assert (await blind_app.bot.inbox.list_tickets())[0].label is None
    receipt = await blind_app.bot.record_feedback(
        Feedback(card.inference_id, FeedbackKind.OVERRIDE, "ana", idempotency_key="a", value=card.label)
    )
    with Session(blind_app.db_engine) as session:
        example = session.get(Example, receipt.example_id)
        inference = session.get(Inference, card.inference_id)
        rows = list_feedback(session, ticket_id=card.ticket_id)
    assert (example.is_blind, example.weight, inference.is_blind) == (True, 1.0, True)
    assert rows[0].kind is FeedbackKind.ACCEPT


async def test_decided_tickets_become_the_reason_of_similar_ones(app: App):
    first = await app.bot.classify("the projector in the meeting room shows no picture", source=SourceRef("test", "a"))
    await app.bot.record_feedback(Feedback(first.inference_id, FeedbackKind.ACCEPT, "ana", idempotency_key="a"))
    second = await app.bot.classify("no picture on the projector of the small meeting room", source=SourceRef("test", "b"))
    assert [(s.ticket_id, s.label) for s in second.similar] == [(first.ticket_id, first.label)]
    assert second.similar[0].similarity > 0.7


async def test_placeholders_a_person_was_shown_stay_theirs_in_an_edit(app: App):
    turns = (
        Turn("customer", "Maria Gonzalez cannot open the shared calendar since Monday morning."),
        Turn("agent", "Let me look."),
    )
    summary = await app.bot.summarize("", source=SOURCE, turns=turns)
    edit = "<PERSON_1> cannot open the calendar; Peter Hoffmann looks into it."
    await app.bot.record_feedback(Feedback(summary.inference_id, FeedbackKind.EDIT, "ana", idempotency_key="a", value=edit))
    with Session(app.db_engine) as session:
        target = session.exec(select(Example)).one().target
    assert target.startswith("<PERSON_1> cannot open")
    assert "LITERAL" not in target
    assert "Hoffmann" not in target
    assert target.count("<PERSON_1>") == 1


async def test_asking_again_about_a_stored_ticket_leaves_its_text_alone(app: App):
    await app.bot.manager.set_paused(is_paused=True, actor="boss")
    first = await app.bot.classify(TEXT, source=SOURCE, subject="Broken screen")
    await app.bot.manager.set_paused(is_paused=False, actor="boss")
    again = await app.bot.classify("", source=SOURCE)
    with Session(app.db_engine) as session:
        ticket = session.exec(select(Ticket)).one()
    assert (first.label, again.ticket_id) == (None, first.ticket_id)
    assert again.label is not None
    assert "<PERSON_1>" in ticket.text
    assert ticket.subject == "Broken screen"


async def test_one_ticket_asked_about_many_times_at_once_gets_one_inference(app: App):
    cards = await asyncio.gather(*(app.bot.classify(TEXT, source=SOURCE) for _ in range(6)))
    assert len({card.inference_id for card in cards}) == 1


async def test_a_handoff_takes_the_ticket_out_of_the_reasons(app: App):
    first = await app.bot.classify("the projector in the meeting room shows no picture", source=SourceRef("test", "a"))
    await app.bot.record_feedback(Feedback(first.inference_id, FeedbackKind.ACCEPT, "ana", idempotency_key="a"))
    await app.bot.record_feedback(Feedback(first.inference_id, FeedbackKind.HANDOFF, "ana", idempotency_key="b"))
    second = await app.bot.classify("no picture on the projector of the small meeting room", source=SourceRef("test", "b"))
    assert second.similar == ()


async def test_names_never_change_places_when_a_ticket_and_its_feedback_come_at_once(vault_app: App):
    card = await vault_app.bot.classify("Maria Gonzalez cannot open the calendar.", source=SOURCE)
    handoff = Feedback(card.inference_id, FeedbackKind.HANDOFF, "ana", idempotency_key="a", reason="Susan Miller knows this one")
    await asyncio.gather(
        vault_app.bot.classify("Maria Gonzalez cannot open the calendar. Peter Hoffmann has it too.", source=SOURCE),
        vault_app.bot.record_feedback(handoff),
    )
    detail = await vault_app.bot.inbox.get_ticket(card.ticket_id)
    assert "Peter Hoffmann has it too" in detail.turns[0].text
    assert detail.history[-1][2].endswith("Susan Miller knows this one")
