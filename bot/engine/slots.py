"""Requests inside the decoder: what each puts into a batch and what it makes of the logits that come back.

Lives on the owner thread. Knows one request at a time; which slots share a batch, and cells and sequences, are the runtime's business.
What follows a prompt is in `bot.engine.scoring` (labels) and `bot.engine.writing` (text).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bot.engine.llama import LlamaContext
from bot.engine.protocol import EngineError, FloatArray, Priority
from bot.engine.search import Prior


@dataclass(frozen=True)
class Prompt:
    """A decoder's prompt in parts. `prefix` is shared by all requests that have it; control tokens are read in all but `text`.

    `is_trusted` says that `text` is a whole prompt of our own (a probe), in which control tokens are read too.
    """

    prefix: str
    text: str
    suffix: str
    is_trusted: bool = False


@dataclass(frozen=True)
class Scored:
    """Log-probabilities of all answers, shape (n_answers,), or of a probe's tokens."""

    log_probabilities: FloatArray
    n_tokens: int
    is_truncated: bool


@dataclass(frozen=True)
class Piece:
    """Generated text; the last one carries the counts."""

    text: str
    is_last: bool
    n_tokens: int = 0
    is_truncated: bool = False


@dataclass(eq=False, slots=True)
class DecodeJob:
    """One request to a decoder. Callbacks run on the owner thread; after `is_cancelled` none does.

    With `answers` the best `top_k` labels come out exact (0: all), where `prior` is going to be taken out of the result.
    """

    prompt: Prompt
    group: str
    priority: Priority
    on_error: Callable[[EngineError], None]
    on_scored: Callable[[Scored], None] | None = None
    on_piece: Callable[[Piece], None] | None = None
    answers: tuple[str, ...] | None = None
    top_k: int = 0
    prior: Prior | None = None
    probe_tokens: tuple[int, ...] = ()
    max_tokens: int = 0
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    is_cancelled: bool = False


@dataclass(slots=True)
class BatchShare:
    """A slot's share of a batch: tokens it may put in, idle ones it may use for guesses, free ones it may use for what is mostly needed.

    `lanes` are spare sequences to take from the end.
    """

    n_tokens: int
    n_idle: int
    n_spare: int
    lanes: list[int]


class Slot:
    """A prompt being read. Subclasses say what follows."""

    def __init__(self, tokens: Sequence[int], *, group: str, priority: Priority, order: int) -> None:
        self.tokens = list(tokens)
        self.group = group
        self.priority = priority
        self.order = order
        self.seq_id = -1
        self.position = 0
        self.n_read = 0
        self.is_done = False
        self.was_reading = False  # in the last batch
        self.n_last = 0  # tokens it put into the last batch
        self._place = -1

    @property
    def is_reading(self) -> bool:
        """Whether part of the prompt is still to be read."""
        return self.n_read < len(self.tokens)

    @property
    def n_cells(self) -> int:
        """Cache cells it may need beside its prefix."""
        return len(self.tokens)

    @property
    def n_next(self) -> int:
        """Tokens it would put into the next batch if there were room."""
        return len(self.tokens) - self.n_read

    def fill(self, context: LlamaContext, batch: "BatchShare") -> bool:
        """Put its share into the batch. False where nothing fits."""
        before, self.was_reading = context.n_tokens, self.is_reading
        is_filled = self._fill_prompt(context, batch) if self.is_reading else self._fill_more(context, batch)
        self.n_last = context.n_tokens - before
        return is_filled

    def _fill_prompt(self, context: LlamaContext, batch: "BatchShare") -> bool:
        share = min(self.n_next, batch.n_tokens, context.room)
        if share <= 0:
            return False
        is_end = self.n_read + share == len(self.tokens)
        shared = self._prepare_end(context, batch, n_tokens=share) if is_end else ()
        part = self.tokens[self.n_read : self.n_read + share]
        has_output = is_end and self._wants_logits
        place = context.add_run(part, position=self.position, seq_id=self.seq_id, has_output=has_output, shared=shared)
        self.n_read += share
        self.position += share
        self._place = place if is_end else -1
        if is_end:
            self._fill_end(context)
        return True

    def take(self, context: LlamaContext) -> None:
        """Use what the batch gave."""
        if self._place >= 0:
            place, self._place = self._place, -1
            self._take_prompt(context.get_logits(place) if self._wants_logits else np.empty(0, np.float32))
        if not self.is_reading and not self.is_done:
            self._take_more(context)

    _wants_logits = True

    def _take_prompt(self, logits: FloatArray) -> None:  # noqa: ARG002
        self.is_done = True

    def _prepare_end(self, context: LlamaContext, batch: "BatchShare", *, n_tokens: int) -> Sequence[int]:  # noqa: ARG002
        """Called before the prompt's last `n_tokens` go in; returns the spare sequences that read them too."""
        return ()

    def _fill_end(self, context: LlamaContext) -> None:
        """Called when the prompt's last token went in: what else can be computed in the same batch."""

    def _fill_more(self, context: LlamaContext, batch: "BatchShare") -> bool:  # noqa: ARG002
        return False

    def _take_more(self, context: LlamaContext) -> None:
        """Nothing follows a prompt here."""

    def fail(self, error: EngineError) -> None:  # noqa: ARG002
        """Tell whoever asked."""
        self.is_done = True

    @property
    def is_cancelled(self) -> bool:
        """Whether whoever asked has gone."""
        return False


class PrefixSlot(Slot):
    """A shared prompt prefix: only its cache entries are wanted."""

    _wants_logits = False

    def __init__(self, tokens: Sequence[int], *, group: str, priority: Priority, order: int) -> None:
        super().__init__(tokens, group=group, priority=priority, order=order)
        self.error: EngineError | None = None

    def fail(self, error: EngineError) -> None:
        """Keep the error for the requests that wait for this prefix."""
        super().fail(error)
        self.error = error


class RequestSlot(Slot):
    """A request behind a shared prefix (or none)."""

    def __init__(self, job: DecodeJob, tokens: Sequence[int], *, order: int, is_truncated: bool) -> None:
        super().__init__(tokens, group=job.group, priority=job.priority, order=order)
        self.job = job
        self.is_truncated = is_truncated
        self.prefix_tokens: tuple[int, ...] = ()

    @property
    def n_tokens(self) -> int:
        """Tokens of the prompt, shared prefix included."""
        return len(self.prefix_tokens) + len(self.tokens)

    @property
    def is_cancelled(self) -> bool:
        """Whether whoever asked has gone."""
        return self.job.is_cancelled

    def fail(self, error: EngineError) -> None:
        """Tell whoever asked."""
        super().fail(error)
        if not self.job.is_cancelled:
            self.job.is_cancelled = True
            self.job.on_error(error)

    def _finish(self, log_probabilities: FloatArray) -> None:
        self.is_done = True
        if self.job.on_scored is not None and not self.job.is_cancelled:
            self.job.on_scored(Scored(log_probabilities, self.n_tokens, self.is_truncated))


class ProbeSlot(RequestSlot):
    """Wants the log-probabilities of given tokens right after the prompt."""

    def _take_prompt(self, logits: FloatArray) -> None:
        wide = logits.astype(np.float64)
        wide -= wide.max()
        wide -= np.log(np.exp(wide).sum())
        self._finish(wide[list(self.job.probe_tokens)].astype(np.float32))
