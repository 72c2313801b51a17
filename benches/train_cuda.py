"""`python -m benches.train_cuda`: our decoder trainer on a GPU, on a random-weight model of a 7B or 8B shape, in NF4 and as blocks.

Writes `.bench/train_cuda.json`: tokens per second and peak GPU memory, with and without activation checkpointing. Knows shapes and the
trainer's loop; reads no file, since random weights compute exactly as fast as trained ones. Without a GPU it says so and measures nothing.
"""

import argparse
import random
import sys
import time
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from torch import nn

from benches.paths import ROOT, BenchError
from benches.report import describe_machine, print_table, write_json
from training.blocks import BlockLinear
from training.decoder.loop import Learner
from training.decoder.pack import Pack, build_pack
from training.decoder.settings import DecoderSettings
from training.decoder.tokens import Completion, build_text
from training.qlora import add_lora, build_lora_config, find_linears, quantise_linears

_GIB: Final = 2**30


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama model."""

    name: str
    n_layer: int
    n_embd: int
    n_head: int
    n_head_kv: int
    n_ff: int
    n_vocab: int


Holding = Literal["nf4", "blocks"]
SHAPES: Final = {
    "7b": Shape("Mistral-7B's shape", 32, 4_096, 32, 8, 14_336, 32_768),
    "8b": Shape("Llama-3.1-8B's shape", 32, 4_096, 32, 8, 14_336, 128_256),
}


@dataclass(frozen=True)
class CudaSize:
    """What one step computes: packs of `pack_tokens`, each with a shared list of `prefix_tokens`; and how many steps are timed."""

    packs: int = 2
    pack_tokens: int = 2_048
    prefix_tokens: int = 512
    answer_tokens: int = 8
    ticket_tokens: int = 64
    warm_up: int = 3
    steps: int = 12


def build_model(shape: Shape, device: str, *, holding: Holding = "nf4", r: int = 16) -> Any:
    """Return the model with random weights and fresh LoRA matrices; one layer at a time is ever held in more than four bits.

    `holding` is what the layers are: NF4, or blocks of Q4_K as faithful mode takes them from the served file.
    """
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = LlamaConfig(
        vocab_size=shape.n_vocab,
        hidden_size=shape.n_embd,
        intermediate_size=shape.n_ff,
        num_hidden_layers=shape.n_layer,
        num_attention_heads=shape.n_head,
        num_key_value_heads=shape.n_head_kv,
        max_position_embeddings=8_192,
    )
    config._attn_implementation = "sdpa"
    with torch.device("meta"):
        model: Any = LlamaForCausalLM(config)
    names = find_linears(model)
    for name in names:
        if holding == "blocks":
            _fill_blocks(model, name, device)
            continue
        _fill(model, name, device)
        quantise_linears(model, names=[name], compute_dtype=torch.bfloat16)
    for name, parameter in list(model.named_parameters()):
        if parameter.is_meta:
            value = torch.ones(parameter.shape, dtype=torch.bfloat16, device=device)
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, nn.Parameter(value if value.dim() == 1 else value.normal_(0.0, 0.02)))
    model.model.rotary_emb = LlamaRotaryEmbedding(config).to(device)
    lora = build_lora_config(r=r, lora_alpha=2.0 * r, target_modules=names)
    return add_lora(model, mode="full", config=lora, compute_dtype=torch.bfloat16)  # it is in four bits already


def _fill(model: nn.Module, name: str, device: str) -> None:
    """Put random weights where the layer has none."""
    layer = _get_linear(model, name)
    weight = torch.empty(layer.weight.shape, dtype=torch.bfloat16, device=device).normal_(0.0, layer.in_features**-0.5)
    layer.weight = nn.Parameter(weight, requires_grad=False)


def _fill_blocks(model: nn.Module, name: str, device: str) -> None:
    """Put a layer of random blocks in the place of one without weights: random bytes, but for the two scales of each block."""
    layer = _get_linear(model, name)
    size, n_bytes = GGML_QUANT_SIZES[GGMLQuantizationType.Q4_K]
    n_blocks = layer.in_features // size
    blocks = torch.randint(0, 256, (layer.out_features, n_blocks, n_bytes), dtype=torch.uint8, device=device)
    scales = torch.tensor([2e-4, 1e-3], dtype=torch.float16, device=device)  # of 32 x 8 values and of their mean: about 0 +- 0.05
    blocks[..., :4] = scales.view(torch.uint8)
    parent, _, last = name.rpartition(".")
    held = BlockLinear(blocks.flatten(1), GGMLQuantizationType.Q4_K, in_features=layer.in_features)
    setattr(model.get_submodule(parent), last, held)


def _get_linear(model: nn.Module, name: str) -> nn.Linear:
    layer = model.get_submodule(name)
    if not isinstance(layer, nn.Linear):
        message = f"'{name}' is no linear layer"
        raise BenchError(message)
    return layer


def build_packs_at_random(shape: Shape, size: CudaSize) -> list[Pack]:
    """Return packs of random tokens: one list, then tickets with answers until the pack is full."""
    chooser = random.Random(0)  # noqa: S311 - nothing secret

    def draw(count: int) -> list[int]:
        return [chooser.randrange(shape.n_vocab) for _ in range(count)]

    room = (size.pack_tokens - size.prefix_tokens) // (size.ticket_tokens + size.answer_tokens - 1)
    prefix = draw(size.prefix_tokens)

    def complete() -> Completion:
        return build_text(tuple(draw(size.ticket_tokens)), draw(size.answer_tokens), weight=1.0)

    return [build_pack(prefix, [complete() for _ in range(room)]) for _ in range(size.packs)]


def bench_shape(
    shape: Shape, size: CudaSize, *, device: str, has_checkpointing: bool, holding: Holding = "nf4"
) -> dict[str, float]:
    """Return tokens per second (all that are read) and the peak memory in GiB (0 on a CPU) of our loop's steps."""
    settings = DecoderSettings(mode="nf4", precision="bf16", learning_rate=2e-4)
    learner = Learner(build_model(shape, device, holding=holding), learning_rate=2e-4, settings=settings)
    if has_checkpointing:
        learner.recompute_activations()
    packs = build_packs_at_random(shape, size)
    n_tokens = sum(pack.tokens.numel() for pack in packs) * size.steps
    for step in range(size.warm_up):
        learner.step(packs, rate=1.0, seed=step)
    _wait(device, has_reset=True)
    started = time.perf_counter()
    for step in range(size.steps):
        learner.step(packs, rate=1.0, seed=step)
    _wait(device)
    seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated() / _GIB if device == "cuda" else 0.0
    return {"tokens_per_s": n_tokens / seconds, "peak_gib": peak}


