"""The exported adapter computes in llama.cpp what PEFT computes in torch; on the real default model where its package is installed."""

import re

import numpy as np
import pytest
import torch
from gguf import GGUFReader

from bot.engine.gguf_file import read_model_head
from bot.models.default import ensure_default_model
from tests.support.tiny_encoder import make_tiny_encoder
from training.encoder.base import build_batch, embed, load_base
from training.encoder.served import ServedEncoder
from training.export import (
    ARCHITECTURES,
    ExportError,
    Heads,
    build_tensors,
    export_lora,
    find_target,
    get_architecture,
    permute_rows,
)
from training.qlora import add_lora, build_lora_config, find_linears, get_lora_state

TEXTS = [
    "my laptop does not start since the update, the screen stays black",
    "Please order two monitors for the new colleague",
    "Où est ma facture? I paid 30€ on 12/05 - ref. ABC-991",
    "password",
    "hello there",
]
QUERY = "base_model.model.encoder.layer.0.attention.self.query"


@pytest.fixture(scope="module")
def default_model(tmp_path_factory):
    return ensure_default_model(tmp_path_factory.mktemp("default"))


def make_pair(name, r=2, n_in=8, n_out=8):
    rng = np.random.default_rng(0)
    return {
        f"{name}.lora_A.weight": rng.normal(size=(r, n_in)).astype(np.float32),
        f"{name}.lora_B.weight": rng.normal(size=(n_out, r)).astype(np.float32),
    }


def compute_both(path, target, *, r, lora_alpha):
    """Return embeddings of TEXTS by torch and PEFT, by llama.cpp with the exported file, and by llama.cpp without it."""
    model = load_base(path)
    wrapped = add_lora(
        model, mode="full", config=build_lora_config(r=r, lora_alpha=lora_alpha, target_modules=find_linears(model))
    )
    generator = torch.Generator().manual_seed(0)
    for name, value in wrapped.named_parameters():
        if "lora_B" in name:
            value.data = torch.randn(value.shape, generator=generator) * 0.05
    wrapped.eval()
    shapes = {name: info.shape for name, info in read_model_head(path).tensors.items()}
    names = export_lora(get_lora_state(wrapped), target, architecture="bert", lora_alpha=lora_alpha, base_tensors=shapes)
    with ServedEncoder(path, text_tokens=128, n_threads=1) as served, torch.inference_mode():
        trained = np.concatenate(
            [embed(wrapped, *build_batch([served.tokenize(text)]), pooling=served.pooling).numpy() for text in TEXTS]
        )
        return names, trained, served.embed(TEXTS, lora=target), served.embed(TEXTS)


@pytest.mark.parametrize(("r", "lora_alpha"), [(4, 4.0), (8, 32.0)])
def test_adapter_served_on_the_default_model_gives_what_was_trained(default_model, tmp_path, r, lora_alpha):
    names, trained, served, bare = compute_both(default_model, tmp_path / "a.gguf", r=r, lora_alpha=lora_alpha)
    assert len(names) == 6 * 6 * 2
    assert (trained * served).sum(axis=1).min() > 0.9999
    assert (trained * bare).sum(axis=1).mean() < 0.995


def test_adapter_served_on_a_tiny_model_gives_what_was_trained(tmp_path):
    path = make_tiny_encoder(tmp_path / "tiny.gguf")
    _, trained, served, bare = compute_both(path, tmp_path / "a.gguf", r=4, lora_alpha=8.0)
    assert (trained * served).sum(axis=1).min() > 0.999
    assert (trained * bare).sum(axis=1).mean() < 0.999


def test_adapter_file_says_what_it_is(tmp_path):
    target = tmp_path / "a.gguf"
    assert export_lora(make_pair(QUERY), target, architecture="bert", lora_alpha=3.0) == (
        "blk.0.attn_q.weight.lora_a",
        "blk.0.attn_q.weight.lora_b",
    )
    reader = GGUFReader(target)
    said = {key: reader.get_field(key).contents() for key in ("general.type", "adapter.type", "adapter.lora.alpha")}
    assert said == {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 3.0}


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_every_module_of_the_table_has_a_tensor(architecture):
    table = get_architecture(architecture)
    for module, tensor in table.modules.items():
        path = f"{table.block.format(n=11)}.{module}"
        assert find_target(path, table) == (f"blk.11.{tensor}.weight", module)
    for module in table.query | table.key:
        assert module in table.modules


def test_module_that_matches_nothing_is_refused_by_name(tmp_path):
    with pytest.raises(ExportError, match=re.escape("embeddings.word_embeddings")):
        export_lora(make_pair("base_model.model.embeddings.word_embeddings"), tmp_path / "a", architecture="bert", lora_alpha=1)


def test_tensor_that_is_no_lora_matrix_is_refused():
    with pytest.raises(ExportError, match="no LoRA matrix"):
        build_tensors({"classifier.weight": np.ones((2, 2), np.float32)}, get_architecture("bert"))


def test_unknown_architecture_is_refused_with_those_known():
    with pytest.raises(ExportError, match="bert, gemma"):
        get_architecture("mamba")


def test_half_a_pair_is_refused():
    tensors = make_pair(QUERY)
    tensors.pop(f"{QUERY}.lora_B.weight")
    with pytest.raises(ExportError, match="one matrix only"):
        build_tensors(tensors, get_architecture("bert"))


def test_values_that_are_no_numbers_are_refused():
    tensors = make_pair(QUERY)
    tensors[f"{QUERY}.lora_B.weight"][0, 0] = np.nan
    with pytest.raises(ExportError, match="no numbers"):
        build_tensors(tensors, get_architecture("bert"))


def test_base_without_the_tensor_or_of_another_shape_is_refused(tmp_path):
    pair = make_pair(QUERY)
    with pytest.raises(ExportError, match="no tensor"):
        export_lora(pair, tmp_path / "a", architecture="bert", lora_alpha=1, base_tensors={"blk.1.attn_q.weight"})
    with pytest.raises(ExportError, match="shape"):
        export_lora(pair, tmp_path / "a", architecture="bert", lora_alpha=1, base_tensors={"blk.0.attn_q.weight": (16, 8)})


def test_no_tensors_at_all_are_refused():
    with pytest.raises(ExportError, match="nothing was trained"):
        build_tensors({}, get_architecture("bert"))


def test_llama_query_and_key_rows_are_reordered_and_value_rows_are_not():
    tensors = {}
    for module in ("q_proj", "k_proj", "v_proj"):
        tensors |= make_pair(f"base_model.model.model.layers.0.self_attn.{module}")
    built = build_tensors(tensors, get_architecture("llama"), heads=Heads(n_query=2, n_key=1))
    raw = tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"]
    np.testing.assert_array_equal(built["blk.0.attn_q.weight.lora_b"], permute_rows(raw, 2))
    np.testing.assert_array_equal(built["blk.0.attn_k.weight.lora_b"], permute_rows(raw, 1))
    np.testing.assert_array_equal(built["blk.0.attn_v.weight.lora_b"], raw)
    with pytest.raises(ExportError, match="head counts"):
        build_tensors(tensors, get_architecture("llama"))


def test_rows_of_a_head_are_interleaved_from_its_halves():
    assert permute_rows(np.arange(8, dtype=np.float32)[:, None], 1)[:, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert permute_rows(np.arange(8, dtype=np.float32)[:, None], 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    with pytest.raises(ExportError, match="heads"):
        permute_rows(np.ones((6, 1), np.float32), 2)
