"""Turns a decoder's prompt parts into tokens: the one place that decides how prefix, text, suffix and answers are joined.

The seam: each part is tokenised by itself and the token lists are joined, `[start] + prefix + text + suffix + answer`. So the shared
prefix is a prefix in tokens, whatever the text begins with, and an answer's first token never depends on the suffix. Training must
join token lists in the same way; tokenising the whole string gives other tokens at the seams. The text's own control sequences
(`<|im_end|>` and the like) are read as plain characters: a ticket cannot leave its place in the prompt.
"""

from typing import Final

from bot.engine.llama import LlamaModel
from bot.engine.protocol import EngineError
from bot.engine.scoring import ScoreSlot
from bot.engine.search import Habits, LabelSearch
from bot.engine.settings import EngineSettings
from bot.engine.slots import DecodeJob, ProbeSlot, RequestSlot
from bot.engine.text import cut_middle, cut_text
from bot.engine.trie import LabelTrie, build_trie
from bot.engine.writing import GenerateSlot

CACHE_LIMIT: Final = 64
_START_PROBE: Final = "a"


class PromptReader:
    """Tokenises prompts with one model's vocabulary; keeps what repeats."""

    def __init__(self, model: LlamaModel, settings: EngineSettings, *, n_cells: int) -> None:
        self._model = model
        self._settings = settings
        self._n_cells = min(n_cells, model.n_ctx_train or n_cells)
        self._fixed: dict[tuple[str, bool], tuple[int, ...]] = {}
        self._tries: dict[tuple[str, ...], LabelTrie] = {}
        self._habits: dict[tuple[str, tuple[str, ...]], Habits] = {}
        whole, bare = model.tokenize(_START_PROBE, add_special=True), model.tokenize(_START_PROBE, add_special=False)
        at = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), 0)
        self._start = tuple(whole[:at])

    def build_slot(self, job: DecodeJob, *, order: int) -> RequestSlot:
        """Return the slot that computes a job. Raises EngineError where the prompt leaves no room for the text."""
        prompt = job.prompt
        prefix = self._read_fixed(prompt.prefix, is_start=True) if prompt.prefix or not prompt.is_trusted else ()
        suffix = self._read_fixed(prompt.suffix, is_start=False)
        trie = self._get_trie(job.answers) if job.answers is not None else None
        n_answer = job.max_tokens if trie is None else 1 + max((token.depth for token in trie.tokens), default=0)
        limit = min(self._settings.decoder_text_tokens, self._n_cells - len(prefix) - len(suffix) - n_answer)
        if limit < 1 and (prompt.text or prefix or suffix):
            message = (
                f"the fixed part of the prompt ({len(prefix) + len(suffix)} tokens) leaves no room for a text in {self._n_cells}; "
                "use fewer or shorter labels, or raise engine.n_ctx"
            )
            raise EngineError(message)
        short, is_cut = cut_text(prompt.text, limit)
        body, is_truncated = cut_middle(self._read_text(short, is_trusted=prompt.is_trusted), limit)
        own = [*body, *suffix]
        if not own:  # logits need a token of the request's own
            prefix, own = prefix[:-1], list(prefix[-1:])
        if not own:
            message = "the prompt is empty; give it a text or an instruction"
            raise EngineError(message)
        slot = self._choose_slot(job, own, order=order, is_truncated=is_cut or is_truncated, trie=trie)
        slot.prefix_tokens = prefix
        return slot

    def _choose_slot(
        self, job: DecodeJob, tokens: list[int], *, order: int, is_truncated: bool, trie: LabelTrie | None
    ) -> RequestSlot:
        if trie is not None:
            search = LabelSearch(trie, top_k=job.top_k, prior=job.prior)
            habits = self._get_habits((job.group, job.answers or ()), trie)
            return ScoreSlot(job, tokens, order=order, is_truncated=is_truncated, trie=trie, search=search, habits=habits)
        if job.probe_tokens:
            return ProbeSlot(job, tokens, order=order, is_truncated=is_truncated)
        seed = self._settings.seed
        return GenerateSlot(job, tokens, order=order, is_truncated=is_truncated, model=self._model, seed=seed)

    def _read_text(self, text: str, *, is_trusted: bool) -> list[int]:
        if is_trusted:
            return [*self._start, *self._model.tokenize(text, add_special=False, parse_special=True)]
        return self._model.tokenize(text, add_special=False)

    def _read_fixed(self, text: str, *, is_start: bool) -> tuple[int, ...]:
        key = (text, is_start)
        if key not in self._fixed:
            if len(self._fixed) >= CACHE_LIMIT:
                self._fixed.pop(next(iter(self._fixed)))
            tokens = tuple(self._model.tokenize(text, add_special=False, parse_special=True))
            has_start = bool(self._start) and tokens[: len(self._start)] == self._start  # a chat template may write it itself
            self._fixed[key] = tokens if has_start or not is_start else self._start + tokens
        return self._fixed[key]

    def _get_trie(self, answers: tuple[str, ...]) -> LabelTrie:
        if answers not in self._tries:
            if len(self._tries) >= CACHE_LIMIT:
                self._tries.pop(next(iter(self._tries)))
            tokens = [self._model.tokenize(answer, add_special=False) for answer in answers]
            if max(map(len, tokens), default=0) > self._settings.n_batch // 2:
                message = f"a label is longer than {self._settings.n_batch // 2} tokens; shorten it"
                raise EngineError(message)
            self._tries[answers] = build_trie(tokens, self._model.end_token)
        return self._tries[answers]

    def _get_habits(self, key: tuple[str, tuple[str, ...]], trie: LabelTrie) -> Habits:
        """Return what a LoRA group's tickets lately needed of a label set's tree."""
        if key not in self._habits:
            if len(self._habits) >= CACHE_LIMIT:
                self._habits.pop(next(iter(self._habits)))
            self._habits[key] = Habits(trie)
        return self._habits[key]
