"""The optimiser's loop: LoRA matrices and head learn together, batch by batch, deterministic, resumable at every step.

Knows tensors, order and losses; not texts, files or what follows.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional

from bot.engine.head import ZERO_SHOT_SCALE
from training.encoder.base import build_batch, embed
from training.encoder.fused import fuse_lora
from training.encoder.prepare import PEAK_RATE
from training.encoder.settings import EncoderSettings
from training.encoder.types import TrainingDataError

WARM_UP: Final = 0.1
BUCKET: Final = 8
"""Batches whose examples are sorted by length together: little padding, still mixed."""
_CONTRAST_TEMPERATURE: Final = 0.1


@dataclass(frozen=True)
class TrainData:
    """Token sequences with their targets, in one fixed order; `weight` has mean 1."""

    sequences: Sequence[list[int]]
    label: Tensor
    weight: Tensor
    is_negative: Tensor


@dataclass(frozen=True)
class Stage:
    """A training of its own: which rows of the data, and how often each."""

    name: str
    rows: tuple[int, ...]
    epochs: int
    contrast_epochs: int = 0

    def count_steps(self, batch_size: int) -> int:
        """Return the number of steps in which the head learns."""
        return self.epochs * math.ceil(len(self.rows) / batch_size)


def choose_precision(setting: str) -> bool:
    """Whether to compute in bf16: asked for, or a GPU or AMX does it in hardware. Other CPUs are slower with it, measured."""
    if setting != "auto":
        return setting == "bf16"
    return torch.cuda.is_available() or bool(torch.cpu._is_amx_tile_supported())


class Learner:
    """Model, head and optimiser. The tensors in `state()` are all that a step changes."""

    def __init__(
        self, model: PeftModel, head: tuple[Tensor, Tensor], *, is_fixed: Tensor, pooling: int, settings: EncoderSettings
    ) -> None:
        self._model, self._pooling, self._settings, self._is_fixed = model, pooling, settings, is_fixed
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        model.to(self.device)
        model.eval()  # dropout inside the layers costs time and accuracy; the head's own is applied below
        self._lora = {name: value for name, value in model.named_parameters() if value.requires_grad}
        # The head learns in units of the zero-shot scale, so that one learning rate suits every number of labels.
        self._head = {
            "head.weight": nn.Parameter(head[0].to(self.device) / ZERO_SHOT_SCALE),
            "head.bias": nn.Parameter(head[1].to(self.device)),
        }
        self._rates = settings.learning_rate or PEAK_RATE, settings.head_learning_rate
        self._use_bf16 = choose_precision(settings.precision)
        if not self._use_bf16:
            fuse_lora(model)
        self._optimiser = self._build_optimiser()

    def _build_optimiser(self) -> torch.optim.AdamW:
        settings = self._settings
        groups = [
            {"params": list(self._lora.values()), "lr": self._rates[0], "weight_decay": settings.weight_decay},
            {"params": list(self._head.values()), "lr": self._rates[1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, betas=(0.9, 0.98), foreach=True)

    @property
    def model(self) -> PeftModel:
        """The model with its LoRA matrices."""
        return self._model

    @property
    def head(self) -> tuple[Tensor, Tensor]:
        """Weight (n_labels, n_embd) and bias (n_labels,)."""
        return self._head["head.weight"].detach().cpu() * ZERO_SHOT_SCALE, self._head["head.bias"].detach().cpu()

    def begin_stage(self) -> None:
        """Forget the optimiser's moments."""
        self._optimiser = self._build_optimiser()

    def state(self) -> dict[str, Tensor]:
        """Return copies of every learnt tensor and the optimiser's moments."""
        parameters = self._lora | self._head
        state = {name: value.detach().cpu().clone() for name, value in parameters.items()}
        for name, value in parameters.items():
            for key, moment in self._optimiser.state.get(value, {}).items():
                state[f"optimiser.{key}.{name}"] = torch.as_tensor(moment).detach().cpu().clone()
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` gave. Raises KeyError where it belongs to another model."""
        parameters = self._lora | self._head
        self.begin_stage()
        with torch.no_grad():
            for name, value in parameters.items():
                value.copy_(state[name])
        keys = ("step", "exp_avg", "exp_avg_sq")
        for name, value in parameters.items():
            if f"optimiser.step.{name}" in state:
                self._optimiser.state[value] = {
                    key: state[f"optimiser.{key}.{name}"].clone().to("cpu" if key == "step" else self.device) for key in keys
                }

    def step(self, data: TrainData, rows: Sequence[int], *, rate: float, seed: int, is_contrast: bool = False) -> float:
        """Learn from one batch at a share of the peak rates; `seed` fixes its dropout. Returns the loss.

        With `is_contrast` only the LoRA matrices learn: to bring examples of one label near each other.
        """
        torch.manual_seed(seed)
        for group, peak in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = peak * rate
        tokens, mask = (part.to(self.device) for part in build_batch([data.sequences[row] for row in rows]))
        with torch.autocast(self.device, torch.bfloat16, enabled=self._use_bf16):
            embeddings = embed(self._model, tokens, mask, pooling=self._pooling)
        chosen = list(rows)
        label, weight, is_negative = (part[chosen].to(self.device) for part in (data.label, data.weight, data.is_negative))
        if is_contrast:
            loss = compute_contrast(embeddings, label, is_negative)
        else:
            loss = self._compute_loss(embeddings, label, weight=weight, is_negative=is_negative)
        if not torch.isfinite(loss):
            raise TrainingDataError("the loss is no number any more; lower the learning rate or look for broken weights")
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        head_weight, head_bias = self._head.values()
        for part in (head_weight, head_bias):
            if part.grad is not None:
                part.grad[self._is_fixed] = 0.0
        torch.nn.utils.clip_grad_norm_([*self._lora.values(), head_weight, head_bias], 1.0)
        self._optimiser.step()
        return float(loss.detach())

    def _compute_loss(self, embeddings: Tensor, label: Tensor, *, weight: Tensor, is_negative: Tensor) -> Tensor:
        dropped = functional.dropout(embeddings, self._settings.dropout)
        logits = ZERO_SHOT_SCALE * dropped @ self._head["head.weight"].T + self._head["head.bias"]
        positive = functional.cross_entropy(logits, label, reduction="none", label_smoothing=self._settings.label_smoothing)
        chosen = functional.softmax(logits, dim=1).gather(1, label[:, None])[:, 0]
        negative = -torch.log((1.0 - chosen).clamp(min=1e-6))
        return (torch.where(is_negative, negative, positive) * weight).mean()


def compute_contrast(embeddings: Tensor, label: Tensor, is_negative: Tensor) -> Tensor:
    """Return the supervised contrastive loss of a batch: examples of one label near each other; 0 where no two share one."""
    n = len(label)
    itself = torch.eye(n, dtype=torch.bool, device=embeddings.device)
    usable = ~is_negative
    same = (label[:, None] == label[None]) & ~itself & usable[:, None] & usable[None]
    has_peer = same.any(dim=1)
    if not has_peer.any():
        return embeddings.sum() * 0.0
    log_share = (embeddings @ embeddings.T / _CONTRAST_TEMPERATURE).masked_fill(itself, -1e9).log_softmax(dim=1)
    per_row = -(log_share * same).sum(dim=1)[has_peer] / same.sum(dim=1)[has_peer]
    return per_row.mean()


def order_batches(stage: Stage, lengths: Sequence[int], *, batch_size: int, seed: int) -> list[list[int]]:
    """Return all batches of a stage: every row once per epoch, of similar length within a batch, the same for the same seed."""
    batches: list[list[int]] = []
    for epoch in range(stage.epochs):
        generator = np.random.default_rng([seed, epoch])
        order = generator.permutation(np.asarray(stage.rows))
        cut: list[list[int]] = []
        for start in range(0, len(order), batch_size * BUCKET):
            bucket = sorted((int(row) for row in order[start : start + batch_size * BUCKET]), key=lambda row: lengths[row])
            cut += [bucket[at : at + batch_size] for at in range(0, len(bucket), batch_size)]
        batches += [cut[int(place)] for place in generator.permutation(len(cut))]
    return batches


def order_pairs(stage: Stage, data: TrainData, *, batch_size: int, seed: int) -> list[list[int]]:
    """Return the batches of the contrastive passes: every labelled row once per pass, next to another one of its label where there is one.

    Rows that say what a ticket is not have no place here; none come back where no two rows share a label.
    """
    label, is_negative = data.label.numpy(), data.is_negative.numpy()
    rows = np.array([row for row in stage.rows if not is_negative[row]], np.int64)
    by_label = {int(value): rows[label[rows] == value] for value in np.unique(label[rows])}
    batches: list[list[int]] = []
    if all(len(alike) < 2 for alike in by_label.values()):
        return batches
    half = max(batch_size // 2, 1)
    for epoch in range(stage.contrast_epochs):
        generator = np.random.default_rng([seed, epoch, 1])
        order = generator.permutation(rows)
        for start in range(0, len(order), half):
            anchors = order[start : start + half]
            peers = [generator.choice(by_label[int(label[row])]) for row in anchors]
            batches.append(sorted({int(row) for row in (*anchors, *peers)}))
    return batches


def compute_rate(step: int, n_steps: int) -> float:
    """Return the share of the peak rate: linear up over the first tenth, linear down to zero."""
    warm = max(1, int(WARM_UP * n_steps))
    return min((step + 1) / warm, max(0.0, (n_steps - step) / max(1, n_steps - warm)))


def run_stage(
    learner: Learner,
    data: TrainData,
    stage: Stage,
    *,
    number: int,
    first_step: int,
    settings: EncoderSettings,
    on_step: Callable[[int, int, float, float], bool],
) -> None:
    """Run the steps of a stage from `first_step` on. `on_step` gets (steps done, total, smoothed loss, rate); False ends the stage."""
    lengths = [len(sequence) for sequence in data.sequences]
    order_seed = settings.seed * 1009 + number
    pairs = order_pairs(stage, data, batch_size=settings.batch_size, seed=order_seed)
    batches = pairs + order_batches(stage, lengths, batch_size=settings.batch_size, seed=order_seed)
    smoothed, started = 0.0, time.monotonic()
    for step in range(first_step, len(batches)):
        is_contrast = step < len(pairs)
        rate = compute_rate(step, len(pairs)) if is_contrast else compute_rate(step - len(pairs), len(batches) - len(pairs))
        loss = learner.step(data, batches[step], rate=rate, seed=order_seed * 1_000_003 + step, is_contrast=is_contrast)
        smoothed = loss if step in (first_step, len(pairs)) else 0.9 * smoothed + 0.1 * loss
        per_second = (step + 1 - first_step) / max(time.monotonic() - started, 1e-9)
        if not on_step(step + 1, len(batches), smoothed, per_second):
            return
