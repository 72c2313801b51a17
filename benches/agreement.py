"""Whether what was trained is what is served: equal answers of the model in training and of the served file with the exported adapter.

Knows both ways to hold frozen weights (NF4, and the served file's own values) and both kinds of file; bars are in `benches.train`.
"""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import nn

from benches.paths import BenchError
from benches.tiny_base import N_TICKETS, TEXT_TOKENS, ensure_tiny_bases, read_labels, read_tickets
from bot.bundle import ADAPTER_FILE, Manifest, hash_file
from bot.data import load_demo_tickets
from bot.engine.gguf_file import read_model_head
from bot.engine.protocol import FloatArray
from db.types import MaskedText, ModelKind, TaskKind

Mode = Literal["nf4", "faithful"]
MODES: Final[tuple[Mode, ...]] = ("nf4", "faithful")
NAMES: Final = {"Q8_0": "q8", "Q4_K_M": "q4"}


@dataclass(frozen=True)
class AgreementSize:
    """Tickets that an adapter learns from, tickets both sides answer, and passes over them and over the base's own."""

    learnt: int = 500
    asked: int = 1_000
    epochs: int = 3
    base_epochs: int = 3


@dataclass(frozen=True)
class Answers:
    """Log-probabilities of all labels by the model in training and by the engine, shape (n, n_labels) each."""

    trained: FloatArray
    served: FloatArray


def bench_agreement(size: AgreementSize, *, threads: int) -> dict[str, Any]:
    """Return the share of equal answers for each mode on each kind of file, and what each side gets right."""
    torch.set_num_threads(threads)
    bases = ensure_tiny_bases(threads=threads, epochs=size.base_epochs)
    tickets = load_demo_tickets().stream
    if len(tickets) < N_TICKETS + size.learnt:
        message = f"the bundled data holds {len(tickets)} tickets: ask for fewer to learn from"
        raise BenchError(message)
    asked = load_demo_tickets().unseen[: size.asked]
    gold = np.array([read_labels().index(ticket.label) for ticket in asked])
    figures: dict[str, Any] = {"served_agreement_tickets": len(asked)}
    for kind, name in NAMES.items():
        for mode in MODES:
            answers = _train_and_ask(bases[kind], mode, [MaskedText(ticket.text) for ticket in asked], size=size, threads=threads)
            figures |= compare_answers(answers, gold, name=f"{mode}_{name}")
    return figures | {"served_agreement_best_mode": choose_mode(figures)}


def compare_answers(answers: Answers, gold: Sequence[int] | np.ndarray[Any, Any], *, name: str) -> dict[str, float]:
    """Return the share of equal best answers, the mean total variation, and the accuracy of both sides."""
    trained, served = answers.trained.argmax(axis=1), answers.served.argmax(axis=1)
    difference = np.abs(np.exp(answers.trained) - np.exp(answers.served)).sum(axis=1) / 2
    return {
        f"served_agreement_{name}": float((trained == served).mean()),
        f"served_difference_{name}": float(difference.mean()),
        f"trained_accuracy_{name}": float((trained == np.asarray(gold)).mean()),
        f"served_accuracy_{name}": float((served == np.asarray(gold)).mean()),
    }


def _train_and_ask(base: Path, mode: Mode, texts: Sequence[MaskedText], *, size: AgreementSize, threads: int) -> Answers:
    """Train an adapter, ask the model it was trained in, export it, and ask the engine."""
    from training.decoder.agree import score_choices
    from training.decoder.base import get_heads
    from training.decoder.loop import run_stage
    from training.decoder.served import finish_bundle
    from training.decoder.settings import DecoderSettings
    from training.decoder.tokens import PromptTokens
    from training.decoder.train import build_learner
    from training.encoder.loop import Stage
    from training.export import export_lora
    from training.qlora import get_lora_state

    settings = DecoderSettings(
        mode=mode, precision="fp32", threads=threads, epochs=size.epochs, text_tokens=TEXT_TOKENS, n_ctx=4_096
    )
    prompted, choices = read_tickets(base, N_TICKETS, size.learnt)
    learner = build_learner(base, settings)
    stage = Stage("bench", tuple(range(len(prompted.completions))), size.epochs)
    run_stage(
        learner, prompted.prefix, prompted.completions, stage=stage, first_step=0, settings=settings, on_step=lambda *_: True
    )
    hold_plainly(learner.model)
    with PromptTokens(base, text_tokens=TEXT_TOKENS) as reader:
        trained = score_choices(learner, reader, choices, texts)
    head = read_model_head(base)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "bundle"
        directory.mkdir()
        export_lora(
            get_lora_state(learner.model),
            directory / ADAPTER_FILE,
            architecture=head.architecture,
            lora_alpha=settings.lora_alpha,
            heads=get_heads(learner.model),
            base_tensors={tensor: info.shape for tensor, info in head.tensors.items()},
        )
        manifest = _build_manifest(base, choices.names, settings)
        served = finish_bundle(
            base,
            directory,
            manifest,
            probe_texts=["a ticket that nobody wrote"],
            choices=choices,
            texts=texts,
            settings=settings,
            on_step=lambda _done, _total: None,
        )
        shutil.rmtree(directory)
    if served is None:
        message = "the engine gave no answers"
        raise BenchError(message)
    return Answers(trained, served.log_probabilities)


def hold_plainly(model: nn.Module) -> int:
    """Hold layers in NF4 as the very values that training multiplied with, in float32; in place; return how many there were.

    Without gradients bitsandbytes takes another way on some processors: in bfloat16, and many times slower on small batches.
    """
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    names = [name for name, module in model.named_modules() if isinstance(module, Linear4bit)]
    for name in names:
        old: Any = model.get_submodule(name)
        old.state_dict()  # undoes the packing for that other way, which a pass without gradients leaves behind
        new = nn.Linear(old.in_features, old.out_features, bias=old.bias is not None)
        new.weight = nn.Parameter(dequantize_4bit(old.weight.data, old.weight.quant_state).float(), requires_grad=False)
        if old.bias is not None:
            new.bias = nn.Parameter(old.bias.data.float(), requires_grad=False)
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, new)
    return len(names)


def _build_manifest(base: Path, labels: tuple[str, ...], settings: Any) -> Manifest:
    return Manifest(
        task=TaskKind.CLASSIFICATION,
        model_kind=ModelKind.DECODER,
        base_digest=hash_file(base),
        labels=labels,
        prompt_version="bench",
        r=settings.r,
        lora_alpha=settings.lora_alpha,
        created_at=datetime.now(UTC),
    )


def choose_mode(figures: Mapping[str, Any]) -> Mode:
    """Return the way to hold frozen weights that agrees best with what is served, over both kinds of file."""
    scores = {mode: min(figures[f"served_agreement_{mode}_{name}"] for name in NAMES.values()) for mode in MODES}
    return max(MODES, key=lambda mode: scores[mode])
