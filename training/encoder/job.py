"""One training at work: what its stages share, and the steps that more than one of them needs.

Knows model, head and the served base; not the order of the stages, nor the bundle.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch

from bot.bundle import ADAPTER_FILE, Calibration
from bot.engine.gguf_file import read_model_head
from bot.engine.head import EncoderHead
from bot.engine.protocol import FloatArray
from training.encoder.base import build_batch, embed
from training.encoder.lexical import fit_expert
from training.encoder.linear import Int, fit_softmax
from training.encoder.loop import Learner
from training.encoder.prepare import Prepared
from training.encoder.served import ServedEncoder
from training.encoder.settings import EncoderSettings
from training.encoder.types import CancelledError, OnProgress, Progress, ShouldStop
from training.export import export_lora
from training.qlora import get_lora_state

REFIT_INVERSE_STRENGTH: Final = 100.0
EMBED_BATCH: Final = 16


@dataclass
class Job:
    """One training at work."""

    prepared: Prepared
    base_path: Path
    base_digest: str
    settings: EncoderSettings
    directory: Path
    on_progress: OnProgress
    should_stop: ShouldStop
    served: ServedEncoder
    fingerprint: str
    started: float = field(default_factory=time.monotonic)

    def report(self, phase: str, step: int, total: int, *, loss: float | None = None, per_second: float = 0.0) -> None:
        """Say where the run is. Raises CancelledError."""
        eta = (total - step) / per_second if per_second > 0.0 else None
        self.on_progress(Progress(phase, step, total, loss, eta))
        if self.should_stop():
            raise CancelledError("the training was cancelled")


def export_adapter(job: Job, learner: Learner, target: Path) -> None:
    """Write the adapter as it stands. Raises ExportError."""
    shapes = {name: info.shape for name, info in read_model_head(job.base_path).tensors.items()}
    export_lora(
        get_lora_state(learner.model), target, architecture="bert", lora_alpha=job.settings.lora_alpha, base_tensors=shapes
    )


def fit_head(job: Job, learner: Learner, embeddings: FloatArray, rows: Int) -> EncoderHead:
    """Return the uncalibrated head: the learnt layer averaged with one refitted to the final embeddings, and the lexical expert."""
    prepared = job.prepared
    targets = prepared.targets.take(rows)
    weight, bias = (part.numpy().astype(np.float64) for part in learner.head)
    seen = targets.label[~targets.is_negative]
    is_fixed = prepared.is_absent | ~np.isin(np.arange(len(bias)), seen)
    refitted = fit_softmax(
        embeddings.astype(np.float64),
        targets,
        start=(np.where(is_fixed[:, None], weight, 0.0), np.where(is_fixed, bias, 0.0)),
        l2=1.0 / (REFIT_INVERSE_STRENGTH * len(rows)),
        is_fixed=is_fixed,
    )
    lexical = None
    if job.settings.has_lexical_expert:
        lexical = fit_expert([prepared.texts[row] for row in rows], targets, is_absent=is_fixed)
    return EncoderHead(
        labels=prepared.names,
        weight=((weight + refitted[0]) / 2).astype(np.float32),
        bias=((bias + refitted[1]) / 2).astype(np.float32),
        calibration=Calibration(),
        lexical=lexical,
    )


def embed_trial(job: Job, learner: Learner) -> FloatArray:
    """Return embeddings of all examples under a trial's weights: in torch, several times faster than as served and near enough.

    Not with NF4: there served and trained base differ too much.
    """
    texts = job.prepared.texts
    if job.settings.mode != "nf4":
        return embed_trained(job, learner, texts)
    target = job.directory / f".{ADAPTER_FILE}"
    export_adapter(job, learner, target)
    embeddings = job.served.embed(texts, lora=target, on_step=lambda done, total: job.report("asking the trial run", done, total))
    target.unlink()
    return embeddings


def embed_trained(job: Job, learner: Learner, texts: Sequence[str]) -> FloatArray:
    """Return unit-norm embeddings of texts under the learner's weights, in torch; shape (n, n_embd)."""
    tokens = [job.served.tokenize(text) for text in texts]
    order = sorted(range(len(texts)), key=lambda place: len(tokens[place]))
    result = np.empty((len(texts), job.served.n_embd), np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), EMBED_BATCH):
            places = order[start : start + EMBED_BATCH]
            batch, mask = (part.to(learner.device) for part in build_batch([tokens[place] for place in places]))
            result[places] = embed(learner.model, batch, mask, pooling=job.served.pooling).cpu().numpy()
            if len(order) > EMBED_BATCH:
                job.report("asking the trial run", start + len(places), len(order))
    return result
