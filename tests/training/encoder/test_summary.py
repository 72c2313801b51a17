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
    assert few[place] - start[place] < 0.7
    assert many[place] - start[place] == pytest.approx(1.0, abs=0.05)


def test_pairs_that_are_far_enough_apart_teach_nothing_more():
    features = np.zeros((3, len(FEATURES)), np.float32)
    features[0, FEATURES.index("length")] = 1.0  # weighs 2 untrained
    assert np.array_equal(fit_turn_head([(features, (0,), 1.0)] * 10).weight, TurnHead.default().weight)


def test_line_ranks_above_those_of_its_own_ticket_alone():
    position, question = FEATURES.index("position"), FEATURES.index("has_question")
    first, second = np.zeros((2, 2, len(FEATURES)), np.float32)
    first[:, position] = 1.0  # what all lines of a ticket share tells nothing about which of them to keep
    first[0, question] = second[0, question] = 1.0
    head = fit_turn_head([(first, (0,), 1.0), (second, (0,), 1.0)] * 20)
    assert head.weight[question] > 0.9
    assert head.weight[position] == TurnHead.default().weight[position]


def test_head_learns_a_direction_of_the_embeddings_and_keeps_it_in_its_file(tmp_path):
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(40, 3, 8)).astype(np.float32)
    tickets = [
        (np.concatenate([np.zeros((3, len(FEATURES)), np.float32), rows], axis=1), (int(rows[:, 2].argmax()),), 1.0)
        for rows in embeddings
    ]
    head = fit_turn_head(tickets)
    assert head.direction is not None
    assert int(head.direction.argmax()) == 2
    head.save(tmp_path)
    found = TurnHead.load(tmp_path)
    units, own = ["one two three four"] * 3, [True] * 3
    assert np.array_equal(found.scores(embeddings[0], own, units), head.scores(embeddings[0], own, units))
    assert not np.array_equal(found.scores(embeddings[0], own, units), TurnHead(head.weight).scores(embeddings[0], own, units))


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
