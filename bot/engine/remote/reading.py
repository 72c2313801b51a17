"""Turns prompts and texts into token ids with the server's vocabulary, joined exactly as the local engine and training join them.

Knows the seams (`bot.engine.prompts` says why they matter) and where texts are cut; not what is asked of the tokens.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bot.engine.gguf_file import GGUFHead
from bot.engine.protocol import EngineError
from bot.engine.remote.backend import Backend
from bot.engine.settings import EngineSettings
from bot.engine.slots import Prompt
from bot.engine.text import cut_middle, cut_text
from bot.engine.trie import LabelTrie, build_trie

CACHE_LIMIT: Final = 64
_PROBE: Final = "a"


@dataclass(frozen=True)
class ReadText:
    """Token ids and whether the middle was left out."""

    tokens: tuple[int, ...]
    is_truncated: bool


class Reader:
    """Tokenises through the server; keeps what repeats."""

    def __init__(self, backend: Backend, *, head: GGUFHead, settings: EngineSettings) -> None:
        self._backend = backend
        self._head = head
        self._settings = settings
        self._fixed: dict[tuple[str, bool], tuple[int, ...]] = {}
        self._tries: dict[tuple[str, ...], LabelTrie] = {}
        self._frame: tuple[tuple[int, ...], tuple[int, ...]] | None = None

    @property
    def n_vocab(self) -> int:
        """Tokens in the vocabulary."""
        return self._head.array_lengths.get("tokenizer.ggml.tokens", 0)

    async def read_texts(self, texts: Sequence[str]) -> list[ReadText]:
        """Return whole sequences for an encoder, with its start and end tokens."""
        before, after = await self._get_frame()
        n_train = self._head.get_int("context_length")
        limits = [self._settings.text_tokens, *(size for size in (n_train, self._backend.n_ctx) if size > 0)]
        return list(await asyncio.gather(*(self._read_text(text, before, after, limit=min(limits)) for text in texts)))

    async def _read_text(self, text: str, before: tuple[int, ...], after: tuple[int, ...], *, limit: int) -> ReadText:
        short, is_cut = cut_text(text, limit)
        tokens = await self._backend.tokenize(short, add_special=False, parse_special=False)
        body, is_truncated = cut_middle(tokens, limit - len(before) - len(after))
        return ReadText((*before, *body, *after), is_cut or is_truncated)

    async def read_prompt(self, prompt: Prompt, *, n_answer: int) -> ReadText:
        """Return a decoder's whole prompt; `n_answer` tokens are kept free. Raises EngineError where no room is left for the text."""
        start, _ = await self._get_frame()
        has_prefix = bool(prompt.prefix) or not prompt.is_trusted
        prefix = await self._read_fixed(prompt.prefix, is_start=True) if has_prefix else ()
        suffix = await self._read_fixed(prompt.suffix, is_start=False)
        n_cells = self._backend.n_ctx or self._head.get_int("context_length")
        limit = min(self._settings.decoder_text_tokens, n_cells - len(prefix) - len(suffix) - n_answer)
        if limit < 1 and (prompt.text or prefix or suffix):
            message = (
                f"the fixed part of the prompt ({len(prefix) + len(suffix)} tokens) leaves no room for a text in the server's {n_cells}; "
                "use fewer or shorter labels, or give the server a larger context per slot"
            )
            raise EngineError(message)
        short, is_cut = cut_text(prompt.text, limit)
        own = await self._backend.tokenize(short, add_special=False, parse_special=prompt.is_trusted) if short else []
        body, is_truncated = cut_middle([*(start if prompt.is_trusted else ()), *own], limit)
        tokens = (*prefix, *body, *suffix)
        if not tokens:
            message = "the prompt is empty; give it a text or an instruction"
            raise EngineError(message)
        return ReadText(tokens, is_cut or is_truncated)

    async def read_trie(self, answers: tuple[str, ...]) -> LabelTrie:
        """Return the trie of a label set's answers."""
        if answers not in self._tries:
            tokens = await asyncio.gather(
                *(self._backend.tokenize(answer, add_special=False, parse_special=False) for answer in answers)
            )
            trie = build_trie(tokens, await self._find_end_token())
            if len(self._tries) >= CACHE_LIMIT:
                self._tries.pop(next(iter(self._tries)))
            self._tries[answers] = trie
        return self._tries[answers]

    async def _find_end_token(self) -> int:
        """Return the token that ends an answer: end of sequence, else end of turn, else none (-1)."""
        for name in ("eos", "eot"):
            value = self._head.metadata.get(f"tokenizer.ggml.{name}_token_id")
            if isinstance(value, int):
                return value
        return -1

    async def _read_fixed(self, text: str, *, is_start: bool) -> tuple[int, ...]:
        key = (text, is_start)
        if key not in self._fixed:
            start = (await self._get_frame())[0] if is_start else ()
            tokens = tuple(await self._backend.tokenize(text, add_special=False, parse_special=True)) if text else ()
            has_start = bool(start) and tokens[: len(start)] == start  # a chat template may write it itself
            if len(self._fixed) >= CACHE_LIMIT:
                self._fixed.pop(next(iter(self._fixed)))
            self._fixed[key] = tokens if has_start else start + tokens
        return self._fixed[key]

    async def _get_frame(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the tokens that the model wants before and after every sequence."""
        if self._frame is None:
            whole = await self._backend.tokenize(_PROBE, add_special=True, parse_special=False)
            bare = await self._backend.tokenize(_PROBE, add_special=False, parse_special=False)
            at = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), 0)
            self._frame = (tuple(whole[:at]), tuple(whole[at + len(bare) :]))
        return self._frame
