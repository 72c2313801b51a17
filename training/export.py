"""Writes LoRA matrices as the GGUF adapter that llama.cpp loads, by one table of names per architecture.

Knows names, shapes and the row order that llama.cpp expects; not how the matrices were trained. A tensor that matches nothing is an error.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from gguf import GGUFWriter
from numpy.typing import NDArray

from training.errors import TrainingError

Array = NDArray[np.float32]


class ExportError(TrainingError):
    """LoRA tensors that have no place in the served file. The message names the tensor."""


@dataclass(frozen=True)
class Heads:
    """Attention heads of the base model, for architectures whose query and key rows are stored in another order."""

    n_query: int
    n_key: int


@dataclass(frozen=True)
class Architecture:
    """Where the linear layers of one architecture lie.

    `block` is the path of block `{n}` in transformers' module tree; `modules` maps a path below it to the GGUF name below `blk.{n}.`.
    `outside` maps paths outside blocks to whole GGUF names. Modules in `query` and `key` have their output rows re-ordered for
    llama.cpp's rotary embedding.
    """

    block: str
    modules: Mapping[str, str]
    outside: Mapping[str, str] = field(default_factory=dict)
    query: frozenset[str] = frozenset()
    key: frozenset[str] = frozenset()


_DECODER: Final = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_HEAD: Final = {"lm_head": "output"}

ARCHITECTURES: Final[Mapping[str, Architecture]] = {
    "bert": Architecture(
        "encoder.layer.{n}",
        {
            "attention.self.query": "attn_q",
            "attention.self.key": "attn_k",
            "attention.self.value": "attn_v",
            "attention.output.dense": "attn_output",
            "intermediate.dense": "ffn_up",
            "output.dense": "ffn_down",
        },
    ),
    # Llama and Mistral files alike say "llama"; their converter re-orders query and key rows.
    "llama": Architecture(
        "model.layers.{n}", _DECODER, _HEAD, query=frozenset({"self_attn.q_proj"}), key=frozenset({"self_attn.k_proj"})
    ),
    "qwen2": Architecture("model.layers.{n}", _DECODER, _HEAD),
    "qwen3": Architecture("model.layers.{n}", _DECODER, _HEAD),
    "gemma2": Architecture("model.layers.{n}", _DECODER, _HEAD),
    "gemma3": Architecture("model.layers.{n}", _DECODER, _HEAD),
}
"""By `general.architecture`. A new one needs a line here and nothing else."""

_TENSOR: Final = re.compile(r"^(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight$")


def get_architecture(name: str) -> Architecture:
    """Return the table of an architecture. Raises ExportError."""
    try:
        return ARCHITECTURES[name]
    except KeyError:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ExportError(
            f"adapters for '{name}' models cannot be exported yet; choose a base of one of these: {known}"
        ) from None


def find_target(module: str, architecture: Architecture) -> tuple[str, str]:
    """Return (GGUF tensor, path below its block) of a transformers module. Raises ExportError where nothing matches."""
    if module in architecture.outside:
        return f"{architecture.outside[module]}.weight", module
    pattern = re.escape(architecture.block).replace(r"\{n\}", r"(\d+)") + r"\.(.+)"
    found = re.fullmatch(r"(?:.+\.)??" + pattern, module)
    if found is None or found.group(2) not in architecture.modules:
        raise ExportError(f"the LoRA matrices of '{module}' match no tensor of the base model; train other modules")
    return f"blk.{found.group(1)}.{architecture.modules[found.group(2)]}.weight", found.group(2)


def permute_rows(matrix: Array, n_heads: int) -> Array:
    """Return the output rows in llama.cpp's rotary order: within each head, the two halves interleaved."""
    rows = matrix.shape[0]
    if rows % (2 * n_heads):
        raise ExportError(f"{rows} rows cannot be split among {n_heads} heads; the base model's head count is wrong")
    halves = matrix.reshape(n_heads, 2, rows // n_heads // 2, *matrix.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(matrix.shape))


def build_tensors(lora: Mapping[str, Array], architecture: Architecture, *, heads: Heads | None = None) -> dict[str, Array]:
    """Return GGUF names and matrices: `*.lora_a` (r, n_in) and `*.lora_b` (n_out, r), from PEFT's state dict. Raises ExportError."""
    built: dict[str, Array] = {}
    for name, matrix in lora.items():
        match = _TENSOR.match(name)
        if match is None:
            raise ExportError(f"'{name}' is no LoRA matrix; only LoRA adapters without extra weights can be served")
        target, below = find_target(match["module"], architecture)
        value = np.ascontiguousarray(matrix, np.float32)
        if match["side"] == "B" and below in architecture.query | architecture.key:
            if heads is None:
                raise ExportError("this architecture needs the base model's head counts to order query and key rows")
            value = permute_rows(value, heads.n_query if below in architecture.query else heads.n_key)
        built[f"{target}.lora_{match['side'].lower()}"] = value
    _check_pairs(built)
    return dict(sorted(built.items()))


def _check_pairs(built: Mapping[str, Array]) -> None:
    if not built:
        raise ExportError("there are no LoRA matrices to export; nothing was trained")
    for name in built:
        stem, side = name.rsplit(".", 1)
        other = built.get(f"{stem}.{'lora_b' if side == 'lora_a' else 'lora_a'}")
        if other is None:
            raise ExportError(f"the LoRA pair of '{stem}' has one matrix only; the training state is damaged")
    for name, matrix in built.items():
        if name.endswith(".lora_a") and matrix.shape[0] != built[f"{name[:-1]}b"].shape[1]:
            raise ExportError(f"the LoRA matrices of '{name[:-7]}' differ in rank; the training state is damaged")
        if not np.isfinite(matrix).all():
            raise ExportError(f"the LoRA matrices of '{name[:-7]}' hold values that are no numbers; lower the learning rate")


def export_lora(
    lora: Mapping[str, Array],
    target: Path,
    *,
    architecture: str,
    lora_alpha: float,
    heads: Heads | None = None,
    base_tensors: Mapping[str, tuple[int, ...]] | Collection[str] | None = None,
) -> tuple[str, ...]:
    """Write an adapter file and return the names of its tensors. llama.cpp itself scales by `lora_alpha / r`.

    `base_tensors` are the names in the served file (with shapes, innermost dimension first, where known): what is not among them is an
    ExportError.
    """
    tensors = build_tensors(lora, get_architecture(architecture), heads=heads)
    if base_tensors is not None:
        for name, matrix in tensors.items():
            _check_against_base(name, matrix, base_tensors)
    writer: Any = GGUFWriter(target, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(lora_alpha))
    for name, matrix in tensors.items():
        writer.add_tensor(name, matrix)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tuple(tensors)


def _check_against_base(name: str, matrix: Array, base: Mapping[str, tuple[int, ...]] | Collection[str]) -> None:
    stem, side = name.rsplit(".", 1)
    if stem not in base:
        raise ExportError(f"the base model has no tensor '{stem}'; its file and the trained model are not the same")
    if isinstance(base, Mapping):
        n_in, n_out = base[stem][0], base[stem][1]
        if (matrix.shape[1] if side == "lora_a" else matrix.shape[0]) != (n_in if side == "lora_a" else n_out):
            raise ExportError(f"the LoRA matrices of '{stem}' do not have the shape of the base model's tensor")
