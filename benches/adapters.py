"""Adapter bundles with random weights for both kinds: real files, proven and sealed like trained ones, each with answers of its own.

Knows the bundle's parts; nothing of training. `strength` says how far an adapter moves the base's answers.
"""

import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np

from benches.paths import BENCH_DIR
from bot.bundle import ADAPTER_FILE, CALIBRATION_FILE, MANIFEST_FILE, PROBE_FILE, Bundle, Calibration, Manifest, seal, write_json
from bot.engine.engine import LlamaEngine
from bot.engine.gguf_file import read_model_head
from bot.engine.head import EncoderHead
from bot.engine.protocol import ChoiceSet
from bot.tasks.classification import PROMPT_VERSION
from db.types import ModelKind, TaskKind

RANK: Final = 8
HEAD_SCALE: Final = 20.0
_PROBE_TEXTS: Final = (
    "Hello, I cannot log in since this morning, please help.",
    "The invoice shows a charge that I do not recognise.",
)
_MAX_PROBE_CHARS: Final = 1_000
_LINEAR: Final = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_gate", "ffn_down")


def write_lora(path: Path, base: Path, *, seed: int, strength: float, r: int = RANK) -> None:
    """Write random LoRA weights for every linear layer of a base GGUF."""
    random = np.random.default_rng(seed)
    head = read_model_head(base)
    writer: Any = gguf.GGUFWriter(path, head.architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(r))
    for name, info in head.tensors.items():
        if name.startswith("blk.") and name.split(".")[2] in _LINEAR and name.endswith(".weight"):
            n_in, n_out = info.shape[0], info.shape[1]
            writer.add_tensor(f"{name}.lora_a", (random.standard_normal((r, n_in)) / np.sqrt(n_in)).astype(np.float32))
            writer.add_tensor(f"{name}.lora_b", (random.standard_normal((n_out, r)) * (strength / np.sqrt(r))).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


async def make_bundle(
    engine: LlamaEngine,
    base: Path,
    choices: ChoiceSet,
    *,
    seed: int,
    strength: float,
    adapters_dir: Path = BENCH_DIR / "adapters",
) -> Bundle:
    """Write, measure and seal one classification bundle for a started engine; other seeds give other answers.

    An encoder's head starts from the label descriptions as the adapter embeds them, so its answers are sensible and its own.
    """
    work = _make_work_dir(adapters_dir)
    try:
        write_lora(work / ADAPTER_FILE, base, seed=seed, strength=strength)
        manifest = _build_manifest(engine, choices)
        write_json(work / CALIBRATION_FILE, Calibration())
        write_json(work / MANIFEST_FILE, manifest)
        texts = list(_PROBE_TEXTS)
        if engine.kind == ModelKind.ENCODER:
            await _write_head(engine, work, choices, seed=seed)
        else:
            # a long prompt is probed without its label list, so that no setting of the serving engine cuts it
            prefix = choices.prefix if len(choices.prefix) <= _MAX_PROBE_CHARS else ""
            texts = [f"{prefix}{text}{choices.suffix}" for text in _PROBE_TEXTS]
        write_json(work / PROBE_FILE, await engine.build_probe(work, manifest, texts=texts))
        return seal(work, adapters_dir)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _make_work_dir(adapters_dir: Path) -> Path:
    adapters_dir.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=adapters_dir, prefix=".work-"))


def _build_manifest(engine: LlamaEngine, choices: ChoiceSet) -> Manifest:
    return Manifest(
        task=TaskKind.CLASSIFICATION,
        model_kind=engine.kind,
        base_digest=engine.base_digest,
        labels=choices.names if engine.kind == ModelKind.ENCODER else (),
        label_set_version=choices.key,
        prompt_version=PROMPT_VERSION,
        r=RANK,
        lora_alpha=float(RANK),
        created_at=datetime(2025, 1, 1, tzinfo=UTC),
    )


async def _write_head(engine: LlamaEngine, work: Path, choices: ChoiceSet, *, seed: int) -> None:
    described = await engine.embed(choices.descriptions, task=TaskKind.CLASSIFICATION, adapter="base")  # type: ignore[arg-type]
    random = np.random.default_rng(seed)
    weight = (described + 0.05 * random.standard_normal(described.shape)) * HEAD_SCALE
    bias = random.normal(0, 0.3, len(choices.names)).astype(np.float32)
    EncoderHead(choices.names, weight.astype(np.float32), bias, Calibration()).save(work)
