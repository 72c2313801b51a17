"""The encoder's part of `benches.agreement`: one head over embeddings by the model in training and by the engine's kernels.

A run fits its head once more on served embeddings; here it is the trained head on both sides, so that the embeddings alone are compared.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benches.agreement import MODES, Answers, Mode, compare_answers, hold_plainly
from benches.models import ensure_encoder
from benches.train_workers import build_encoder, run_encoder
from bot.bundle import ADAPTER_FILE
from bot.data import load_demo_tickets
from bot.engine.gguf_file import read_model_head
from bot.engine.protocol import FloatArray
from training.encoder.base import build_batch, embed
from training.encoder.served import ServedEncoder
from training.export import export_lora
from training.qlora import get_lora_state

_CHUNK = 32


def bench_encoder_agreement(*, learnt: int, asked: int, epochs: int, threads: int) -> dict[str, Any]:
    """Return the share of equal answers for each mode on the embedded default (Q8_0), and what each side gets right."""
    torch.set_num_threads(threads)
    demo = load_demo_tickets()
    tickets, unseen = demo.stream[:learnt], demo.unseen[:asked]
    names = sorted({ticket.label for ticket in demo.stream})
    request = {
        "base": str(ensure_encoder()),
        "texts": [ticket.text for ticket in tickets],
        "labels": [names.index(ticket.label) for ticket in tickets],
        "r": 16,
        "lora_alpha": 32,
        "batch_size": 16,
        "train_tokens": 128,
        "epochs": epochs,
        "threads": threads,
    }
    gold = [names.index(ticket.label) for ticket in unseen]
    figures: dict[str, Any] = {}
    for mode in MODES:
        answers = _train_and_ask(request, mode, [ticket.text for ticket in unseen])
        figures |= compare_answers(answers, gold, name=f"encoder_{mode}")
    return figures


def _train_and_ask(request: dict[str, Any], mode: Mode, texts: Sequence[str]) -> Answers:
    """Train, embed the tickets in torch, export, embed them in llama.cpp, and answer from both with the trained head."""
    learner, data, settings = build_encoder(request, mode=mode)
    run_encoder(learner, data, settings)
    hold_plainly(learner.model)
    base = Path(request["base"])
    with ServedEncoder(base, text_tokens=settings.text_tokens, n_threads=settings.threads) as served:
        rows = []
        with torch.inference_mode():
            for start in range(0, len(texts), _CHUNK):
                batch = build_batch([served.tokenize(text) for text in texts[start : start + _CHUNK]])
                rows.append(embed(learner.model, *batch, pooling=served.pooling).numpy())
        with tempfile.TemporaryDirectory() as folder:
            adapter = Path(folder) / ADAPTER_FILE
            shapes = {name: info.shape for name, info in read_model_head(base).tensors.items()}
            export_lora(
                get_lora_state(learner.model), adapter, architecture="bert", lora_alpha=settings.lora_alpha, base_tensors=shapes
            )
            embedded = served.embed(texts, lora=adapter)
    weight, bias = (part.numpy() for part in learner.head)
    return Answers(_answer(np.concatenate(rows), weight, bias), _answer(embedded, weight, bias))


def _answer(embeddings: FloatArray, weight: FloatArray, bias: FloatArray) -> FloatArray:
    return torch.from_numpy(embeddings @ weight.T + bias).log_softmax(dim=1).numpy()
