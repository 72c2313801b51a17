"""What labels without examples gain: fitted on tickets whose label a trial did not know, and nothing where none is to be expected."""

import numpy as np
import pytest

from bot.engine.head import log_softmax
from training.encoder.calibrate import MAX_LIFT, Answers, calibrate, calibrate_with_lift, estimate_unseen_share
from training.encoder.linear import Targets

N_LABELS = 4


def make_targets(labels, *, negative=()):
    labels = np.asarray(labels, np.int64)
    return Targets(labels, np.ones(len(labels)), np.isin(np.arange(len(labels)), negative))


def make_answers(labels, *, pushed, seed=0):
    """Answers that find the label, but for label 3: its logits are `pushed` down, and the trial knew no example of it."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(labels), N_LABELS)) + 3.0 * np.eye(N_LABELS)[labels]
    logits[:, 3] -= pushed
    is_absent = np.zeros((len(labels), N_LABELS), bool)
    is_absent[:, 3] = True
    return Answers(log_softmax(logits.astype(np.float32)), None, is_absent)


def test_label_that_training_pushed_away_is_lifted_back_by_about_as_much():
    labels = np.arange(400) % N_LABELS
    answers = make_answers(labels, pushed=5.0)
    _, lift = calibrate_with_lift(answers, make_targets(labels), unseen_share=0.25)
    assert lift == pytest.approx(5.0, abs=1.0)
    lifted = answers.lift(lift).encoder
    assert (lifted.argmax(axis=1) == labels).mean() > (answers.encoder.argmax(axis=1) == labels).mean() + 0.1
    assert np.exp(lifted).sum(axis=1) == pytest.approx(1.0, abs=1e-5)


def test_rarer_the_tickets_of_unseen_labels_the_smaller_the_lift():
    labels = np.arange(400) % N_LABELS
    lifts = [
        calibrate_with_lift(make_answers(labels, pushed=5.0), make_targets(labels), unseen_share=at)[1] for at in (0.01, 0.25)
    ]
    assert 0.0 <= lifts[0] < lifts[1] < MAX_LIFT


@pytest.mark.parametrize(("n_unknown", "unseen_share"), [(0, 0.3), (3, 0.3), (100, 0.0)])
def test_without_enough_unknown_tickets_or_hope_of_them_nothing_is_lifted(n_unknown, unseen_share):
    labels = np.concatenate([np.arange(300) % 3, np.full(n_unknown, 3)])
    answers, targets = make_answers(labels, pushed=5.0), make_targets(labels)
    known = answers.take(labels < 3)
    expected = calibrate(known.encoder, None, targets.take(np.flatnonzero(labels < 3)))
    assert calibrate_with_lift(answers, targets, unseen_share=unseen_share) == (expected, 0.0)


def test_no_answers_at_all_give_the_prior_and_no_lift():
    answers = Answers(np.empty((0, N_LABELS), np.float32), None, np.empty((0, N_LABELS), bool))
    calibration, lift = calibrate_with_lift(answers, make_targets([]), unseen_share=0.3)
    assert (calibration, lift) == (calibrate(answers.encoder, None, make_targets([])), 0.0)


def test_unseen_share_is_that_of_labels_seen_once_and_zero_where_every_label_has_examples():
    assert estimate_unseen_share(make_targets([0, 0, 1, 2]), n_absent=1) == pytest.approx(0.5)
    assert estimate_unseen_share(make_targets([0, 0, 0, 1], negative=[3]), n_absent=2) == 0.0
    assert estimate_unseen_share(make_targets([0, 1, 2]), n_absent=0) == 0.0
