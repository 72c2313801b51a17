"""Equal answers of training and serving: how they are counted, and the whole way on a tiny model."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read once, when torch is first imported

import numpy as np
import pytest
import torch

from benches import agreement, agreement_encoder
from benches.agreement import AgreementSize, Answers, bench_agreement, choose_mode, compare_answers, hold_plainly
from benches.tiny_base import read_labels, write_back
from bot.training_settings import TrainingSettings
from tests.support.tiny_encoder import make_tiny_encoder
from tests.training.decoder.shapes import make_shaped_decoder
from training.decoder.base import load_base
from training.decoder.settings import DecoderSettings
from training.encoder.settings import EncoderSettings
from training.qlora import find_linears, quantise_linears

pytestmark = pytest.mark.train


def test_equal_answers_are_counted_and_both_sides_are_compared_with_the_right_ones():
    trained = np.log(np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]], np.float32))
    served = np.log(np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.4, 0.6]], np.float32))
    figures = compare_answers(Answers(trained, served), [0, 1, 1, 0], name="x")
    assert figures["served_agreement_x"] == 0.75
    assert figures["served_difference_x"] == pytest.approx(0.1)
    assert (figures["trained_accuracy_x"], figures["served_accuracy_x"]) == (0.5, 0.75)


def test_the_mode_whose_worst_file_agrees_best_is_chosen():
    figures = {"nf4_q8": 1.0, "nf4_q4": 0.7, "faithful_q8": 0.99, "faithful_q4": 0.98}
    assert choose_mode({f"served_agreement_{name}": value for name, value in figures.items()}) == "faithful"
    figures["nf4_q4"] = 0.99
    assert choose_mode({f"served_agreement_{name}": value for name, value in figures.items()}) == "nf4"


def test_every_trainers_default_is_the_mode_that_was_measured_to_agree():
    assert {TrainingSettings().mode, DecoderSettings().mode, EncoderSettings().mode} == {"faithful"}


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_all_figures_come_from_a_real_adapter_asked_on_both_sides(tmp_path, monkeypatch):
    base = make_shaped_decoder(tmp_path / "base.gguf", "qwen2")
    monkeypatch.setattr(agreement, "ensure_tiny_bases", lambda **_: {"Q8_0": base, "Q4_K_M": base})
    figures = bench_agreement(AgreementSize(learnt=8, asked=8, epochs=1), threads=1)
    assert figures["served_agreement_faithful_q8"] == figures["served_agreement_faithful_q4"] == 1.0
    assert figures["served_difference_nf4_q4"] > 2 * figures["served_difference_faithful_q4"]
    assert {f"served_agreement_{mode}_{kind}" for mode in ("nf4", "faithful") for kind in ("q8", "q4")} <= set(figures)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_layers_in_four_bits_answer_as_they_did_in_training_once_they_are_held_plainly(tmp_path):
    model = load_base(make_shaped_decoder(tmp_path / "base.gguf", "qwen2"))
    names = find_linears(model)
    quantise_linears(model, names=names)
    tokens = torch.arange(12)[None]
    with torch.enable_grad():  # as training computes
        embedded = model.get_input_embeddings()(tokens).detach().requires_grad_()
        before = model(inputs_embeds=embedded).logits.detach()
    with torch.inference_mode():
        model(input_ids=tokens)  # which packs the weights anew on some processors
    assert hold_plainly(model) == len(names)
    torch.testing.assert_close(model(input_ids=tokens).logits, before, atol=1e-4, rtol=1e-4)


def test_weights_that_were_put_back_are_read_again(tmp_path):
    path = make_shaped_decoder(tmp_path / "base.gguf", "qwen2")
    model = load_base(path)
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn(value.shape).half().float())
    write_back(model, path)
    read = load_base(path).state_dict()
    assert all(torch.equal(read[name], value) for name, value in model.state_dict().items())


def test_the_labels_are_the_bundled_tickets_own():
    assert len(read_labels()) == len(set(read_labels())) == 8


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_an_encoders_answers_are_compared_under_one_head(tmp_path, monkeypatch):
    base = make_tiny_encoder(tmp_path / "tiny.gguf")
    monkeypatch.setattr(agreement_encoder, "ensure_encoder", lambda: base)
    figures = agreement_encoder.bench_encoder_agreement(learnt=16, asked=8, epochs=1, threads=1)
    assert figures["served_agreement_encoder_faithful"] == 1.0
    assert figures["served_difference_encoder_faithful"] < 0.01
