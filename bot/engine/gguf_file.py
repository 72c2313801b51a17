"""A light, defensive reader of a GGUF file's head: enough to refuse a bad file in one sentence before llama.cpp sees it.

Reads metadata and tensor descriptions; knows nothing of what an architecture computes and never touches weights.
"""

import mmap
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from bot.engine.protocol import ModelFileError

MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)
DEFAULT_ALIGNMENT: Final = 32
MAX_ENTRIES: Final = 1_000_000

_SCALARS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING: Final = 8
_ARRAY: Final = 9

Value = str | int | float | bool


class _MalformedError(Exception):
    """The bytes are not what the format says; the caller names the file."""


@dataclass(frozen=True)
class TensorInfo:
    """A tensor's shape (innermost dimension first, as GGUF stores it), its size in bytes, its GGML type and where in the file it begins."""

    shape: tuple[int, ...]
    n_bytes: int
    kind: int
    offset: int


@dataclass(frozen=True)
class GGUFHead:
    """Scalar and string metadata (arrays are counted under their key) and the tensors of a file that is whole.

    `entries` is the range of bytes that all the metadata takes.
    """

    metadata: dict[str, Value]
    array_lengths: dict[str, int]
    tensors: dict[str, TensorInfo]
    entries: tuple[int, int] = (0, 0)

    @property
    def architecture(self) -> str:
        """`general.architecture`, or an empty string."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def pooling_type(self) -> int:
        """`<architecture>.pooling_type`, or 0 (none)."""
        value = self.metadata.get(f"{self.architecture}.pooling_type", 0)
        return value if isinstance(value, int) else 0

    def get_int(self, key: str, default: int = 0) -> int:
        """Return `<architecture>.<key>` as a whole number."""
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        return value if isinstance(value, int) else default


class _Cursor:
    """Walks the bytes and refuses to run over their end."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self.position = 0

    def unpack(self, fmt: str) -> tuple[Value, ...]:
        layout = struct.Struct("<" + fmt)
        self._need(layout.size)
        values: tuple[Value, ...] = layout.unpack_from(self._data, self.position)
        self.position += layout.size
        return values

    def read_int(self, fmt: str = "Q") -> int:
        return int(self.unpack(fmt)[0])

    def read_count(self) -> int:
        count = self.read_int()
        if count > MAX_ENTRIES * 100:
            raise _MalformedError
        return count

    def read_string(self) -> str:
        length = self.read_int()
        self._need(length)
        raw = self._data[self.position : self.position + length]
        self.position += length
        return raw.decode("utf-8", errors="replace")

    def skip(self, n_bytes: int) -> None:
        self._need(n_bytes)
        self.position += n_bytes

    def skip_array(self) -> int:
        """Skip an array's content and return its length."""
        kind, count = self.read_int("I"), self.read_count()
        if kind == _STRING:
            for _ in range(count):
                self.skip(self.read_int())
        elif kind in _SCALARS:
            self.skip(count * struct.calcsize("<" + _SCALARS[kind]))
        else:
            raise _MalformedError
        return count

    def _need(self, n_bytes: int) -> None:
        if n_bytes > len(self._data) - self.position:
            raise _MalformedError


def read_head(path: Path) -> GGUFHead:
    """Read a GGUF's head. Raises ModelFileError where the file is missing, not a GGUF, cut short, or malformed."""
    if not path.is_file():
        message = f"model file {path} does not exist; run `understudy models pull` or give another path"
        raise ModelFileError(message)
    with path.open("rb") as file:
        if file.read(4) != MAGIC:
            message = f"{path} is not a GGUF file; convert the model to GGUF or give another path"
            raise ModelFileError(message)
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _parse(data, path)
        except _MalformedError:
            message = f"{path} is cut short or damaged; fetch it again"
            raise ModelFileError(message) from None


def read_model_head(path: Path) -> GGUFHead:
    """Read the head of a model that can serve: also raises ModelFileError where the file has a vocabulary but no weights."""
    head = read_head(path)
    if head.metadata.get("general.type", "model") == "adapter":
        message = f"{path} is a LoRA adapter, not a base model; give the path of the base model"
        raise ModelFileError(message)
    if not head.tensors:
        message = f"{path} holds a vocabulary but no weights; give the path of a whole model"
        raise ModelFileError(message)
    return head


def _parse(data: mmap.mmap, path: Path) -> GGUFHead:
    cursor = _Cursor(data)
    cursor.skip(len(MAGIC))
    version = cursor.read_int("I")
    if version not in VERSIONS:
        message = f"{path} has GGUF version {version}; this version reads {VERSIONS[0]} and {VERSIONS[1]} (little-endian)"
        raise ModelFileError(message)
    n_tensors, n_entries = cursor.read_count(), cursor.read_count()
    if n_tensors > MAX_ENTRIES or n_entries > MAX_ENTRIES:
        raise _MalformedError
    metadata: dict[str, Value] = {}
    lengths: dict[str, int] = {}
    begin = cursor.position
    for _ in range(n_entries):
        key, kind = cursor.read_string(), cursor.read_int("I")
        if kind == _ARRAY:
            lengths[key] = cursor.skip_array()
        elif kind == _STRING:
            metadata[key] = cursor.read_string()
        elif kind in _SCALARS:
            metadata[key] = cursor.unpack(_SCALARS[kind])[0]
        else:
            raise _MalformedError
    entries = begin, cursor.position
    tensors = _parse_tensors(cursor, n_tensors, alignment=int(metadata.get("general.alignment", DEFAULT_ALIGNMENT)))
    return GGUFHead(metadata=metadata, array_lengths=lengths, tensors=tensors, entries=entries)


def _parse_tensors(cursor: _Cursor, n_tensors: int, *, alignment: int) -> dict[str, TensorInfo]:
    tensors: dict[str, TensorInfo] = {}
    last_byte = 0
    for _ in range(n_tensors):
        name, n_dims = cursor.read_string(), cursor.read_int("I")
        if n_dims > 4:
            raise _MalformedError
        shape = tuple(cursor.read_int() for _ in range(n_dims))
        kind, offset = cursor.read_int("I"), cursor.read_int()
        n_bytes = _count_bytes(shape, kind)
        tensors[name] = TensorInfo(shape=shape, n_bytes=n_bytes, kind=kind, offset=offset)
        last_byte = max(last_byte, offset + n_bytes)
    if alignment < 1:
        raise _MalformedError
    cursor.skip(-cursor.position % alignment if n_tensors else 0)
    begin = cursor.position
    cursor.skip(last_byte)  # the weights themselves must be there to their last byte
    return {name: replace(info, offset=begin + info.offset) for name, info in tensors.items()}


def _count_bytes(shape: tuple[int, ...], kind: int) -> int:
    try:
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (KeyError, ValueError):
        raise _MalformedError from None
    n_values = 1
    for extent in shape:
        n_values *= extent
    return n_values // int(block) * int(size)
