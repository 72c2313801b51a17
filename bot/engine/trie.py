"""The token trie of a label set's answers: where answers part, what must be computed to tell them apart, and the distribution.

Pure: knows token ids and logits, not the model. Forced tokens (nodes with one child) never cost a decision; only nodes that lead to a
branch are ever decoded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from bot.engine.protocol import EngineError, FloatArray

ROOT: Final = 0
"""Index of the first branch: it lies at the end of the prompt unless all answers begin with the same token."""


@dataclass(frozen=True)
class TreeToken:
    """A token to decode after the prompt: `parent` is an index into the same list or -1, `depth` its distance from the prompt's end.

    `branch` is the branch whose logits are read here, or -1.
    """

    token: int
    parent: int
    depth: int
    branch: int


@dataclass(frozen=True)
class LabelTrie:
    """All branches of an answer set.

    `branches[b]` are the token ids that may follow there (the end token among them where an answer ends and another goes on).
    `tokens` is in depth-first order. `lanes` are the deepest tokens that end in a branch, as indices into `tokens`: every token to
    decode lies on the way to at least one of them. `paths[i]` lists answer i's decisions as (branch, position in `branches[branch]`).
    """

    branches: tuple[tuple[int, ...], ...]
    tokens: tuple[TreeToken, ...]
    lanes: tuple[int, ...]
    paths: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def parts_at_once(self) -> bool:
        """Whether the answers part at their very first token, so that the prompt's own logits decide there."""
        return bool(self.branches) and all(token.branch != ROOT for token in self.tokens)

    def get_path(self, lane: int) -> list[int]:
        """Return the indices of a lane's tokens, first one first."""
        path: list[int] = []
        at = self.lanes[lane]
        while at >= 0:
            path.append(at)
            at = self.tokens[at].parent
        return path[::-1]

    def combine(self, logits: Sequence[FloatArray]) -> FloatArray:
        """Return log-probabilities of all answers, shape (n_answers,); `logits[b]` are those of the tokens in `branches[b]`.

        At each branch the probabilities are renormalised over its children, so the answers' probabilities sum to 1.
        """
        normalised = [_log_softmax(np.asarray(row, np.float64)) for row in logits]
        sums = [sum(float(normalised[branch][child]) for branch, child in path) for path in self.paths]
        return np.asarray(sums, np.float32)


@dataclass
class _Node:
    token: int
    children: "dict[int, _Node]" = field(default_factory=dict)
    answer: int = -1
    branch: int = -1
    leads_to_branch: bool = False


def build_trie(answers: Sequence[Sequence[int]], end_token: int) -> LabelTrie:
    """Build the trie of tokenised answers. Raises EngineError where two are equal, one is empty, or an end token is needed and missing."""
    root = _Node(token=-1)
    for index, tokens in enumerate(answers):
        node = root
        for token in tokens:
            node = node.children.setdefault(token, _Node(token))
        if not tokens or node.answer >= 0:
            message = (
                f"label {index + 1} is empty or reads like label {node.answer + 1} to the model; give every label its own words"
            )
            raise EngineError(message)
        node.answer = index
    builder = _Builder(end_token)
    builder.mark(root)
    builder.walk(root, parent=-1, depth=0)
    paths = [builder.find_path(root, tokens) for tokens in answers]
    return LabelTrie(tuple(builder.branches), tuple(builder.tokens), tuple(builder.lanes), tuple(paths))


class _Builder:
    def __init__(self, end_token: int) -> None:
        self._end_token = end_token
        self.branches: list[tuple[int, ...]] = []
        self.tokens: list[TreeToken] = []
        self.lanes: list[int] = []

    def mark(self, node: _Node) -> None:
        """Number the branches, parents first, and mark what leads to one."""
        options = list(node.children)
        if node.answer >= 0 and options:
            if self._end_token < 0 or self._end_token in node.children:
                message = (
                    f"label {node.answer + 1} is the beginning of another and the model has no end token; rename one of them"
                )
                raise EngineError(message)
            options.append(self._end_token)
        if len(options) > 1:
            node.branch = len(self.branches)
            self.branches.append(tuple(options))
        for child in node.children.values():
            self.mark(child)
        node.leads_to_branch = node.branch >= 0 or any(child.leads_to_branch for child in node.children.values())

    def walk(self, node: _Node, *, parent: int, depth: int) -> None:
        """List the tokens to decode, depth first."""
        for child in node.children.values():
            if child.leads_to_branch:
                index = len(self.tokens)
                self.tokens.append(TreeToken(child.token, parent, depth, child.branch))
                if not any(grandchild.leads_to_branch for grandchild in child.children.values()):
                    self.lanes.append(index)
                self.walk(child, parent=index, depth=depth + 1)

    def find_path(self, root: _Node, tokens: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Return the decisions that lead to an answer."""
        path: list[tuple[int, int]] = []
        node = root
        for token in tokens:
            if node.branch >= 0:
                path.append((node.branch, self.branches[node.branch].index(token)))
            node = node.children[token]
        if node.branch >= 0:
            path.append((node.branch, self.branches[node.branch].index(self._end_token)))
        return tuple(path)


def _log_softmax(logits: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    shifted = logits - logits.max()
    result: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = shifted - np.log(np.exp(shifted).sum())
    return result
