"""The base encoder for training, with the weights of the very GGUF that serves, dequantised into transformers' BERT.

Knows the architecture's tensor names; not LoRA, data or heads.
"""

import re
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from torch import Tensor, nn
from transformers import BertConfig, BertModel

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
    reader = GGUFReader(path)
    architecture = _read(reader, "general.architecture", "")
    if architecture != "bert":
        raise TrainingError(
            f"{path.name} is a '{architecture}' model; encoders of the architecture 'bert' (MiniLM, BGE, E5, GTE) can be trained"
        )
    model = BertModel(_read_config(reader), add_pooling_layer=False)
    state = {_rename(tensor.name): torch.from_numpy(_dequantise(tensor)) for tensor in reader.tensors}
    missing, unexpected = model.load_state_dict(state, strict=False)
    left = [name for name in missing if not name.endswith(("position_ids", "token_type_ids"))]
    if left or unexpected:
        raise TrainingError(
            f"{path.name} and the architecture 'bert' differ at '{(left or list(unexpected))[0]}'; use another base"
        )
    model.train(mode=False)
    built: nn.Module = model
    return built


def _read(reader: GGUFReader, key: str, default: Any) -> Any:
    found = reader.get_field(key)
    return default if found is None else found.contents()


def _read_config(reader: GGUFReader) -> BertConfig:
    shapes = {tensor.name: tensor.shape for tensor in reader.tensors}
    hidden = int(_read(reader, "bert.embedding_length", 0))
    config = BertConfig(
        vocab_size=int(shapes["token_embd.weight"][1]),
        hidden_size=hidden,
        num_hidden_layers=int(_read(reader, "bert.block_count", 0)),
        num_attention_heads=int(_read(reader, "bert.attention.head_count", 1)),
        intermediate_size=int(_read(reader, "bert.feed_forward_length", 4 * hidden)),
        max_position_embeddings=int(shapes["position_embd.weight"][1]),
        type_vocab_size=int(shapes["token_types.weight"][1]) if "token_types.weight" in shapes else 1,
        layer_norm_eps=float(_read(reader, "bert.attention.layer_norm_epsilon", 1e-12)),
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


def _dequantise(tensor: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    values = dequantize(tensor.data, tensor.tensor_type)
    return np.array(values, np.float32).reshape(tuple(int(size) for size in reversed(tensor.shape)))


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
