"""A frozen base held as the served GGUF's own quantised blocks, which every use dequantises anew, forward and backward.

Knows block formats, names and row order of a GGUF; not LoRA, data or losses.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, MODEL_ARCH_NAMES, GGMLQuantizationType, GGUFReader, get_tensor_name_map
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from transformers import AutoModelForCausalLM

from bot.engine.gguf_file import TensorInfo
from training.errors import TrainingError
from training.export import Architecture, get_architecture, permute_rows

PART_VALUES: Final = 1 << 22
"""Values dequantised at once: 16 MiB in float32, whatever the size of the matrix."""
_SHIFTED_NORMS: Final = frozenset({"gemma2", "gemma3"})
"""Architectures whose files hold 1 + weight of a norm."""
_UNUSED: Final = "rope_freqs.weight"
"""Read by whoever loads the base: it changes frequencies, not weights."""


def _split(blocks: Tensor, *sizes: int) -> tuple[Tensor, ...]:
    """Return the parts of all blocks: as many bytes as `sizes` say, and the rest."""
    return torch.split_with_sizes(blocks, [*sizes, blocks.shape[1] - sum(sizes)], dim=1)


def _half(part: Tensor) -> Tensor:
    return part.contiguous().view(torch.float16).float()


def _nibbles(packed: Tensor, groups: int) -> Tensor:
    """Return low, then high halves of the bytes, group by group: (n, bytes) becomes (n, 2 * groups, bytes / groups)."""
    grouped = packed.reshape(len(packed), groups, -1)
    return torch.stack((grouped & 15, grouped >> 4), dim=2).view(len(packed), 2 * groups, -1)


def _bits(packed: Tensor, width: int) -> Tensor:
    """Return the fields of `width` bits of each byte along a new axis before the last, lowest first."""
    shifts = torch.arange(0, 8, width, dtype=torch.uint8, device=packed.device)
    return (packed.unsqueeze(-2) >> shifts.unsqueeze(-1)) & ((1 << width) - 1)


def _five_bits(low: Tensor, high: Tensor) -> Tensor:
    """Return 32 values a block: bit `i` of the four bytes `high` above nibble `i`."""
    return _nibbles(low, 1).flatten(1) | (_bits(high.reshape(-1, 1), 1).reshape(-1, 32) << 4)


def _apply_scales(values: Tensor, scale: Tensor, minimum: Tensor, packed: Tensor) -> Tensor:
    """Scale the eight groups of each K block: `packed` is 12 bytes with a scale and a minimum of six bits for each group."""
    low, mid, high = _split(packed, 4, 4)
    scales = torch.cat((low & 63, (high & 15) | ((low >> 2) & 48)), dim=1)
    minima = torch.cat((mid & 63, (high >> 4) | ((mid >> 2) & 48)), dim=1)
    values = values.float().mul_((_half(scale) * scales.float()).unsqueeze(-1))
    return values.sub_((_half(minimum) * minima.float()).unsqueeze(-1))


def _q4_0(blocks: Tensor) -> Tensor:
    scale, low = _split(blocks, 2)
    return _nibbles(low, 1).flatten(1).float().sub_(8).mul_(_half(scale))


def _q4_1(blocks: Tensor) -> Tensor:
    scale, minimum, low = _split(blocks, 2, 2)
    return _nibbles(low, 1).flatten(1).float().mul_(_half(scale)).add_(_half(minimum))


def _q5_0(blocks: Tensor) -> Tensor:
    scale, high, low = _split(blocks, 2, 4)
    return _five_bits(low, high).float().sub_(16).mul_(_half(scale))


def _q5_1(blocks: Tensor) -> Tensor:
    scale, minimum, high, low = _split(blocks, 2, 2, 4)
    return _five_bits(low, high).float().mul_(_half(scale)).add_(_half(minimum))


def _q8_0(blocks: Tensor) -> Tensor:
    scale, values = _split(blocks, 2)
    return values.view(torch.int8).float().mul_(_half(scale))


def _q4_k(blocks: Tensor) -> Tensor:
    scale, minimum, packed, low = _split(blocks, 2, 2, 12)
    return _apply_scales(_nibbles(low, 4), scale, minimum, packed)


def _q5_k(blocks: Tensor) -> Tensor:
    scale, minimum, packed, high, low = _split(blocks, 2, 2, 12, 32)
    return _apply_scales(_nibbles(low, 4) | (_bits(high, 1) << 4), scale, minimum, packed)


def _q6_k(blocks: Tensor) -> Tensor:
    low, high, packed, scale = _split(blocks, 128, 64, 16)
    upper = _bits(high.reshape(-1, 2, 32), 2).reshape(-1, 8, 32) << 4
    scales = _half(scale) * packed.view(torch.int8).float()
    values = (_nibbles(low, 2).view(-1, 8, 32) | upper).float().sub_(32)
    return values.view(-1, 16, 16).mul_(scales.unsqueeze(-1))


_Kind = GGMLQuantizationType
_READERS: Final[dict[GGMLQuantizationType, Callable[[Tensor], Tensor]]] = {
    _Kind.F32: lambda blocks: blocks.view(torch.float32),
    _Kind.F16: lambda blocks: blocks.view(torch.float16).float(),
    _Kind.BF16: lambda blocks: blocks.view(torch.bfloat16).float(),
    _Kind.Q4_0: _q4_0,
    _Kind.Q4_1: _q4_1,
    _Kind.Q5_0: _q5_0,
    _Kind.Q5_1: _q5_1,
    _Kind.Q8_0: _q8_0,
    _Kind.Q4_K: _q4_k,
    _Kind.Q5_K: _q5_k,
    _Kind.Q6_K: _q6_k,
}
"""What turns (n, bytes of a block) into n blocks of float32 values, in the very operations of the format's reference."""
KINDS: Final = frozenset(_READERS)


