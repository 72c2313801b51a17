"""Tickets whose label is told by two of their words, tiny decoders, and a run of the trainer with all that a test need not say."""

import os
import random

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read once, when torch is first imported

import pytest

from bot.engine.factory import build_engine
from bot.engine.protocol import ScoreRequest
from bot.engine.settings import EngineSettings
from bot.tasks.classification import build_choices
from bot.types import Label, LabelSet
from db.types import MaskedText, TaskKind
from tests.support.tiny_decoder import make_tiny_decoder
from training.decoder.settings import DecoderSettings
from training.decoder.train import train_decoder
from training.encoder.types import RunInfo, TrainExample

WORDS = {
    "hardware": ["printer", "toner", "monitor", "keyboard", "laptop"],
    "access": ["password", "account", "locked", "reset", "login"],
    "network": ["vpn", "connection", "network", "drops", "drive"],
}
FILL = ["is", "the", "my", "please", "help", "second", "floor", "every", "hour", "after", "update"]
LABELS = [Label(name) for name in WORDS]
CHOICES = build_choices(LabelSet(name="", version="v1", labels=tuple(LABELS)))
RUN = RunInfo(prompt_version="classification-1", label_set_version="v1", run_id=7, data_digest="d" * 64)


def make_tickets(n, *, seed):
    """`n` made-up tickets per label with their labels."""
    chooser = random.Random(seed)
    tickets = []
    for _ in range(n):
        for label, telling in WORDS.items():
            words = [chooser.choice(FILL) for _ in range(3)]
            for _ in range(2):
                words.insert(chooser.randrange(len(words)), chooser.choice(telling))
            tickets.append((MaskedText(" ".join(words)), label))
    return tickets


def make_examples(n, *, seed=0):
    """`n` examples per label."""
    return [TrainExample(text=text, label=label) for text, label in make_tickets(n, seed=seed)]


@pytest.fixture(scope="session")
def base_path(tmp_path_factory):
    return make_tiny_decoder(tmp_path_factory.mktemp("base") / "tiny.gguf")


@pytest.fixture
def train(tmp_path, base_path):
    """Run the trainer; returns the bundle's directory. Keyword arguments are settings, or `directory`, `on_progress` and the like."""

    def run(
        examples,
        *,
        directory=None,
        on_progress=lambda progress: None,
        should_stop=lambda: False,
        on_figures=lambda name, figures: None,
        base=None,
        **settings,
    ):
        return train_decoder(
            examples,
            LABELS,
            base_gguf=base or base_path,
            settings=DecoderSettings(**{"threads": 1, "precision": "fp32", "learning_rate": 5e-3} | settings),
            checkpoint_dir=directory or tmp_path / "run",
            on_progress=on_progress,
            should_stop=should_stop,
            run=RUN,
            on_figures=on_figures,
        )

    return run


@pytest.fixture
def served():
    """Return a function that starts an engine on a base and loads bundles."""

    class Served:
        def __init__(self, base):
            self.engine = build_engine(base, settings=EngineSettings(n_threads=1, n_ctx=2048, n_seq_max=32))

        async def __aenter__(self):
            await self.engine.start()
            return self

        async def __aexit__(self, *_):
            await self.engine.stop()

        async def score(self, text, adapter):
            request = ScoreRequest(TaskKind.CLASSIFICATION, CHOICES, text, adapter=adapter)
            return (await self.engine.score(request)).probabilities

        async def measure_accuracy(self, tickets, adapter):
            rows = [await self.score(text, adapter) for text, _ in tickets]
            right = [CHOICES.names[int(row.argmax())] == label for row, (_, label) in zip(rows, tickets, strict=True)]
            return sum(right) / len(right)

    return Served
