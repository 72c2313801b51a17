"""Scoring a label set in the decoder: the prompt's logits, then the label tree's branches, each token of the tree computed once.

Knows one request's progress through its trie; not how probabilities are calibrated.
"""

from collections.abc import Sequence

from bot.engine.llama import LlamaContext
from bot.engine.protocol import FloatArray
from bot.engine.slots import DecodeJob, RequestSlot
from bot.engine.trie import ROOT, LabelTrie


class ScoreSlot(RequestSlot):
    """Scores every answer of a label set: the prompt first, then the trie's branches, as many lanes at a time as there is room."""

    def __init__(self, job: DecodeJob, tokens: Sequence[int], *, order: int, is_truncated: bool, trie: LabelTrie) -> None:
        super().__init__(job, tokens, order=order, is_truncated=is_truncated)
        self._trie = trie
        self._logits: dict[int, FloatArray] = {}
        self._next_lane = 0
        self._wave: list[tuple[int, int]] = []  # (branch, place in the batch)
        self._wave_lanes: list[int] = []

    @property
    def n_next(self) -> int:
        """Tokens of the rest of the prompt, or of the trie."""
        return super().n_next if self.is_reading else len(self._trie.tokens)

    def _take_prompt(self, logits: FloatArray) -> None:
        if self._trie.parts_at_once:
            self._keep(ROOT, logits)
        self._finish_if_complete()

    def _keep(self, branch: int, logits: FloatArray) -> None:
        self._logits[branch] = logits[list(self._trie.branches[branch])]

    def _finish_if_complete(self) -> None:
        if len(self._logits) == len(self._trie.branches):
            self._finish(self._trie.combine([self._logits[branch] for branch in range(len(self._trie.branches))]))

    def _fill_more(self, context: LlamaContext, lanes: list[int]) -> bool:
        """Add whole lanes: the tokens on the way to them, each once, owned by all lanes that pass through it."""
        owners: dict[int, list[int]] = {}
        used: list[int] = []
        while self._next_lane < len(self._trie.lanes) and lanes:
            path = self._trie.get_path(self._next_lane)
            if len(owners) + sum(index not in owners for index in path) > context.room:
                break
            lane = lanes.pop()
            used.append(lane)
            for index in path:
                owners.setdefault(index, []).append(lane)
            self._next_lane += 1
        for lane in used:
            context.copy_sequence(self.seq_id, lane)
        for index, seq_ids in owners.items():
            token = self._trie.tokens[index]
            is_new = token.branch >= 0 and token.branch not in self._logits
            place = context.add_shared(token.token, position=self.position + token.depth, seq_ids=seq_ids, has_output=is_new)
            if is_new:
                self._wave.append((token.branch, place))
        self._wave_lanes = used
        return bool(used)

    def _take_more(self, context: LlamaContext) -> None:
        for branch, place in self._wave:
            self._keep(branch, context.get_logits(place))
        self._wave.clear()
        self.drop_lanes(context)
        self._finish_if_complete()

    def drop_lanes(self, context: LlamaContext) -> None:
        """Forget the branches' cache entries; they are of no use after their step."""
        for lane in self._wave_lanes:
            context.remove_sequence(lane)
        self._wave_lanes = []
