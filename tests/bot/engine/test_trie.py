"""The token trie: where answers part, and what must be decoded to tell them apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.engine.protocol import EngineError
from bot.engine.trie import build_trie

END = 99
answer_sets = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=5), min_size=1, max_size=20, unique_by=tuple)


@given(answer_sets)
def test_every_token_to_decode_leads_to_a_branch_and_every_branch_has_its_own_end(answers):
    trie = build_trie(answers, END)
    ends = [end for end in trie.ends if end >= 0]
    assert len(set(ends)) == len(ends) >= len(trie.branches) - 1
    assert {index for end in ends for index in trie.get_path(end)} == set(range(len(trie.tokens)))
    assert all(trie.tokens[end].branch == branch for branch, end in enumerate(trie.ends) if end >= 0)
    for end in ends:
        assert [trie.tokens[index].depth for index in trie.get_path(end)] == list(range(trie.tokens[end].depth + 1))


@given(answer_sets)
def test_the_outcomes_of_choices_lead_along_every_path(answers):
    trie = build_trie(answers, END)
    for answer, path in enumerate(trie.paths):
        leads = [trie.outcomes[branch][child] for branch, child in path]
        assert leads == [~branch for branch, _ in path[1:]] + [answer] * bool(path)
        assert all(answer in trie.members[branch] for branch, _ in path)
    assert sum(map(len, trie.members)) == sum(map(len, trie.paths))


def test_forced_tokens_cost_no_decode():
    trie = build_trie([[1, 2, 3, 4], [5, 6, 7, 8]], END)
    assert trie.tokens == ()
    assert len(trie.branches) == 1


def test_a_single_answer_is_certain_without_any_decode():
    trie = build_trie([[1, 2, 3]], END)
    assert trie.tokens == ()
    assert trie.branches == ()


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
