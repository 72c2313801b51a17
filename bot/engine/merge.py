"""Writes an encoder's base with an adapter's LoRA matrices added in, layers in full precision: nothing is left to add at every token.

Knows the GGUF format and the LoRA sum; not llama.cpp, threads or when an adapter is loaded. The weights are the served file's own, dequantised.
"""

import math
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize
from threadpoolctl import threadpool_limits

from bot.engine.gguf_file import DEFAULT_ALIGNMENT, MAGIC, VERSIONS, GGUFHead, TensorInfo, read_head
from bot.engine.protocol import AdapterError, FloatArray

LAYERS: Final = "blk."
_F32: Final = int(GGMLQuantizationType.F32)
_KNOWN: Final = frozenset(
    int(GGMLQuantizationType[name])
    for name in ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
)


def has_known_weights(head: GGUFHead) -> bool:
    """Whether every matrix is of a type that can be turned into float32 here."""
    return all(info.kind in _KNOWN for name, info in head.tensors.items() if _is_matrix(name, info))


def count_merged_bytes(head: GGUFHead) -> int:
    """Return how large the weights of a merged file would be."""
    return sum(_plan(name, info).n_bytes for name, info in head.tensors.items())


def write_merged(base: Path, head: GGUFHead, *, lora: Path | None, target: Path) -> None:
    """Write `base`, whose head is given, with `lora` added in (None: as it is): the layers' matrices as float32, all else unchanged.

    Raises AdapterError where the LoRA file names a matrix that the base lacks, or one of another shape.
    """
    with threadpool_limits(limits=1, user_api="blas"):  # BLAS threads would take the cores from the requests being answered
        updates = _read_updates(lora) if lora is not None else {}
    for name, update in updates.items():
        info = head.tensors.get(name)
        if info is None or not _is_matrix(name, info) or update.shape != info.shape[::-1]:
            raise AdapterError(
                f"the adapter changes '{name}', which is no matrix of that shape in the base; train it for this base"
            )
    with base.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data, target.open("wb") as out:
        alignment = int(head.metadata.get("general.alignment", DEFAULT_ALIGNMENT))
        planned = {name: _plan(name, info) for name, info in head.tensors.items()}
        out.write(MAGIC + struct.pack("<IQQ", VERSIONS[-1], len(planned), len(head.metadata) + len(head.array_lengths)))
        out.write(data[slice(*head.entries)])
        _write_infos(out, planned, alignment=alignment)
        for name, info in head.tensors.items():
            _pad(out, alignment)
            raw = data[info.offset : info.offset + info.n_bytes]
            out.write(_merge(raw, info, updates.get(name)) if _is_matrix(name, info) else raw)
        _pad(out, alignment)


def _is_matrix(name: str, info: TensorInfo) -> bool:
    return name.startswith(LAYERS) and name.endswith(".weight") and len(info.shape) == 2


def _plan(name: str, info: TensorInfo) -> TensorInfo:
    """Return what a tensor becomes; its offset is not known yet."""
    if not _is_matrix(name, info):
        return info
    return TensorInfo(info.shape, n_bytes=4 * math.prod(info.shape), kind=_F32, offset=0)


def _write_infos(out: BinaryIO, planned: Mapping[str, TensorInfo], *, alignment: int) -> None:
    offset = 0
    for name, info in planned.items():
        raw = name.encode()
        out.write(struct.pack("<Q", len(raw)) + raw + struct.pack(f"<I{len(info.shape)}Q", len(info.shape), *info.shape))
        out.write(struct.pack("<IQ", info.kind, offset))
        offset += info.n_bytes + -info.n_bytes % alignment


def _pad(out: BinaryIO, alignment: int) -> None:
    out.write(bytes(-out.tell() % alignment))


def _merge(raw: bytes, info: TensorInfo, update: FloatArray | None) -> bytes:
    values = _dequantise(raw, info)
    return (values if update is None else values + update).tobytes()


def _dequantise(raw: bytes, info: TensorInfo) -> FloatArray:
    """Return a matrix as float32, shape (rows, columns)."""
    rows = info.shape[1]
    values = dequantize(
        np.frombuffer(raw, np.uint8).reshape(rows, -1).view(_STORED.get(info.kind, np.uint8)), GGMLQuantizationType(info.kind)
    )
    return np.ascontiguousarray(values, np.float32).reshape(rows, info.shape[0])


_STORED: Final = {_F32: np.float32, int(GGMLQuantizationType.F16): np.float16}


def _read_updates(lora: Path) -> dict[str, FloatArray]:
    """Return scale * B @ A by the name of the matrix that it is added to."""
    head = read_head(lora)
    alpha = float(head.metadata.get("adapter.lora.alpha", 0.0))
    with lora.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        parts = {name: _dequantise(data[info.offset : info.offset + info.n_bytes], info) for name, info in head.tensors.items()}
    updates: dict[str, FloatArray] = {}
    for name, down in parts.items():
        stem, _, side = name.rpartition(".")
        if side != "lora_a":
            continue
        up = parts.get(f"{stem}.lora_b")
        if up is None or up.shape[1] != down.shape[0]:
            raise AdapterError(f"{lora.name} has no fitting second matrix for '{stem}'; export the adapter again")
        scale = np.float32(alpha / len(down) if alpha else 1.0)  # llama.cpp takes an alpha of 0 as a scale of 1
        updates[stem] = scale * (up @ down)
    return updates
