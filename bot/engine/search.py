"""Best-first search on a label trie: which branches can still change the answer, and the distribution over all labels.

Pure: knows masses and logits, not the model. At each branch the probabilities are renormalised over its children, so that the labels'
probabilities are a proper distribution. A branch that cannot matter is never evaluated: the mass that reaches it is split over its
labels, so that the vector still sums to 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bot.engine.protocol import FloatArray
from bot.engine.trie import ROOT, LabelTrie

MIN_SHARE: Final = 1e-3
"""A label that cannot get this probability is not worth a token, even where it would be among the top."""
SURE_SHARE: Final = 0.02
"""A branch that holds this much is evaluated whatever its labels' rank, so that no label below the top is off by more."""
FORESEEN_SHARE: Final = 0.2
"""A branch expected to hold this much is evaluated together with the one above it, which saves a step."""
GUESS_SHARE: Final = 0.002
"""A branch expected to hold less is not even worth an idle place in the batch."""
HABIT_MEMORY: Final = 16
"""Tickets over which the need for a branch is averaged."""
COMMON_RATE: Final = 0.5
EXPANSION_LIMIT: Final = 64
"""Branches of one ticket that are evaluated at most; with hundreds of labels and no preference the rest is split."""

_WideArray = NDArray[np.float64]


@dataclass(frozen=True)
class Prior:
    """What labels get regardless of the ticket. `log_share[i]` is label i's log-probability on a text that says nothing (n_answers,);

    `weight` in [0, 1] is how much of it the final score takes out: score = log p(label | ticket) - weight * log_share.
    """

    log_share: FloatArray
    weight: float


class Habits:
    """Which branches of a trie tickets lately needed; what most of them need is computed without waiting to be asked."""

    def __init__(self, trie: LabelTrie) -> None:
        self._rates: _WideArray = np.zeros(len(trie.branches))

    def note(self, search: "LabelSearch") -> None:
        """Learn from a finished search."""
        hits = np.zeros(len(self._rates))
        hits[list(search.evaluated)] = 1.0
        self._rates += (hits - self._rates) / HABIT_MEMORY

    def get_common(self) -> list[int]:
        """Return the branches that most tickets needed, parents first."""
        return [int(branch) for branch in np.flatnonzero(self._rates > COMMON_RATE)]


