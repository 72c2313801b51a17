"""One file that holds all a killed run needs to go on: tensors, where it was, and what it was made of. Replaced atomically.

Knows names and tensors; not what they mean.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FILE: Final = "checkpoint.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """`fingerprint` names data and settings: a checkpoint of other ones is not gone on with. `step` counts within `stage`."""

    fingerprint: str
    stage: int
    step: int
    tensors: dict[str, Tensor]


def save_checkpoint(directory: Path, checkpoint: Checkpoint) -> None:
    """Write the file beside the old one and move it into its place, so that a kill at any point leaves a whole one."""
    directory.mkdir(parents=True, exist_ok=True)
    part = directory / f".{FILE}.part"
    state = {"fingerprint": checkpoint.fingerprint, "stage": checkpoint.stage, "step": checkpoint.step}
    save_file(
        {name: value.detach().contiguous() for name, value in checkpoint.tensors.items()}, part, {"state": json.dumps(state)}
    )
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(directory / FILE)


def load_checkpoint(directory: Path, fingerprint: str) -> Checkpoint | None:
    """Return the checkpoint of this data and these settings; None where there is none, or one that cannot be used."""
    path = directory / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            state: Mapping[str, Any] = json.loads((file.metadata() or {})["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    except (SafetensorError, KeyError, json.JSONDecodeError, OSError):
        return None  # a damaged file costs time, not the run
    if state["fingerprint"] != fingerprint:
        return None
    return Checkpoint(fingerprint, int(state["stage"]), int(state["step"]), tensors)
