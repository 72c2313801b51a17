"""Reads what llama-server answers. Pure: JSON values in, numbers and text out."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from bot.engine.protocol import EngineError, FloatArray
from bot.engine.remote.backend import Piece

T = TypeVar("T")


def pick(read: Callable[[Any], T], found: Any, url: str) -> T:
    """Read an answer's content. Raises EngineError where it is not of the documented form."""
    try:
        return read(found)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        message = f"the model server at {url} answered in an unknown form ({type(error).__name__}); is it a llama-server of a recent release?"
        raise EngineError(message) from None


def read_files(listed: Any) -> tuple[str, ...]:
    """Return the paths of the server's LoRA files, by id."""
    return tuple(str(entry["path"]) for entry in sorted(listed, key=lambda entry: int(entry["id"])))


def read_embeddings(found: Any) -> FloatArray:
    """Return embeddings in the order of the inputs, shape (n, n_embd)."""
    rows = sorted(found["data"], key=lambda row: int(row["index"]))
    return np.array([row["embedding"] for row in rows], np.float32)


def read_probabilities(found: Any) -> dict[int, float]:
    """Return token ids with their probabilities after sampling."""
    return {int(entry["id"]): float(entry["prob"]) for entry in found["completion_probabilities"][0]["top_probs"]}


def read_best(found: Any) -> tuple[int, float]:
    """Return the most probable token and its log-probability."""
    best = found["completion_probabilities"][0]["top_logprobs"][0]
    return int(best["id"]), float(best["logprob"])


def read_piece(event: Any) -> Piece:
    """Return what a streamed event adds."""
    n_written = int(event.get("tokens_predicted", 0)) - (event.get("stop_type") == "eos")  # it counts the end token
    return Piece(str(event["content"]), is_last=bool(event["stop"]), n_written=n_written)
