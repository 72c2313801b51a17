"""A base held as the served file's blocks computes what the dequantised base computes, and takes the memory of the file."""

import ctypes
import math

import gguf
import llama_cpp
import numpy as np
import pytest
import torch
from torch.nn import functional

import training.blocks
from bot.engine.gguf_file import read_model_head
from tests.support.tiny_decoder import make_tiny_decoder
from tests.training.decoder.shapes import SHAPES, make_shaped_decoder
from training.blocks import KINDS, BlockLinear, dequantise, load_blocks, measure_float_mib
from training.decoder.base import load_base
from training.decoder.loop import Learner
from training.decoder.pack import build_packs
from training.decoder.settings import DecoderSettings
from training.decoder.tokens import Completion
from training.decoder.train import build_learner
from training.errors import TrainingError
from training.qlora import add_lora, build_lora_config, describe_holding, find_linears

pytestmark = pytest.mark.train
KIND = gguf.GGMLQuantizationType
FILES = ("ALL_F32", "MOSTLY_BF16", *(f"MOSTLY_{name}" for name in "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K_M Q5_K_M Q6_K".split()))
TOKENS = torch.arange(3, 43).unsqueeze(0)


@pytest.fixture(scope="module")
def make_base(tmp_path_factory):
    """Write one random decoder as llama.cpp writes a kind of file."""
    directory = tmp_path_factory.mktemp("bases")
    wide = make_tiny_decoder(directory / "wide.gguf", n_embd=256, n_ff=256)

    def make(name):
        target = directory / f"{name}.gguf"
        if not target.exists():
            params = llama_cpp.llama_model_quantize_default_params()
            params.ftype, params.nthread = getattr(llama_cpp, f"LLAMA_FTYPE_{name}"), 1
            assert llama_cpp.llama_model_quantize(str(wide).encode(), str(target).encode(), ctypes.byref(params)) == 0
        return target

    return make


@pytest.fixture(scope="module")
def bases(make_base):
    """The same Q4_K_M file held in float32 and as blocks."""
    path = make_base("MOSTLY_Q4_K_M")
    full = load_base(path)
    return full, load_blocks(path, full.config).eval(), path


def compute(model):
    with torch.no_grad():
        return model(input_ids=TOKENS).logits


def adapt(model):
    """Put the same LoRA matrices, changing something, on a model."""
    torch.manual_seed(0)
    config = build_lora_config(r=4, lora_alpha=8.0, target_modules=find_linears(model))
    adapted = add_lora(model, mode="faithful", config=config)
    with torch.no_grad():
        for name, value in adapted.named_parameters():
            if "lora_B" in name:
                value.normal_(0.0, 0.05)
    return adapted


def compute_gradients(adapted, *, use_bf16=False):
    adapted.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=use_bf16):
        logits = adapted(input_ids=TOKENS).logits
    functional.cross_entropy(logits[0, :-1].float(), TOKENS[0, 1:]).backward()
    return {name: value.grad.clone() for name, value in adapted.named_parameters() if value.requires_grad}


def find_difference(gradients, others):
    """Return the greatest difference as a share of a matrix's greatest value."""
    assert gradients.keys() == others.keys()
    return max(float((value - others[name]).abs().max() / value.abs().max()) for name, value in gradients.items())


