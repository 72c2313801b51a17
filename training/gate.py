"""The gate for classification: a function from what candidate, live model and simple baselines answered to a decision with reasons.

Pure. Knows no model, file or table; `training.pipeline` brings the numbers and acts on the decision.
"""

import numpy as np

from bot.tasks.measures import (
    BoolArray,
    compute_binomial_tail,
    compute_chance_ece,
    compute_ece,
    compute_f1,
    compute_paired_interval,
    compute_sign_test,
)
from bot.training_settings import TrainingSettings
from training.contest import (
    BASELINE_NAMES,
    UNSAFE_CONFIDENCE,
    Answers,
    Check,
    Contest,
    GateDecision,
    build_decision,
    build_numbers,
    count_unsafe,
    count_wrong_escalations,
    is_right,
)

SAME_PROBABILITY = 1e-3
SURE = 0.05
"""One-sided probability under which a loss is no longer put down to chance."""


def decide(contest: Contest, *, settings: TrainingSettings) -> GateDecision:
    """Judge a classification candidate."""
    numbers = build_numbers(contest, settings)
    if len(contest.gold) < settings.gate_min_test:
        sentence = f"{len(contest.gold)} test tickets are too few to judge on: at least {settings.gate_min_test} are needed"
        return build_decision([Check("enough_tickets", is_passed=False, sentence=sentence)], numbers)
    new, better = _check_new(contest), _check_better(contest, settings)
    checks = [
        *((better, new) if new.is_passed else (new, better)),  # what people read first
        *_check_baselines(contest, settings),
        _check_majority(contest, settings),
        *_check_labels(contest, settings),
        *_check_escalation(contest, settings),
        *_check_wrong_escalation(contest, settings),
        _check_calibration(contest, settings),
        _check_unsafe(contest, settings),
        *_check_golden(contest, settings),
        *_check_latency(contest, settings),
    ]
    return build_decision(checks, numbers)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _compare(contest: Contest, other: Answers, rows: BoolArray | None = None) -> tuple[int, int]:
    """Return on how many tickets the candidate alone is right, and the other alone."""
    mine, its = is_right(contest.candidate, contest.gold), is_right(other, contest.gold)
    chosen = np.ones(len(contest.gold), dtype=bool) if rows is None else rows
    return int((mine & ~its & chosen).sum()), int((its & ~mine & chosen).sum())


def _check_new(contest: Contest) -> Check:
    others = [(contest.base, "the bare model")] + ([(contest.active, "the live adapter")] if contest.active is not None else [])
    for other, name in others:
        is_same = np.array_equal(contest.candidate.predicted, other.predicted)
        largest = float(np.abs(np.asarray(contest.candidate.probabilities) - np.asarray(other.probabilities)).max())
        if is_same and largest < SAME_PROBABILITY:
            return Check(
                "new", is_passed=False, sentence=f"it answers exactly like {name} on every test ticket: it has learned nothing"
            )
    return Check("new", is_passed=True, sentence=f"it answers otherwise than {others[-1][1]}")


def _check_better(contest: Contest, settings: TrainingSettings) -> Check:
    gold, live = contest.gold, contest.live
    before, after = is_right(live, gold).astype(np.float64), is_right(contest.candidate, gold).astype(np.float64)
    gain, low, high = compute_paired_interval(before, after, confidence=settings.gate_confidence, seed=settings.seed)
    n_wins, n_losses = _compare(contest, live)
    chance = compute_sign_test(n_wins, n_losses)
    numbers = (
        f"accuracy {_percent(before.mean())} -> {_percent(after.mean())} against {contest.live_name} on {len(gold)} tickets "
        f"(difference {100 * gain:+.1f} points, {100 * settings.gate_confidence:.0f} % interval {100 * low:+.1f} to {100 * high:+.1f}; "
        f"{n_wins} won, {n_losses} lost)"
    )
    if contest.active is not None and settings.gate_rule == "not_worse":
        is_passed = gain >= 0 and low > -settings.gate_margin
        verdict = "surely not worse" if is_passed else f"not surely within {100 * settings.gate_margin:.1f} points"
        return Check("not_worse", is_passed=is_passed, sentence=f"{verdict}: {numbers}")
    is_passed = low > 0 and chance <= (1 - settings.gate_confidence) / 2
    return Check("better", is_passed=is_passed, sentence=f"{'better' if is_passed else 'not surely better'}: {numbers}")