def _wait(device: str, *, has_reset: bool = False) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
        if has_reset:
            torch.cuda.reset_peak_memory_stats()


def run(shape: Shape, size: CudaSize) -> dict[str, Any]:
    """Return the figures of a shape on the GPU, with and without checkpointing and on the file's blocks, under their JSON keys."""
    figures: dict[str, Any] = {"cuda_device": torch.cuda.get_device_name(), "cuda_shape": shape.name}
    runs: tuple[tuple[bool, Holding, str], ...] = (
        (False, "nf4", ""),
        (True, "nf4", "_checkpointed"),
        (True, "blocks", "_blocks_checkpointed"),
    )
    for has_checkpointing, holding, name in runs:
        torch.cuda.empty_cache()
        found = bench_shape(shape, size, device="cuda", has_checkpointing=has_checkpointing, holding=holding)
        figures |= {f"cuda_tokens_per_s{name}": found["tokens_per_s"], f"cuda_peak_gib{name}": found["peak_gib"]}
    return figures


def main() -> None:
    """Measure, print and write; without a GPU, one sentence and code 0."""
    parser = argparse.ArgumentParser(prog="benches.train_cuda", description="Measures the decoder's trainer on a GPU.")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="8b")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("train-cuda: skipped: torch sees no CUDA device here; run it where nvidia-smi lists a GPU")  # noqa: T201
        return
    shape = SHAPES[arguments.shape]
    try:
        figures = run(shape, CudaSize())
    except torch.cuda.OutOfMemoryError:
        print(f"train-cuda: {shape.name} does not fit into this GPU's memory; it needs about 24 GiB", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    path = write_json("train_cuda", {**figures, "machine": describe_machine(threads=torch.get_num_threads())})
    rows = [(key, f"{value:.2f}", "") for key, value in figures.items() if isinstance(value, float)]
    print_table(f"QLoRA, {shape.name}, {figures['cuda_device']}", rows)
    print(f"written: {path.relative_to(ROOT)}")  # noqa: T201


if __name__ == "__main__":
    main()
