"""The token trie of a label set's answers: where answers part, and what must be computed to tell them apart.

Pure: knows token ids, not the model; the distribution over a trie is in `bot.engine.search`. Forced tokens (nodes with one child) never
cost a decision; only nodes that lead to a branch are ever decoded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from bot.engine.protocol import EngineError

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
    """All branches of an answer set, parents before children.

    `branches[b]` are the token ids that may follow there (the end token among them where an answer ends and another goes on).
    `tokens` is in depth-first order. `ends[b]` is the token after which branch b lies, as an index into `tokens`, or -1 for the end of
    the prompt. `paths[i]` lists answer i's decisions as (branch, position in `branches[branch]`). `outcomes[b][c]` is what choosing
    position c at branch b leads to: an answer's index, or `~branch` of the next branch. `members[b]` are the answers behind branch b.
    """

    branches: tuple[tuple[int, ...], ...]
    tokens: tuple[TreeToken, ...]
    ends: tuple[int, ...]
    paths: tuple[tuple[tuple[int, int], ...], ...]
    outcomes: tuple[tuple[int, ...], ...]
    members: tuple[tuple[int, ...], ...]

    @property
    def parts_at_once(self) -> bool:
        """Whether the answers part at their very first token, so that the prompt's own logits decide there."""
        return bool(self.branches) and self.ends[ROOT] < 0

    def get_path(self, index: int) -> list[int]:
        """Return the indices of the tokens from the prompt's end to a token, itself last."""
        path: list[int] = []
        while index >= 0:
            path.append(index)
            index = self.tokens[index].parent
        return path[::-1]


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
    paths = tuple(builder.find_path(root, tokens) for tokens in answers)
    ends = [-1] * len(builder.branches)
    for place, step in enumerate(builder.tokens):
        if step.branch >= 0:
            ends[step.branch] = place
    outcomes, members = _follow(paths, builder.branches)
    return LabelTrie(tuple(builder.branches), tuple(builder.tokens), tuple(ends), paths, outcomes, members)


def _follow(
    paths: Sequence[tuple[tuple[int, int], ...]], branches: Sequence[tuple[int, ...]]
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    """Return what each choice leads to, and the answers behind each branch."""
    outcomes = [[0] * len(options) for options in branches]
    members: list[list[int]] = [[] for _ in branches]
    for answer, path in enumerate(paths):
        for place, (branch, child) in enumerate(path):
            outcomes[branch][child] = ~path[place + 1][0] if place + 1 < len(path) else answer
            members[branch].append(answer)
    return tuple(tuple(row) for row in outcomes), tuple(tuple(row) for row in members)


class _Builder:
    def __init__(self, end_token: int) -> None:
        self._end_token = end_token
        self.branches: list[tuple[int, ...]] = []
        self.tokens: list[TreeToken] = []

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
                self.tokens.append(TreeToken(child.token, parent, depth, child.branch))
                self.walk(child, parent=len(self.tokens) - 1, depth=depth + 1)

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
