"""Tiny random decoders of several architectures: the tensors and metadata that make each of them what it is.

Uses numpy and gguf only; the vocabulary is that of the other tiny models.
"""

import gguf
import numpy as np

from tests.support.tiny_decoder import _add_tokenizer, add_matrix, finish

SHAPES = {
    "llama": {},
    "llama3": {"architecture": "llama", "rope_factors": True},
    "mistral": {"architecture": "llama", "head_dim": 32, "n_head_kv": 1, "rope_base": 1_000_000.0},
    "qwen2": {"biases": True, "is_tied": True},
    "qwen3": {"head_norms": True, "head_dim": 32},
    "gemma2": {"after_norms": True, "head_dim": 256, "is_tied": True, "window": 16},
    "gemma3": {"after_norms": True, "head_norms": True, "head_dim": 256, "is_tied": True, "window": 16},
}
N_VOCAB, N_EMBD, N_FF, N_HEAD, N_HEAD_KV, N_LAYER = 512, 64, 128, 4, 2, 2


def make_shaped_decoder(path, shape, *, seed=0, architecture=None):
    """Write a random decoder of one of SHAPES and return its path; `architecture` is what the file says instead of its own."""
    traits = SHAPES[shape]
    architecture = architecture or traits.get("architecture", shape)
    head_dim = traits.get("head_dim", N_EMBD // N_HEAD)
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(N_LAYER)
    writer.add_context_length(1024)
    writer.add_embedding_length(N_EMBD)
    writer.add_feed_forward_length(N_FF)
    writer.add_head_count(N_HEAD)
    writer.add_head_count_kv(traits.get("n_head_kv", N_HEAD_KV))
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_freq_base(traits.get("rope_base", 10_000.0))
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(N_VOCAB)
    if "window" in traits:
        writer.add_sliding_window(traits["window"])
    _add_tokenizer(writer, N_VOCAB)
    add_matrix(writer, "token_embd.weight", rng.normal(0, 1.0, (N_VOCAB, N_EMBD)), "F16")
    for layer in range(N_LAYER):
        _add_block(writer, f"blk.{layer}.", traits, head_dim, rng)
    writer.add_tensor("output_norm.weight", _norm(rng, N_EMBD))
    if not traits.get("is_tied"):
        add_matrix(writer, "output.weight", rng.normal(0, 1.5 / np.sqrt(N_EMBD), (N_VOCAB, N_EMBD)), "F16")
    if traits.get("rope_factors"):
        writer.add_tensor("rope_freqs.weight", np.linspace(1, 8, head_dim // 2).astype(np.float32))
    finish(writer)
    return path


def _add_block(writer, block, traits, head_dim, rng):
    query, key = N_HEAD * head_dim, traits.get("n_head_kv", N_HEAD_KV) * head_dim
    shapes = {
        "attn_q": (query, N_EMBD),
        "attn_k": (key, N_EMBD),
        "attn_v": (key, N_EMBD),
        "attn_output": (N_EMBD, query),
        "ffn_gate": (N_FF, N_EMBD),
        "ffn_up": (N_FF, N_EMBD),
        "ffn_down": (N_EMBD, N_FF),
    }
    for name, shape in shapes.items():
        add_matrix(writer, f"{block}{name}.weight", rng.normal(0, 1.5 / np.sqrt(shape[1]), shape), "F16")
    norms = {"attn_norm": N_EMBD, "ffn_norm": N_EMBD}
    if traits.get("after_norms"):
        norms |= {"post_attention_norm": N_EMBD, "post_ffw_norm": N_EMBD}
    if traits.get("head_norms"):
        norms |= {"attn_q_norm": head_dim, "attn_k_norm": head_dim}
    for name, size in norms.items():
        writer.add_tensor(f"{block}{name}.weight", _norm(rng, size))
    if traits.get("biases"):
        for name in ("attn_q", "attn_k", "attn_v"):
            writer.add_tensor(f"{block}{name}.bias", rng.normal(0, 0.3, shapes[name][0]).astype(np.float32))


def _norm(rng, size):
    return (1.0 + rng.normal(0, 0.1, size)).astype(np.float32)
