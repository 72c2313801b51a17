"""LoRA layers that multiply once: the frozen weight and its low-rank update are summed first, for each batch anew.

The same function and gradients as PEFT's own layers, which multiply every token three times. Knows layers; not models, data or heads.
"""

from functools import partial
from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.nn import functional


class _FusedLora(torch.autograd.Function):
    """y = x (W + scale B A)^T + bias, with W and the bias frozen. The sum is made again on the way back instead of being kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:  # noqa: PLR0917
        ctx.save_for_backward(x, weight, a, b)
        ctx.scale = scale
        return functional.linear(x, torch.addmm(weight, b, a, alpha=scale), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, a, b = ctx.saved_tensors
        rows, by_rows = x.flatten(end_dim=-2), gradients[0].flatten(end_dim=-2)
        by_x = None
        if ctx.needs_input_grad[0]:
            by_x = (by_rows @ torch.addmm(weight, b, a, alpha=ctx.scale)).view_as(x)
        by_a = ((by_rows @ b).T @ rows).mul_(ctx.scale)
        by_b = (by_rows.T @ (rows @ a.T)).mul_(ctx.scale)
        return by_x, None, None, by_a, by_b, None


def fuse_lora(model: nn.Module) -> int:
    """Let every LoRA layer over a dense float32 weight multiply once, in place; return how many. 4-bit layers stay as they are.

    For training in float32 without dropout in the LoRA layers and with one adapter, which is all that the encoder's recipe has.
    """
    layers = [module for module in model.modules() if type(module) is Linear and type(module.base_layer) is nn.Linear]
    for layer in layers:
        layer.forward = partial(_forward, layer)
    return len(layers)


def _forward(layer: Linear, x: Tensor) -> Tensor:
    name = layer.active_adapters[0]
    base = layer.base_layer
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    fused: Tensor = _FusedLora.apply(x, base.weight, base.bias, a, b, layer.scaling[name])  # type: ignore[no-untyped-call]
    return fused
