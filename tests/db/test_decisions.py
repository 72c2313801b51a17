"""Counts of decisions on one model's answers, newest first, blind ones apart."""

from db.queries.decisions import DecisionCounts, count_decisions
from db.session import transaction
from db.types import FeedbackKind
from tests.support.db_rows import CLASSIFICATION, add_feedback, add_inference

LIVE = "a" * 64


def decide(session, kind, *, label="billing", value=None, **inference):
    row = add_inference(session, label=label, **({"adapter_digest": LIVE} | inference))
    return add_feedback(session, row, kind=kind, value=value)


def test_only_decisions_on_that_model_count_and_blind_ones_apart(db_engine):
    with transaction(db_engine) as session:
        decide(session, FeedbackKind.ACCEPT)
        decide(session, FeedbackKind.OVERRIDE, value="refund")
        decide(session, FeedbackKind.HANDOFF)
        decide(session, FeedbackKind.OVERRIDE, value="refund", adapter_digest="base")
        decide(session, FeedbackKind.OVERRIDE, value="billing", is_blind=True)
        decide(session, FeedbackKind.OVERRIDE, value="refund", is_blind=True)
        counts = count_decisions(session, CLASSIFICATION, adapter_digest=LIVE, window=100)
        assert counts == DecisionCounts(n_shown=3, n_corrected=1, n_accepted=1, n_blind=2, n_agreed=1)
        assert counts.override_rate == 1 / 3
        assert count_decisions(session, CLASSIFICATION, adapter_digest="none", window=100).override_rate is None


def test_the_window_holds_the_newest_and_a_replaced_decision_does_not_count(db_engine):
    with transaction(db_engine) as session:
        decide(session, FeedbackKind.ACCEPT)
        row = add_inference(session, adapter_digest=LIVE)
        add_feedback(session, row, kind=FeedbackKind.ACCEPT)
        add_feedback(session, row, kind=FeedbackKind.OVERRIDE, value="refund")
        decide(session, FeedbackKind.OVERRIDE, value="refund")
        counts = count_decisions(session, CLASSIFICATION, adapter_digest=LIVE, window=2)
        assert (counts.n_shown, counts.n_corrected) == (2, 2)
