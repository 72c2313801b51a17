"""A small random BERT-shaped encoder as GGUF for tests: embeddings mean nothing, but they differ from text to text and repeat exactly.

Uses numpy and gguf only.
"""

import string
from pathlib import Path

import gguf
import numpy as np

from tests.support.tiny_decoder import TEXT, add_matrix, finish

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def make_tiny_encoder(
    path: Path,
    *,
    seed: int = 0,
    n_embd: int = 64,
    n_layer: int = 2,
    n_head: int = 4,
    n_ff: int = 128,
    n_ctx: int = 128,
    quantization: str = "F16",
) -> Path:
    """Write a random encoder with a WordPiece vocabulary that pools by the mean, and return its path."""
    rng = np.random.default_rng(seed)
    letters = string.ascii_lowercase + string.digits + ".,!?-"
    words = sorted({word for word in TEXT.split() if len(word) > 1})
    tokens = [*SPECIAL, *("\u2581" + part for part in (*letters, *words)), *letters]
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("tiny")
    writer.add_block_count(n_layer)
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(n_embd)
    writer.add_feed_forward_length(n_ff)
    writer.add_head_count(n_head)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_token_type_count(2)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL for token in tokens])
    for name, add in (
        ("[UNK]", writer.add_unk_token_id),
        ("[SEP]", writer.add_sep_token_id),
        ("[SEP]", writer.add_eos_token_id),
        ("[PAD]", writer.add_pad_token_id),
        ("[MASK]", writer.add_mask_token_id),
        ("[CLS]", writer.add_bos_token_id),
    ):
        add(tokens.index(name))
    add_matrix(writer, "token_embd.weight", rng.normal(0, 1.0, (len(tokens), n_embd)), "F16")
    add_matrix(writer, "token_types.weight", rng.normal(0, 0.1, (2, n_embd)), "F32")
    add_matrix(writer, "position_embd.weight", rng.normal(0, 0.3, (n_ctx, n_embd)), "F32")
    _add_norm(writer, "token_embd_norm", n_embd)
    for layer in range(n_layer):
        shapes = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (n_embd, n_embd))
        shapes |= {"ffn_up": (n_ff, n_embd), "ffn_down": (n_embd, n_ff)}
        for name, shape in shapes.items():
            add_matrix(writer, f"blk.{layer}.{name}.weight", rng.normal(0, 1.5 / np.sqrt(shape[1]), shape), quantization)
            writer.add_tensor(f"blk.{layer}.{name}.bias", rng.normal(0, 0.1, shape[0]).astype(np.float32))
        _add_norm(writer, f"blk.{layer}.attn_output_norm", n_embd)
        _add_norm(writer, f"blk.{layer}.layer_output_norm", n_embd)
    finish(writer)
    return path


def _add_norm(writer: gguf.GGUFWriter, name: str, n_embd: int) -> None:
    writer.add_tensor(f"{name}.weight", np.ones(n_embd, np.float32))
    writer.add_tensor(f"{name}.bias", np.zeros(n_embd, np.float32))
