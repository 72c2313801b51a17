"""Corrections, erasure of a ticket and retention, on SQLite and PostgreSQL: what goes, what stays, and what is written down."""

from datetime import timedelta

import pytest
from sqlalchemy import func
from sqlmodel import select

from db.errors import RowNotFoundError, StateConflictError
from db.privacy_tables import Correction, CorrectionKind, CorrectionStatus
from db.queries import adapters, examples, lineage, privacy_corrections, privacy_erase, privacy_retention, review, tickets
from db.queries.audit import list_audit, record_audit
from db.queries.privacy_corrections import NewCorrection
from db.queries.wanted import list_wanted
from db.session import transaction
from db.tables import (
    Audit,
    Example,
    FeedbackRow,
    Inference,
    ReviewItem,
    ReviewSide,
    RunExample,
    Ticket,
    TrainingRun,
    VaultEntry,
    now,
)
from db.types import FeedbackKind, ReviewKind, RunStatus, RunTrigger, Split, TaskKind
from tests.support.db_rows import CLASSIFICATION, SUMMARY, add_adapter, add_feedback, add_inference, add_run, add_ticket

SOON = timedelta(days=30)
NEW = NewCorrection(CorrectionKind.MASK, "PERSON", phrase_hash="h1", hash_key="salt", n_words=2, ciphertext=b"x", context="▮")


def fill(session):
    """A ticket with a bit of everything, which another ticket quotes; returns both."""
    ticket, other = add_ticket(session, text="<PERSON_1> lost a badge"), add_ticket(session)
    inference = add_inference(session, ticket)
    summary = add_inference(session, ticket, task=SUMMARY)
    add_feedback(session, inference)
    add_feedback(session, inference, kind=FeedbackKind.OVERRIDE, value="other")  # replaces the first
    add_feedback(session, summary, kind=FeedbackKind.EDIT, value="<PERSON_1> needs a badge")
    add_inference(session, other, output={"similar": [[ticket.id, "billing", 0.9, "<PERSON_1> lost"], [999, "x", 0.5, "y"]]})
    tickets.put_vault(session, ticket_id=ticket.id, ciphertext=b"map", expires_at=now() + SOON)
    rows = session.exec(select(Example).where(Example.ticket_id == ticket.id)).all()
    sides = review.build_example_sides(session, [row.id for row in rows])
    review.ask(session, kind=ReviewKind.CONTRADICTION, task=CLASSIFICATION, key="k", sides=sides)
    privacy_corrections.add_correction(session, NewCorrection(**{**vars(NEW), "ticket_id": ticket.id}), actor="ana")
    return ticket.id, other.id


def count(session, kind):
    return session.exec(select(func.count()).select_from(kind)).one()


def test_an_erased_ticket_leaves_no_row_and_no_quote_behind(db_engine):
    with transaction(db_engine) as session:
        ticket_id, other_id = fill(session)
    with transaction(db_engine) as session:
        done = privacy_erase.erase_ticket(session, ticket_id, actor="ana", reason="asked for")
    assert done.counts == {
        "ticket": 1,
        "vault_entry": 1,
        "inference": 2,
        "feedback": 3,
        "example": 3,
        "review_side": 3,
        "privacy_correction": 1,
        "inference (quotes)": 1,
    }
    with transaction(db_engine, is_read_only=True) as session:
        assert [row.id for row in session.exec(select(Ticket))] == [other_id]
        for kind in (VaultEntry, FeedbackRow, Example, ReviewSide, ReviewItem, Correction):
            assert count(session, kind) == 0
        assert session.exec(select(Inference)).one().output["similar"] == [[999, "x", 0.5, "y"]]
        (audited,) = list_audit(session, action=privacy_erase.ACTION_ERASED)
        assert (audited.actor, audited.subject_id, audited.detail["rows"]["feedback"]) == ("ana", str(ticket_id), 3)


def test_an_erasure_a_second_time_changes_nothing_and_is_not_audited(db_engine):
    with transaction(db_engine) as session:
        ticket_id, _ = fill(session)
        privacy_erase.erase_ticket(session, ticket_id, actor="ana", reason="r")
        n_audit = count(session, Audit)
        assert privacy_erase.erase_ticket(session, ticket_id, actor="ana", reason="r") is None
        assert count(session, Audit) == n_audit


