"""Writing text in the decoder: choose a token, turn it into characters, hold back what may become a stop string.

Knows one request's text; not who reads the stream.
"""

import codecs
from collections.abc import Sequence

import numpy as np

from bot.engine.llama import LlamaContext, LlamaModel
from bot.engine.protocol import FloatArray
from bot.engine.slots import BatchShare, DecodeJob, Piece, RequestSlot


class GenerateSlot(RequestSlot):
    """Writes text, one token a step, and streams it as far as no stop string can still begin in it."""

    def __init__(
        self, job: DecodeJob, tokens: Sequence[int], *, order: int, is_truncated: bool, model: LlamaModel, seed: int
    ) -> None:
        super().__init__(job, tokens, order=order, is_truncated=is_truncated)
        self._model = model
        self._random = np.random.default_rng([seed, order])
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._next = -1
        self._n_written = 0
        self._sampled_at = -1

    @property
    def n_cells(self) -> int:
        """Cells of the prompt and of everything it may write."""
        return len(self.tokens) + self.job.max_tokens

    @property
    def n_next(self) -> int:
        """The rest of the prompt, or one token."""
        return super().n_next if self.is_reading else 1

    def _take_prompt(self, logits: FloatArray) -> None:
        self._choose(logits)

    def _fill_more(self, context: LlamaContext, batch: BatchShare) -> bool:
        if min(context.room, batch.n_tokens) < 1:
            return False
        self._sampled_at = context.add_run([self._next], position=self.position, seq_id=self.seq_id, has_output=True)
        self.position += 1
        return True

    def _take_more(self, context: LlamaContext) -> None:
        if self._sampled_at >= 0:
            self._choose(context.get_logits(self._sampled_at))

    def _choose(self, logits: FloatArray) -> None:
        if self.job.max_tokens < 1:
            self._end("")
            return
        token = self._sample(logits)
        if self._model.is_end(token):
            self._end(self._held + self._decoder.decode(b"", final=True))
            return
        self._next = token
        self._n_written += 1
        text = self._held + self._decoder.decode(self._model.get_piece(token))
        at = min((found for found in map(text.find, self.job.stop) if found >= 0), default=-1)
        if at >= 0:
            self._end(text[:at])
        elif self._n_written >= self.job.max_tokens:
            self._end(text + self._decoder.decode(b"", final=True))
        else:
            keep = _count_held(text, self.job.stop)
            self._held = text[len(text) - keep :]
            self._emit(text[: len(text) - keep])

    def _sample(self, logits: FloatArray) -> int:
        if self.job.temperature <= 0:
            return int(logits.argmax())
        scaled = logits.astype(np.float64) / self.job.temperature
        weights = np.exp(scaled - scaled.max())
        return int(self._random.choice(len(weights), p=weights / weights.sum()))

    def _emit(self, text: str) -> None:
        if text and self.job.on_piece is not None and not self.job.is_cancelled:
            self.job.on_piece(Piece(text, is_last=False))

    def _end(self, text: str) -> None:
        self.is_done = True
        if self.job.on_piece is not None and not self.job.is_cancelled:
            n_tokens = self.n_tokens + self._n_written
            self.job.on_piece(Piece(text, is_last=True, n_tokens=n_tokens, is_truncated=self.is_truncated))


def _count_held(text: str, stop: Sequence[str]) -> int:
    """Return how many characters at the end of `text` may be the beginning of a stop string."""
    longest = max((len(mark) for mark in stop), default=0)
    for length in range(min(longest - 1, len(text)), 0, -1):
        if any(mark.startswith(text[-length:]) for mark in stop):
            return length
    return 0
