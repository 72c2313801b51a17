"""Reads what OpenAI-compatible servers answer: vLLM's form and llama-server's.

Pure: JSON values in, numbers and text out.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import numpy as np

from bot.engine.protocol import EngineError, FloatArray
from bot.engine.remote.backend import Piece

T = TypeVar("T")
_PREFIX: Final = "token_id:"


def pick(read: Callable[[Any], T], found: Any, url: str) -> T:
    """Read an answer's content. Raises EngineError where it is not of the documented form."""
    try:
        return read(found)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        message = f"the model server at {url} answered in an unknown form ({type(error).__name__}); is it of a kind and release that the docs name?"
        raise EngineError(message) from None


def read_models(found: Any) -> dict[str, int]:
    """Return the served models with the tokens that one request may have (0 where the server does not say)."""
    models = {}
    for entry in found["data"]:
        n_ctx = entry.get("max_model_len") or (entry.get("meta") or {}).get("n_ctx") or 0
        models[str(entry["id"])] = int(n_ctx)
    return models


def read_logprobs(found: Any) -> dict[int, float]:
    """Return token ids with their log-probabilities right after the prompt."""
    listed = found["choices"][0]["logprobs"]
    if "top_logprobs" in listed:  # vLLM: {"token_id:17": -0.5}, since return_tokens_as_token_ids was asked for
        return {int(name.removeprefix(_PREFIX)): float(value) for name, value in listed["top_logprobs"][0].items()}
    return {int(entry["id"]): float(entry["logprob"]) for entry in listed["content"][0]["top_logprobs"]}


def read_vectors(found: Any) -> FloatArray:
    """Return embeddings in the order of the inputs, shape (n, n_embd)."""
    rows = sorted(found["data"], key=lambda row: int(row["index"]))
    return np.array([row["embedding"] for row in rows], np.float32)


def read_piece(event: Any) -> tuple[Piece, bool]:
    """Return what a streamed event adds and whether the text ends with it."""
    usage = event.get("usage") or {}
    choices = event["choices"]
    text = str(choices[0].get("text") or "") if choices else ""
    is_ended = bool(choices) and choices[0].get("finish_reason") is not None
    return Piece(text, n_written=int(usage.get("completion_tokens", 0))), is_ended