def _check_baselines(contest: Contest, settings: TrainingSettings) -> list[Check]:
    checks = []
    mine = float(is_right(contest.candidate, contest.gold).mean())
    for name, answers in contest.baselines.items():
        its = float(is_right(answers, contest.gold).mean())
        n_wins, n_losses = _compare(contest, answers)
        is_passed = mine >= its - settings.gate_margin or compute_sign_test(n_losses, n_wins) > SURE
        held = "does at least as well as" if mine >= its else "does not surely lose to"
        words = held if is_passed else "loses to"
        sentence = f"{words} {BASELINE_NAMES.get(name, name)}: {_percent(mine)} against {_percent(its)}"
        checks.append(Check(f"baseline:{name}", is_passed=is_passed, sentence=sentence))
    return checks


def _check_majority(contest: Contest, settings: TrainingSettings) -> Check:
    """Beating a base that guesses is no merit where always saying the commonest label would do as well: so shuffled labels are caught."""
    counts = np.bincount(contest.gold, minlength=len(contest.labels))
    commonest = int(counts.argmax())
    before = (contest.gold == commonest).astype(np.float64)
    after = is_right(contest.candidate, contest.gold).astype(np.float64)
    _, low, _ = compute_paired_interval(before, after, confidence=settings.gate_confidence, seed=settings.seed)
    numbers = f"{_percent(after.mean())} against {_percent(before.mean())} for always answering '{contest.labels[commonest]}'"
    if low > 0:
        return Check("majority", is_passed=True, sentence=f"it reads the tickets: {numbers}")
    sentence = f"it does no better than the commonest label: {numbers}; the examples' labels may not belong to their texts"
    return Check("majority", is_passed=False, sentence=sentence)


def _check_labels(contest: Contest, settings: TrainingSettings) -> list[Check]:
    gold, mine, its = contest.gold, contest.candidate.predicted, contest.live.predicted
    checks = []
    for label, name in enumerate(contest.labels):
        support = int((gold == label).sum())
        if support < settings.gate_label_support:
            continue
        before, after = compute_f1(gold, its, label=label), compute_f1(gold, mine, label=label)
        if after < before - settings.gate_label_margin:
            sentence = f"the label '{name}' suffers: F1 {before:.2f} -> {after:.2f} on its {support} tickets"
            checks.append(Check(f"label:{name}", is_passed=False, sentence=sentence))
    return checks or [Check("labels", is_passed=True, sentence=f"no label loses more than {settings.gate_label_margin:.2f} F1")]


def _check_escalation(contest: Contest, settings: TrainingSettings) -> list[Check]:
    must = np.array(sorted(contest.escalate), dtype=np.int64)
    rows = np.isin(contest.gold, must)
    if not rows.any():
        return []
    before = float(np.isin(contest.live.predicted[rows], must).mean())
    after = float(np.isin(contest.candidate.predicted[rows], must).mean())
    caught_mine, caught_its = np.isin(contest.candidate.predicted, must), np.isin(contest.live.predicted, must)
    n_wins, n_losses = int((rows & caught_mine & ~caught_its).sum()), int((rows & caught_its & ~caught_mine).sum())
    is_passed = after >= before - settings.gate_escalation_margin or compute_sign_test(n_losses, n_wins) > SURE
    held = (
        "tickets that must be escalated are missed no more often"
        if after >= before
        else "tickets that must be escalated: no sure loss"
    )
    words = held if is_passed else "it misses tickets that must be escalated"
    sentence = f"{words}: recall {_percent(before)} -> {_percent(after)} on {int(rows.sum())}"
    return [Check("escalation", is_passed=is_passed, sentence=sentence)]


