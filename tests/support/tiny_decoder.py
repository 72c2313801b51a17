"""Small random models for tests: a Llama-shaped decoder as GGUF, LoRA adapters for it and for BERT, and whole adapter bundles.

Uses numpy and gguf only. The decoder's answers mean nothing, but llama.cpp and transformers compute the same ones from the same file.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import gguf
import numpy as np

from bot.bundle import (
    ADAPTER_FILE,
    CALIBRATION_FILE,
    MANIFEST_FILE,
    PROBE_FILE,
    Bundle,
    Calibration,
    Manifest,
    Probe,
    seal,
    write_json,
)
from bot.engine.gguf_file import read_head
from db.types import TaskKind

TEXT = """
the printer on the second floor is out of toner and prints blank pages please help my password has expired and the account is locked
access to the shared drive was denied after the update the network connection drops every hour and the vpn asks for a new code
hardware software access account password reset purchase order invoice laptop monitor keyboard network storage internal project
administrative rights human resources support ticket hello thanks kind regards user request customer agent label answer summary
"""
"""What the vocabulary's merges are learned from."""
END = "<|endoftext|>"


def make_tiny_decoder(
    path: Path,
    *,
    seed: int = 0,
    architecture: str = "llama",
    vocab_size: int = 512,
    n_embd: int = 64,
    n_layer: int = 2,
    n_head: int = 4,
    n_head_kv: int = 2,
    n_ff: int = 128,
    n_ctx: int = 2048,
    quantization: str = "F16",
    pooling_type: gguf.PoolingType | None = None,
) -> Path:
    """Write a random decoder (`quantization`: F32, F16 or Q8_0) with a byte-level BPE vocabulary and return its path.

    With a `pooling_type` the file is a causal embedding model (an encoder to the engine).
    """
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_block_count(n_layer)
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(n_embd)
    writer.add_feed_forward_length(n_ff)
    writer.add_head_count(n_head)
    writer.add_head_count_kv(n_head_kv)
    writer.add_rope_dimension_count(n_embd // n_head)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocab_size)
    if pooling_type is not None:
        writer.add_pooling_type(pooling_type)
    _add_tokenizer(writer, vocab_size)
    kv = n_embd // n_head * n_head_kv
    add_matrix(writer, "token_embd.weight", rng.normal(0, 1.0, (vocab_size, n_embd)), quantization)
    for layer in range(n_layer):
        shapes = {
            "attn_q": (n_embd, n_embd),
            "attn_k": (kv, n_embd),
            "attn_v": (kv, n_embd),
            "attn_output": (n_embd, n_embd),
            "ffn_gate": (n_ff, n_embd),
            "ffn_up": (n_ff, n_embd),
            "ffn_down": (n_embd, n_ff),
        }
        for name, shape in shapes.items():
            add_matrix(writer, f"blk.{layer}.{name}.weight", rng.normal(0, 1.5 / np.sqrt(shape[1]), shape), quantization)
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(n_embd, np.float32))
    writer.add_tensor("output_norm.weight", np.ones(n_embd, np.float32))
    add_matrix(writer, "output.weight", rng.normal(0, 1.5 / np.sqrt(n_embd), (vocab_size, n_embd)), quantization)
    finish(writer)
    return path


def make_lora(path: Path, base: Path, *, seed: int = 0, r: int = 4, strength: float = 0.3, names: Sequence[str] = ()) -> Path:
    """Write random LoRA weights for every linear layer of a base GGUF (or for the tensors named), and return the path."""
    rng = np.random.default_rng(seed)
    head = read_head(base)
    writer = gguf.GGUFWriter(path, head.architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(r))
    linear = [name for name, info in head.tensors.items() if name.startswith("blk.") and len(info.shape) == 2]
    for name in names or linear:
        n_in, n_out = head.tensors[name].shape
        writer.add_tensor(f"{name}.lora_a", rng.normal(0, 1 / np.sqrt(n_in), (r, n_in)).astype(np.float32))
        writer.add_tensor(f"{name}.lora_b", rng.normal(0, strength / np.sqrt(r), (n_out, r)).astype(np.float32))
    finish(writer)
    return path


def make_manifest(*, engine, task: TaskKind, labels: Sequence[str] = (), **changes) -> Manifest:
    """Return a manifest that fits an engine's base model."""
    fields = {
        "task": task,
        "model_kind": engine.kind,
        "base_digest": engine.base_digest,
        "labels": tuple(labels),
        "prompt_version": "test",
        "created_at": datetime(2025, 1, 1, tzinfo=UTC),
    }
    return Manifest.model_validate(fields | changes)


async def make_bundle(
    work_dir: Path,
    *,
    engine,
    manifest: Manifest,
    base: Path,
    seed: int | None = 0,
    strength: float = 0.3,
    calibration: Calibration | None = None,
    probe_texts: Sequence[str] = ("my printer is broken", "reset my password"),
    probe: Probe | None = None,
) -> Bundle:
    """Seal a bundle with random LoRA weights (`seed` None: without) and the probe that a started engine measures on them.

    Files already in `work_dir` (a head) are kept. The sealed bundle lies beside it, in `adapters`.
    """
    work_dir.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - tests may block
    if seed is not None:
        make_lora(work_dir / ADAPTER_FILE, base, seed=seed, strength=strength)
    write_json(work_dir / CALIBRATION_FILE, calibration or Calibration())
    write_json(work_dir / MANIFEST_FILE, manifest)
    measured = probe or await engine.build_probe(work_dir, manifest, texts=probe_texts, tolerance=0.02)
    write_json(work_dir / PROBE_FILE, measured)
    return seal(work_dir, work_dir.parent / "adapters")


def add_matrix(writer: gguf.GGUFWriter, name: str, values: np.ndarray, quantization: str) -> None:
    """Add a matrix, shape (n_out, n_in), in a quantization by its GGML name."""
    kind = gguf.GGMLQuantizationType[quantization]
    writer.add_tensor(name, gguf.quants.quantize(values.astype(np.float32), kind), raw_dtype=kind)


def _add_tokenizer(writer: gguf.GGUFWriter, vocab_size: int) -> None:
    letters = list(_byte_letters().values())
    merges = _learn_merges(vocab_size - len(letters) - 1)
    tokens = [*letters, *("".join(pair) for pair in merges)]
    tokens += [f"<|unused{number}|>" for number in range(vocab_size - len(tokens) - 1)] + [END]
    types = [gguf.TokenType.NORMAL if not token.startswith("<|") else gguf.TokenType.CONTROL for token in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(vocab_size - 1)
    writer.add_eos_token_id(vocab_size - 1)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)


@cache
def _byte_letters() -> dict[int, str]:
    """GPT-2's table: every byte has a printable letter."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + index) for index, byte in enumerate(others)}


@cache
def _learn_merges(count: int) -> tuple[tuple[str, str], ...]:
    """Plain BPE on TEXT: the most frequent pair becomes one token, again and again."""
    table = _byte_letters()
    counted = Counter(word for line in TEXT.split("\n") for word in [line.split(" ")[0], *(" " + w for w in line.split(" ")[1:])])
    words = [([table[byte] for byte in word.encode()], number) for word, number in counted.items() if word]
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for letters, number in words:
            for pair in itertools.pairwise(letters):
                pairs[pair] += number
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        for letters, _ in words:
            at = 0
            while at < len(letters) - 1:
                if (letters[at], letters[at + 1]) == best:
                    letters[at : at + 2] = ["".join(best)]
                at += 1
    return tuple(merges)


def finish(writer: gguf.GGUFWriter) -> None:
    """Write everything and close the file."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
