"""What is trained is what is served: torch's answers and the engine's, for every architecture that can be exported."""

from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from bot.bundle import ADAPTER_FILE, Manifest, hash_file
from bot.engine.gguf_file import read_model_head
from db.types import MaskedText, ModelKind, TaskKind
from tests.support.tiny_decoder import make_tiny_decoder
from tests.training.decoder.conftest import CHOICES, make_tickets
from tests.training.decoder.shapes import SHAPES, make_shaped_decoder
from training.decoder.agree import check_agreement, score_choices
from training.decoder.base import get_heads
from training.decoder.served import finish_bundle
from training.decoder.settings import DecoderSettings
from training.decoder.tokens import PromptTokens
from training.decoder.train import build_learner
from training.export import ExportError, export_lora
from training.qlora import get_lora_state

pytestmark = pytest.mark.train
SETTINGS = DecoderSettings(mode="faithful", precision="fp32", threads=1, n_ctx=2048)
TEXTS = [MaskedText("Straße <PERSON_1> 123 <|endoftext|> ünï"), *(text for text, _ in make_tickets(3, seed=3))]


def compare(base, directory):
    """Return torch's and the engine's log-probabilities under the same random LoRA matrices."""
    directory.mkdir()
    learner = build_learner(base, SETTINGS)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, value in learner.model.named_parameters():
            if "lora_B" in name:
                value.normal_(0.0, 0.05)
    head = read_model_head(base)
    export_lora(
        get_lora_state(learner.model),
        directory / ADAPTER_FILE,
        architecture=head.architecture,
        lora_alpha=SETTINGS.lora_alpha,
        heads=get_heads(learner.model),
        base_tensors={name: info.shape for name, info in head.tensors.items()},
    )
    with PromptTokens(base, text_tokens=SETTINGS.text_tokens) as reader:
        trained = score_choices(learner, reader, CHOICES, TEXTS)
    served = finish_bundle(
        base,
        directory,
        make_manifest(base),
        probe_texts=["a made-up prompt"],
        choices=CHOICES,
        texts=TEXTS,
        settings=SETTINGS,
        on_step=lambda done, total: None,
    )
    return trained, served


def make_manifest(base):
    return Manifest(
        task=TaskKind.CLASSIFICATION,
        model_kind=ModelKind.DECODER,
        base_digest=hash_file(base),
        labels=CHOICES.names,
        prompt_version="test",
        created_at=datetime.now(UTC),
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_served_answers_agree_with_the_trained_model_on_every_architecture(shape, tmp_path):
    trained, served = compare(make_shaped_decoder(tmp_path / "base.gguf", shape), tmp_path / "bundle")
    assert np.abs(trained - served.log_probabilities).max() < 0.03
    assert trained.std(axis=0).max() > 0.06  # the texts are told apart, so agreement means something


def test_served_answers_agree_with_the_trained_model_on_a_quantised_base(tmp_path):
    trained, served = compare(make_tiny_decoder(tmp_path / "base.gguf", quantization="Q8_0"), tmp_path / "bundle")
    assert np.abs(np.exp(trained) - np.exp(served.log_probabilities)).max() < 0.08  # activations are quantised too


def test_probabilities_of_the_trained_model_sum_to_one(base_path):
    with PromptTokens(base_path, text_tokens=64) as reader:
        scores = score_choices(build_learner(base_path, SETTINGS), reader, CHOICES, TEXTS)
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1.0, atol=1e-5)


def test_an_adapter_that_serves_other_answers_than_were_trained_is_refused():
    trained = np.log(np.array([[0.9, 0.1]], np.float32))
    check_agreement(trained, trained)
    with pytest.raises(ExportError, match="other answers"):
        check_agreement(trained, trained[:, ::-1])
