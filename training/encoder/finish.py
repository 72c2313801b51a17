"""The bundle of a finished training: adapter, head, calibration, probe and manifest in one directory.

Checks that the exported adapter computes in llama.cpp what was trained. Knows the bundle's files, not how the weights came about.
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from bot.bundle import ADAPTER_FILE, CALIBRATION_FILE, MANIFEST_FILE, PROBE_FILE, Calibration, Manifest, Probe, write_json
from bot.engine.head import EncoderHead
from bot.tasks.classification import describe
from bot.types import Label
from db.types import ModelKind, TaskKind
from training.encoder.job import Job, embed_trained, export_adapter, fit_head
from training.encoder.loop import Learner
from training.encoder.types import RunInfo
from training.export import ExportError

BUNDLE_DIR: Final = "bundle"
MIN_AGREEMENT: Final = 0.99
"""Cosine that served and trained embeddings must at least have; measured 0.9995."""
PROBE_TEXTS: Final = (
    "Hello, I cannot log in since this morning, please help.",
    "Could you order a new laptop for a colleague who starts next week?",
    "The invoice shows a charge that I do not recognise.",
    "How do I change the address on my account?",
)


def write_bundle(
    job: Job, learner: Learner, labels: Sequence[Label], *, calibration: Calibration, lift: float, run: RunInfo
) -> Path:
    """Write the bundle's files and return their directory; `lift` is added to the logits of labels without examples.

    Raises ExportError, and CancelledError from the job's progress.
    """
    directory = job.directory / BUNDLE_DIR
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    adapter = directory / ADAPTER_FILE
    export_adapter(job, learner, adapter)
    prepared = job.prepared
    embeddings = job.served.embed(
        prepared.texts, lora=adapter, on_step=lambda done, total: job.report("fitting the head", done, total)
    )
    head = fit_head(job, learner, embeddings, np.arange(len(prepared.texts)))
    head = replace(head, bias=head.bias + np.where(prepared.is_absent, np.float32(lift), np.float32(0.0)))
    if head.lexical is None:
        calibration = calibration.model_copy(update={"lexical_weight": 0.0})
    head.save(directory)
    write_json(directory / CALIBRATION_FILE, calibration)
    manifest = Manifest(
        task=TaskKind.CLASSIFICATION,
        model_kind=ModelKind.ENCODER,
        base_digest=job.base_digest,
        label_set_version=run.label_set_version,
        labels=prepared.names,
        prompt_version=run.prompt_version,
        run_id=run.run_id,
        data_digest=run.data_digest,
        n_train=len(prepared.texts),
        r=job.settings.r,
        lora_alpha=job.settings.lora_alpha,
        created_at=datetime.now(UTC),
    )
    write_json(directory / PROBE_FILE, _build_probe(job, learner, EncoderHead.load(directory, manifest), labels))
    write_json(directory / MANIFEST_FILE, manifest)
    job.report("done", 1, 1)
    return directory


def _build_probe(job: Job, learner: Learner, head: EncoderHead, labels: Sequence[Label]) -> Probe:
    """Return made-up texts with what the served adapter answers. Raises ExportError where it does not compute what was trained."""
    texts = (*PROBE_TEXTS, *(describe(label) for label in labels[:4]))
    adapter = job.directory / BUNDLE_DIR / ADAPTER_FILE
    bare, adapted = job.served.embed(texts), job.served.embed(texts, lora=adapter)
    if job.settings.mode != "nf4":
        trained = embed_trained(job, learner, texts)
        agreement = float((trained * adapted).sum(axis=1).min())
        if agreement < MIN_AGREEMENT:
            raise ExportError(f"the exported adapter computes other embeddings than were trained (cosine {agreement:.3f})")
    expected, base = (np.exp(head.log_probabilities(rows, texts)).astype(float) for rows in (adapted, bare))
    return Probe(texts=texts, expected=tuple(map(tuple, expected.tolist())), base=tuple(map(tuple, base.tolist())))
