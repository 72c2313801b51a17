"""For every architecture whose adapters can be exported: llama.cpp with the exported file computes the logits that PEFT computes.

Bases are tiny and random; llama.cpp is asked through its own high-level class, so that no code of ours stands between file and logits.
"""

import llama_cpp
import numpy as np
import pytest
import torch

from bot.engine.gguf_file import read_model_head
from tests.training.decoder.shapes import N_VOCAB, SHAPES, make_shaped_decoder
from training.decoder.base import get_heads, load_base
from training.errors import TrainingError
from training.export import ARCHITECTURES, export_lora
from training.qlora import add_lora, build_lora_config, find_linears, get_lora_state

pytestmark = pytest.mark.train
TOKENS = [int(token) for token in np.random.default_rng(5).integers(0, N_VOCAB - 1, 40)]
"""More than the sliding window of the shapes that have one."""
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def build_peft(base, *, r=4, lora_alpha=12.0, only=""):
    """Return PEFT's model on a base file with random matrices on all linear layers, or on those whose name ends in `only`."""
    model = load_base(base)
    wrapped = add_lora(
        model, mode="faithful", config=build_lora_config(r=r, lora_alpha=lora_alpha, target_modules=find_linears(model))
    )
    generator = torch.Generator().manual_seed(0)
    for name, value in wrapped.named_parameters():
        if "lora_B" in name and f"{only}." in name:
            value.data = torch.randn(value.shape, generator=generator) * (0.4 if only else 0.1)
    return wrapped.eval()


def export(wrapped, base, target, *, lora_alpha=12.0):
    head = read_model_head(base)
    return export_lora(
        get_lora_state(wrapped),
        target,
        architecture=head.architecture,
        lora_alpha=lora_alpha,
        heads=get_heads(wrapped),
        base_tensors={name: info.shape for name, info in head.tensors.items()},
    )


def compute_peft_logits(wrapped):
    with torch.inference_mode():
        return wrapped(input_ids=torch.tensor([TOKENS]), use_cache=False).logits[0].numpy()


def compute_served_logits(base, adapter=None):
    lora = {"lora_path": str(adapter)} if adapter is not None else {}
    model = llama_cpp.Llama(str(base), n_ctx=64, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False, **lora)
    try:
        model.eval(TOKENS)
        return np.array(model.scores[: len(TOKENS)])
    finally:
        model.close()


def measure_distance(logits, others):
    """Return how far logits lie apart, in their own standard deviations."""
    return float(np.abs(logits - others).max() / others.std())


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_exported_adapter_gives_pefts_logits_and_the_base_without_it_does_not(shape, tmp_path):
    base = make_shaped_decoder(tmp_path / "base.gguf", shape)
    wrapped = build_peft(base)
    assert len(export(wrapped, base, tmp_path / "a.gguf")) == 2 * 2 * len(MODULES)
    trained = compute_peft_logits(wrapped)
    assert measure_distance(compute_served_logits(base, tmp_path / "a.gguf"), trained) < 0.03
    assert measure_distance(compute_served_logits(base), trained) > 0.5


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_each_layer_alone_has_the_effect_that_it_has_in_peft(shape, module, tmp_path):
    base = make_shaped_decoder(tmp_path / "base.gguf", shape)
    wrapped = build_peft(base, only=module)
    export(wrapped, base, tmp_path / "a.gguf")
    trained = compute_peft_logits(wrapped)
    with_adapter = measure_distance(compute_served_logits(base, tmp_path / "a.gguf"), trained)
    without = measure_distance(compute_served_logits(base), trained)
    assert with_adapter < 0.03
    assert without > 4 * with_adapter


def test_every_decoder_of_the_table_of_architectures_has_a_shape_that_is_proven():
    assert {traits.get("architecture", name) for name, traits in SHAPES.items()} == set(ARCHITECTURES) - {"bert"}


def test_a_wrong_order_of_query_rows_would_be_seen(tmp_path, monkeypatch):
    base = make_shaped_decoder(tmp_path / "base.gguf", "mistral")
    wrapped = build_peft(base)
    monkeypatch.setattr("training.export.permute_rows", lambda matrix, n_heads: matrix)
    export(wrapped, base, tmp_path / "a.gguf")
    assert measure_distance(compute_served_logits(base, tmp_path / "a.gguf"), compute_peft_logits(wrapped)) > 0.1


def test_a_base_whose_architecture_has_no_table_is_refused_before_it_is_read(tmp_path):
    base = make_shaped_decoder(tmp_path / "base.gguf", "llama", architecture="gemma")
    with pytest.raises(TrainingError, match="'gemma' models cannot be exported yet"):
        load_base(base)
