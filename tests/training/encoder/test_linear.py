import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from bot.engine.head import log_softmax
from training.encoder.calibrate import PRIOR_SHARE, PRIOR_TEMPERATURE, calibrate
from training.encoder.lexical import MIN_TICKETS, build_lexicon, find_unlike, fit_expert
from training.encoder.linear import Targets, compute_loss, fit_softmax

NONE_FIXED = np.zeros(3, bool)


def make_targets(label, *, weight=None, is_negative=None):
    n = len(label)
    return Targets(
        np.asarray(label, np.int64),
        np.ones(n) if weight is None else np.asarray(weight, float),
        np.zeros(n, bool) if is_negative is None else np.asarray(is_negative, bool),
    )


def make_clouds(n=90, seed=0):
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 3
    return rng.normal(size=(n, 4)) + 1.5 * np.eye(3, 4)[label], label


def zeros(n_labels=3, n_features=4):
    return np.zeros((n_labels, n_features)), np.zeros(n_labels)


def test_gradient_is_that_of_the_loss_for_both_kinds_of_examples():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 3))
    targets = make_targets([0, 1, 2, 0, 1, 2], weight=rng.uniform(0.5, 2, 6), is_negative=[0, 0, 0, 1, 1, 1])
    _, gradient = compute_loss(log_softmax(logits), targets)
    for place in np.ndindex(6, 3):
        step = np.zeros_like(logits)
        step[place] = 1e-5
        up, down = (compute_loss(log_softmax(logits + sign * step), targets)[0] for sign in (1, -1))
        assert gradient[place] == pytest.approx((up - down) / 2e-5, abs=1e-5)


@pytest.mark.parametrize("convert", [np.asarray, csr_matrix])
def test_plain_examples_give_the_answers_of_sklearn(convert):
    features, label = make_clouds()
    weight, bias = fit_softmax(
        convert(features), make_targets(label), start=zeros(), l2=1 / (5.0 * len(label)), is_fixed=NONE_FIXED, max_steps=1000
    )
    theirs = LogisticRegression(C=5.0, tol=1e-8, max_iter=1000).fit(features, label)
    np.testing.assert_allclose(np.exp(log_softmax(features @ weight.T + bias)), theirs.predict_proba(features), atol=5e-3)


def test_weighted_example_counts_like_copies_of_itself():
    features, label = make_clouds(30)
    often = np.concatenate([features, features[:1], features[:1]])
    copied = fit_softmax(often, make_targets([*label, label[0], label[0]]), start=zeros(), l2=0.1, is_fixed=NONE_FIXED)
    weight = np.ones(30)
    weight[0] = 3.0
    weighted = fit_softmax(features, make_targets(label, weight=weight), start=zeros(), l2=0.1, is_fixed=NONE_FIXED)
    np.testing.assert_allclose(copied[0], weighted[0], atol=1e-2)


def test_not_this_examples_lower_the_label_they_name():
    features, label = make_clouds(30)
    extra = features[label == 0]
    both = np.concatenate([features, extra])
    targets = make_targets([*label, *[0] * len(extra)], is_negative=[*[False] * 30, *[True] * len(extra)])
    plain = fit_softmax(features, make_targets(label), start=zeros(), l2=0.01, is_fixed=NONE_FIXED)
    taught = fit_softmax(both, targets, start=zeros(), l2=0.01, is_fixed=NONE_FIXED)
    before, after = (log_softmax(extra @ weight.T + bias)[:, 0].mean() for weight, bias in (plain, taught))
    assert after < before - 0.1


def test_fixed_rows_stay_as_they_start():
    features, label = make_clouds(30)
    start = zeros()
    start[0][2] = 7.0
    weight, bias = fit_softmax(features, make_targets(label % 2), start=start, l2=0.1, is_fixed=np.array([False, False, True]))
    assert weight[2].tolist() == [7.0] * 4
    assert bias[2] == 0.0
    assert np.abs(weight[:2]).max() > 0.1


def test_nothing_to_learn_from_leaves_the_start():
    weight, _ = fit_softmax(np.empty((0, 4)), make_targets([]), start=zeros(), l2=0.1, is_fixed=NONE_FIXED)
    assert weight.tolist() == zeros()[0].tolist()


def draw(confidence, n, seed=0):
    """Return log-probabilities over two labels that claim 0.95 and labels that agree in a share of `confidence`."""
    rng = np.random.default_rng(seed)
    right = rng.random(n) < confidence
    encoder = np.log(np.tile([[0.95, 0.05]], (n, 1))).astype(np.float32)
    return encoder, make_targets(np.where(right, 0, 1))


def test_overconfident_answers_are_tempered_to_their_accuracy():
    encoder, targets = draw(0.7, 2000)
    found = calibrate(encoder, None, targets)
    tempered = np.exp(log_softmax(encoder / found.temperature))[0, 0]
    assert tempered == pytest.approx(0.7, abs=0.03)
    assert found.lexical_weight == 0.0


def test_without_held_out_rows_the_prior_is_used():
    empty = np.empty((0, 2), np.float32)
    found = calibrate(empty, empty, make_targets([]))
    assert found.temperature == pytest.approx(PRIOR_TEMPERATURE, rel=1e-2)
    assert found.lexical_weight == PRIOR_SHARE


def test_the_expert_that_is_right_gets_the_larger_share():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 400)
    good = log_softmax(3.0 * np.eye(2)[label] + rng.normal(size=(400, 2))).astype(np.float32)
    noise = log_softmax(rng.normal(size=(400, 2))).astype(np.float32)
    assert calibrate(noise, good, make_targets(label)).lexical_weight > 0.6
    assert calibrate(good, noise, make_targets(label)).lexical_weight < 0.2


TEXTS = ["printer is broken", "printer jam again", "reset my password", "password expired again", "secret zebra9182"]


def test_terms_of_a_single_ticket_are_not_stored():
    lexicon = build_lexicon(TEXTS, n_labels=2)
    terms = {term for block in lexicon.blocks for term in block.columns}
    assert MIN_TICKETS == 2
    assert "printer" in terms
    assert not any("zebra" in term or "918" in term for term in terms)


def test_expert_learns_its_texts_and_leaves_absent_labels_behind():
    expert = fit_expert(TEXTS[:4], make_targets([0, 0, 1, 1]), is_absent=np.array([False, False, True]))
    assert expert.logits(["the printer", "a password"]).argmax(axis=1).tolist() == [0, 1]
    assert expert.bias[2] < expert.bias[:2].mean()
    assert np.abs(expert.weight[:, 2]).max() == 0.0


def test_texts_without_common_terms_give_no_expert():
    assert fit_expert(["abc", "xyz"], make_targets([0, 1]), is_absent=np.zeros(2, bool)) is None


def test_near_duplicates_of_known_texts_are_found_unless_most_are():
    known = [*TEXTS, "please order two new monitors", "please order three new keyboards"]
    asked = ["please order two new monitors now", "how long is the canteen open", "where is the meeting room"]
    assert find_unlike(known, asked).tolist() == [False, True, True]
    assert find_unlike(known, known).all()
    assert find_unlike(["x"], ["y"]).tolist() == [True]
