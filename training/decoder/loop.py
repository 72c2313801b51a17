"""The optimiser's loop over a decoder's LoRA matrices: packs in, losses of answers alone, deterministic, resumable at every step.

Knows tensors, order and losses; not texts, files or what follows.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn import functional

from training.decoder.pack import Pack, build_mask, build_packs
from training.decoder.settings import DecoderSettings
from training.decoder.tokens import Completion
from training.encoder.loop import Stage, choose_precision, order_batches
from training.encoder.types import TrainingDataError

WARM_UP: Final = 0.06
LAST_RATE: Final = 0.03
"""Share of the peak rate that the cosine ends at."""
_MOMENTS: Final = ("step", "exp_avg", "exp_avg_sq")


class Learner:
    """Model and optimiser. The tensors in `state()` are all that a step changes. `pack_tokens` is how many tokens fit into one pass."""

    def __init__(self, model: PeftModel, *, learning_rate: float, settings: DecoderSettings) -> None:
        self._model, self._peak, self._settings = model, learning_rate, settings
        self.pack_tokens = settings.pack_tokens
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        model.to(self.device)
        model.train(settings.lora_dropout > 0.0)
        self._lora = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self._use_bf16 = choose_precision(settings.precision)
        self._optimiser = self._build_optimiser()
        config: Any = model.config
        self._has_windows = "sliding_attention" in (getattr(config, "layer_types", None) or ())
        self._window = getattr(config, "sliding_window", None)
        self._is_eager = config._attn_implementation == "eager"

    def _build_optimiser(self) -> torch.optim.AdamW:
        decay = self._settings.weight_decay
        return torch.optim.AdamW(list(self._lora.values()), lr=self._peak, betas=(0.9, 0.98), weight_decay=decay, foreach=True)

    def recompute_activations(self) -> None:
        """Keep each layer's input alone for the way back: less memory, and on a CPU two to three times as long (docs/training.md)."""
        base: Any = self._model.get_base_model()
        base.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        self._model.train()  # transformers does it in this mode alone; nothing in the base drops out

    def begin_stage(self) -> None:
        """Forget the optimiser's moments."""
        self._optimiser = self._build_optimiser()

    @property
    def model(self) -> PeftModel:
        """The model with its LoRA matrices."""
        return self._model

    def weights(self) -> dict[str, Tensor]:
        """Return copies of the LoRA matrices; `restore` takes them, and forgets the optimiser's moments."""
        return {name: value.detach().cpu().clone() for name, value in self._lora.items()}

    def state(self) -> dict[str, Tensor]:
        """Return copies of every learnt tensor and the optimiser's moments."""
        state = self.weights()
        for name, value in self._lora.items():
            for key, moment in self._optimiser.state.get(value, {}).items():
                state[f"optimiser.{key}.{name}"] = torch.as_tensor(moment).detach().cpu().clone()
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave. Raises KeyError where it belongs to another model."""
        self.begin_stage()
        with torch.no_grad():
            for name, value in self._lora.items():
                value.copy_(state[name])
        for name, value in self._lora.items():
            if f"optimiser.step.{name}" in state:
                self._optimiser.state[value] = {
                    key: state[f"optimiser.{key}.{name}"].clone().to("cpu" if key == "step" else self.device) for key in _MOMENTS
                }

    def compute_logits(self, pack: Pack, *, use_bf16: bool | None = None) -> Tensor:
        """Return the logits at the pack's outputs, shape (n_outputs, n_vocab), float32."""
        use = self._use_bf16 if use_bf16 is None else use_bf16
        full = self._build_mask(pack, None)
        windowed = (
            {"full_attention": full, "sliding_attention": self._build_mask(pack, self._window)} if self._has_windows else None
        )
        with torch.autocast(self.device, torch.bfloat16, enabled=use):
            output = self._model(
                input_ids=pack.tokens.to(self.device),
                attention_mask=windowed or full,
                position_ids=pack.positions.to(self.device),
                logits_to_keep=pack.outputs.to(self.device),
                use_cache=False,
            )
        logits: Tensor = output.logits[0].float()
        return logits

    def _build_mask(self, pack: Pack, window: int | None) -> Tensor:
        mask = build_mask(pack, window=window).to(self.device)
        # eager attention adds its mask to the scores
        return torch.zeros(mask.shape, device=self.device).masked_fill(~mask, -1e9) if self._is_eager else mask

    def step(self, packs: Sequence[Pack], *, rate: float, seed: int) -> float:
        """Learn from one batch, cut into packs, at a share of the peak rate; `seed` fixes its dropout. Returns the mean loss."""
        n = sum(len(pack.completions) for pack in packs)

        def compute(logits: Tensor, number: int) -> Tensor:
            return compute_loss(logits, packs[number], settings=self._settings) / n

        return self.descend(packs, compute, rate=rate, seed=seed)

    def descend(self, packs: Sequence[Pack], compute: Callable[[Tensor, int], Tensor], *, rate: float, seed: int) -> float:
        """Take one step down the sum of `compute(logits, number of the pack)`, one pack in memory at a time. Returns the sum."""
        torch.manual_seed(seed)
        for group in self._optimiser.param_groups:
            group["lr"] = self._peak * rate
        self._optimiser.zero_grad()
        total = 0.0
        for number, pack in enumerate(packs):
            loss = compute(self.compute_logits(pack), number)
            if not torch.isfinite(loss):
                raise TrainingDataError("the loss is no number any more; lower the learning rate or look for broken weights")
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(list(self._lora.values()), 1.0)
        self._optimiser.step()
        return total


