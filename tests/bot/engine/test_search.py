"""Best-first search: exact where it says so against full enumeration, a proper distribution always, no branch computed twice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.engine import search as searching
from bot.engine.search import HABIT_MEMORY, MIN_SHARE, SURE_SHARE, Habits, LabelSearch, Prior
from bot.engine.trie import ROOT, build_trie

END = 99
answer_sets = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=5), min_size=1, max_size=40, unique_by=tuple)
sharpness = st.sampled_from([0.1, 1.0, 3.0, 10.0])
seeds = st.integers(0, 1000)


class FakeModel:
    """Logits that depend on the whole path, as a model's do; counts what it is asked."""

    def __init__(self, trie, *, seed, scale):
        self.trie, self.seed, self.scale = trie, seed, scale
        self.asked = []

    def read(self, branch):
        self.asked.append(branch)
        path = [self.trie.tokens[index].token for index in self.trie.get_path(self.trie.ends[branch])]
        logits = np.random.default_rng([self.seed, *path]).normal(0, self.scale, 100)
        return logits[list(self.trie.branches[branch])]


def run(trie, model, **options):
    search = LabelSearch(trie, **options)
    while wanted := search.choose():
        for branch in wanted:
            search.put(branch, model.read(branch))
    return search.finish().astype(np.float64)


def brute_force(answers, *, seed, scale):
    """log p of each answer: renormalise over what can follow at every step, walking each answer by itself."""
    result = []
    for answer in answers:
        total = 0.0
        for depth in range(len(answer) + 1):
            start = tuple(answer[:depth])
            options = sorted({(*other, END)[depth] for other in answers if tuple(other[:depth]) == start})
            if len(options) > 1:
                logits = np.random.default_rng([seed, *start]).normal(0, scale, 100)
                total += logits[(*answer, END)[depth]] - np.logaddexp.reduce(logits[options])
        result.append(total)
    return np.array(result)


def make_prior(n_answers, *, seed, weight):
    share = np.random.default_rng(seed).dirichlet(np.full(n_answers, 0.5)) + 1e-6
    return Prior(np.log(share / share.sum()).astype(np.float32), weight)


@given(answer_sets, seeds, sharpness)
def test_evaluating_everything_equals_brute_force_and_sums_to_one(answers, seed, scale):
    trie = build_trie(answers, END)
    model = FakeModel(trie, seed=seed, scale=scale)
    log_p = run(trie, model, top_k=0)
    np.testing.assert_allclose(log_p, brute_force(answers, seed=seed, scale=scale), atol=1e-4)
    assert np.exp(log_p).sum() == pytest.approx(1.0, abs=1e-5)
    assert sorted(model.asked) == list(range(len(trie.branches)))


@settings(max_examples=300)
@given(answer_sets, seeds, sharpness, st.integers(1, 5), st.sampled_from([0.0, 0.5, 1.0]))
def test_the_top_is_exact_and_the_rest_a_proper_distribution(answers, seed, scale, top_k, weight):
    trie = build_trie(answers, END)
    model = FakeModel(trie, seed=seed, scale=scale)
    prior = make_prior(len(answers), seed=seed, weight=weight)
    log_p = run(trie, model, top_k=top_k, prior=prior)
    full = brute_force(answers, seed=seed, scale=scale)
    assert np.exp(log_p).sum() == pytest.approx(1.0, abs=1e-4)
    assert len(set(model.asked)) == len(model.asked)
    scores = full - weight * prior.log_share
    share = np.exp(scores - np.logaddexp.reduce(scores))
    estimate = np.exp(log_p - weight * prior.log_share)
    slack = max(1.0, share.max() / (estimate / estimate.sum())[share.argmax()])  # the total is itself an estimate
    for answer in np.argsort(-scores)[:top_k]:
        if share[answer] >= slack * MIN_SHARE:
            assert log_p[answer] == pytest.approx(full[answer], abs=1e-4)


@given(answer_sets, seeds, sharpness)
def test_no_label_is_off_by_more_than_the_share_that_may_stay_unevaluated(answers, seed, scale):
    trie = build_trie(answers, END)
    log_p = run(trie, FakeModel(trie, seed=seed, scale=scale), top_k=1)
    np.testing.assert_allclose(np.exp(log_p), np.exp(brute_force(answers, seed=seed, scale=scale)), atol=SURE_SHARE + 1e-4)


