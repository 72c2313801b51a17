"""Scoring a label set in the decoder: the prompt's logits, then the branches of the label tree that can still change the answer.

Knows one request's progress; which branches matter is decided in `bot.engine.search`, how probabilities are calibrated in
`bot.engine.decoder_answers`.
"""

from collections.abc import Sequence

import numpy as np

from bot.engine.llama import LlamaContext
from bot.engine.protocol import FloatArray
from bot.engine.search import FORESEEN_SHARE, Habits, LabelSearch
from bot.engine.slots import BatchShare, DecodeJob, RequestSlot
from bot.engine.trie import ROOT, LabelTrie


class ScoreSlot(RequestSlot):
    """Scores a label set: reads the prompt, then evaluates chosen branches, several at a time, each in a spare sequence for one step.

    Branches that most tickets need, and likely ones where the batch has idle places, are evaluated together with the prompt's end, before
    its logits are known.
    """

    def __init__(
        self,
        job: DecodeJob,
        tokens: Sequence[int],
        *,
        order: int,
        is_truncated: bool,
        trie: LabelTrie,
        search: LabelSearch,
        habits: Habits,
    ) -> None:
        super().__init__(job, tokens, order=order, is_truncated=is_truncated)
        self._trie = trie
        self._search = search
        self._habits = habits
        self._wanted: list[int] = []
        self._plan: _Plan | None = None
        self._at_end: list[tuple[int, int]] = []  # (branch, place in the batch)
        self._lanes: list[int] = []

    @property
    def n_next(self) -> int:
        """Tokens of the rest of the prompt, or on the way to the branches that are wanted."""
        if self.is_reading:
            return super().n_next
        return len({index for branch in self._wanted for index in self._trie.get_path(self._trie.ends[branch])})

    def _prepare_end(self, context: LlamaContext, batch: BatchShare, *, n_tokens: int) -> Sequence[int]:
        room, n_lanes = context.room - n_tokens, len(batch.lanes)
        # cache entries of the prompt are only there after the step, so the spare sequences must read its end too
        self._plan = _Plan(self._trie, self._habits.get_common(), n_tokens=min(batch.n_spare, room), n_lanes=n_lanes)
        guesses = [branch for branch, _ in self._search.foresee()]
        self._plan.widen(guesses, n_tokens=min(batch.n_idle, room), n_lanes=n_lanes)
        self._take_lanes(context, batch)
        return self._lanes

    def _fill_end(self, context: LlamaContext) -> None:
        self._add_branches(context)

    def _fill_more(self, context: LlamaContext, batch: BatchShare) -> bool:
        room = min(batch.n_tokens, context.room)
        wanted = dict.fromkeys(self._wanted)
        self._plan = _Plan(self._trie, wanted, n_tokens=room, n_lanes=len(batch.lanes))
        if not self._plan.lanes:
            return False
        self._plan.widen(
            [branch for branch, _ in self._search.foresee()],
            n_tokens=min(self._plan.n_tokens + batch.n_idle, context.room),
            n_lanes=len(batch.lanes),
        )
        self._take_lanes(context, batch)
        self._add_branches(context)
        return True

    def _take_lanes(self, context: LlamaContext, batch: BatchShare) -> None:
        if self._plan is not None:
            self._lanes = [batch.lanes.pop() for _ in self._plan.lanes]
            for lane in self._lanes:
                context.copy_sequence(self.seq_id, lane)

    def _add_branches(self, context: LlamaContext) -> None:
        """Add the planned tokens, each once, owned by all lanes that pass through it."""
        if self._plan is None:
            return
        owners: dict[int, list[int]] = {}
        for lane, end in zip(self._lanes, self._plan.lanes, strict=True):
            for index in self._trie.get_path(end):
                owners.setdefault(index, []).append(lane)
        for index in sorted(owners):
            token = self._trie.tokens[index]
            is_new = token.branch >= 0 and not self._search.is_known(token.branch)
            first, *others = owners[index]
            position = self.position + token.depth
            place = context.add_run([token.token], position=position, seq_id=first, has_output=is_new, shared=others)
            if is_new:
                self._at_end.append((token.branch, place))
        self._plan = None

    def _take_prompt(self, logits: FloatArray) -> None:
        if self._trie.parts_at_once:
            self._put(ROOT, logits)

    def _take_more(self, context: LlamaContext) -> None:
        for branch, place in self._at_end:
            self._put(branch, context.get_logits(place))
        self.drop_lanes(context)
        self._wanted = self._search.choose()
        if not self._wanted:
            if self.job.top_k > 0:  # the label prior's own tickets need everything
                self._habits.note(self._search)
            self._finish(self._search.finish())
            return
        wanted = set(self._wanted)
        self._wanted += [b for b, mass in self._search.foresee() if mass >= FORESEEN_SHARE and b not in wanted]

    def _put(self, branch: int, logits: FloatArray) -> None:
        self._search.put(branch, logits[np.array(self._trie.branches[branch])])

    def drop_lanes(self, context: LlamaContext) -> None:
        """Forget the branches' cache entries; they are of no use after their step."""
        for lane in self._lanes:
            context.remove_sequence(lane)
        self._lanes = []
        self._at_end = []


class _Plan:
    """Branches to evaluate in one step, as far as there is room: the tokens on the way to them, and one lane per path that parts."""

    def __init__(self, trie: LabelTrie, branches: Sequence[int] | dict[int, None], *, n_tokens: int, n_lanes: int) -> None:
        self._trie = trie
        self._tokens: set[int] = set()
        self.lanes: list[int] = []
        self.widen(branches, n_tokens=n_tokens, n_lanes=n_lanes)

    @property
    def n_tokens(self) -> int:
        """Tokens planned so far."""
        return len(self._tokens)

    def widen(self, branches: Sequence[int] | dict[int, None], *, n_tokens: int, n_lanes: int) -> None:
        """Add what still fits into `n_tokens` tokens and `n_lanes` lanes in all, in the order given."""
        for branch in branches:
            end = self._trie.ends[branch]
            path = self._trie.get_path(end)
            new = [index for index in path if index not in self._tokens]
            if not new or len(self._tokens) + len(new) > n_tokens:
                continue
            extended = next((place for place, other in enumerate(self.lanes) if other in path), -1)
            if extended >= 0:
                self.lanes[extended] = end
            elif len(self.lanes) < n_lanes:
                self.lanes.append(end)
            else:
                continue
            self._tokens.update(new)
