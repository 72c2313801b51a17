"""Examples as the tokens that the engine would compute: its own reader joins prompt and answer, its own trie says where labels part.

Knows prompts and tokens; neither torch nor losses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from bot.engine.llama import LlamaModel
from bot.engine.prompts import PromptReader
from bot.engine.protocol import ChoiceSet, EngineError, Priority
from bot.engine.settings import EngineSettings
from bot.engine.slots import DecodeJob, Prompt
from bot.engine.trie import LabelTrie, build_trie
from bot.types import BASE
from training.encoder.types import TrainingDataError

_N_CELLS: Final = 1 << 20
"""No cache bounds a training prompt; the model's own context does."""


@dataclass(frozen=True)
class Decision:
    """A place where answers part: `depth` answer tokens lie before it, `options` may follow, `options[chosen]` does."""

    depth: int
    options: tuple[int, ...]
    chosen: int


@dataclass(frozen=True)
class Completion:
    """One example behind the shared prefix: its own tokens (text, suffix, answer as far as it must be read) and what is learnt there.

    `tokens[start]` is the last token before the answer. `weight` scales its loss; `is_negative` says that the answer is wrong.
    """

    tokens: tuple[int, ...]
    start: int
    answer: tuple[int, ...]
    decisions: tuple[Decision, ...] = ()
    weight: float = 1.0
    is_negative: bool = False

    @property
    def n_outputs(self) -> int:
        """Places whose logits are needed: `start` and all after it."""
        return len(self.tokens) - self.start


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt: what a person made of the draft, and the draft. `edited.weight` scales the pair's loss."""

    edited: Completion
    draft: Completion

    @property
    def n_tokens(self) -> int:
        """Tokens both take in a pack."""
        return len(self.edited.tokens) + len(self.draft.tokens)


class PromptTokens:
    """The served file's tokenizer, for one thread. A context manager."""

    def __init__(self, path: Path, *, text_tokens: int) -> None:
        self._model = LlamaModel(path)
        self._reader = PromptReader(self._model, EngineSettings(decoder_text_tokens=text_tokens), n_cells=_N_CELLS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._model.close()

    def read_prompt(self, prefix: str, text: str, suffix: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shared prefix's tokens and the request's own, exactly as the engine joins them."""
        job = DecodeJob(
            prompt=Prompt(prefix, text, suffix),
            group=BASE,
            priority=Priority.BULK,
            on_error=_refuse,
            probe_tokens=(0,),
        )
        slot = self._reader.build_slot(job, order=0)
        return tuple(slot.prefix_tokens), tuple(slot.tokens)

    def read_answer(self, answer: str) -> tuple[int, ...]:
        """Return an answer's tokens."""
        return tuple(self._model.tokenize(answer, add_special=False))

    def read_choices(self, choices: ChoiceSet) -> "ChoiceTokens":
        """Return a label set's answers as tokens and their decisions. Raises TrainingDataError where two cannot be told apart."""
        answers = tuple(self.read_answer(answer) for answer in choices.answers)
        try:
            trie = build_trie(answers, self._model.end_token)
        except EngineError as error:
            raise TrainingDataError(str(error)) from None
        return ChoiceTokens(answers, _find_decisions(trie))


@dataclass(frozen=True)
class ChoiceTokens:
    """Per label: the answer's tokens and its decisions."""

    answers: tuple[tuple[int, ...], ...]
    decisions: tuple[tuple[Decision, ...], ...]


def build_choice(own: tuple[int, ...], choice: ChoiceTokens, label: int, *, weight: float, is_negative: bool) -> Completion:
    """Return the completion of a ticket with a label's answer."""
    answer, decisions = choice.answers[label], choice.decisions[label]
    n_read = max([len(answer) - 1, *(decision.depth for decision in decisions)])
    return Completion((*own, *answer[:n_read]), len(own) - 1, answer, decisions, weight, is_negative)


def build_text(own: tuple[int, ...], answer: Sequence[int], *, weight: float) -> Completion:
    """Return the completion of a prompt with a written answer."""
    return Completion((*own, *answer[:-1]), len(own) - 1, tuple(answer), weight=weight)


def _find_decisions(trie: LabelTrie) -> tuple[tuple[Decision, ...], ...]:
    depth_of = {token.branch: token.depth + 1 for token in trie.tokens if token.branch >= 0}
    return tuple(
        tuple(Decision(depth_of.get(branch, 0), trie.branches[branch], chosen) for branch, chosen in path) for path in trie.paths
    )


def _refuse(error: EngineError) -> None:
    raise error
