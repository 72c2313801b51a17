"""What a model server must be able to do for the engine: one protocol for llama-server and for OpenAI-compatible servers.

Token ids go in, numbers and text come out; knows no labels, no heads and no prompts' wording.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bot.engine.protocol import FloatArray


@dataclass(frozen=True)
class Piece:
    """Generated text; the last one says how many tokens were written."""

    text: str
    is_last: bool = False
    n_written: int = 0


@dataclass(frozen=True)
class Writing:
    """How a text is to be written: greedy unless `temperature` > 0."""

    max_tokens: int
    stop: tuple[str, ...]
    temperature: float
    seed: int


class Backend(Protocol):
    """One model server. `group` names the LoRA weights that a call runs under, as `attach` was told; "base" for none."""

    @property
    def n_ctx(self) -> int:
        """Tokens of one request that the server has room for; known once it is open."""
        ...

    async def open(self) -> None:
        """Connect and check that the server serves this base. Raises ModelFileError or EngineError."""
        ...

    async def close(self) -> None:
        """Drop every connection."""
        ...

    async def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Return token ids. `parse_special` reads `<|...|>` as tokens."""
        ...

    async def embed(self, tokens: Sequence[Sequence[int]], group: str) -> FloatArray:
        """Return pooled embeddings, shape (n, n_embd); not necessarily of unit norm."""
        ...

    async def read_choice(self, prompt: Sequence[int], options: Sequence[int], group: str) -> FloatArray:
        """Return log-probabilities of the tokens in `options` right after the prompt, up to a constant; shape (n_options,)."""
        ...

    async def read_tokens(self, prompt: Sequence[int], options: Sequence[int], group: str) -> FloatArray:
        """Return log-probabilities of the tokens in `options` among the whole vocabulary; shape (n_options,)."""
        ...

    def write(self, prompt: Sequence[int], writing: Writing, group: str) -> AsyncGenerator[Piece, None]:
        """Stream text. Closing the iterator ends the work on the server."""
        ...

    async def attach(self, group: str, lora: Path) -> None:
        """Make LoRA weights usable under a group's name. Raises AdapterError."""
        ...

    async def detach(self, group: str) -> None:
        """Give a group's weights back."""
        ...
