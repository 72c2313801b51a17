"""Proves that an adapter's weights fit the base and are applied: file against base, outputs against the recorded probe.

Pure checks: knows files and numbers, not the engine that measured them.
"""

from pathlib import Path
from typing import Final

from bot.bundle import Probe
from bot.engine.answers import Outputs
from bot.engine.gguf_file import GGUFHead, TensorInfo, read_head
from bot.engine.protocol import AdapterError, ModelFileError, NoEffectError

SMALLEST_CHANGE: Final = 1e-5
"""What LoRA weights must at least change in a probe's outputs, on the same machine; less is within rounding."""


def compare_probe(digest: str, measured: Outputs, *, base: Outputs, probe: Probe, has_lora: bool) -> None:
    """Raise AdapterError unless the outputs match what the trainer recorded and, with LoRA weights, move away from the base's.

    NoEffectError where the trainer itself saw no change.

    `base` are the outputs measured here without the LoRA weights. They must differ by at least half of what the trainer saw (or by the
    tolerance, where that is less), so that weights which are loaded but not applied are found even where the trainer's change was small.
    """
    off = _largest_difference(measured, probe.expected)
    if not off <= probe.tolerance:
        message = f"adapter {digest[:12]} fails its probe: outputs differ by {off:.3f} from those recorded, {probe.tolerance:.3f} allowed"
        raise AdapterError(message)
    if not has_lora:
        return
    trained = _largest_difference(probe.expected, probe.base)
    if trained < SMALLEST_CHANGE:
        message = f"adapter {digest[:12]} learned nothing: its weights change no answer of the base model"
        raise NoEffectError(message)
    needed = min(probe.tolerance, trained / 2)
    if _largest_difference(measured, base) < max(needed, SMALLEST_CHANGE):
        message = (
            f"adapter {digest[:12]} fails its probe: its LoRA weights change nothing, so they are not applied; export it again"
        )
        raise AdapterError(message)


def check_lora(path: Path, base: GGUFHead) -> None:
    """Raise AdapterError unless a file is a whole LoRA GGUF and each of its tensors matches one of the base's, by name and shape."""
    try:
        head = read_head(path)
    except ModelFileError as error:
        raise AdapterError(str(error)) from error
    if head.metadata.get("general.type") != "adapter" or head.architecture != base.architecture:
        message = f"{path} is no LoRA adapter for a {base.architecture} model; convert it again"
        raise AdapterError(message)
    if not head.tensors:
        message = f"{path} holds no tensors; export the adapter again"
        raise AdapterError(message)
    for name, info in head.tensors.items():
        if not _matches(name, info, base):
            message = f"{path}: LoRA tensor '{name}' matches nothing in the base model; export it for this base"
            raise AdapterError(message)


def _matches(name: str, info: TensorInfo, base: GGUFHead) -> bool:
    """Whether a LoRA tensor's name and outer shape fit a matrix of the base."""
    target, _, side = name.rpartition(".")
    tensor = base.tensors.get(target)
    if tensor is None or side not in {"lora_a", "lora_b"} or len(tensor.shape) != 2 or len(info.shape) != 2:
        return False
    if "token_embd" in target:  # an embedding's pair is stored the other way round; llama.cpp checks it
        return True
    return info.shape[0] == tensor.shape[0] if side == "lora_a" else info.shape[1] == tensor.shape[1]


def _largest_difference(left: Outputs, right: Outputs) -> float:
    """Return the largest absolute difference, or infinity where the shapes differ."""
    if [len(row) for row in left] != [len(row) for row in right]:
        return float("inf")
    return max((abs(a - b) for one, two in zip(left, right, strict=True) for a, b in zip(one, two, strict=True)), default=0.0)