@pytest.mark.parametrize("kind", sorted(KINDS), ids=lambda kind: kind.name)
def test_blocks_become_the_references_values_to_the_bit(kind):
    size, n_bytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = np.random.default_rng(int(kind)).integers(0, 256, (16, 1024 // size * n_bytes), dtype=np.uint8)
    with np.errstate(all="ignore"):  # some random scales are no numbers
        expected = gguf.dequantize(blocks, kind)
    found = dequantise(torch.from_numpy(blocks), kind).numpy()
    is_number = ~np.isnan(expected)
    assert found.shape == (16, 1024)
    assert is_number.mean() > 0.8
    np.testing.assert_array_equal(found.view(np.uint32)[is_number], expected.view(np.uint32)[is_number])
    np.testing.assert_array_equal(np.isnan(found), ~is_number)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_every_kind_gives_the_answers_of_its_dequantised_weights(name, make_base):
    full = load_base(make_base(name))
    held = load_blocks(make_base(name), full.config).eval()
    torch.testing.assert_close(compute(held), compute(full), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", sorted(SHAPES.keys() - {"llama3"}))
def test_every_architecture_computes_the_same_from_blocks(shape, tmp_path):
    path = make_shaped_decoder(tmp_path / "base.gguf", shape)
    full = load_base(path)
    held = load_blocks(path, full.config).eval()
    torch.testing.assert_close(compute(held), compute(full), rtol=1e-5, atol=1e-4)
    assert not [name for name, value in [*held.named_parameters(), *held.named_buffers()] if value.is_meta]


@pytest.mark.parametrize(("use_bf16", "tolerance"), [(False, 1e-4), (True, 0.03)])
def test_lora_learns_the_same_from_both_holdings(use_bf16, tolerance, make_base):
    path = make_base("MOSTLY_Q4_K_M")
    full = load_base(path)
    held = load_blocks(path, full.config)
    expected = compute_gradients(adapt(full), use_bf16=use_bf16)
    found = compute_gradients(adapt(held), use_bf16=use_bf16)
    assert len(expected) == 28  # two matrices on each of 14 layers
    assert find_difference(expected, found) < tolerance


def test_parts_of_a_matrix_add_up_to_the_whole(make_base, monkeypatch):
    path = make_base("MOSTLY_Q4_K_M")
    held = adapt(load_blocks(path, load_base(path).config))
    whole = {use: compute_gradients(held, use_bf16=use) for use in (False, True)}
    monkeypatch.setattr(training.blocks, "PART_VALUES", 5_000)  # 19 rows of 256
    assert find_difference(whole[False], compute_gradients(held)) < 1e-4
    assert find_difference(whole[True], compute_gradients(held, use_bf16=True)) < 0.03


def test_held_weights_take_no_more_than_the_file(bases):
    full, held, path = bases
    assert {type(module).__name__ for module in held.modules() if hasattr(module, "kind")} == {"BlockLinear", "BlockEmbedding"}
    n_bytes = sum(value.numel() * value.element_size() for value in [*held.parameters(), *held.buffers()])
    assert n_bytes <= path.stat().st_size
    assert n_bytes < 0.25 * sum(value.numel() * value.element_size() for value in full.parameters())


def test_only_the_blocks_are_kept_for_the_way_back():
    layer = BlockLinear(torch.zeros((8, 34), dtype=torch.uint8), KIND.Q8_0, in_features=32, bias=torch.ones(8))
    kept = []
    inputs = torch.ones((2, 32), requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda value: kept.append(value) or value, lambda value: value):
        outputs = layer(inputs)
    assert [value.data_ptr() for value in kept] == [layer.weight.data_ptr()]
    outputs.sum().backward()
    assert inputs.grad.shape == (2, 32)
    assert layer.weight.grad is None
    assert layer.bias.grad is None


def test_a_tied_head_and_its_embedding_are_the_same_blocks(tmp_path):
    path = make_shaped_decoder(tmp_path / "base.gguf", "qwen2")
    held = load_blocks(path, load_base(path).config)
    assert held.lm_head.weight.data_ptr() == held.model.embed_tokens.weight.data_ptr()


def test_a_checkpoint_of_one_holding_is_taken_up_by_the_other(make_base):
    path = make_base("MOSTLY_Q4_K_M")
    settings = DecoderSettings(precision="fp32", threads=1)
    full = Learner(adapt(load_base(path)), learning_rate=1e-3, settings=settings)
    held = Learner(adapt(load_blocks(path, load_base(path).config)), learning_rate=1e-3, settings=settings)
    packs = build_packs([1, 2, 3], [Completion(tokens=(4, 5, 6, 7), start=1, answer=(6, 7))], limit=64)
    full.step(packs, rate=1.0, seed=0)
    held.restore(full.state())
    assert full.step(packs, rate=1.0, seed=1) == pytest.approx(held.step(packs, rate=1.0, seed=1), rel=1e-5)
    expected, found = full.state(), held.state()
    assert expected.keys() == found.keys()
    assert all(torch.allclose(value, found[name], rtol=1e-3, atol=1e-5) for name, value in expected.items())


def test_a_kind_of_block_that_cannot_be_read_is_refused_by_name(make_base):
    path = make_base("MOSTLY_Q2_K")
    config = load_base(path).config
    with pytest.raises(TrainingError, match=r"'\S+\.weight' of MOSTLY_Q2_K\.gguf is Q[23]_K, .*: BF16, F16, F32, Q4_0"):
        load_blocks(path, config)


@pytest.mark.parametrize(
    ("shape", "architecture", "tensor"),
    [("qwen2", "llama", r"blk\.0\.attn_k\.bias"), ("llama", "qwen3", r"blk\.0\.attn_\w+\.weight")],
)
def test_a_file_with_other_tensors_than_the_model_is_refused_by_name(shape, architecture, tensor, tmp_path):
    path = make_shaped_decoder(tmp_path / "base.gguf", shape, architecture=architecture)
    with pytest.raises(TrainingError, match=rf"base\.gguf and transformers' '{architecture}' differ at {tensor}"):
        load_base(path, limit_mib=0)


def test_the_size_in_float32_counts_every_value(make_base):
    path = make_base("MOSTLY_Q4_K_M")
    expected = sum(value.numel() for value in load_base(path).parameters()) * 4 / 2**20
    assert measure_float_mib(read_model_head(path).tensors.values()) == pytest.approx(expected)


def test_a_base_is_held_as_blocks_only_where_float32_takes_more_than_the_limit(make_base):
    path = make_base("MOSTLY_Q4_K_M")
    size = measure_float_mib(read_model_head(path).tensors.values())

    def count_blocks(limit_mib):
        return sum(isinstance(module, BlockLinear) for module in load_base(path, limit_mib=limit_mib).modules())

    assert count_blocks(None) == count_blocks(math.ceil(size)) == 0
    assert count_blocks(math.floor(size)) == 15  # seven on each of two layers, and the head


@pytest.mark.parametrize(("mode", "n_blocks", "held_as"), [("faithful", 15, "blocks"), ("nf4", 1, "nf4"), ("full", 0, "float32")])
def test_every_mode_trains_on_a_base_over_the_limit_as_it_says(mode, n_blocks, held_as, make_base):
    settings = DecoderSettings(mode=mode, faithful_limit_mib=0, precision="fp32", threads=1, r=4)
    learner = build_learner(make_base("MOSTLY_Q4_K_M"), settings)
    assert sum(isinstance(module, BlockLinear) for module in learner.model.modules()) == n_blocks
    assert describe_holding(learner.model)["held_as"] == held_as
    packs = build_packs([1, 2, 3], [Completion(tokens=(4, 5, 6, 7), start=1, answer=(6, 7))], limit=64)
    losses = [float(learner.step(packs, rate=1.0, seed=seed)) for seed in range(4)]
    assert losses[-1] < losses[0]


def test_nf4_quantises_what_the_blocks_say(make_base):
    path = make_base("MOSTLY_Q8_0")
    full, held = (build_learner(path, DecoderSettings(mode="nf4", faithful_limit_mib=n, precision="fp32")) for n in (2048, 0))
    torch.testing.assert_close(compute(held.model), compute(full.model), rtol=1e-5, atol=1e-5)


def test_the_size_of_a_holding_is_the_files_or_that_of_its_values_in_float32(make_base):
    path = make_base("MOSTLY_Q4_K_M")
    full, held = (
        describe_holding(build_learner(path, DecoderSettings(faithful_limit_mib=n, precision="fp32")).model) for n in (2048, 0)
    )
    assert (full["held_as"], held["held_as"]) == ("float32", "blocks")
    assert full["held_mib"] == pytest.approx(measure_float_mib(read_model_head(path).tensors.values()), abs=0.1)
    assert 0.7 * path.stat().st_size / 2**20 < held["held_mib"] <= path.stat().st_size / 2**20
