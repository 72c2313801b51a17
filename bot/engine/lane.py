"""One set of an encoder's weights with a context of its own: the base, or the base with one adapter added in.

Knows how to make one from files; not who uses it. Opening may happen on any thread, everything after that belongs to the owner thread.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bot.engine.gguf_file import GGUFHead
from bot.engine.llama import ContextSettings, LlamaContext, LlamaModel
from bot.engine.merge import count_merged_bytes, has_known_weights, write_merged
from bot.engine.protocol import EngineError, ModelFileError

_MIB: Final = 1 << 20
_FILE: Final = "merged.gguf"


@dataclass(eq=False)
class Lane:
    """Weights and a context on them."""

    model: LlamaModel
    context: LlamaContext

    def close(self) -> None:
        """Free both."""
        self.context.close()
        self.model.close()


def can_merge(head: GGUFHead, *, limit_mib: int) -> bool:
    """Whether a base with its layers in full precision can be made and stays within the limit."""
    return has_known_weights(head) and count_merged_bytes(head) <= limit_mib * _MIB


def open_lane(path: Path, *, settings: ContextSettings, n_gpu_layers: int = 0) -> Lane:
    """Open a model file as it is. Raises ModelFileError, or EngineError where no context fits."""
    return _open(path, settings, n_gpu_layers=n_gpu_layers, use_mmap=True)


def open_merged_lane(path: Path, head: GGUFHead, *, lora: Path | None, settings: ContextSettings, n_gpu_layers: int = 0) -> Lane:
    """Open a base, whose head is given, with an adapter (or none) added in and its layers in full precision.

    Raises AdapterError where they do not fit, ModelFileError or EngineError where the file that it takes for a moment
    has no room or llama.cpp refuses the outcome.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="understudy-merged-") as folder:
            target = Path(folder) / _FILE
            write_merged(path, head, lora=lora, target=target)
            try:
                return _open(
                    target, settings, n_gpu_layers=n_gpu_layers, use_mmap=False
                )  # read in full, since the file goes away
            except ModelFileError as error:  # people know the base, not what was made of it
                raise ModelFileError(str(error).replace(str(target), str(path))) from None
    except OSError as error:
        size = count_merged_bytes(head) // _MIB + 1
        message = (
            f"a temporary file of {size} MiB with an adapter's weights cannot be written ({error.strerror or type(error).__name__}): "
            "name a folder with room in TMPDIR, or set engine.merge_limit_mib to 0"
        )
        raise EngineError(message) from error


def _open(path: Path, settings: ContextSettings, *, n_gpu_layers: int, use_mmap: bool) -> Lane:
    model = LlamaModel(path, n_gpu_layers=n_gpu_layers, use_mmap=use_mmap)
    try:
        return Lane(model, LlamaContext(model, settings))
    except BaseException:
        model.close()
        raise