@given(answer_sets, seeds, sharpness, st.integers(0, 3), st.data())
def test_logits_that_nobody_asked_for_change_no_answer(answers, seed, scale, top_k, data):
    trie = build_trie(answers, END)
    model = FakeModel(trie, seed=seed, scale=scale)
    wanted = run(trie, model, top_k=top_k)
    search = LabelSearch(trie, top_k=top_k)
    for branch in data.draw(st.permutations(range(len(trie.branches)))):
        search.put(branch, model.read(branch))
    assert search.choose() == []
    np.testing.assert_array_equal(search.finish().astype(np.float64), wanted)


ANSWERS = [[1, 1], [1, 2], [2, 1], [2, 2], [3]]


def start(root, **options):
    trie = build_trie(ANSWERS, END)
    search = LabelSearch(trie, **({"top_k": 1} | options))
    assert search.choose() == [ROOT]
    search.put(ROOT, root)
    return trie, search


def test_a_certain_complete_label_needs_no_further_token():
    _, search = start([0.0, 0.0, 9.0])
    assert search.choose() == []
    np.testing.assert_allclose(np.exp(search.finish())[4], 0.9998, atol=1e-3)


def test_only_the_branch_that_can_still_win_is_evaluated():
    _, search = start([5.0, 0.0, 2.0], top_k=1)
    assert search.choose() == [1]
    search.put(1, [0.0, 0.0])
    assert search.choose() == []


def test_a_close_race_goes_on_until_it_is_decided():
    _, search = start([1.0, 1.0, 1.0])
    assert sorted(search.choose()) == [1, 2]


def test_mass_behind_an_unevaluated_branch_is_split_alike_without_a_prior():
    _, search = start([0.0, 0.0, 9.0])
    p = np.exp(search.finish())
    np.testing.assert_allclose(p[:4], [p[0]] * 4)


def test_mass_behind_an_unevaluated_branch_is_split_by_the_prior():
    prior = Prior(np.log(np.array([0.3, 0.1, 0.2, 0.2, 0.2], np.float32)), 0.0)
    _, search = start([0.0, 0.0, 9.0], prior=prior)
    p = np.exp(search.finish())
    assert p[0] / p[1] == pytest.approx(3.0, rel=1e-4)


def test_a_label_rare_by_its_prior_is_not_lost_behind_a_small_branch():
    prior = Prior(np.log(np.array([1e-4, 0.4, 0.2, 0.2, 0.2], np.float32)), 1.0)
    _, search = start([2.0, 0.0, 6.0], prior=prior)
    assert 1 in search.choose()


def test_the_number_of_evaluated_branches_is_bounded(monkeypatch):
    monkeypatch.setattr(searching, "EXPANSION_LIMIT", 2)
    _, search = start([1.0, 1.0, 1.0])
    assert search.choose() == [1]
    search.put(1, [0.0, 0.0])
    assert search.choose() == []
    assert search.n_evaluated == 2
    assert np.exp(search.finish()).sum() == pytest.approx(1.0, abs=1e-5)


def test_foreseen_branches_are_those_with_most_expected_mass():
    _, search = start([1.0, 3.0, 0.0])
    assert search.choose()
    assert [branch for branch, _ in search.foresee()] == [2, 1]
    fresh = LabelSearch(build_trie(ANSWERS, END), top_k=1)
    assert fresh.foresee() == [(0, 1.0), (1, pytest.approx(0.4)), (2, pytest.approx(0.4))]


def test_what_most_tickets_need_becomes_a_habit_and_is_forgotten_again():
    trie, search = start([0.0, 9.0, 2.0])
    assert search.choose() == [2]
    search.put(2, [0.0, 0.0])
    assert search.choose() == []
    habits = Habits(trie)
    assert habits.get_common() == []
    for _ in range(HABIT_MEMORY):
        habits.note(search)
    assert habits.get_common() == [ROOT, 2]
    _, sure = start([0.0, 0.0, 9.0])
    assert sure.choose() == []
    for _ in range(HABIT_MEMORY):
        habits.note(sure)
    assert habits.get_common() == [ROOT]
