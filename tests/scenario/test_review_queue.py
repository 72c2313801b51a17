"""The review queue through the real bot: what people decide asks questions, and an answer becomes what is trained on."""

import pytest
from sqlmodel import Session, select

from bot.app import App
from bot.plugin_api import ConflictError, Feedback, FeedbackKind, NotFoundError, ReviewKind, ReviewStatus, SourceRef
from db.queries.audit import list_audit
from db.queries.review import collect_low_confidence
from db.tables import Example

TEXT = "Hello, Maria Gonzalez here (maria.gonzalez@example.com). My laptop screen stays black since this morning, please help."


async def decide(app: App, card, actor: str, label: str) -> None:
    await app.bot.record_feedback(
        Feedback(card.inference_id, FeedbackKind.OVERRIDE, actor, idempotency_key=f"{actor}-{label}", value=label)
    )


async def test_two_people_disagree_a_third_settles_it_and_one_masked_example_is_left(app: App):
    card = await app.bot.classify(TEXT, source=SourceRef("test", "1"))
    await decide(app, card, "ana", "Hardware")
    await decide(app, card, "bo", "Access")
    (item,) = await app.bot.manager.list_review()
    assert item.kind is ReviewKind.REVIEWER_DISAGREEMENT
    assert [(side.actor, side.label, side.is_used) for side in item.sides] == [("ana", "Hardware", False), ("bo", "Access", True)]
    assert all("laptop screen" in side.text and "Gonzalez" not in side.text for side in item.sides)
    settled = await app.bot.manager.resolve_review(
        item.id, label="Hardware", actor="lead", is_golden=True, reason="write to maria.gonzalez@example.com"
    )
    assert (settled.status, settled.resolution, settled.resolved_by) == (ReviewStatus.RESOLVED, "Hardware", "lead")
    with Session(app.db_engine) as session:
        (example,) = session.exec(select(Example).where(Example.is_withdrawn == False)).all()  # noqa: E712
        (row,) = list_audit(session, action="review.resolve")
    assert (example.target, example.split) == ("Hardware", "golden")
    assert "maria" not in str(row.detail)
    with pytest.raises(ConflictError, match="resolved already, by lead"):
        await app.bot.manager.dismiss_review(item.id, actor="bo")


async def test_an_unsure_answer_is_settled_by_whoever_decides_the_ticket(app: App):
    card = await app.bot.classify(TEXT, source=SourceRef("test", "1"))
    version = app.core.label_set.version
    count = await app.core.in_db(lambda session: collect_low_confidence(session, below=1.0, label_set_version=version, limit=5))
    assert count == 1
    (item,) = await app.bot.manager.list_review()
    assert item.sides[0].label == card.label
    assert "laptop screen" in item.sides[0].text
    await decide(app, card, "ana", "Hardware")
    assert await app.bot.manager.list_review() == []
    assert (await app.bot.manager.get_review(item.id)).resolution == "Hardware"


async def test_what_cannot_be_answered_is_refused(app: App):
    with pytest.raises(NotFoundError, match="no review item 5"):
        await app.bot.manager.resolve_review(5, label="Hardware", actor="lead")
    card = await app.bot.classify(TEXT, source=SourceRef("test", "1"))
    await decide(app, card, "ana", "Hardware")
    await decide(app, card, "bo", "Access")
    (item,) = await app.bot.manager.list_review()
    with pytest.raises(ConflictError, match="not in the label set"):
        await app.bot.manager.resolve_review(item.id, label="Nope", actor="lead")
    assert (await app.bot.manager.dismiss_review(item.id, actor="lead")).status is ReviewStatus.DISMISSED
