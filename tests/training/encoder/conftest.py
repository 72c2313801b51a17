"""A tiny encoder and easy examples: trainings take about a second."""

import numpy as np
import pytest

from bot.types import Label
from db.types import MaskedText
from tests.support.tiny_encoder import make_tiny_encoder
from training.encoder.settings import EncoderSettings
from training.encoder.train import train_encoder
from training.encoder.types import RunInfo, TrainExample

WORDS = {
    "printer": "printer paper toner jam",
    "billing": "invoice payment refund card",
    "access": "password login account locked",
}
LABELS = [Label(name) for name in WORDS]
SETTINGS = EncoderSettings(r=4, lora_alpha=8.0, batch_size=8, epochs=3, train_tokens=48, text_tokens=64, threads=1)


def make_examples(n, *, seed=0, **values):
    rng = np.random.default_rng(seed)
    names = list(WORDS)
    return [
        TrainExample(
            MaskedText(" ".join([*rng.choice(WORDS[names[at % 3]].split(), 2), *rng.choice(["please", "help", "today"], 2)])),
            names[at % 3],
            **values,
        )
        for at in range(n)
    ]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return make_tiny_encoder(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture
def train(tiny, tmp_path):
    """Return a function that trains on the tiny base and gives the bundle's directory."""

    def run(examples, *, labels=LABELS, directory=tmp_path / "work", on_progress=None, should_stop=lambda: False, **settings):
        return train_encoder(
            examples,
            labels,
            base_gguf=tiny,
            settings=SETTINGS.model_copy(update=settings),
            checkpoint_dir=directory,
            on_progress=on_progress or (lambda progress: None),
            should_stop=should_stop,
            run=RunInfo(prompt_version="p", label_set_version="v", run_id=7, data_digest="d"),
        )

    return run