class LabelSearch:
    """One ticket's search. `top_k` labels come out exact (see `choose`); 0 evaluates every branch. `evaluated` are the branches so far."""

    def __init__(self, trie: LabelTrie, *, top_k: int, prior: Prior | None = None) -> None:
        n_answers = len(trie.paths)
        self._trie = trie
        self._top_k = top_k
        log_share = np.zeros(n_answers) if prior is None else prior.log_share.astype(np.float64)
        weight = 0.0 if prior is None else prior.weight
        self._offset: _WideArray = -weight * log_share
        self._share: _WideArray = np.exp(log_share - log_share.max())
        self._log_p: _WideArray = np.full(n_answers, -np.inf)
        self._complete: list[int] = []
        self._open: dict[int, float] = {ROOT: 0.0} if trie.branches else {}
        self._known: dict[int, _WideArray] = {}
        self.evaluated: set[int] = set()
        if not trie.branches:
            self._log_p[:] = 0.0
        self._members = [np.array(answers, np.intp) for answers in trie.members]
        self._parents = [-1] * len(trie.branches)
        for branch, row in enumerate(trie.outcomes):
            for outcome in row:
                if outcome < 0:
                    self._parents[~outcome] = branch

    @property
    def n_evaluated(self) -> int:
        """Branches that the answer rests on."""
        return len(self.evaluated)

    def is_known(self, branch: int) -> bool:
        """Whether a branch's logits were given."""
        return branch in self._known

    def put(self, branch: int, logits: Sequence[float] | FloatArray) -> None:
        """Give a branch's logits over its children, in the order of `trie.branches[branch]`, asked for or not."""
        self._known[branch] = _log_softmax(np.asarray(logits, np.float64))

    def choose(self) -> list[int]:
        """Return the branches whose logits are needed next, best first; empty when the answer stands.

        A branch is evaluated while a label behind it could still beat the k-th best complete one and get MIN_SHARE, or while SURE_SHARE
        lies there. Bounds are of the corrected score: the mass that reaches the branch times the largest correction behind it. Logits
        that were given without being asked for are used in their turn or not at all, so that the answer does not depend on them.
        """
        while wanted := self._select():
            missing = [branch for branch in wanted if branch not in self._known]
            if missing:
                return missing
            for branch in wanted:
                self._evaluate(branch)
        return []

    def _evaluate(self, branch: int) -> None:
        mass = self._open.pop(branch)
        self.evaluated.add(branch)
        for outcome, value in zip(self._trie.outcomes[branch], self._known[branch], strict=True):
            if outcome >= 0:
                self._log_p[outcome] = mass + value
                self._complete.append(outcome)
            else:
                self._open[~outcome] = mass + value

    def _select(self) -> list[int]:
        """Return the branches that this round evaluates: a function of what was evaluated before, and of nothing else."""
        if not self._open or (self._top_k > 0 and self.n_evaluated >= EXPANSION_LIMIT):
            return []
        if ROOT in self._open:
            return [ROOT]
        if self._top_k < 1:
            return sorted(self._open)
        expected = {branch: mass + self._get_spread(branch) for branch, mass in self._open.items()}
        scores = self._log_p[self._complete] + self._offset[self._complete]
        total = float(np.logaddexp.reduce([*scores, *expected.values()]))
        kth = float(np.sort(scores)[-self._top_k]) if len(scores) >= self._top_k else -np.inf
        bounds = {branch: mass + float(self._offset[self._members[branch]].max()) for branch, mass in self._open.items()}
        order = sorted((b for b in bounds if bounds[b] - total >= np.log(MIN_SHARE)), key=lambda b: -bounds[b])
        sure = [branch for branch in order if expected[branch] - total >= np.log(SURE_SHARE)]
        open_race = [branch for branch in order if branch not in sure and bounds[branch] > kth]
        # evaluating the best few may settle the others
        return (sure + open_race[: self._top_k])[: EXPANSION_LIMIT - self.n_evaluated]

    def foresee(self) -> list[tuple[int, float]]:
        """Return branches not yet evaluated with the mass expected there, most first; behind other such ones it is split by share."""
        guesses: dict[int, float] = {}
        for branch in range(len(self._trie.branches)):
            parent = self._parents[branch]
            if branch in self._open:
                guesses[branch] = float(np.exp(self._open[branch]))
            elif parent in guesses:
                guesses[branch] = guesses[parent] * self._get_part(branch, parent)
        return sorted(
            ((b, mass) for b, mass in guesses.items() if b not in self._known and mass >= GUESS_SHARE), key=lambda pair: -pair[1]
        )

    def finish(self) -> FloatArray:
        """Return log-probabilities of all labels before any correction, shape (n_answers,); their exponentials sum to 1.

        Behind a branch that was not evaluated, each label gets its part of the branch's mass: by the prior where there is one, else alike.
        """
        result = self._log_p.copy()
        for branch, mass in self._open.items():
            members = self._members[branch]
            share = np.maximum(self._share[members], 1e-300)
            result[members] = mass + np.log(share / share.sum())
        return result.astype(np.float32)

    def _get_part(self, branch: int, parent: int) -> float:
        return float(self._share[self._members[branch]].sum() / max(self._share[self._members[parent]].sum(), 1e-300))

    def _get_spread(self, branch: int) -> float:
        """Log of the mean correction behind a branch."""
        members = self._members[branch]
        share = np.maximum(self._share[members], 1e-300)
        return float(np.logaddexp.reduce(self._offset[members] + np.log(share / share.sum())))


def _log_softmax(logits: _WideArray) -> _WideArray:
    shifted = logits - logits.max()
    result: _WideArray = shifted - np.log(np.exp(shifted).sum())
    return result
