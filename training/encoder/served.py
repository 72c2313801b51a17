"""The base model as it will be served: llama.cpp's own tokens and pooled embeddings, with and without an adapter.

Training reads tokens from here, so both sides cut and tokenise alike, and fits heads on what the engine will compute.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np

from bot.engine.gguf_file import read_model_head
from bot.engine.llama import POOLING_MEAN, ContextSettings, LlamaContext, LlamaModel, LoraAdapter
from bot.engine.protocol import FloatArray
from bot.engine.text import cut_middle, cut_text

MAX_SEQUENCES: Final = 32
_FRAME_PROBE: Final = "a"


class ServedEncoder:
    """An encoder in llama.cpp, for one thread. A context manager; close it before the file is replaced."""

    def __init__(self, path: Path, *, text_tokens: int, n_threads: int, batch_tokens: int = 192) -> None:
        head = read_model_head(path)
        self.pooling = head.pooling_type or POOLING_MEAN
        self._model = LlamaModel(path)
        self.limit = min(text_tokens, self._model.n_ctx_train or text_tokens)
        self._room = max(batch_tokens, self.limit)
        self._context = LlamaContext(
            self._model,
            ContextSettings(
                n_ctx=self._room, n_batch=self._room, n_seq_max=MAX_SEQUENCES, n_threads=n_threads, pooling_type=self.pooling
            ),
        )
        whole, bare = (self._model.tokenize(_FRAME_PROBE, add_special=special) for special in (True, False))
        start = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), 0)
        self._before, self._after = whole[:start], whole[start + len(bare) :]

    @property
    def n_embd(self) -> int:
        """Size of an embedding."""
        return self._model.n_embd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._context.close()
        self._model.close()

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
        adapter = LoraAdapter(self._model, lora) if lora is not None else None
        try:
            self._context.set_lora(adapter)
            done = 0
            for batch in self._split(order, tokens):
                result[batch] = self._context.encode([tokens[place] for place in batch])
                done += len(batch)
                if on_step is not None:
                    on_step(done, len(tokens))
        finally:
            if adapter is not None:
                self._context.set_lora(None)
                adapter.close()
        unit: FloatArray = result / np.maximum(np.linalg.norm(result, axis=1, keepdims=True), 1e-12)
        return unit

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
