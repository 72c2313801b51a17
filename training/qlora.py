"""QLoRA's parts: frozen linear layers in NF4 with double quantisation, and the LoRA configuration over all of them.

Shared by every trainer; knows neither data nor losses.
"""

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from torch import nn

from training.blocks import BlockLinear
from training.errors import TrainingError

Mode = Literal["nf4", "faithful", "full"]


def freeze(model: nn.Module) -> None:
    """Let no weight of the base model learn."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)


def find_linears(model: nn.Module, *, skip: Sequence[str] = ("lm_head",)) -> list[str]:
    """Return the names of all linear layers, without those whose name ends in one of `skip`."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and not name.endswith(tuple(skip))]


def quantise_linears(model: nn.Module, *, names: Sequence[str], compute_dtype: torch.dtype = torch.float32) -> None:
    """Hold the named linear layers in 4-bit NormalFloat with doubly quantised constants; in place. Works on CPU and CUDA."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    for name in names:
        old = model.get_submodule(name)
        if not isinstance(old, nn.Linear):
            raise TrainingError(f"'{name}' is no linear layer and cannot be held in NF4")
        device = old.weight.device
        new = Linear4bit(
            old.in_features,
            old.out_features,
            bias=old.bias is not None,
            compute_dtype=compute_dtype,
            compress_statistics=True,
            quant_type="nf4",
            device="meta",
        )
        # On some CPUs one look without gradients would pack the weights for inference, for good; that form has no gradient.
        new.support_avx512bf16_for_cpu = False
        values = old.read() if isinstance(old, BlockLinear) else old.weight.data
        new.weight = Params4bit(values, requires_grad=False, quant_type="nf4", compress_statistics=True, module=new)
        if old.bias is not None:
            new.bias = nn.Parameter(old.bias.data, requires_grad=False)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, new.to(device))  # moving is what quantises
    object.__setattr__(model, "is_loaded_in_4bit", True)  # PEFT looks here before it wraps 4-bit layers


def build_lora_config(
    *, r: int, lora_alpha: float, lora_dropout: float = 0.0, target_modules: Sequence[str], task_type: str | None = None
) -> LoraConfig:
    """Return PEFT's configuration; every name in `target_modules` is a full module name."""
    return LoraConfig(
        r=r,
        lora_alpha=lora_alpha,  # PEFT divides it by r; a float is as good
        lora_dropout=lora_dropout,
        target_modules=list(target_modules),
        bias="none",
        task_type=task_type,
    )


def add_lora(model: nn.Module, *, mode: Mode, config: LoraConfig, compute_dtype: torch.dtype = torch.float32) -> PeftModel:
    """Freeze a base model, hold its adapted layers as `mode` says, and put LoRA on them.

    `faithful` and `full` leave the linear layers as they are: the caller loaded them with the served file's own values.
    """
    freeze(model)
    if mode == "nf4":
        targets = config.target_modules
        quantise_linears(model, names=sorted(targets if isinstance(targets, set) else []), compute_dtype=compute_dtype)
    with warnings.catch_warnings():
        # PEFT reads an attribute that transformers renamed; nothing here depends on it.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        wrapped: PeftModel = get_peft_model(model, config)
    return wrapped


def get_lora_state(model: PeftModel) -> dict[str, Any]:
    """Return PEFT's LoRA matrices as float32 numpy arrays by name."""
    state = get_peft_model_state_dict(model)
    return {name: value.detach().to("cpu", torch.float32).numpy() for name, value in state.items()}


def describe_holding(model: nn.Module) -> dict[str, Any]:
    """Return how the frozen weights are held (`nf4`, `blocks` or `float32`) and the MiB they take, weights that share memory counted once."""
    from bitsandbytes.nn import Linear4bit

    kinds = {type(module) for module in model.modules()}
    held_as = "nf4" if Linear4bit in kinds else "blocks" if BlockLinear in kinds else "float32"
    sizes = {value.data_ptr(): value.numel() * value.element_size() for value in model.parameters() if not value.requires_grad}
    return {"held_as": held_as, "held_mib": round(sum(sizes.values()) / (1 << 20), 1)}