def _check_wrong_escalation(contest: Contest, settings: TrainingSettings) -> list[Check]:
    """Crying wolf costs the people on call; catching every ticket by escalating all of them is no merit."""
    must = np.array(sorted(contest.escalate), dtype=np.int64)
    others = ~np.isin(contest.gold, must)
    if not len(must) or not others.any():
        return []
    before, after = count_wrong_escalations(contest.live, contest), count_wrong_escalations(contest.candidate, contest)
    wrong_mine, wrong_its = np.isin(contest.candidate.predicted, must), np.isin(contest.live.predicted, must)
    n_more, n_fewer = int((others & wrong_mine & ~wrong_its).sum()), int((others & wrong_its & ~wrong_mine).sum())
    is_passed = after <= before + settings.gate_wrong_escalation_margin or compute_sign_test(n_more, n_fewer) > SURE
    words = "it escalates no more tickets wrongly" if is_passed else "it escalates tickets that need none"
    sentence = f"{words}: {_percent(before)} -> {_percent(after)} of {int(others.sum())} others"
    return [Check("wrong_escalation", is_passed=is_passed, sentence=sentence)]


def _check_calibration(contest: Contest, settings: TrainingSettings) -> Check:
    """Refuse confidence that misleads more than chance explains and more than that of what is live: keeping that would be no better."""
    confidence = contest.candidate.confidence
    error = compute_ece(confidence, is_right(contest.candidate, contest.gold))
    before = compute_ece(contest.live.confidence, is_right(contest.live, contest.gold))
    bound = compute_chance_ece(confidence, seed=settings.seed, tolerance=settings.gate_max_ece)
    is_passed = error <= bound or error < before
    held = (
        "its confidence can be believed" if error <= bound else f"its confidence misleads less than that of {contest.live_name}"
    )
    words = held if is_passed else "its confidence misleads"
    sentence = f"{words}: calibration error {before:.3f} -> {error:.3f}, bound {bound:.3f} on {len(contest.gold)} tickets"
    return Check("calibration", is_passed=is_passed, sentence=sentence)


def _check_unsafe(contest: Contest, settings: TrainingSettings) -> Check:
    n, share = len(contest.gold), count_unsafe(contest.candidate, contest.gold)
    is_passed = (
        share <= settings.gate_max_unsafe or compute_binomial_tail(n, round(n * share), share=settings.gate_max_unsafe) > SURE
    )
    before, bound = _percent(count_unsafe(contest.live, contest.gold)), _percent(settings.gate_max_unsafe)
    words = "rarely wrong with confidence" if is_passed else "too often wrong with confidence"
    sentence = f"{words}: {before} -> {_percent(share)} of {n} tickets at {UNSAFE_CONFIDENCE} or more (bound {bound})"
    return Check("unsafe", is_passed=is_passed, sentence=sentence)


def _check_golden(contest: Contest, settings: TrainingSettings) -> list[Check]:
    rows = contest.is_golden
    if rows is None or not rows.any():
        return []
    before = float(is_right(contest.live, contest.gold)[rows].mean())
    after = float(is_right(contest.candidate, contest.gold)[rows].mean())
    n_wins, n_losses = _compare(contest, contest.live, rows)
    is_passed = after >= before - settings.gate_margin or compute_sign_test(n_losses, n_wins) > SURE
    held = "the golden set agrees" if after >= before else "no sure loss on the golden set"
    words = held if is_passed else "it loses on the golden set, whatever newer feedback says"
    sentence = f"{words}: {_percent(before)} -> {_percent(after)} on {int(rows.sum())} approved tickets"
    return [Check("golden", is_passed=is_passed, sentence=sentence)]


def _check_latency(contest: Contest, settings: TrainingSettings) -> list[Check]:
    mine, base = contest.candidate.latencies_ms, contest.base.latencies_ms
    if mine is None or base is None or not len(mine) or not len(base):
        return []
    after, before = float(np.median(mine)), float(np.median(base))
    is_passed = after <= before * settings.gate_max_latency
    words = "fast enough" if is_passed else "too slow"
    return [Check("latency", is_passed=is_passed, sentence=f"{words}: median {after:.1f} ms, bare model {before:.1f} ms")]
