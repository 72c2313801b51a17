"""What answers requests above the owner thread: one protocol for encoders and decoders.

Knows requests and results; native work is behind the runtimes, the table of adapters beside it.
"""

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Protocol

from bot.bundle import Bundle, Manifest
from bot.engine.adapters import LoadedAdapter
from bot.engine.protocol import (
    ChoiceSet,
    Chunk,
    FloatArray,
    GenerateRequest,
    Priority,
    Ranking,
    RankRequest,
    ScoreRequest,
    Scores,
)
from bot.engine.worker import Runtime
from db.types import ModelKind

Outputs = tuple[tuple[float, ...], ...]
"""What a probe records: one row of numbers per text."""


class Answers(Protocol):
    """How one kind of model answers requests under a resolved adapter. All methods are for the event loop."""

    @property
    def kind(self) -> ModelKind:
        """Encoder or decoder."""
        ...

    @property
    def runtime(self) -> Runtime:
        """What the owner thread drives."""
        ...

    async def score(self, request: ScoreRequest, adapter: LoadedAdapter) -> Scores:
        """Return the distribution over the request's choices."""
        ...

    async def rank(self, request: RankRequest, adapter: LoadedAdapter) -> Ranking:
        """Score the units of one ticket. Raises EngineError on a decoder."""
        ...

    def generate(self, request: GenerateRequest, adapter: LoadedAdapter) -> AsyncGenerator[Chunk, None]:
        """Stream text. Raises EngineError on an encoder."""
        ...

    async def embed(self, texts: Sequence[str], adapter: LoadedAdapter, *, priority: Priority) -> FloatArray:
        """Return unit-norm embeddings. Raises EngineError on a decoder."""
        ...

    async def attach(self, group: str, lora: Path) -> None:
        """Load LoRA weights under a group's name. Raises AdapterError."""
        ...

    async def detach(self, group: str) -> None:
        """Free a group's LoRA weights and what was computed with them."""
        ...

    async def admit(self, adapter: LoadedAdapter, bundle: Bundle) -> None:
        """Read what else the bundle holds, so that the adapter can answer. Raises AdapterError."""
        ...

    def dismiss(self, adapter: LoadedAdapter) -> None:
        """Forget what `admit` and `warm` kept for an adapter."""
        ...

    async def measure(self, texts: Sequence[str], group: str, *, directory: Path, manifest: Manifest) -> Outputs:
        """Return what a probe records for these texts: computed with a group's LoRA weights and the head in a bundle's directory."""
        ...

    async def warm(self, choices: ChoiceSet, adapter: LoadedAdapter) -> None:
        """Compute what requests with these choices share, before the first one needs it."""
        ...
