"""Answers of an encoder whose embeddings come from a server; heads, calibration and zero-shot labels are computed here, as locally.

Knows token ids and heads, not HTTP.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np

from bot.engine.encode_queue import Embedded
from bot.engine.encoder import EncoderRuntime
from bot.engine.encoder_answers import EncoderAnswers
from bot.engine.protocol import Priority
from bot.engine.remote.backend import Backend
from bot.engine.remote.link import Link
from bot.engine.remote.reading import Reader


class RemoteEncoderAnswers(EncoderAnswers):
    """`EncoderAnswers` with the three things replaced that touch the model: embedding texts, attaching and detaching weights."""

    def __init__(self, link: Link, *, backend: Backend, reader: Reader) -> None:
        super().__init__(cast("EncoderRuntime", link.runtime), link)  # what would use the local runtime is replaced below
        self._backend = backend
        self._reader = reader

    async def attach(self, group: str, lora: Path) -> None:
        """Make LoRA weights usable on the server. Raises AdapterError."""
        await self._backend.attach(group, lora)

    async def detach(self, group: str) -> None:
        """Give LoRA weights back."""
        await self._backend.detach(group)

    async def _embed(
        self,
        texts: Sequence[str],
        group: str,
        *,
        priority: Priority,  # noqa: ARG002 - servers have one queue
        deadline_s: float | None = None,  # noqa: ARG002 - the engine ends a late request, and with it the call
    ) -> Embedded:
        if not texts:
            return Embedded(np.empty((0, 0), np.float32), 0, is_truncated=False)
        read = await self._reader.read_texts(texts)
        raw = await self._backend.embed([text.tokens for text in read], group)
        unit = raw / np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), 1e-12)
        n_tokens = sum(len(text.tokens) for text in read)
        return Embedded(np.asarray(unit, np.float32), n_tokens, is_truncated=any(text.is_truncated for text in read))
