"""What a model file says of itself, for people: kind, size, quantisation, licence.

Reads the file's head through `bot.engine.gguf_file`; loads no weights.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from gguf import LlamaFileType

from bot.engine.factory import choose_kind
from bot.engine.gguf_file import GGUFHead, read_model_head
from bot.engine.protocol import ModelFileError
from db.types import ModelKind


@dataclass(frozen=True)
class GgufInfo:
    """The head of a base model. `licence` is as the file claims it, empty where it claims none."""

    architecture: str
    kind: ModelKind
    n_embd: int
    n_ctx_train: int
    n_params: int
    quantisation: str
    name: str
    licence: str


def inspect_gguf(path: Path) -> GgufInfo:
    """Read a model file's head. Raises ModelFileError where it is not a whole GGUF model."""
    head = read_model_head(path)
    if not head.architecture:
        raise ModelFileError(f"{path} names no architecture; convert the model again")
    n_parts = head.metadata.get("split.count", 0)
    if isinstance(n_parts, int) and n_parts > 1:
        raise ModelFileError(
            f"{path} is one of {n_parts} parts of a model; join them with llama.cpp's `llama-gguf-split --merge` first"
        )
    return GgufInfo(
        architecture=head.architecture,
        kind=choose_kind(head),
        n_embd=head.get_int("embedding_length"),
        n_ctx_train=head.get_int("context_length"),
        n_params=sum(math.prod(tensor.shape) for tensor in head.tensors.values()),
        quantisation=_get_quantisation(head),
        name=str(head.metadata.get("general.name", "")),
        licence=str(head.metadata.get("general.license", "")),
    )


def _get_quantisation(head: GGUFHead) -> str:
    value = head.metadata.get("general.file_type")
    try:
        name = LlamaFileType(value).name if isinstance(value, int) else "unknown"
    except ValueError:
        name = "unknown"
    return name.removeprefix("MOSTLY_").removeprefix("ALL_")
