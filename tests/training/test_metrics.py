import numpy as np
import pytest

from training.metrics import (
    compute_accuracy,
    compute_coverage,
    compute_expected_calibration_error,
    compute_gain,
    compute_macro_f1,
    compute_mcnemar,
    compute_overlap,
)


def test_accuracy_counts_equal_entries():
    assert compute_accuracy(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2])) == 0.75


def test_macro_f1_weighs_rare_labels_like_common_ones():
    gold = np.array([0] * 9 + [1])
    assert compute_macro_f1(gold, np.zeros(10, np.int64)) == pytest.approx((18 / 19) / 2)


def test_calibration_error_is_zero_when_confidence_equals_accuracy():
    probabilities = np.tile([0.75, 0.25], (8, 1))
    assert compute_expected_calibration_error(probabilities, np.array([0] * 6 + [1] * 2)) == pytest.approx(0.0)


def test_calibration_error_is_the_gap_when_every_answer_is_overconfident():
    probabilities = np.tile([0.9, 0.1], (10, 1))
    assert compute_expected_calibration_error(probabilities, np.array([0] * 5 + [1] * 5)) == pytest.approx(0.4)


def test_gain_of_a_clearly_better_model_has_an_interval_above_zero():
    before = np.arange(400) % 2 == 0
    after = np.arange(400) % 5 != 0
    gain, low, high = compute_gain(before, after)
    assert gain == pytest.approx(0.3)
    assert 0.2 < low < gain < high < 0.4


def test_mcnemar_is_certain_of_nothing_when_wins_and_losses_are_even():
    before = np.array([True, False] * 10)
    assert compute_mcnemar(before, ~before) == pytest.approx(1.0)


def test_mcnemar_of_ten_wins_and_no_loss_is_twice_two_to_the_minus_ten():
    assert compute_mcnemar(np.zeros(10, bool), np.ones(10, bool)) == pytest.approx(2 * 2.0**-10)


def test_coverage_is_the_share_answered_before_accuracy_falls():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    assert compute_coverage(probabilities, np.array([0, 0, 1, 1]), accuracy=1.0) == 0.5
    assert compute_coverage(probabilities, np.array([1, 1, 1, 1]), accuracy=0.5) == 0.0


def test_overlap_is_one_for_the_same_words_in_the_same_order():
    assert compute_overlap(["Printer is broken."], ["printer is broken"]) == (1.0, 1.0)
    assert compute_overlap([], []) == (0.0, 0.0)
