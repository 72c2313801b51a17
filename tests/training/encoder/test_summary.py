"""The head that picks lines: targets from summaries, weights that learn, a bundle that the engine takes."""

import numpy as np
import pytest

from bot.bundle import ADAPTER_FILE, Bundle, seal
from bot.engine.factory import build_engine
from bot.engine.protocol import RankRequest
from bot.engine.settings import EngineSettings
from bot.engine.turns import FEATURES, TurnHead
from bot.tasks.summary import Unit
from bot.types import Turn
from db.types import MaskedText, TaskKind
from training.encoder.settings import EncoderSettings
from training.encoder.summary import choose_units, fit_turn_head, train_turn_head
from training.encoder.types import CancelledError, RunInfo, SummaryExample, TrainingDataError

SETTINGS = EncoderSettings(text_tokens=64, threads=1)
UNITS = [
    Unit(MaskedText(text), own)
    for text, own in (
        ("good afternoon to you all", True),
        ("the printer shows an error code", True),
        ("did you restart it", False),
        ("it also eats the paper", True),
    )
]


def make_example(n, **values):
    turns = (
        Turn("customer", f"I write to you about a thing number {n}"),
        Turn("agent", "what exactly is it about then"),
        Turn("customer", "the last payment of my invoice was refused"),
    )
    return SummaryExample(MaskedText(""), MaskedText("last payment of invoice refused"), turns, **values)


@pytest.fixture
def train(tiny, tmp_path):
    def run(examples, should_stop=lambda: False):
        return train_turn_head(
            examples,
            base_gguf=tiny,
            settings=SETTINGS,
            checkpoint_dir=tmp_path / "work",
            on_progress=lambda progress: None,
            should_stop=should_stop,
            run=RunInfo("p"),
        )

    return run


def test_units_that_cover_the_summary_are_chosen_in_their_order():
    assert choose_units(UNITS, "printer shows error code and eats paper") == (1, 3)
    assert choose_units(UNITS, "restart") == (2,)
    assert choose_units(UNITS, "nothing shared whatsoever") == ()


def test_head_learns_the_feature_that_tells_and_stays_near_the_default_with_one_ticket():
    features = np.zeros((3, len(FEATURES)), np.float32)
    features[2, FEATURES.index("position")] = 1.0
    start = TurnHead.default().weight
    few = fit_turn_head([(features, (2,), 1.0)]).weight
    many = fit_turn_head([(features, (2,), 1.0)] * 100).weight
    place = FEATURES.index("position")
    assert start[place] < few[place] < many[place]
    assert few[place] - start[place] < 0.5


def test_tickets_that_teach_nothing_are_refused():
    with pytest.raises(TrainingDataError, match="nothing to learn"):
        fit_turn_head([(np.zeros((3, len(FEATURES)), np.float32), (), 1.0)])


async def test_trained_bundle_is_taken_by_the_engine_and_ranks_what_edits_showed(train, tiny, tmp_path):
    bundle = seal(train([make_example(n) for n in range(40)]), tmp_path / "adapters")
    assert not (bundle.directory / ADAPTER_FILE).exists()
    assert bundle.manifest.task is TaskKind.SUMMARY
    engine = build_engine(tiny, settings=EngineSettings(n_threads=1, text_tokens=64))
    await engine.start()
    try:
        digest = await engine.load(bundle.directory)
        units = tuple(MaskedText(turn.text) for turn in make_example(1).turns)
        ranking = await engine.rank(
            RankRequest(task=TaskKind.SUMMARY, units=units, is_customer=(True, False, True), adapter=digest)
        )
    finally:
        await engine.stop()
    assert int(ranking.scores.argmax()) == 2
    assert Bundle.load(bundle.directory).manifest.n_train == 40


def test_bad_weight_is_refused_and_cancelling_stops(train):
    with pytest.raises(TrainingDataError, match="weight"):
        train([make_example(1, weight=float("nan"))])
    with pytest.raises(CancelledError):
        train([make_example(1)], should_stop=lambda: True)
