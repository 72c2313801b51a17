"""The base encoder for training, with the weights of the very GGUF that serves, dequantised into transformers' BERT.

Knows the architecture's tensor names; not LoRA, data or heads.
"""

import re
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize, quant_shape_to_byte_shape
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from bot.engine.gguf_file import GGUFHead, TensorInfo, read_model_head
from training.errors import TrainingError
from training.export import ARCHITECTURES

_CLS_POOLING: Final = 2
_OUTSIDE: Final = {
    "token_embd.weight": "embeddings.word_embeddings.weight",
    "position_embd.weight": "embeddings.position_embeddings.weight",
    "token_types.weight": "embeddings.token_type_embeddings.weight",
    "token_embd_norm": "embeddings.LayerNorm",
}
_NORMS: Final = {"attn_output_norm": "attention.output.LayerNorm", "layer_output_norm": "output.LayerNorm"}
_BLOCK: Final = re.compile(r"^blk\.(\d+)\.(\w+)\.(weight|bias)$")


def load_base(path: Path) -> nn.Module:
    """Return the BERT in a GGUF file in float32, in evaluation mode. Raises TrainingError for another architecture."""
    head = read_model_head(path)
    if head.architecture != "bert":
        raise TrainingError(
            f"{path.name} is a '{head.architecture}' model; encoders of the architecture 'bert' (MiniLM, BGE, E5, GTE) can be trained"
        )
    model = BertModel(_read_config(head), add_pooling_layer=False)
    data = np.memmap(path, np.uint8, "r")
    state = {_rename(name): torch.from_numpy(_dequantise(data, tensor)) for name, tensor in head.tensors.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    left = [name for name in missing if not name.endswith(("position_ids", "token_type_ids"))]
    if left or unexpected:
        raise TrainingError(
            f"{path.name} and the architecture 'bert' differ at '{(left or list(unexpected))[0]}'; use another base"
        )
    model.train(mode=False)
    built: nn.Module = model
    return built


def _read_config(head: GGUFHead) -> BertConfig:
    shapes = {name: tensor.shape for name, tensor in head.tensors.items()}
    hidden = head.get_int("embedding_length")
    config = BertConfig(
        vocab_size=shapes["token_embd.weight"][1],
        hidden_size=hidden,
        num_hidden_layers=head.get_int("block_count"),
        num_attention_heads=head.get_int("attention.head_count", 1),
        intermediate_size=head.get_int("feed_forward_length", 4 * hidden),
        max_position_embeddings=shapes["position_embd.weight"][1],
        type_vocab_size=shapes["token_types.weight"][1] if "token_types.weight" in shapes else 1,
        layer_norm_eps=float(head.metadata.get("bert.attention.layer_norm_epsilon", 1e-12)),
        hidden_act="gelu",
    )
    config._attn_implementation = "sdpa"
    return config


def _rename(name: str) -> str:
    if name in _OUTSIDE:
        return _OUTSIDE[name]
    stem, _, kind = name.rpartition(".")
    if stem in _OUTSIDE:
        return f"{_OUTSIDE[stem]}.{kind}"
    match = _BLOCK.match(name)
    places = {gguf: module for module, gguf in ARCHITECTURES["bert"].modules.items()} | _NORMS
    if match is None or match[2] not in places:
        raise TrainingError(f"the tensor '{name}' of the base model is unknown; use another base")
    return f"encoder.layer.{match[1]}.{places[match[2]]}.{match[3]}"


def _dequantise(data: np.memmap[Any, np.dtype[np.uint8]], tensor: TensorInfo) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return a tensor's values, outermost dimension first; `data` are the bytes of the whole file."""
    kind, shape = GGMLQuantizationType(tensor.kind), tensor.shape[::-1]
    held = data[tensor.offset : tensor.offset + tensor.n_bytes].reshape(quant_shape_to_byte_shape(shape, kind))
    return np.array(dequantize(held, kind), np.float32).reshape(shape)


def build_batch(sequences: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Return padded token ids and their mask, shape (n, longest)."""
    longest = max(map(len, sequences))
    tokens = torch.zeros(len(sequences), longest, dtype=torch.long)
    mask = torch.zeros(len(sequences), longest, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        tokens[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1
    return tokens, mask


def embed(model: nn.Module, tokens: Tensor, mask: Tensor, *, pooling: int) -> Tensor:
    """Return unit-norm pooled embeddings, shape (n, n_embd), float32; `pooling` is the GGUF's own number (2 first token, else mean)."""
    hidden = model(input_ids=tokens, attention_mask=mask).last_hidden_state.float()
    if pooling == _CLS_POOLING:
        return nn.functional.normalize(hidden[:, 0], dim=-1)
    pooled = (hidden * mask[..., None]).sum(dim=1)
    return nn.functional.normalize(pooled, dim=-1)
