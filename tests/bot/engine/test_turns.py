import numpy as np
import pytest

from bot.engine.turns import DEFAULT_WEIGHTS, FEATURES, TurnHead, compute_features

UNITS = [
    "hello",
    "my printer does not print since the update",
    "did you restart it?",
    "yes",
    "the printer shows error 51 and blinks",
]
CUSTOMER = [True, True, False, True, True]


def make_embeddings(n=5):
    rows = np.random.default_rng(0).normal(size=(n, 16)).astype(np.float32)
    if n == 5:
        rows[1] = rows[4] + 0.1 * rows[0]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def get(name, embeddings=None, customer=CUSTOMER, units=UNITS):
    features = compute_features(make_embeddings(len(units)) if embeddings is None else embeddings, customer, units)
    return features[:, FEATURES.index(name)].tolist()


def test_first_is_the_first_customer_line_that_says_something():
    assert get("is_first") == [0, 1, 0, 0, 0]


def test_central_is_another_line_than_the_first():
    assert get("is_central") == [0, 0, 0, 0, 1]


def test_plain_features_read_the_text():
    assert get("has_question") == [0, 0, 1, 0, 0]
    assert get("has_figure") == [0, 0, 0, 0, 1]
    assert get("is_short") == [1, 0, 0, 1, 0]
    assert get("position") == [0, 0.25, 0.5, 0.75, 1]
    assert get("is_last_customer") == [0, 0, 0, 0, 1]


def test_placeholders_count_as_figures():
    assert get("has_figure", units=["call <PERSON_1> back"], customer=[True]) == [1]


def test_without_any_customer_line_all_lines_count():
    assert get("is_customer", customer=[False] * 5) == [1] * 5


def test_the_default_head_prefers_the_two_lines_about_the_matter():
    scores = TurnHead.default().scores(make_embeddings(), CUSTOMER, UNITS)
    assert set(np.argsort(-scores)[:2].tolist()) == {1, 4}


@pytest.mark.parametrize("n", [0, 1])
def test_tickets_of_no_or_one_unit_are_scored(n):
    scores = TurnHead.default().scores(make_embeddings(1)[:n], [True] * n, UNITS[:n])
    assert scores.shape == (n,)
    assert np.isfinite(scores).all()


def test_every_default_weight_belongs_to_a_feature():
    assert set(DEFAULT_WEIGHTS) <= set(FEATURES)


def test_a_saved_head_loads_and_one_of_other_features_is_refused(tmp_path):
    TurnHead.default().save(tmp_path)
    np.testing.assert_array_equal(TurnHead.load(tmp_path).weight, TurnHead.default().weight)
    TurnHead(np.ones(3, np.float32)).save(tmp_path)
    with pytest.raises(ValueError, match="train it again"):
        TurnHead.load(tmp_path)