def dequantise(blocks: Tensor, kind: GGMLQuantizationType) -> Tensor:
    """Return the float32 values of rows of blocks: uint8 (n_rows, bytes of a row) becomes (n_rows, n_columns)."""
    own = blocks.contiguous().view(-1, GGML_QUANT_SIZES[kind][1])
    return _READERS[kind](own).view(len(blocks), -1)


def _dequantise_parts(blocks: Tensor, kind: GGMLQuantizationType, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    """Yield ranges of rows with their values, about PART_VALUES at once."""
    size, n_bytes = GGML_QUANT_SIZES[kind]
    n_rows = max(1, PART_VALUES // (blocks.shape[1] // n_bytes * size))
    for start in range(0, len(blocks), n_rows):
        rows = slice(start, min(start + n_rows, len(blocks)))
        yield rows, dequantise(blocks[rows], kind).to(dtype)


class _Multiply(torch.autograd.Function):
    """inputs @ weights.T, with nothing but the blocks kept for the way back and no gradient for them."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, blocks: Tensor, kind: GGMLQuantizationType, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(blocks)
        ctx.kind, ctx.dtype, ctx.inputs_dtype, ctx.shape = kind, dtype, inputs.dtype, inputs.shape
        own = inputs.to(dtype)
        parts = [functional.linear(own, weights) for _, weights in _dequantise_parts(blocks, kind, dtype)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None, None]:
        if not ctx.needs_input_grad[0]:
            return None, None, None, None
        (blocks,) = ctx.saved_tensors
        own = gradient.to(ctx.dtype).flatten(0, -2)
        total = torch.zeros(len(own), ctx.shape[-1], device=own.device)  # float32: sums of parts lose too much in half precision
        for rows, weights in _dequantise_parts(blocks, ctx.kind, ctx.dtype):
            total += own[:, rows] @ weights
        return total.view(ctx.shape).to(ctx.inputs_dtype), None, None, None


class BlockLinear(nn.Linear):
    """A frozen linear layer whose `weight` is uint8 blocks, shape (out_features, bytes of a row). Computes as autocast says."""

    def __init__(self, blocks: Tensor, kind: GGMLQuantizationType, *, in_features: int, bias: Tensor | None = None) -> None:
        super().__init__(in_features, len(blocks), bias=False, device="meta")
        self.kind = kind
        self.weight = nn.Parameter(blocks, requires_grad=False)
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias, requires_grad=False))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's name)
        """Return input @ weights.T + bias, shape (..., out_features)."""
        device = input.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else input.dtype
        outputs: Tensor = _Multiply.apply(input, self.weight, self.kind, dtype)  # type: ignore[no-untyped-call]
        return outputs if self.bias is None else outputs + self.bias.to(dtype)

    def read(self) -> Tensor:
        """Return the whole matrix in float32, shape (out_features, in_features)."""
        return dequantise(self.weight.data, self.kind)


class BlockEmbedding(nn.Embedding):
    """A frozen embedding whose `weight` is uint8 blocks; only the rows asked for are dequantised, then multiplied by `scale`."""

    def __init__(self, blocks: Tensor, kind: GGMLQuantizationType, *, old: nn.Embedding) -> None:
        super().__init__(len(blocks), old.embedding_dim, padding_idx=old.padding_idx, device="meta")
        self.kind = kind
        self.scale = float(getattr(old, "scalar_embed_scale", 1.0))  # Gemma 3 multiplies here, others in the model or nowhere
        self.weight = nn.Parameter(blocks, requires_grad=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's name)
        """Return the tokens' values in float32, shape (..., embedding_dim)."""
        rows = dequantise(self.weight[input.flatten()], self.kind)
        return rows.view(*input.shape, -1) * self.scale


def measure_float_mib(tensors: Iterable[TensorInfo]) -> float:
    """Return what tensors take in float32, in MiB."""
    return sum(4 * float(np.prod(info.shape)) for info in tensors) / (1 << 20)


def load_blocks(path: Path, config: Any) -> nn.Module:
    """Return the causal language model in a GGUF file with its matrices as the file's blocks and the rest in float32.

    `config` is transformers' configuration of that file. The blocks are the file's own pages, which the serving process shares, until the
    model is moved to another device; rows that transformers has in another order are copied. Raises TrainingError.
    """
    with torch.device("meta"):
        model: nn.Module = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    source = _Source(path, config)
    for name, module in list(model.named_modules()):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, source.hold(name, module))
        else:
            for own, parameter in list(module.named_parameters(recurse=False)):
                values = source.read(f"{name}.{own}", parameter.shape)
                setattr(module, own, nn.Parameter(values, requires_grad=False))
    _fill_buffers(model, config)
    source.check_used()
    return model


def _fill_buffers(model: nn.Module, config: Any) -> None:
    """Build modules with computed buffers (rotary frequencies) once more, outside of torch's meta device."""
    for name, module in list(model.named_modules()):
        if any(buffer.is_meta for buffer in module.buffers(recurse=False)):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, type(module)(config))


