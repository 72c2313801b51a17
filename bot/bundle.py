"""The adapter bundle: one directory, named by the digest of its content, written by training and read by the engine.

Knows the files' names and the manifest, not what the tensors mean (`bot.engine.head`, llama.cpp) nor who is active (the database).
"""

import hashlib
import json
import shutil
from datetime import datetime
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from db.types import ModelKind, TaskKind

ADAPTER_FILE = "adapter.gguf"  # LoRA weights; absent where a head alone was trained
HEAD_FILE = "head.safetensors"  # encoder: weight (n_labels, n_embd), bias (n_labels,) and what else the head needs
LEXICON_FILE = "lexicon.json"  # encoder: the terms of the lexical expert, in column order
CALIBRATION_FILE = "calibration.json"
PROBE_FILE = "probe.json"
MANIFEST_FILE = "manifest.json"
PEFT_WEIGHTS_FILE = (
    "adapter_model.safetensors"  # the same LoRA weights in PEFT's form, with its configuration: optional, for servers
)
PEFT_CONFIG_FILE = "adapter_config.json"  # that load adapters so (vLLM); the engine reads neither
FORMAT = 1


class BundleError(Exception):
    """A bundle directory that is damaged, incomplete or of another format. The message names the file."""


class Manifest(BaseModel):
    """What a bundle says of itself. `labels` is in the head's row order (empty for summaries)."""

    model_config = ConfigDict(extra="forbid")

    format: int = FORMAT
    task: TaskKind
    model_kind: ModelKind
    base_digest: str
    label_set_version: str = ""
    labels: tuple[str, ...] = ()
    prompt_version: str
    run_id: int | None = None
    data_digest: str = ""
    n_train: int = 0
    r: int = 0
    lora_alpha: float = 0.0
    created_at: datetime


class Calibration(BaseModel):
    """How raw scores become probabilities; fitted on validation examples, used by serving and by the gate alike."""

    model_config = ConfigDict(extra="forbid")

    temperature: float = 1.0
    lexical_weight: float = 0.0  # share of the lexical expert in the product of experts, in [0, 1]
    prior_weight: float = 0.0  # decoder: how much of the label prior (null ticket) is taken out, in [0, 1]


class Probe(BaseModel):
    """Inputs and outputs that prove the adapter is applied: masked or made-up texts, never a raw ticket.

    Classification: `expected[i]` is the distribution over the manifest's labels for `texts[i]` with the adapter, `base[i]` the same
    without its LoRA weights. Summary: `expected[i]` scores the units `texts[i].split("\\n")` (all taken as the customer's).
    Decoder, either task: `texts[i]` is a whole rendered prompt and `expected[i]` are the next-token log-probabilities of fixed tokens
    (`bot.engine.decoder_answers.choose_probe_tokens`). The engine must reproduce `expected` within `tolerance` (largest absolute
    difference); where LoRA weights are present, switching them off must change the outputs by more than `tolerance` or by half the
    largest difference between `expected` and `base`, whichever is less. `LlamaEngine.build_probe` measures a probe.
    """

    model_config = ConfigDict(extra="forbid")

    texts: tuple[str, ...]
    expected: tuple[tuple[float, ...], ...]
    base: tuple[tuple[float, ...], ...]
    tolerance: float = 0.02


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def compute_digest(directory: Path) -> str:
    """Return the bundle's digest: SHA-256 over its sorted file names and their SHA-256."""
    parts = [f"{path.name}:{hash_file(path)}" for path in sorted(directory.iterdir()) if path.is_file()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class Bundle(BaseModel):
    """A bundle on disk, read and checked: manifest, calibration, probe, and where the weights lie."""

    directory: Path
    digest: str
    manifest: Manifest
    calibration: Calibration
    probe: Probe

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read a bundle. Raises BundleError where a file is missing, malformed, or the content is not what the folder's name says."""
        parsed: list[BaseModel] = []
        for name, model in ((MANIFEST_FILE, Manifest), (CALIBRATION_FILE, Calibration), (PROBE_FILE, Probe)):
            try:
                parsed.append(model.model_validate_json((directory / name).read_bytes()))
            except FileNotFoundError:
                raise BundleError(f"{directory} is not an adapter bundle: {name} is missing") from None
            except OSError as error:
                raise _build_unreadable(directory / name, error) from error
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"])
                raise BundleError(f"{directory / name} is malformed at '{where}': {first['msg']}") from None
        manifest, calibration, probe = parsed
        try:
            digest = compute_digest(directory)
        except OSError as error:
            raise _build_unreadable(directory, error) from error
        if len(directory.name) == 64 and directory.name != digest:
            raise BundleError(f"{directory} was changed after it was written: its content has digest {digest[:12]}")
        if isinstance(manifest, Manifest) and manifest.format != FORMAT:
            raise BundleError(f"{directory} has bundle format {manifest.format}; this version reads format {FORMAT}")
        return cls.model_validate(
            {"directory": directory, "digest": digest, "manifest": manifest, "calibration": calibration, "probe": probe}
        )

    @property
    def adapter_path(self) -> Path | None:
        """The LoRA file, or None where the bundle has a head alone."""
        path = self.directory / ADAPTER_FILE
        return path if path.exists() else None


def _build_unreadable(path: Path, error: OSError) -> BundleError:
    return BundleError(f"{error.filename or path} cannot be read ({error.strerror or type(error).__name__}): make it readable")


def write_json(path: Path, model: BaseModel) -> None:
    """Write a manifest, calibration or probe."""
    path.write_text(json.dumps(model.model_dump(mode="json"), indent=1, sort_keys=True) + "\n", encoding="utf-8")


def seal(work_dir: Path, adapters_dir: Path) -> Bundle:
    """Move a finished work directory to `adapters_dir/<digest>` in one step and return it. The same content twice is one bundle."""
    digest = compute_digest(work_dir)
    target = adapters_dir / digest
    adapters_dir.mkdir(parents=True, exist_ok=True)
    if target.exists():
        shutil.rmtree(work_dir)
    else:
        work_dir.replace(target)
    return Bundle.load(target)
