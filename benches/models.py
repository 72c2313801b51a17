"""The models of the benches: a decoder of a real model's shape with random weights and a real vocabulary, and the embedded encoder.

Knows how to write and quantise them; adapters are in `benches.adapters`. Random weights compute exactly as fast as trained ones.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np

from benches.paths import LOG_DIR, MODELS_DIR, lock, run_logged
from benches.tools import ensure_source, ensure_tools, get_tool_env
from bot.models.default import ensure_default_model

QUANTIZATION: Final = "Q4_K_M"
VOCABULARY: Final = "ggml-vocab-qwen2.gguf"
_TOKEN_KEYS: Final = ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges")
_SEED: Final = 20


@dataclass(frozen=True)
class DecoderShape:
    """Sizes of a Qwen2 model; embeddings are tied, as in the small models of that family.

    `n_vocab` takes the vocabulary's first tokens alone, with the merges that make them; 0 takes all.
    """

    name: str
    n_layer: int
    n_embd: int
    n_head: int
    n_head_kv: int
    n_ff: int
    n_ctx: int = 32_768
    n_vocab: int = 0


QWEN_05B: Final = DecoderShape("qwen2.5-0.5b-shape", n_layer=24, n_embd=896, n_head=14, n_head_kv=2, n_ff=4864)
"""Rows of 896 are no multiple of 256, so llama-quantize stores most matrices as Q5_0 or Q8_0; it does so with the real model, too."""
SMALL: Final = DecoderShape("small-shape", n_layer=4, n_embd=256, n_head=4, n_head_kv=2, n_ff=1024)
"""For the swap bench, which needs thousands of answers and many adapters rather than a large model."""
TINY: Final = DecoderShape("tiny-shape", n_layer=4, n_embd=256, n_head=4, n_head_kv=2, n_ff=768, n_ctx=4_096, n_vocab=8_192)
"""Small enough to be trained in whole (`benches.tiny_base`); rows of 256 and 768 are what K-quants are made of."""
FLAT: Final = 1.0
"""Sharpness of a model that knows nothing: all labels are about as likely, the worst case for a search over labels."""
PEAKED: Final = 100.0
"""Sharpness at which the best of 77 labels gets about the probability that a trained model gives it (see docs/benchmarks.md)."""


def ensure_encoder() -> Path:
    """Return the embedded default encoder's GGUF, written where it is missing."""
    return ensure_default_model(MODELS_DIR)


def ensure_decoder(shape: DecoderShape, *, sharpness: float = FLAT) -> Path:
    """Return a quantised decoder with random weights, written where it is missing (about a minute for 0.5B).

    `sharpness` scales the output norm: it multiplies all logits and costs nothing to compute. Raises BenchError.
    """
    target = MODELS_DIR / f"{shape.name}-{QUANTIZATION}-x{sharpness:g}.gguf"
    if target.exists():
        return target
    with lock("models"):
        plain = MODELS_DIR / f"{shape.name}-{QUANTIZATION}-x{FLAT:g}.gguf"
        if not plain.exists():
            _make(shape, plain)
        if not target.exists():
            part = target.with_suffix(".part")
            shutil.copyfile(plain, part)
            _scale_output_norm(part, sharpness)
            part.replace(target)
    return target


def _make(shape: DecoderShape, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    wide = target.with_suffix(".f16")
    try:
        write_random(shape, wide)
        quantize(wide, target, QUANTIZATION)
    finally:
        wide.unlink(missing_ok=True)


def quantize(wide: Path, target: Path, kind: str) -> None:
    """Write a model in half precision once more, with llama-quantize, as `kind` (such as Q4_K_M). Raises BenchError."""
    program = ensure_tools(["llama-quantize"])["llama-quantize"]
    part = target.with_suffix(".part")
    try:
        command = [str(program), str(wide), str(part), kind, "2"]
        run_logged(command, log=LOG_DIR / f"quantize-{target.stem}.log", env=get_tool_env())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def write_random(shape: DecoderShape, path: Path) -> None:
    """Write the model in half precision."""
    writer: Any = gguf.GGUFWriter(path, "qwen2")
    writer.add_name(shape.name)
    writer.add_block_count(shape.n_layer)
    writer.add_context_length(shape.n_ctx)
    writer.add_embedding_length(shape.n_embd)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_head)
    writer.add_head_count_kv(shape.n_head_kv)
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    n_vocab = _copy_vocabulary(writer, shape.n_vocab)
    random = np.random.default_rng(_SEED)
    # Each matrix keeps its input's variance, so activations stay in range through all layers, and logits have variance 1.
    _add_matrix(writer, "token_embd.weight", (n_vocab, shape.n_embd), random)
    writer.add_tensor("output_norm.weight", np.ones(shape.n_embd, np.float32))
    n_kv = shape.n_embd // shape.n_head * shape.n_head_kv
    for layer in range(shape.n_layer):
        for name, n_out in (("attn_q", shape.n_embd), ("attn_k", n_kv), ("attn_v", n_kv)):
            _add_matrix(writer, f"blk.{layer}.{name}.weight", (n_out, shape.n_embd), random)
            writer.add_tensor(f"blk.{layer}.{name}.bias", random.normal(0, 0.1, n_out).astype(np.float32))
        _add_matrix(writer, f"blk.{layer}.attn_output.weight", (shape.n_embd, shape.n_embd), random)
        for name, rows, columns in (
            ("ffn_gate", shape.n_ff, shape.n_embd),
            ("ffn_up", shape.n_ff, shape.n_embd),
            ("ffn_down", shape.n_embd, shape.n_ff),
        ):
            _add_matrix(writer, f"blk.{layer}.{name}.weight", (rows, columns), random)
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(shape.n_embd, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_matrix(writer: Any, name: str, shape: tuple[int, int], random: np.random.Generator) -> None:
    values = random.standard_normal(shape, np.float32) * np.float32(shape[1] ** -0.5)
    writer.add_tensor(name, values.astype(np.float16))


def _copy_vocabulary(writer: Any, n_vocab: int) -> int:
    """Copy the tokenizer of the vocabulary file that llama.cpp's source carries, or its beginning; return the number of tokens."""
    reader: Any = gguf.GGUFReader(ensure_source() / "models" / VOCABULARY)
    tokens, types, merges = (reader.fields[key].contents() for key in _TOKEN_KEYS)
    ends = {name: int(reader.fields[f"tokenizer.ggml.{name}_token_id"].contents()) for name in ("eos", "padding", "bos")}
    if n_vocab:
        # ids follow the merges, so the first tokens and the merges that make them are a smaller tokenizer of the same kind
        last = n_vocab - 1
        tokens, types = [*tokens[:last], tokens[ends["eos"]]], [*types[:last], types[ends["eos"]]]
        known = set(tokens)
        merges = [merge for merge in merges if merge.replace(" ", "") in known]
        ends = dict.fromkeys(ends, last)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(ends["eos"])
    writer.add_pad_token_id(ends["padding"])
    writer.add_bos_token_id(ends["bos"])
    writer.add_add_bos_token(False)
    return len(tokens)


def _scale_output_norm(path: Path, factor: float) -> None:
    reader: Any = gguf.GGUFReader(path)
    tensor = next(tensor for tensor in reader.tensors if tensor.name == "output_norm.weight")
    values = (np.asarray(tensor.data, np.float32) * np.float32(factor)).tobytes()
    with path.open("r+b") as file:
        file.seek(int(tensor.data_offset))
        file.write(values)