def test_a_question_about_another_ticket_too_keeps_its_other_side(db_engine):
    with transaction(db_engine) as session:
        ours, theirs = add_ticket(session), add_ticket(session)
        rows = [
            examples.add_example(session, ticket_id=t.id, task=CLASSIFICATION, text="t", target="a", label_set_version="v")
            for t in (ours, theirs)
        ]
        sides = review.build_example_sides(session, [row.id for row in rows])
        review.ask(session, kind=ReviewKind.CONTRADICTION, task=CLASSIFICATION, key="k", sides=sides)
        privacy_erase.erase_ticket(session, ours.id, actor="ana", reason="r")
        assert [side.ticket_id for side in session.exec(select(ReviewSide))] == [theirs.id]
        assert count(session, ReviewItem) == 1


def test_adapters_that_learned_from_an_erased_ticket_are_marked_and_a_run_is_asked_for(db_engine):
    with transaction(db_engine) as session:
        ticket_id, _ = fill(session)
        example = session.exec(select(Example).where(Example.ticket_id == ticket_id)).first()
        run = add_run(session)
        adapter = add_adapter(session, run_id=run.id)
        run.adapter_digest = adapter.digest
        lineage.add_run_examples(session, run.id, [(example.id, Split.TRAIN)])
        adapters.activate_adapter(session, adapter.digest, actor="ana", reason="r")
        done = privacy_erase.erase_ticket(session, ticket_id, actor="ana", reason="r")
        assert done.examples.marked == {adapter.digest: 1}
        assert done.examples.retrains == (TaskKind.CLASSIFICATION,)
        assert [wanted.trigger for wanted in list_wanted(session)] == [RunTrigger.ERASURE]


def test_a_correction_in_force_is_kept_as_a_bare_hash(db_engine):
    with transaction(db_engine) as session:
        ticket_id, _ = fill(session)
        row = session.exec(select(Correction)).one()
        privacy_corrections.review_correction(session, row.id, is_approved=True, actor="bob")
        privacy_erase.erase_ticket(session, ticket_id, actor="ana", reason="r")
        session.refresh(row)
        assert (row.phrase_hash, row.ciphertext, row.context, row.ticket_id) == ("h1", None, "", None)


def test_the_same_phrase_twice_is_one_correction(db_engine):
    with transaction(db_engine) as session:
        first, is_new = privacy_corrections.add_correction(session, NEW, actor="ana")
        again, is_new_again = privacy_corrections.add_correction(session, NEW, actor="bob")
        assert (first.id, is_new, is_new_again) == (again.id, True, False)


def test_an_approval_is_audited_raises_the_revision_and_cannot_be_repeated(db_engine):
    with transaction(db_engine) as session:
        row, _ = privacy_corrections.add_correction(session, NEW, actor="ana")
        before = privacy_corrections.get_revision(session)
        privacy_corrections.review_correction(session, row.id, is_approved=True, actor="bob", reason="seen")
        assert privacy_corrections.get_revision(session) == before + 1
        assert privacy_corrections.list_approved(session) == [row]
        with pytest.raises(StateConflictError, match="approved already, by bob"):
            privacy_corrections.review_correction(session, row.id, is_approved=True, actor="bob")
        with pytest.raises(RowNotFoundError):
            privacy_corrections.review_correction(session, 99, is_approved=True, actor="bob")
        (audited,) = list_audit(session, action=privacy_corrections.ACTION_APPROVED)
        assert audited.actor == "bob"


def test_a_rejected_correction_keeps_neither_phrase_nor_context(db_engine):
    with transaction(db_engine) as session:
        row, _ = privacy_corrections.add_correction(session, NEW, actor="ana")
        privacy_corrections.review_correction(session, row.id, is_approved=False, actor="bob")
        assert (row.status, row.ciphertext, row.context) == (CorrectionStatus.REJECTED, None, "")


def test_the_opposite_of_an_approved_correction_cannot_be_approved(db_engine):
    with transaction(db_engine) as session:
        mask, _ = privacy_corrections.add_correction(session, NEW, actor="ana")
        keep, _ = privacy_corrections.add_correction(
            session, NewCorrection(**{**vars(NEW), "kind": CorrectionKind.KEEP}), actor="ana"
        )
        privacy_corrections.review_correction(session, mask.id, is_approved=True, actor="bob")
        with pytest.raises(StateConflictError, match="says the opposite"):
            privacy_corrections.review_correction(session, keep.id, is_approved=True, actor="bob")


