"""A decoder small enough to be trained in whole within two minutes: it knows the tickets' language, so that an adapter has what to adapt.

Random weights would say nothing of how training and serving agree: all their answers lie on edges. Knows weights and files; not adapters.
"""

import math
from pathlib import Path
from typing import Any, Final

import gguf
import torch
from torch.nn import functional

from benches.models import TINY, quantize, write_random
from benches.paths import MODELS_DIR, lock
from bot.data import load_demo_tickets
from bot.engine.protocol import ChoiceSet
from bot.tasks.classification import build_choices
from bot.types import Label, LabelSet
from db.types import MaskedText
from training.decoder.base import load_base
from training.decoder.examples import Prompted, read_choices
from training.decoder.loop import compute_log_probability
from training.decoder.pack import Pack, build_mask, build_packs
from training.decoder.tokens import PromptTokens
from training.encoder.loop import Stage, order_batches
from training.encoder.prepare import prepare
from training.encoder.settings import EncoderSettings
from training.encoder.types import TrainExample
from training.export import find_target, get_architecture

KINDS: Final = ("Q8_0", "Q4_K_M")
N_TICKETS: Final = 1_200
"""The first of the bundled tickets teach the base; adapters learn from later ones."""
EPOCHS: Final = 3
TEXT_TOKENS: Final = 128
"""What is read of one ticket, in training and when asked."""
_BATCH: Final = 12
_PEAK: Final = 1.5e-3
_WARM_UP: Final = 20
_NORMS: Final = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
_OUTSIDE: Final = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}


def ensure_tiny_bases(*, threads: int, epochs: int = EPOCHS) -> dict[str, Path]:
    """Return the trained decoder as files by kind of quantisation, trained and written where they are missing. Raises BenchError."""
    wide = MODELS_DIR / f"{TINY.name}-trained-{epochs}-F16.gguf"
    found = {kind: wide.with_name(wide.name.replace("F16", kind)) for kind in KINDS}
    with lock("models"):
        if not wide.exists():
            wide.parent.mkdir(parents=True, exist_ok=True)
            part = wide.with_suffix(".part")
            write_random(TINY, part)
            _train(part, threads=threads, epochs=epochs)
            part.replace(wide)
        for kind, path in found.items():
            if not path.exists():
                quantize(wide, path, kind)
    return found


def read_labels() -> list[str]:
    """Return the names of the bundled tickets' labels, in order."""
    return sorted({ticket.label for ticket in load_demo_tickets().stream})


def read_tickets(base: Path, first: int, count: int) -> tuple[Prompted, ChoiceSet]:
    """Return bundled tickets as completions behind the label list, and the label list."""
    labels = [Label(name) for name in read_labels()]
    tickets = load_demo_tickets().stream[first : first + count]
    examples = [TrainExample(MaskedText(ticket.text), ticket.label) for ticket in tickets]
    choices = build_choices(LabelSet(name="bench", version="bench", labels=tuple(labels)))
    with PromptTokens(base, text_tokens=TEXT_TOKENS) as reader:
        return read_choices(prepare(examples, labels, EncoderSettings()), choices, reader), choices


def _train(path: Path, *, threads: int, epochs: int) -> None:
    """Teach all weights to continue tickets and to choose among the labels, and put them into the file."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model: Any = load_base(path).train()
    prompted, _ = read_tickets(path, 0, N_TICKETS)
    rows = tuple(range(len(prompted.completions)))
    lengths = [len(completion.tokens) for completion in prompted.completions]
    batches = order_batches(Stage("base", rows, epochs), lengths, batch_size=_BATCH, seed=0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=_PEAK, betas=(0.9, 0.95), weight_decay=0.05)
    for step, batch in enumerate(batches):
        along = step / len(batches)
        optimiser.param_groups[0]["lr"] = (
            _PEAK * min(1.0, (step + 1) / _WARM_UP) * (0.05 + 0.95 * (1 + math.cos(math.pi * along)) / 2)
        )
        optimiser.zero_grad()
        for pack in build_packs(prompted.prefix, [prompted.completions[row] for row in batch], limit=2_048):
            loss: Any = _compute_loss(model, pack) / len(batch)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    write_back(model, path)


def _compute_loss(model: Any, pack: Pack) -> torch.Tensor:
    output = model(input_ids=pack.tokens, attention_mask=build_mask(pack), position_ids=pack.positions, use_cache=False)
    logits: torch.Tensor = output.logits[0]
    total = logits.sum() * 0.0
    for completion, first in zip(pack.completions, pack.first, strict=True):
        rows = logits[pack.outputs[first : first + completion.n_outputs]]
        total = total - compute_log_probability(rows, completion)
    follows = pack.owner[1:] == pack.owner[:-1]
    text = functional.cross_entropy(logits[:-1][follows], pack.tokens[0][1:][follows])
    return total + len(pack.completions) * text


def write_back(model: Any, path: Path) -> None:
    """Put a model's weights into its file, tensor by tensor, where the old ones lie. Raises ExportError, KeyError."""
    tensors: dict[str, Any] = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    with path.open("r+b") as file:
        for name, value in model.named_parameters():
            tensor = tensors[_find_name(name)]
            file.seek(int(tensor.data_offset))
            file.write(value.detach().numpy().astype(tensor.data.dtype).tobytes())


def _find_name(name: str) -> str:
    if name in _OUTSIDE:
        return _OUTSIDE[name]
    module, _, kind = name.rpartition(".")
    last = module.rpartition(".")[2]
    if last in _NORMS:
        return f"blk.{module.split('.')[2]}.{_NORMS[last]}.{kind}"
    return find_target(module, get_architecture("qwen2"))[0].removesuffix("weight") + kind