class _Source:
    """The tensors of a GGUF file by transformers' names, in transformers' row order; remembers which were used."""

    def __init__(self, path: Path, config: Any) -> None:
        reader = GGUFReader(path, "c")  # pages may be written without the file changing: torch wants no read-only memory
        self._file, self._config = path.name, config
        self._name = bytes(reader.fields["general.architecture"].parts[-1]).decode()
        self._architecture: Architecture = get_architecture(self._name)
        self._tensors: dict[str, Any] = {tensor.name: tensor for tensor in reader.tensors}
        kind = next(key for key, value in MODEL_ARCH_NAMES.items() if value == self._name)
        self._names = get_tensor_name_map(kind, config.num_hidden_layers)
        self._used = {_UNUSED}

    def hold(self, name: str, module: nn.Linear | nn.Embedding) -> nn.Module:
        """Return what replaces a module of the model. A head that the file lacks is the embedding. Raises TrainingError."""
        target = self._find(f"{name}.weight")
        if target not in self._tensors and target == "output.weight" and self._config.tie_word_embeddings:
            target = "token_embd.weight"
        blocks, kind = self._take(target, name, tuple(module.weight.shape))
        if isinstance(module, nn.Embedding):
            return BlockEmbedding(blocks, kind, old=module)
        bias = None if module.bias is None else self.read(f"{name}.bias", module.bias.shape)
        return BlockLinear(blocks, kind, in_features=module.in_features, bias=bias)

    def read(self, name: str, shape: torch.Size) -> Tensor:
        """Return a vector of the file in float32. Raises TrainingError."""
        target = self._find(name)
        values = dequantise(*self._take(target, name.rpartition(".")[0], tuple(shape))).flatten()
        is_shifted = self._name in _SHIFTED_NORMS and target.endswith("norm.weight")
        return values - 1 if is_shifted else values.clone()

    def check_used(self) -> None:
        """Raise TrainingError where the file has a tensor that the model lacks: it would be served and not trained on."""
        left = sorted(self._tensors.keys() - self._used)
        if left:
            raise self._differ(left[0])

    def _find(self, name: str) -> str:
        module, _, suffix = name.rpartition(".")
        target = self._architecture.outside.get(module) or self._names.get_name(module)
        return f"{target or module}.{suffix}"

    def _take(self, target: str, module: str, shape: tuple[int, ...]) -> tuple[Tensor, GGMLQuantizationType]:
        """Return a tensor's blocks, shape (rows, bytes of a row) or (values, bytes of one), and their kind."""
        tensor = self._tensors.get(target)
        if tensor is None or tuple(int(size) for size in reversed(tensor.shape)) != shape:
            raise self._differ(target)
        kind = GGMLQuantizationType(tensor.tensor_type)
        if kind not in KINDS:
            known = ", ".join(sorted(found.name for found in KINDS))
            message = f"'{target}' of {self._file} is {kind.name}, which cannot be trained on; quantise the base as one of these"
            raise TrainingError(f"{message}: {known}")
        self._used.add(target)
        blocks = torch.from_numpy(np.asarray(tensor.data).reshape(shape[0], -1).view(np.uint8))
        order = self._find_order(module, shape[0])
        return (blocks if order is None else blocks[order]), kind

    def _find_order(self, module: str, n_rows: int) -> Tensor | None:
        """Return where each of transformers' rows lies in the file, or None if both have the same order."""
        below = module.partition(".layers.")[2].partition(".")[2]
        if below not in self._architecture.query | self._architecture.key:
            return None
        is_query = below in self._architecture.query
        n_heads = int(self._config.num_attention_heads if is_query else self._config.num_key_value_heads)
        written = permute_rows(np.arange(n_rows, dtype=np.float32)[:, None], n_heads)
        return torch.from_numpy(np.argsort(written[:, 0]))

    def _differ(self, target: str) -> TrainingError:
        return TrainingError(f"{self._file} and transformers' '{self._name}' differ at {target}; choose another base to train on")
