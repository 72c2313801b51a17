"""The token trie: exact distributions against brute force, and what must be decoded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.engine.protocol import EngineError
from bot.engine.trie import build_trie

END = 99
answer_sets = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=5), min_size=1, max_size=20, unique_by=tuple)


def fake_logits(path):
    """Logits that depend on the whole path, as a model's do."""
    return np.random.default_rng([7, *path]).normal(0, 3, 100).astype(np.float32)


def brute_force(answers):
    """log p of each answer: renormalise over what can follow at every step, walking each answer by itself."""
    result = []
    for answer in answers:
        total = 0.0
        for depth in range(len(answer) + 1):
            start = tuple(answer[:depth])
            options = {(*other, END)[depth] for other in answers if tuple(other[:depth]) == start}
            if len(options) > 1:
                logits = fake_logits(start)
                chosen = (*answer, END)[depth]
                total += logits[chosen] - np.log(sum(np.exp(logits[option]) for option in options))
        result.append(total)
    return np.array(result)


def evaluate(trie):
    logits = {}
    if trie.parts_at_once:
        logits[0] = fake_logits(())
    for index, token in enumerate(trie.tokens):
        path, at = [], index
        while at >= 0:
            path.append(trie.tokens[at].token)
            at = trie.tokens[at].parent
        if token.branch >= 0:
            logits[token.branch] = fake_logits(path[::-1])
    assert sorted(logits) == list(range(len(trie.branches)))
    return trie.combine([logits[branch][list(trie.branches[branch])] for branch in range(len(trie.branches))])


@given(answer_sets)
def test_the_distribution_equals_brute_force_and_sums_to_one(answers):
    log_probabilities = evaluate(build_trie(answers, END))
    np.testing.assert_allclose(log_probabilities, brute_force(answers), atol=1e-4)
    assert np.exp(log_probabilities.astype(np.float64)).sum() == pytest.approx(1.0, abs=1e-5)


@given(answer_sets)
def test_every_token_to_decode_lies_on_a_lane_and_every_lane_ends_in_a_branch(answers):
    trie = build_trie(answers, END)
    covered = {index for lane in range(len(trie.lanes)) for index in trie.get_path(lane)}
    assert covered == set(range(len(trie.tokens)))
    assert all(trie.tokens[index].branch >= 0 for index in trie.lanes)
    assert all(
        trie.tokens[index].depth == place for lane in range(len(trie.lanes)) for place, index in enumerate(trie.get_path(lane))
    )


def test_forced_tokens_cost_no_decode():
    trie = build_trie([[1, 2, 3, 4], [5, 6, 7, 8]], END)
    assert trie.tokens == ()
    assert len(trie.branches) == 1


def test_a_single_answer_is_certain_without_any_decode():
    trie = build_trie([[1, 2, 3]], END)
    assert trie.tokens == ()
    assert trie.branches == ()
    np.testing.assert_array_equal(trie.combine([]), [0.0])


def test_an_answer_that_begins_another_competes_through_the_end_token():
    trie = build_trie([[1], [1, 2]], END)
    assert trie.branches == ((2, END),)
    assert [token.token for token in trie.tokens] == [1]


def test_a_common_first_token_is_decoded_once_for_all():
    trie = build_trie([[9, 1], [9, 2], [9, 3]], END)
    assert not trie.parts_at_once
    assert [token.token for token in trie.tokens] == [9]


@pytest.mark.parametrize(
    ("answers", "end"), [([[1, 2], [1, 2]], END), ([[1], []], END), ([[1], [1, 2]], -1)], ids=["equal", "empty", "no end token"]
)
def test_answers_that_cannot_be_told_apart_are_refused(answers, end):
    with pytest.raises(EngineError, match="label"):
        build_trie(answers, end)
