"""Builds the engine that fits a model file: encoder or decoder, by what the file says of itself.

Reads the file's head only; nothing is loaded before `start()`.
"""

import os
from pathlib import Path
from typing import Final

from bot.engine.engine import LlamaEngine
from bot.engine.gguf_file import GGUFHead, read_model_head
from bot.engine.metrics import EngineMetrics
from bot.engine.protocol import ModelFileError
from bot.engine.settings import EngineSettings
from bot.engine.worker import Worker
from db.types import ModelKind

ENCODERS: Final = frozenset(
    {"bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "modern-bert", "jina-bert-v2", "jina-bert-v3", "eurobert"}
)
"""Architectures that only embed. Any other is an encoder where its file names a pooling (Qwen3-Embedding and the like)."""

POOLING_RANK: Final = 4


def choose_kind(head: GGUFHead) -> ModelKind:
    """Return which kind a model file is, by its architecture and pooling."""
    return ModelKind.ENCODER if head.architecture in ENCODERS or head.pooling_type > 0 else ModelKind.DECODER


def build_engine(path: Path, *, settings: EngineSettings, metrics: EngineMetrics | None = None) -> LlamaEngine:
    """Return an engine for a GGUF file, not started; it counts into `metrics`, by default into series that nobody reads.

    Raises ModelFileError where the file cannot be a model.
    """
    # OpenMP's threads spin between operations; where other processes need the cores too, that made answers four times slower. Without any
    # spinning each operation waits for the scheduler (7 ms of a batch of 19): about a microsecond of it serves both
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    path = path.resolve()
    head = read_model_head(path)
    if not head.architecture:
        message = f"{path} names no architecture; convert the model again"
        raise ModelFileError(message)
    if head.pooling_type == POOLING_RANK:
        message = f"{path} is a reranker, which gives no embeddings; choose an embedding model or a causal language model"
        raise ModelFileError(message)
    worker = Worker(name=f"engine:{path.stem}")
    metrics = metrics or EngineMetrics.alone()
    if choose_kind(head) == ModelKind.ENCODER:
        from bot.engine.encoder import EncoderRuntime
        from bot.engine.encoder_answers import EncoderAnswers

        answers = EncoderAnswers(EncoderRuntime(path, head, settings=settings, metrics=metrics), worker)
        return LlamaEngine(path, head=head, settings=settings, answers=answers, worker=worker, metrics=metrics)
    from bot.engine.decoder import DecoderRuntime
    from bot.engine.decoder_answers import DecoderAnswers

    return LlamaEngine(
        path,
        head=head,
        settings=settings,
        answers=DecoderAnswers(DecoderRuntime(path, settings, metrics=metrics), worker),
        worker=worker,
        metrics=metrics,
    )
