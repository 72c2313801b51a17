"""Privacy through the real bot: edits share the ticket's numbers, corrections take effect, rights are served by the plugin contract."""

import asyncio

import pytest
from sqlmodel import Session, select

from bot.app import App
from bot.plugin_api import CorrectionKind, Feedback, FeedbackKind, NotFoundError, SourceRef, Subject
from db.queries.feedback import list_feedback
from db.tables import Example, Inference, Ticket

TEXT = "Hello, Maria Gonzalez here (maria.gonzalez@example.com). My laptop screen stays black since this morning, please help."
SOURCE = SourceRef("test", "1")


def read(app: App, work):
    with Session(app.db_engine) as session:
        return work(session)


async def test_an_edit_is_masked_with_the_tickets_own_numbers(vault_app: App):
    await vault_app.bot.classify(TEXT, source=SOURCE)
    summary = await vault_app.bot.summarize("", source=SOURCE)
    edited = "Tom Berg must call Maria Gonzalez (maria.gonzalez@example.com)"
    await vault_app.bot.record_feedback(
        Feedback(summary.inference_id, FeedbackKind.EDIT, "ana", idempotency_key="e", value=edited)
    )
    text = read(vault_app, lambda s: s.exec(select(Ticket.text)).one())
    assert "<PERSON_1>" in text
    (stored,) = read(vault_app, lambda s: list_feedback(s, ticket_id=summary.ticket_id))
    assert stored.value == "<PERSON_2> must call <PERSON_1> (<EMAIL_ADDRESS_1>)"
    example = read(vault_app, lambda s: s.exec(select(Example)).one())
    assert example.target == stored.value
    assert (await vault_app.bot.inbox.get_ticket(summary.ticket_id)).summary.text == edited


async def test_without_a_vault_key_an_edit_never_takes_a_number_that_means_somebody_else(app: App):
    await app.bot.classify(TEXT, source=SOURCE)
    summary = await app.bot.summarize("", source=SOURCE)
    await app.bot.record_feedback(
        Feedback(summary.inference_id, FeedbackKind.EDIT, "ana", idempotency_key="e", value="Tom Berg calls <PERSON_1>")
    )
    (stored,) = read(app, lambda s: list_feedback(s, ticket_id=summary.ticket_id))
    assert stored.value == "<PERSON_2> calls <PERSON_1>"


async def test_a_correction_by_the_contract_is_in_force_for_the_next_ticket_and_applied_to_stored_ones(vault_app: App):
    text = "The printer of qwyx is broken, qwyx told me."
    card = await vault_app.bot.classify(text, source=SOURCE)
    info = await vault_app.bot.privacy.report_correction(
        kind=CorrectionKind.MASK, entity="PERSON", text="qwyx", actor="ana", ticket_id=card.ticket_id
    )
    assert "qwyx" in read(vault_app, lambda s: s.exec(select(Ticket.text)).one())
    await vault_app.bot.privacy.review_correction(info.id, is_approved=True, actor="bob")
    await vault_app.bot.classify("Again qwyx has no paper.", source=SourceRef("test", "2"))
    async with asyncio.timeout(60):
        while (  # noqa: ASYNC110  the bot's own job does it, and tells nobody
            await vault_app.bot.privacy.list_corrections(status=None)
        )[0].n_remasked is None:
            await asyncio.sleep(0.05)
    texts = read(vault_app, lambda s: s.exec(select(Ticket.text)).all())
    assert not any("qwyx" in text for text in texts)
    assert "The printer of <PERSON_1> is broken" in texts[0]
    detail = await vault_app.bot.inbox.get_ticket(card.ticket_id)
    assert detail.turns[0].text == text


async def test_an_erased_ticket_is_quoted_to_nobody_any_more(vault_app: App):
    cards = [await vault_app.bot.classify(TEXT + f" {n}", source=SourceRef("test", str(n))) for n in range(2)]
    await vault_app.bot.record_feedback(Feedback(cards[0].inference_id, FeedbackKind.ACCEPT, "ana", idempotency_key="a"))
    quoting = await vault_app.bot.classify(TEXT + " 1!", source=SourceRef("test", "1"))
    assert [similar.ticket_id for similar in quoting.similar] == [cards[0].ticket_id]
    report = await vault_app.bot.privacy.erase(Subject(source=SourceRef("test", "0")), actor="ana", reason="asked for")
    assert report.n_tickets == 1
    with pytest.raises(NotFoundError):
        await vault_app.bot.inbox.get_ticket(cards[0].ticket_id)
    outputs = read(vault_app, lambda s: [row.output for row in s.exec(select(Inference))])
    assert all(output["similar"] == [] for output in outputs)
    again = await vault_app.bot.classify(TEXT + " 1?", source=SourceRef("test", "1"))
    assert again.similar == ()


async def test_somebody_is_found_and_exported_by_name(vault_app: App):
    card = await vault_app.bot.classify(TEXT, source=SOURCE)
    subject = Subject(person="Maria Gonzalez")
    found = await vault_app.bot.privacy.find(subject)
    assert [ticket.ticket_id for ticket in found.tickets] == [card.ticket_id]
    export = await vault_app.bot.privacy.export(subject, actor="ana")
    assert export["tickets"][0]["ticket"]["text"] == TEXT
