"""The base decoder for training: the very GGUF that serves, dequantised by transformers or, where that takes too much, held as its blocks.

Knows where transformers' reading of a GGUF needs help; not LoRA, data or losses.
"""

import contextlib
import io
import logging
from pathlib import Path
from typing import Any, Final

import torch
from gguf import GGUFReader
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from bot.engine.gguf_file import GGUFHead, read_model_head
from training.blocks import load_blocks, measure_float_mib
from training.errors import TrainingError
from training.export import Heads, get_architecture

logger = logging.getLogger(__name__)
_ROPE_FACTORS: Final = "rope_freqs.weight"
_UNREADABLE: Final = (ValueError, KeyError, NotImplementedError, RuntimeError)
_CAPS: Final = ("attn_logit_softcapping", "final_logit_softcapping")


def load_base(path: Path, *, limit_mib: int | None = None) -> nn.Module:
    """Return the causal language model in a GGUF file, in evaluation mode, in float32.

    One that takes more than `limit_mib` in float32 has its matrices held as the file's blocks instead. Raises TrainingError, ExportError.
    """
    head = read_model_head(path)
    get_architecture(head.architecture)  # what could not be exported is not trained
    config, size_mib = _read_config(path, head), measure_float_mib(head.tensors.values())
    if limit_mib is not None and size_mib > limit_mib:
        logger.info("%s would take %.0f MiB in float32: its own blocks are held instead", path.name, size_mib)
        model: Any = load_blocks(path, config)
    else:
        model = _read(path, head, config)
    model.config.quantization_config = None  # it is dequantised: PEFT must see plain linear layers
    model.name_or_path = ""  # else PEFT asks a model hub for a repository of that name
    if getattr(model.config, "attn_logit_softcapping", None):
        model.set_attn_implementation("eager")  # the only one that caps
    if _ROPE_FACTORS in head.tensors:
        _scale_rope(model, path)
    found: nn.Module = model.eval()
    return found


def _read_config(path: Path, head: GGUFHead) -> Any:
    """Let transformers read what the model looks like. Raises TrainingError where it does not know the architecture."""
    try:
        config = AutoConfig.from_pretrained(str(path.parent), gguf_file=path.name, local_files_only=True)
    except _UNREADABLE as error:
        raise _refuse(path, head) from error
    _complete(config, head)
    return config


def _read(path: Path, head: GGUFHead, config: Any) -> Any:
    """Let transformers read the file. Raises TrainingError where a tensor of the model is not in it, or has another shape."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bars cannot all be switched off
            read: Any = AutoModelForCausalLM.from_pretrained(
                str(path.parent),
                gguf_file=path.name,
                config=config,
                dtype=torch.float32,
                local_files_only=True,
                output_loading_info=True,
            )
    except _UNREADABLE as error:
        raise _refuse(path, head) from error
    model, info = read
    missing = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"], *info["unexpected_keys"]]))
    if missing:
        message = f"{path.name} and transformers' '{head.architecture}' differ at {missing[0]}; choose another base to train on"
        raise TrainingError(message)
    return model


def _refuse(path: Path, head: GGUFHead) -> TrainingError:
    return TrainingError(
        f"transformers cannot read {path.name} ({head.architecture}); choose a base of another architecture to train on"
    )


def _complete(config: Any, head: GGUFHead) -> None:
    """Set what the file says and transformers does not read from it."""
    head_dim = head.get_int("attention.key_length")
    if head_dim:
        config.head_dim = head_dim
    for name in _CAPS:
        value = head.metadata.get(f"{head.architecture}.{name}")
        if value is not None and hasattr(config, name):
            setattr(config, name, float(value))


def _scale_rope(model: Any, path: Path) -> None:
    """Divide the rotary frequencies by the file's factors (Llama 3.1 and later), which transformers leaves out."""
    tensor = next(tensor for tensor in GGUFReader(path).tensors if tensor.name == _ROPE_FACTORS)
    factors = torch.tensor(tensor.data, dtype=torch.float32)
    rotary = model.model.rotary_emb
    if rotary.rope_type != "default":
        return  # the scaling was in the metadata, and is applied
    rotary.inv_freq = rotary.inv_freq / factors
    rotary.original_inv_freq = rotary.inv_freq.clone()


def get_heads(model: nn.Module) -> Heads:
    """Return the numbers of attention heads."""
    config: Any = model.config
    n_query = int(config.num_attention_heads)
    return Heads(n_query, int(getattr(config, "num_key_value_heads", None) or n_query))
