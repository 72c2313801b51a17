"""What every engine offers, local or remote, encoder or decoder: requests in, scored answers out, adapters swapped between them.

Knows nothing of tickets, tables or prompts' wording: `bot.tasks` renders, the engine computes.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from db.types import MaskedText, ModelKind, TaskKind

FloatArray = NDArray[np.float32]


class EngineError(Exception):
    """Anything the engine refuses or fails at. The message says what to change."""


class ModelFileError(EngineError):
    """The model file is missing, is not a GGUF, or is of an architecture that cannot serve the task."""


class AdapterError(EngineError):
    """The bundle is damaged, belongs to another base, matches no layer, or fails its probe. What was live stays live."""


class NoEffectError(AdapterError):
    """The bundle is sound, but its weights change no answer, as its own trainer saw: there is nothing to put live."""


class AdapterMissingError(AdapterError):
    """The model server does not have the adapter yet. Unlike other refusals this one may end without a new adapter: ask again."""


class QueueFullError(EngineError):
    """The queue is at its bound. Try again later (429 at the API)."""


class DeadlineError(EngineError):
    """The request's deadline passed before it was answered."""


class Priority(IntEnum):
    """Interactive requests go before bulk ones."""

    INTERACTIVE = 0
    BULK = 1


@dataclass(frozen=True)
class ChoiceSet:
    """The fixed part of a classification: what can be answered and how it is asked.

    `key` identifies the content (task, label-set version, prompt version): equal keys mean equal prompts, so caches may use it.
    `names[i]` is described to an encoder by `descriptions[i]` and written by a decoder as `answers[i]`.
    A decoder's prompt is `prefix + text + suffix`, then one of the answers; `prefix` and `suffix` are the same for every ticket.
    """

    key: str
    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    prefix: str
    suffix: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class ScoreRequest:
    """Ask for the distribution over `choices` for one masked text. `adapter` pins a loaded digest or "base"; None means what is active."""

    task: TaskKind
    choices: ChoiceSet
    text: MaskedText
    priority: Priority = Priority.INTERACTIVE
    deadline_s: float | None = None
    adapter: str | None = None


@dataclass(frozen=True)
class Scores:
    """A proper distribution over the choices, in the order of `choices.names`; shape (n_choices,), float32, sums to 1.

    `adapter_digest` names the adapter that produced all of it ("base" for none). `embedding` is the unit-norm pooled embedding
    (encoders), shape (n_embd,). `is_truncated` says that the text did not fit and its middle was left out.
    """

    probabilities: FloatArray
    adapter_digest: str
    embedding: FloatArray | None
    is_truncated: bool
    n_tokens: int


@dataclass(frozen=True)
class RankRequest:
    """Ask an encoder which units (turns or sentences) of one ticket are most telling. `is_customer[i]` marks the customer's own."""

    task: TaskKind
    units: tuple[MaskedText, ...]
    is_customer: tuple[bool, ...]
    priority: Priority = Priority.INTERACTIVE
    deadline_s: float | None = None
    adapter: str | None = None


@dataclass(frozen=True)
class Ranking:
    """One score per unit, higher is more telling; shape (n_units,), float32. `is_truncated` says that the middle of a unit was left out."""

    scores: FloatArray
    adapter_digest: str
    n_tokens: int
    is_truncated: bool = False


@dataclass(frozen=True)
class GenerateRequest:
    """Ask a decoder for text after `prefix + text + suffix`. Greedy unless `temperature` > 0. `key` identifies the prefix for caching."""

    task: TaskKind
    key: str
    prefix: str
    text: MaskedText
    suffix: str
    max_tokens: int = 160
    stop: tuple[str, ...] = ("\n\n",)
    temperature: float = 0.0
    priority: Priority = Priority.INTERACTIVE
    deadline_s: float | None = None
    adapter: str | None = None


@dataclass(frozen=True)
class Chunk:
    """A piece of generated text. The last one has `is_last` and carries the counts; all carry the one adapter that wrote them."""

    text: str
    adapter_digest: str
    is_last: bool = False
    is_truncated: bool = False
    n_tokens: int = 0


@dataclass(frozen=True)
class SwapReport:
    """How an activation went; times in milliseconds. `drain_ms` is how long requests of the previous adapter were still running."""

    task: TaskKind
    adapter_digest: str
    previous_digest: str
    load_ms: float
    prove_ms: float
    flip_ms: float
    drain_ms: float


@runtime_checkable
class SelfChecking(Protocol):
    """An engine that can tell whether it would answer now."""

    def find_trouble(self) -> str | None:
        """Say in one sentence why the engine cannot answer now; None where it can. Must not wait."""
        ...


class Engine(Protocol):
    """One base model and the adapters loaded on it. All methods are for the event loop; the model lives on the engine's own thread."""

    @property
    def kind(self) -> ModelKind:
        """Encoder or decoder."""
        ...

    @property
    def base_digest(self) -> str:
        """SHA-256 of the base model file, hex."""
        ...

    async def start(self) -> None:
        """Load the base model. Raises ModelFileError."""
        ...

    async def stop(self) -> None:
        """Finish or refuse what is queued, free adapters, context and model in that order."""
        ...

    async def score(self, request: ScoreRequest) -> Scores:
        """Return the distribution. Raises QueueFullError, DeadlineError; EngineError for an adapter that is not loaded."""
        ...

    async def rank(self, request: RankRequest) -> Ranking:
        """Score the units of one ticket (encoders only; EngineError on a decoder)."""
        ...

    def generate(self, request: GenerateRequest) -> AsyncIterator[Chunk]:
        """Stream text (decoders only). Closing the iterator frees the slot."""
        ...

    async def embed(self, texts: Sequence[MaskedText], *, task: TaskKind, adapter: str | None = None) -> FloatArray:
        """Unit-norm embeddings, shape (n, n_embd), at bulk priority (encoders only)."""
        ...

    async def warm(self, choices: ChoiceSet, *, adapter: str | None = None) -> None:
        """Compute what all requests over these choices share, so that the first one does not pay for it."""
        ...

    async def load(self, bundle: Path) -> str:
        """Load an adapter bundle beside what serves, prove that it is applied, and return its digest. Idempotent. Raises AdapterError."""
        ...

    async def activate(self, task: TaskKind, digest: str | None) -> SwapReport:
        """Make a loaded adapter (None: the bare base) answer the task from the next request on. In-flight requests end on the old one."""
        ...

    async def unload(self, digest: str) -> None:
        """Free a loaded adapter that is not active, once its last request is answered."""
        ...

    def get_active(self, task: TaskKind) -> str:
        """Digest of what answers the task now, or "base"."""
        ...

    def get_loaded(self) -> tuple[str, ...]:
        """Digests of all loaded adapters."""
        ...
