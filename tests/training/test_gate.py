"""The gate's promises, by property: no luck, no no-ops, no harm hidden behind a better average."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.tasks.measures import compute_chance_ece, compute_ece
from bot.training_settings import TrainingSettings
from training.contest import Answers, Contest, compute_coverage
from training.gate import decide
from training.gate_summary import SummaryContest, SummaryScores, decide_summary

SETTINGS = TrainingSettings()
LABELS = ("access", "hardware", "billing", "other")


def answer(gold, rate, *, confidence=0.7, seed=0, n_labels=4):
    """Answers right on a share of tickets, with a confidence near what that share deserves."""
    generator = np.random.default_rng(seed)
    right = generator.random(len(gold)) < rate
    predicted = np.where(right, gold, (gold + 1 + generator.integers(0, n_labels - 1, len(gold))) % n_labels)
    probabilities = np.full((len(gold), n_labels), (1 - confidence) / (n_labels - 1))
    probabilities[np.arange(len(gold)), predicted] = confidence
    return Answers(probabilities, np.full(len(gold), 5.0))


def make_contest(n=200, *, candidate=0.8, base=0.4, seed=0, **more):
    gold = np.random.default_rng(seed).integers(0, 4, n)
    return Contest(
        labels=LABELS,
        gold=gold,
        candidate=answer(gold, candidate, confidence=max(candidate, 0.3), seed=seed + 1),
        base=answer(gold, base, confidence=0.4, seed=seed + 2),
        **more,
    )


def failed(decision):
    return {check.name for check in decision.checks if not check.is_passed}


def test_a_clear_gain_on_many_tickets_passes_with_numbers_in_its_reason():
    decision = decide(make_contest(), settings=SETTINGS)
    assert decision.is_passed, decision.reasons
    assert any("accuracy" in reason and "200 tickets" in reason for reason in decision.reasons)
    assert decision.numbers["candidate_accuracy"] > decision.numbers["base_accuracy"]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(5, 300), st.floats(0.0, 1.0))
def test_an_identical_candidate_never_passes(seed, n, rate):
    gold = np.random.default_rng(seed).integers(0, 4, n)
    same = answer(gold, rate, seed=seed)
    decision = decide(Contest(labels=LABELS, gold=gold, candidate=same, base=same), settings=SETTINGS)
    assert not decision.is_passed


def test_a_candidate_identical_to_the_live_adapter_is_called_a_no_op():
    contest = make_contest()
    decision = decide(
        Contest(labels=LABELS, gold=contest.gold, candidate=contest.candidate, base=contest.base, active=contest.candidate),
        settings=SETTINGS,
    )
    assert {"new", "better"} <= failed(decision)
    assert "learned nothing" in " ".join(decision.reasons)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_equally_good_models_hardly_ever_pass_on_small_test_sets(seed, n):
    assert not decide(make_contest(n, candidate=0.6, base=0.6, seed=seed), settings=SETTINGS).is_passed


def test_equally_good_models_pass_by_luck_in_fewer_than_one_case_in_twenty():
    passed = [decide(make_contest(40, candidate=0.6, base=0.6, seed=seed), settings=SETTINGS).is_passed for seed in range(60)]
    assert sum(passed) <= 3


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.3, 0.9), st.floats(0.3, 0.9))
def test_the_order_of_tickets_does_not_matter(seed, candidate, base):
    contest = make_contest(80, candidate=candidate, base=base, seed=seed)
    order = np.random.default_rng(seed + 1).permutation(80)
    shuffled = Contest(
        labels=LABELS,
        gold=contest.gold[order],
        candidate=Answers(contest.candidate.probabilities[order], contest.candidate.latencies_ms[order]),
        base=Answers(contest.base.probabilities[order], contest.base.latencies_ms[order]),
    )
    assert decide(contest, settings=SETTINGS).reasons == decide(shuffled, settings=SETTINGS).reasons


def test_a_candidate_that_only_learned_the_commonest_label_is_refused():
    generator = np.random.default_rng(3)
    gold = generator.choice(4, 300, p=[0.6, 0.2, 0.1, 0.1])
    lazy = np.tile([0.6, 0.2, 0.1, 0.1], (300, 1))
    decision = decide(Contest(labels=LABELS, gold=gold, candidate=Answers(lazy), base=answer(gold, 0.2)), settings=SETTINGS)
    assert "majority" in failed(decision)
    assert "may not belong to their texts" in " ".join(decision.reasons)


def test_a_candidate_that_loses_clearly_to_a_simple_baseline_is_refused():
    contest = make_contest(400, candidate=0.6)
    strong = answer(contest.gold, 0.9, seed=9)
    decision = decide(
        Contest(labels=LABELS, gold=contest.gold, candidate=contest.candidate, base=contest.base, baselines={"tfidf": strong}),
        settings=SETTINGS,
    )
    assert failed(decision) == {"baseline:tfidf"}


def test_one_label_may_not_pay_for_the_others():
    contest = make_contest(400, candidate=0.95, base=0.7)
    probabilities = contest.candidate.probabilities.copy()
    victims = np.flatnonzero(contest.gold == 2)
    probabilities[victims] = np.roll(np.eye(4)[2] * 0.7 + 0.1, 1)
    decision = decide(
        Contest(labels=LABELS, gold=contest.gold, candidate=Answers(probabilities), base=contest.base), settings=SETTINGS
    )
    assert "label:billing" in failed(decision)


def test_tickets_that_must_be_escalated_may_not_be_missed_more_often():
    contest = make_contest(400, candidate=0.95, base=0.9)
    probabilities = contest.candidate.probabilities.copy()
    victims = np.flatnonzero(contest.gold == 0)[::2]
    probabilities[victims] = np.eye(4)[3] * 0.7 + 0.075
    decision = decide(
        Contest(labels=LABELS, gold=contest.gold, candidate=Answers(probabilities), base=contest.base, escalate=frozenset({0})),
        settings=SETTINGS,
    )
    assert "escalation" in failed(decision)


def test_confidence_that_misleads_is_refused():
    contest = make_contest(400, candidate=0.75)
    boastful = answer(contest.gold, 0.75, confidence=0.99, seed=1)
    decision = decide(Contest(labels=LABELS, gold=contest.gold, candidate=boastful, base=contest.base), settings=SETTINGS)
    assert {"calibration", "unsafe"} <= failed(decision)


def test_a_small_honest_test_set_is_not_refused_for_the_calibration_error_that_chance_explains():
    contest = make_contest(40, candidate=0.85, base=0.2, seed=5)
    assert "calibration" not in failed(decide(contest, settings=SETTINGS))


def test_few_tickets_do_not_turn_a_tolerated_calibration_error_into_a_refusal():
    generator = np.random.default_rng(0)
    n_refused = 0
    for _ in range(100):
        confidence = generator.uniform(0.3, 0.95, 51)
        is_right = generator.random(51) < confidence - 0.04  # a little boastful, but within the 0.05 that the settings allow
        n_refused += compute_ece(confidence, is_right) > compute_chance_ece(confidence, seed=0, tolerance=0.05, n_draws=200)
    assert n_refused <= 3


def test_the_bound_on_calibration_comes_down_to_the_tolerated_error_where_tickets_are_many():
    confidence = np.random.default_rng(0).uniform(0.3, 0.9, 20_000)
    assert 0.05 < compute_chance_ece(confidence, seed=0, tolerance=0.05, n_draws=200) < 0.065
    assert compute_chance_ece(confidence, seed=0, n_draws=200) < 0.02


def test_a_loss_on_the_golden_set_outweighs_newer_feedback():
    contest = make_contest(400, candidate=0.9, base=0.6)
    golden = np.arange(400) < 60
    base, probabilities = contest.base.probabilities.copy(), contest.candidate.probabilities.copy()
    base[:60] = np.eye(4)[contest.gold[:60]] * 0.6 + 0.1
    probabilities[:60] = np.eye(4)[(contest.gold[:60] + 1) % 4] * 0.6 + 0.1
    decision = decide(
        Contest(labels=LABELS, gold=contest.gold, candidate=Answers(probabilities), base=Answers(base), is_golden=golden),
        settings=SETTINGS,
    )
    assert "golden" in failed(decision)


def test_a_slow_candidate_is_refused():
    contest = make_contest(200)
    slow = Answers(contest.candidate.probabilities, np.full(200, 50.0))
    decision = decide(Contest(labels=LABELS, gold=contest.gold, candidate=slow, base=contest.base), settings=SETTINGS)
    assert failed(decision) == {"latency"}


def test_under_not_worse_an_equal_successor_passes_and_a_worse_one_does_not():
    rule = TrainingSettings(gate_rule="not_worse", gate_margin=0.05)
    gold = np.random.default_rng(0).integers(0, 4, 2000)
    live, base = answer(gold, 0.8, confidence=0.8, seed=1), answer(gold, 0.3, seed=3)
    flipped = live.probabilities.copy()
    wrong = np.flatnonzero(live.predicted != gold)[:10]
    flipped[wrong] = np.eye(4)[gold[wrong]] * 0.6 + 0.1
    better = Contest(labels=LABELS, gold=gold, candidate=Answers(flipped), base=base, active=live)
    assert decide(better, settings=rule).is_passed
    worse = Contest(labels=LABELS, gold=gold, candidate=answer(gold, 0.7, confidence=0.7, seed=4), base=base, active=live)
    assert not decide(worse, settings=rule).is_passed


def test_too_few_tickets_are_named_as_the_reason():
    decision = decide(make_contest(SETTINGS.gate_min_test - 1, candidate=1.0, base=0.0), settings=SETTINGS)
    assert not decision.is_passed
    assert decision.reasons == ("19 test tickets are too few to judge on: at least 20 are needed",)


@pytest.mark.parametrize(("shift", "is_passed"), [(0.1, True), (0.0, False), (-0.1, False)])
def test_summaries_pass_only_with_a_sure_gain_in_overlap(shift, is_passed):
    generator = np.random.default_rng(0)
    base = generator.random(100) * 0.5 + 0.2
    candidate = base + shift + (generator.normal(0, 0.02, 100) if shift else 0)
    decision = decide_summary(SummaryContest(candidate=candidate, base=base), settings=SETTINGS)
    assert decision.is_passed is is_passed, decision.reasons


def test_tickets_that_need_no_escalation_may_not_be_escalated_more_often():
    contest = make_contest(400, candidate=0.95, base=0.9)
    probabilities = contest.candidate.probabilities.copy()
    victims = np.flatnonzero(contest.gold == 3)[::3]
    probabilities[victims] = np.eye(4)[0] * 0.7 + 0.075
    wolf = Contest(labels=LABELS, gold=contest.gold, candidate=Answers(probabilities), base=contest.base, escalate=frozenset({0}))
    decision = decide(wolf, settings=SETTINGS)
    assert "wrong_escalation" in failed(decision)
    assert "escalation" not in failed(decision)
    assert decision.numbers["candidate_wrong_escalations"] > decision.numbers["live_wrong_escalations"]
    calm = Contest(labels=LABELS, gold=contest.gold, candidate=contest.candidate, base=contest.base, escalate=frozenset({0}))
    assert "wrong_escalation" not in failed(decide(calm, settings=SETTINGS))


def test_coverage_is_what_may_go_out_unseen_at_the_precision_asked_for():
    confidence = np.linspace(1.0, 0.01, 100)
    is_correct = np.arange(100) < 57
    is_correct[60:] = False
    assert compute_coverage(confidence, is_correct) == 0.6  # 57 of 60 are 95 %
    assert compute_coverage(confidence, np.zeros(100, dtype=bool)) == 0.0
    assert compute_coverage(np.full(20, 0.5), np.arange(20) < 10) == 0.0  # one threshold takes them all
    assert compute_coverage(np.array([]), np.array([], dtype=bool)) == 0.0


def test_numbers_hold_the_confusion_and_the_coverage_of_each_label():
    numbers = decide(make_contest(400, candidate=0.95), settings=SETTINGS).numbers
    assert sum(count for _, _, count in numbers["confusion"]) == 400
    right = sum(count for label, answer, count in numbers["confusion"] if label == answer)
    assert right / 400 == pytest.approx(numbers["candidate_accuracy"])
    assert numbers["label_names"] == list(LABELS)
    for row in numbers["per_label"].values():
        assert 0.0 <= row["before_coverage_at_95"] <= row["after_coverage_at_95"] <= 1.0


def make_scores(n, *, faithful, overlap=0.5, edited=0):
    return SummaryScores(
        overlap=np.random.default_rng(0).normal(overlap, 0.05, n),
        edit_distance=np.linspace(0.2, 0.4, n),
        is_faithful=np.arange(n) < round(n * faithful),
        is_edited=np.arange(n) < edited,
    )


@pytest.mark.parametrize(("mine", "its", "is_passed"), [(1.0, 1.0, True), (0.6, 1.0, False), (0.6, 0.5, True), (0.88, 1.0, True)])
def test_a_summary_candidate_that_makes_things_up_is_refused_unless_the_live_one_does_so_too(mine, its, is_passed):
    scores = {"candidate": make_scores(100, faithful=mine, overlap=0.8, edited=10), "base": make_scores(100, faithful=its)}
    decision = decide_summary(SummaryContest.from_scores(scores), settings=SETTINGS)
    assert ("faithful" not in failed(decision)) is is_passed
    assert decision.numbers["candidate_faithful"] == mine
    assert decision.numbers["candidate_edit_distance"] == pytest.approx(0.3)
    assert decision.numbers["candidate_human_edit_distance"] < 0.25
    assert "base_human_edit_distance" not in decision.numbers