def compute_loss(logits: Tensor, pack: Pack, *, settings: DecoderSettings) -> Tensor:
    """Return the weighted sum of the completions' losses.

    A label costs its decisions among the answers that are still possible (what serving computes), and a little of writing it at all;
    "not this" costs -log(1 - p) of the wrong label; a written answer costs its tokens' mean.
    """
    total = logits.sum() * 0.0
    for completion, first in zip(pack.completions, pack.first, strict=True):
        rows = logits[first : first + completion.n_outputs]
        chosen = compute_log_probability(rows, completion)
        if completion.is_negative:
            loss = -torch.log1p(-chosen.exp().clamp(max=1.0 - 1e-6))
        else:
            answer = torch.tensor(completion.answer, device=logits.device)
            written = functional.cross_entropy(rows[: len(answer)], answer)
            is_choice = bool(completion.decisions)
            loss = settings.completion_weight * written - settings.choice_weight * chosen if is_choice else written
        total = total + completion.weight * loss
    return total


def compute_log_probability(rows: Tensor, completion: Completion) -> Tensor:
    """Return the log-probability of a completion's answer among all answers: the sum over its decisions, renormalised at each."""
    total = rows.new_zeros(())
    for decision in completion.decisions:
        total = total + rows[decision.depth, list(decision.options)].log_softmax(dim=0)[decision.chosen]
    return total


def compute_rate(step: int, n_steps: int) -> float:
    """Return the share of the peak rate: linear up, then a cosine down to `LAST_RATE`."""
    warm = max(1, int(WARM_UP * n_steps))
    if step < warm:
        return (step + 1) / warm
    along = (step - warm) / max(1, n_steps - warm)
    return LAST_RATE + (1.0 - LAST_RATE) * 0.5 * (1.0 + math.cos(math.pi * along))


def run_stage(
    learner: Learner,
    prefix: Sequence[int],
    completions: Sequence[Completion],
    *,
    stage: Stage,
    first_step: int,
    settings: DecoderSettings,
    on_step: Callable[[int, int, float, float], bool],
) -> None:
    """Run a stage's steps from `first_step` on. `on_step` gets (steps done, total, smoothed loss, steps a second); False ends it."""
    lengths = [len(completion.tokens) for completion in completions]
    batches = order_batches(stage, lengths, batch_size=settings.batch_size, seed=settings.seed)

    def take(step: int) -> float:
        packs = build_packs(prefix, [completions[row] for row in batches[step]], limit=learner.pack_tokens)
        return learner.step(packs, rate=compute_rate(step, len(batches)), seed=settings.seed * 1_000_003 + step)

    run_steps(take, first_step=first_step, n_steps=len(batches), on_step=on_step)


def run_steps(
    take: Callable[[int], float], *, first_step: int, n_steps: int, on_step: Callable[[int, int, float, float], bool]
) -> None:
    """Take steps from `first_step` on; `take` returns a step's loss, `on_step` is as in `run_stage`."""
    smoothed, started = 0.0, time.monotonic()
    for step in range(first_step, n_steps):
        loss = take(step)
        smoothed = loss if step == first_step else 0.9 * smoothed + 0.1 * loss
        per_second = (step + 1 - first_step) / max(time.monotonic() - started, 1e-9)
        if not on_step(step + 1, n_steps, smoothed, per_second):
            return