def test_old_ticket_texts_are_emptied_with_their_summaries_quotes_and_maps_and_rows_stay(db_engine):
    with transaction(db_engine) as session:
        ticket_id, _ = fill(session)
        later = now() + timedelta(days=1)
        assert privacy_retention.purge_ticket_texts(session, later) == 2
        ticket = session.get(Ticket, ticket_id)
        assert (ticket.subject, ticket.text, ticket.turns) == ("", "", [])
        assert count(session, VaultEntry) == 0
        outputs = [row.output for row in session.exec(select(Inference))]
        assert all("text" not in output and not output.get("similar") for output in outputs)
        assert count(session, FeedbackRow) == 3
        assert privacy_retention.purge_ticket_texts(session, later) == 0


def test_recent_rows_are_left_alone_by_every_limit(db_engine):
    with transaction(db_engine) as session:
        fill(session)
        earlier = now() - timedelta(days=1)
        for purge in (
            privacy_retention.purge_ticket_texts,
            privacy_retention.purge_feedback,
            privacy_retention.purge_inferences,
            privacy_retention.purge_examples,
            privacy_retention.purge_reviews,
            privacy_retention.purge_corrections,
            privacy_retention.purge_audit,
        ):
            assert purge(session, earlier) == 0
        assert privacy_retention.find_old_runs(session, earlier) == []


def test_old_feedback_goes_and_its_examples_stay_without_it(db_engine):
    with transaction(db_engine) as session:
        fill(session)
        later = now() + timedelta(days=1)
        assert [privacy_retention.purge_feedback(session, later, limit=2) for _ in range(3)] == [2, 1, 0]
        assert [row.feedback_id for row in session.exec(select(Example))] == [None, None, None]


def test_old_inferences_go_but_those_decided_on_lose_their_texts_alone(db_engine):
    with transaction(db_engine) as session:
        fill(session)
        later = now() + timedelta(days=1)
        assert privacy_retention.purge_inferences(session, later) == 2  # a lone one deleted, the summary emptied
        assert {len(row.output) for row in session.exec(select(Inference))} == {0}
        assert count(session, Inference) == 2
        assert privacy_retention.purge_inferences(session, later) == 0


def test_old_examples_and_settled_questions_go(db_engine):
    with transaction(db_engine) as session:
        fill(session)
        later = now() + timedelta(days=1)
        assert privacy_retention.purge_examples(session, later) == 3
        assert privacy_retention.purge_reviews(session, later) == 0  # it is open
        review.dismiss(session, session.exec(select(ReviewItem.id)).one(), actor="ana", reason="")
        assert privacy_retention.purge_reviews(session, later) == 1
        assert count(session, ReviewSide) == 0


def test_old_runs_go_unless_an_adapter_of_theirs_can_still_be_used(db_engine):
    with transaction(db_engine) as session:
        kept = add_run(session)
        adapter = add_adapter(session, run_id=kept.id)
        kept.adapter_digest, kept.status, kept.finished_at = adapter.digest, RunStatus.FAILED, now()
        session.flush()
        gone = add_run(session)
        gone.status, gone.finished_at = RunStatus.FAILED, now()
        lineage.add_run_examples(session, gone.id, [(1, Split.TRAIN)])
        session.flush()
        later = now() + timedelta(days=1)
        ids = privacy_retention.find_old_runs(session, later)
        assert ids == [gone.id]
        assert privacy_retention.delete_runs(session, ids) == 1
        assert [run.id for run in session.exec(select(TrainingRun))] == [kept.id]
        assert count(session, RunExample) == 0


def test_old_audit_rows_and_rejected_corrections_go(db_engine):
    with transaction(db_engine) as session:
        row, _ = privacy_corrections.add_correction(session, NEW, actor="ana")
        privacy_corrections.review_correction(session, row.id, is_approved=False, actor="bob")
        record_audit(session, actor="a", action="b", subject_type="c", subject_id=1)
        later = now() + timedelta(days=1)
        assert privacy_retention.purge_corrections(session, later) == 1
        assert privacy_retention.purge_audit(session, later) == 3


def add_taught_ticket(session):
    """Return the ids of a new ticket and of an example of it."""
    ticket = add_ticket(session)
    example = Example(ticket_id=ticket.id, task=CLASSIFICATION, text="t", target="vpn")
    session.add(example)
    session.flush()
    return ticket.id, example.id


def test_the_ids_of_an_erased_ticket_and_of_its_example_are_never_given_again(db_engine):
    with transaction(db_engine) as session:
        ticket_id, example_id = add_taught_ticket(session)
    with transaction(db_engine) as session:
        privacy_erase.erase_ticket(session, ticket_id, actor="ana", reason="asked")
    with transaction(db_engine) as session:
        next_ticket, next_example = add_taught_ticket(session)
    assert next_ticket > ticket_id
    assert next_example > example_id
