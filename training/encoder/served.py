"""The base model as it will be served: llama.cpp's own tokens and pooled embeddings, with and without an adapter.

Training reads tokens from here, so both sides cut and tokenise alike, and fits heads on what the engine will compute.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np

from bot.engine.encoder import TILE_TOKENS
from bot.engine.gguf_file import read_model_head
from bot.engine.lane import Lane, can_merge, open_lane, open_merged_lane
from bot.engine.llama import POOLING_MEAN, ContextSettings, LlamaContext, LoraAdapter
from bot.engine.protocol import FloatArray
from bot.engine.text import cut_middle, cut_text

MAX_SEQUENCES: Final = 32
_FRAME_PROBE: Final = "a"


class ServedEncoder:
    """An encoder in llama.cpp as the engine holds it, for one thread. A context manager; close it before the file is replaced."""

    def __init__(
        self, path: Path, *, text_tokens: int, n_threads: int, merge_limit_mib: int = 512, batch_tokens: int = 192
    ) -> None:
        head = read_model_head(path)
        self.pooling = head.pooling_type or POOLING_MEAN
        self.limit = min(text_tokens, head.get_int("context_length") or text_tokens)
        self._path, self._head = path, head
        self._is_merging = can_merge(head, limit_mib=merge_limit_mib)
        self._room = max(batch_tokens, self.limit, TILE_TOKENS)
        self._size = ContextSettings(
            n_ctx=self._room, n_batch=self._room, n_seq_max=MAX_SEQUENCES + 1, n_threads=n_threads, pooling_type=self.pooling
        )
        self._base = self._open_merged(None) if self._is_merging else open_lane(path, settings=self._size)
        self._model = self._base.model
        whole, bare = (self._model.tokenize(_FRAME_PROBE, add_special=special) for special in (True, False))
        start = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), 0)
        self._before, self._after = whole[:start], whole[start + len(bare) :]

    def _open_merged(self, lora: Path | None) -> Lane:
        return open_merged_lane(self._path, self._head, lora=lora, settings=self._size)

    @property
    def n_embd(self) -> int:
        """Size of an embedding."""
        return self._model.n_embd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._base.close()

    def tokenize(self, text: str, *, limit: int | None = None) -> list[int]:
        """Return the tokens of a text, at most `limit` (None: as many as the engine reads), its middle left out beyond that."""
        most = self.limit if limit is None else min(limit, self.limit)
        short, _ = cut_text(text, self.limit)
        body, _ = cut_middle(self._model.tokenize(short, add_special=False), most - len(self._before) - len(self._after))
        return [*self._before, *body, *self._after]

    def embed(
        self, texts: Sequence[str], *, lora: Path | None = None, on_step: Callable[[int, int], None] | None = None
    ) -> FloatArray:
        """Return unit-norm embeddings, shape (n, n_embd), under the adapter's weights. `on_step` gets (done, total); it may raise."""
        tokens = [np.array(self.tokenize(text), np.int32) for text in texts]
        order = sorted(range(len(tokens)), key=lambda place: len(tokens[place]))
        result = np.empty((len(tokens), self.n_embd), np.float32)
        with self._under(lora) as context:
            done = 0
            for batch in self._split(order, tokens):
                result[batch] = context.encode([tokens[place] for place in batch], fill_to=0 if self._is_merging else TILE_TOKENS)
                done += len(batch)
                if on_step is not None:
                    on_step(done, len(tokens))
        unit: FloatArray = result / np.maximum(np.linalg.norm(result, axis=1, keepdims=True), 1e-12)
        return unit

    @contextmanager
    def _under(self, lora: Path | None) -> Iterator[LlamaContext]:
        """A context under the adapter's weights."""
        if lora is None:
            yield self._base.context
        elif self._is_merging:
            lane = self._open_merged(lora)
            try:
                yield lane.context
            finally:
                lane.close()
        else:
            adapter = LoraAdapter(self._model, lora)
            self._base.context.set_lora(adapter)
            try:
                yield self._base.context
            finally:
                self._base.context.set_lora(None)
                adapter.close()

    def _split(self, order: Sequence[int], tokens: Sequence[np.ndarray]) -> list[list[int]]:
        batches: list[list[int]] = []
        room = 0
        for place in order:
            need = len(tokens[place])
            if not batches or need > room or len(batches[-1]) == MAX_SEQUENCES:
                batches.append([])
                room = self._room
            batches[-1].append(place)
            room -= need
        return batches
