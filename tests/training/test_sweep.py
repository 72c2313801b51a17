"""The sweep over rank and learning rate: order, budget and kills with a formula for a trial, then with real trainings of tiny models."""

import json
import math
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from safetensors.numpy import load_file

from bot.bundle import ADAPTER_FILE, CALIBRATION_FILE, HEAD_FILE, MANIFEST_FILE, Calibration, Manifest
from bot.data import load_demo_dialogues
from bot.engine.protocol import NoEffectError
from bot.settings import Settings
from db.queries.examples import NewExample, add_examples
from db.types import MaskedText, RunStatus, TaskKind
from tests.support.tiny_decoder import make_tiny_decoder
from tests.support.tiny_encoder import make_tiny_encoder
from tests.training.decoder.conftest import LABELS as DECODER_LABELS
from tests.training.decoder.conftest import make_examples as make_decoder_examples
from tests.training.encoder.conftest import LABELS, SETTINGS, make_examples
from training import sweep
from training.decoder.settings import DecoderSettings
from training.decoder.train import train_decoder, train_summary_decoder
from training.encoder.prepare import prepare
from training.encoder.train import train_encoder
from training.encoder.types import CancelledError, RunInfo, SummaryExample, TrainingDataError
from training.encoder.types import Progress as Step
from training.export import ExportError
from training.pipeline import run_training
from training.progress import RunCancelledError
from training.sweep import (
    LEDGER_FILE,
    WORTH,
    Point,
    SweepPlan,
    Trial,
    build_grid,
    choose_best,
    choose_final,
    choose_next,
    run_sweep,
)
from training.sweep_trials import NOTHING_HELD_OUT, sweep_decoder, sweep_encoder, sweep_summary_decoder

START = Point(16, 0.002)
RUN = RunInfo(prompt_version="p", label_set_version="v", run_id=7, data_digest="d")
ENCODER = SETTINGS.model_copy(update={"epochs": 1, "learning_rate": 2e-3})
DECODER = DecoderSettings(
    r=4, lora_alpha=8.0, epochs=1, threads=1, precision="fp32", mode="faithful", learning_rate=2e-3, n_ctx=2048
)


class Clock:
    """Time that passes where a test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Record:
    """A report that keeps what it was told."""

    def __init__(self):
        self.messages, self.figures, self.losses, self.stop_at = [], {}, [], None

    def __call__(self, phase, step, total_steps, *, loss=None, message=None, figures=None):
        if phase == "training":
            self.losses.append((step, total_steps, loss))
            return
        assert phase == "sweep"
        assert 0 <= step <= total_steps
        self.messages.append(message)
        self.figures |= figures or {}
        if self.stop_at is not None and self.stop_at in message:
            raise RunCancelledError("the run was cancelled")


@pytest.fixture
def record():
    return Record()


@pytest.fixture
def make_plan(tmp_path, record):
    def make(*, budget_s=1_000.0, ranks=(8, 16, 32), rates=(0.5, 1.0, 2.0), identity="data", **values):
        return SweepPlan(budget_s, ranks, rates, tmp_path / "sweep", identity, record, **values)

    return make


def compute_bowl(point):
    """A log loss whose least value lies at rank 8 and twice the starting rate."""
    return {"log_loss": 1.0 + abs(math.log2(point.r / 8)) + abs(math.log2(point.learning_rate / 0.004)), "n": 40, "accuracy": 0.5}


def make_measure(clock, seconds=10.0, tried=None):
    """A trial of ten steps that take `seconds` in all."""

    def measure(point, directory, on_progress, should_stop):
        directory.mkdir(parents=True, exist_ok=True)
        if tried is not None:
            tried.append(point)
        for step in range(1, 11):
            clock.now += seconds / 10
            on_progress(Step("training", step, 10))
            if should_stop():
                raise CancelledError("the training was cancelled")
        return compute_bowl(point)

    return measure


def measured(point, log_loss):
    return Trial(point.r, point.learning_rate, "measured", 1.0, log_loss=log_loss)


def test_the_grid_holds_the_start_even_where_neither_list_names_it():
    grid = build_grid(Point(10, 0.003), ranks=(4,), rates=(3.0,))
    assert grid == [[Point(4, 0.003), Point(4, 0.009)], [Point(10, 0.003), Point(10, 0.009)]]


def test_the_start_comes_first_then_what_is_nearest_to_the_best():
    grid = build_grid(START, ranks=(8, 16, 32), rates=(0.5, 1.0, 2.0))
    assert choose_next(grid, START, []) == START
    trials = [measured(START, 1.0)]
    assert choose_next(grid, START, trials) == Point(16, 0.001)
    trials.append(measured(Point(16, 0.001), 1.5))
    assert choose_next(grid, START, trials) == Point(16, 0.004)
    trials.append(measured(Point(16, 0.004), 0.5))
    assert choose_next(grid, START, trials) == Point(8, 0.004)  # beside the best, not beside the start
    assert choose_best(trials) == Point(16, 0.004)


def test_of_equal_scores_the_first_wins():
    assert choose_best([measured(START, 1.0), measured(Point(8, 0.002), 1.0)]) == START
    assert choose_best([Trial(16, 0.002, "failed", 1.0)]) is None


@pytest.mark.parametrize(("lead", "is_changed"), [(0.5 * WORTH, False), (1.5 * WORTH, True)])
def test_the_runs_own_settings_stay_unless_another_point_is_better_by_what_is_worth_a_change(make_plan, record, lead, is_changed):
    better = Point(32, 0.002)

    def measure(point, directory, *rest):
        directory.mkdir(parents=True)
        return {"log_loss": {START: 1.0, better: 1.0 - lead}.get(point, 2.0), "n": 10}

    point, directory = run_sweep(START, make_plan(), measure)
    assert point == (better if is_changed else START)
    assert directory.is_dir()
    assert record.figures["sweep"]["chosen"] == {"r": point.r, "learning_rate": point.learning_rate}


def test_a_start_that_does_not_train_gives_way_to_whatever_does():
    assert choose_final(START, [Trial(16, 0.002, "failed", 1.0), measured(Point(8, 0.002), 3.0)]) == Point(8, 0.002)
    assert choose_final(START, []) == START


def test_with_time_enough_each_point_is_tried_once_and_the_best_is_kept(make_plan, record):
    clock, tried = Clock(), []
    point, directory = run_sweep(START, make_plan(clock=clock), make_measure(clock, tried=tried))
    assert point == Point(8, 0.004)
    assert len(tried) == len(set(tried)) == 9
    assert tried.index(Point(8, 0.004)) <= 4
    figures = record.figures["sweep"]
    assert figures["chosen"] == {"r": 8, "learning_rate": 0.004}
    assert figures["start"] == {"r": 16, "learning_rate": 0.002}
    assert figures["spent_s"] == 90.0
    assert [trial["seconds"] for trial in figures["trials"]] == [10.0] * 9
    assert [path.name for path in directory.parent.iterdir() if path.is_dir()] == ["r8-lr0.004"]


def test_the_sweep_ends_with_its_budget_and_begins_nothing_that_it_cannot_finish(make_plan, record):
    clock, tried = Clock(), []
    run_sweep(START, make_plan(budget_s=35.0, clock=clock), make_measure(clock, tried=tried))
    assert len(tried) == 3
    assert clock.now == pytest.approx(30.0)
    assert all(trial["outcome"] == "measured" for trial in record.figures["sweep"]["trials"])


def test_a_trial_that_outlasts_the_budget_is_stopped_and_the_best_before_it_kept(make_plan, record):
    clock = Clock()
    quick, slow = make_measure(clock, seconds=10.0), make_measure(clock, seconds=100.0)

    def measure(point, *rest):
        return (quick if point == START else slow)(point, *rest)

    point, _ = run_sweep(START, make_plan(budget_s=50.0, clock=clock), measure)
    assert point == START
    assert clock.now == pytest.approx(50.0)
    last = record.figures["sweep"]["trials"][-1]
    assert (last["outcome"], last["log_loss"], last["note"]) == ("not finished", None, "the time was over")


def test_without_time_for_one_trial_the_run_goes_on_in_what_it_had_begun(make_plan, record):
    clock = Clock()
    point, directory = run_sweep(START, make_plan(budget_s=5.0, clock=clock), make_measure(clock))
    assert (point, directory.name) == (START, "r16-lr0.002")
    assert directory.is_dir()
    assert record.figures["sweep"]["is_measured"] is False


def test_a_trial_that_does_not_train_is_noted_and_the_others_go_on(make_plan, record):
    def measure(point, *rest):
        if point.learning_rate > 0.003:
            raise TrainingDataError("the loss is no number any more")
        return {"log_loss": math.nan if point.r == 32 else 1.0, "n": 10}

    point, _ = run_sweep(START, make_plan(), measure)
    assert point == START
    trials = record.figures["sweep"]["trials"]
    assert {trial["note"] for trial in trials if trial["learning_rate"] > 0.003} == {"the loss is no number any more"}
    assert {trial["outcome"] for trial in trials if trial["r"] == 32} == {"failed"}
    assert len(trials) == 9


@pytest.mark.parametrize(
    "error", [ExportError("a matrix holds values that are no numbers"), NoEffectError("the LoRA weights change nothing")]
)
def test_a_trial_whose_adapter_cannot_be_served_costs_itself_and_not_the_run(make_plan, record, error):
    def measure(point, *rest):
        if point == START:
            raise error
        return {"log_loss": 1.0, "n": 10}

    point, _ = run_sweep(START, make_plan(), measure)
    assert point != START
    first = record.figures["sweep"]["trials"][0]
    assert (first["outcome"], first["note"]) == ("failed", str(error))


def test_a_sweep_that_was_cancelled_goes_on_after_its_finished_trials_and_counts_what_was_spent(make_plan, record):
    clock, tried = Clock(), []
    record.stop_at = "trial 3 (r 16, learning rate 0.004): training 6"
    with pytest.raises(RunCancelledError):
        run_sweep(START, make_plan(clock=clock), make_measure(clock, tried=tried))
    record.stop_at = None
    run_sweep(START, make_plan(clock=clock), make_measure(clock, tried=tried))
    assert len(tried) == 10  # the third was begun twice
    trials = record.figures["sweep"]["trials"]
    assert len(trials) == 9
    assert trials[2]["seconds"] == pytest.approx(16.0, abs=2.1)
    assert record.figures["sweep"]["spent_s"] == pytest.approx(96.0, abs=2.1)


def test_a_finished_sweep_is_not_repeated_and_another_one_is(make_plan):
    clock, tried = Clock(), []
    plan = make_plan(clock=clock)
    run_sweep(START, plan, make_measure(clock, tried=tried))
    run_sweep(START, plan, make_measure(clock, tried=tried))
    assert len(tried) == 9
    run_sweep(START, make_plan(clock=clock, identity="other data"), make_measure(clock, tried=tried))
    assert len(tried) == 18


def test_a_damaged_ledger_costs_time_not_the_run(make_plan):
    clock, tried = Clock(), []
    plan = make_plan(clock=clock, ranks=(16,))
    plan.directory.mkdir()
    (plan.directory / LEDGER_FILE).write_text('{"fingerprint": ')
    run_sweep(START, plan, make_measure(clock, tried=tried))
    assert len(tried) == 3


@pytest.fixture(scope="session")
def encoder_base(tmp_path_factory):
    return make_tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny.gguf")


@pytest.fixture(scope="session")
def decoder_base(tmp_path_factory):
    return make_tiny_decoder(tmp_path_factory.mktemp("decoder") / "tiny.gguf")


def train_in(train, directory, seen, **values):
    return train(checkpoint_dir=directory, on_progress=seen.append, should_stop=lambda: False, run=RUN, **values)


@pytest.mark.train
def test_an_encoder_is_trained_with_the_best_trial_and_repeats_nothing_of_it(
    encoder_base, make_plan, record, tmp_path, monkeypatch
):
    monkeypatch.setattr(sweep, "WORTH", 0.0)
    examples = make_examples(48)
    plan = make_plan(ranks=(2,), rates=(10.0,))
    settings, directory = sweep_encoder(examples, LABELS, base_gguf=encoder_base, settings=ENCODER, plan=plan, run=RUN)
    figures = record.figures["sweep"]
    assert {(trial["r"], trial["learning_rate"]) for trial in figures["trials"]} == {(4, 2e-3), (4, 2e-2), (2, 2e-3), (2, 2e-2)}
    best = min(figures["trials"], key=lambda trial: trial["log_loss"])
    assert (settings.r, settings.learning_rate) == (best["r"], best["learning_rate"])
    assert settings.lora_alpha / settings.r == ENCODER.lora_alpha / ENCODER.r
    seen = []
    values = {"examples": examples, "labels": LABELS, "base_gguf": encoder_base, "settings": settings}
    bundle = train_in(train_encoder, directory, seen, **values)
    assert not any(step.phase.startswith("trial") for step in seen)
    alone = train_in(train_encoder, tmp_path / "alone", [], **values)
    for name in (ADAPTER_FILE, HEAD_FILE, CALIBRATION_FILE):
        assert (bundle / name).read_bytes() == (alone / name).read_bytes()


@pytest.mark.train
def test_an_encoders_score_is_the_log_loss_of_its_calibrated_answers_to_what_it_had_not_seen(
    encoder_base, make_plan, record, tmp_path
):
    examples = make_examples(40)
    _, directory = sweep_encoder(
        examples, LABELS, base_gguf=encoder_base, settings=ENCODER, plan=make_plan(ranks=(4,), rates=(1.0,)), run=RUN
    )
    trial = record.figures["sweep"]["trials"][0]
    calibration = Calibration.model_validate_json(
        (
            train_in(train_encoder, directory, [], examples=examples, labels=LABELS, base_gguf=encoder_base, settings=ENCODER)
            / CALIBRATION_FILE
        ).read_bytes()
    )
    losses, is_right = [], []
    for number, part in enumerate(prepare(examples, LABELS, ENCODER).parts):
        answers = load_file(directory / f"trial-{number}.safetensors")
        assert set(answers["rows"]) <= set(part.held_out)
        share = calibration.lexical_weight
        for row, encoder, lexical in zip(answers["rows"], answers["encoder"], answers["lexical"], strict=True):
            mixed = ((1 - share) * encoder.astype(float) + share * lexical.astype(float)) / calibration.temperature
            label = [each.name for each in LABELS].index(examples[row].label)
            losses.append(np.log(np.exp(mixed).sum()) - mixed[label])
            is_right.append(mixed.argmax() == label)
    assert trial["n"] == len(losses) >= 10
    assert trial["log_loss"] == pytest.approx(np.mean(losses), abs=1e-3)
    assert trial["accuracy"] == pytest.approx(np.mean(is_right), abs=1e-4)


@pytest.mark.train
def test_a_sweep_killed_in_its_second_trial_ends_as_one_that_was_not(encoder_base, make_plan, record, tmp_path):
    examples, grid = make_examples(48), {"ranks": (4,), "rates": (0.5, 4.0)}
    script = f"""
        from pathlib import Path
        from tests.training.test_sweep import *
        plan = SweepPlan(1000.0, (4,), (0.5, 4.0), Path({str(tmp_path / "sweep")!r}), "data",
                         lambda *_, message=None, **__: print(message, flush=True))
        settings = ENCODER.model_copy(update={{"checkpoint_seconds": 0.0}})
        sweep_encoder(make_examples(48), LABELS, base_gguf=Path({str(encoder_base)!r}), settings=settings, plan=plan, run=RUN)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            if "trial 2" in line and line.strip().endswith("trial 1 of 2 2 of 3"):
                child.kill()
    assert child.returncode == -9
    assert len(json.loads((tmp_path / "sweep" / LEDGER_FILE).read_text())["trials"]) == 1

    values = {"base_gguf": encoder_base, "settings": ENCODER, "run": RUN}
    resumed = sweep_encoder(examples, LABELS, plan=make_plan(**grid), **values)
    assert not any("trial 1 (r" in message for message in record.messages)
    second = [message for message in record.messages if "trial 2 (r" in message and "trial 1 of 2" in message]
    assert second[0].endswith("3 of 3")
    trials = record.figures["sweep"]["trials"]
    whole = sweep_encoder(
        examples, LABELS, plan=SweepPlan(1_000.0, (4,), (0.5, 4.0), tmp_path / "whole", "data", record), **values
    )
    assert resumed[0] == whole[0]
    assert [trial["log_loss"] for trial in trials] == [trial["log_loss"] for trial in record.figures["sweep"]["trials"]]


@pytest.mark.train
def test_a_decoder_goes_on_from_the_best_trials_weights(decoder_base, make_plan, record):
    examples = make_decoder_examples(10)
    settings, directory = sweep_decoder(
        examples, DECODER_LABELS, base_gguf=decoder_base, settings=DECODER, plan=make_plan(ranks=(4,), rates=(4.0,)), run=RUN
    )
    trials = record.figures["sweep"]["trials"]
    assert [trial["outcome"] for trial in trials] == ["measured"] * 2
    assert all(trial["n"] == 4 for trial in trials)
    assert settings.learning_rate == min(trials, key=lambda trial: trial["log_loss"])["learning_rate"]
    assert len(record.losses) == record.losses[-1][0] == record.losses[-1][1]  # each step of the winner's once
    seen = []
    values = {"examples": examples, "labels": DECODER_LABELS, "base_gguf": decoder_base, "settings": settings}
    bundle = train_in(train_decoder, directory, seen, **values)
    assert "training" not in {step.phase for step in seen}
    assert Manifest.model_validate_json((bundle / MANIFEST_FILE).read_bytes()).r == settings.r


def make_summaries(split, *, n=6):
    return [
        SummaryExample(
            text=MaskedText(f"hello my {thing} is broken please help"),
            summary=MaskedText(f"the {thing} needs support"),
            draft=MaskedText(f"the {thing}"),
            split=split,
        )
        for thing in "printer toner monitor keyboard laptop password".split()[:n]
    ]


@pytest.mark.train
def test_a_summary_decoder_learns_from_edits_once_after_the_sweep(decoder_base, make_plan, record):
    examples = [*make_summaries("train"), *make_summaries("validation", n=2)]
    wanted = DECODER.model_copy(update={"preference_epochs": 2, "preference_min_pairs": 2})
    settings, directory = sweep_summary_decoder(
        examples, base_gguf=decoder_base, settings=wanted, plan=make_plan(ranks=(2, 4), rates=(1.0,)), run=RUN
    )
    assert not any("learning from edits" in message for message in record.messages)
    assert settings.preference_epochs == 2
    seen = []
    values = {"examples": examples, "base_gguf": decoder_base, "settings": settings}
    train_in(train_summary_decoder, directory, seen, **values)
    phases = {step.phase for step in seen}
    assert "training" not in phases
    assert "learning from edits" in phases


@pytest.mark.train
def test_where_nothing_can_be_held_out_there_is_no_sweep_and_the_record_says_so(encoder_base, decoder_base, make_plan, record):
    plan = make_plan()
    few = make_examples(9)
    assert sweep_encoder(few, LABELS, base_gguf=encoder_base, settings=ENCODER, plan=plan, run=RUN) == (ENCODER, None)
    assert record.figures == {"sweep": {"skipped": NOTHING_HELD_OUT}}
    few = make_decoder_examples(3)
    assert sweep_decoder(few, DECODER_LABELS, base_gguf=decoder_base, settings=DECODER, plan=plan, run=RUN) == (DECODER, None)
    summaries = make_summaries("train")
    assert sweep_summary_decoder(summaries, base_gguf=decoder_base, settings=DECODER, plan=plan, run=RUN) == (DECODER, None)
    assert not plan.directory.exists()


@pytest.mark.train
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_run_records_sweep_and_preference_step_and_its_notes_show_them(make_site, decoder_base):
    site = make_site()
    training = {
        "epochs": 1,
        "r": 4,
        "has_second_masking": False,
        "threads": 2,
        "gate_min_test": 10,
        "min_examples": 20,
        "leak_canaries": 0,
        "sweep_minutes": 10.0,
        "sweep_r": [4],
        "sweep_rates": [2.0],
        "preference_epochs": 1,
    }
    site.settings = Settings(home=site.settings.home, training=training, model={"summary": str(decoder_base)})
    rows = [
        NewExample(
            text=MaskedText(dialogue.turns[0].text),
            turns=tuple({"speaker": turn.speaker, "text": turn.text} for turn in dialogue.turns),
            target=dialogue.summary,
            draft=dialogue.turns[0].text,
        )
        for dialogue in load_demo_dialogues()[:50]
    ]
    site.write(lambda s: add_examples(s, rows, task=TaskKind.SUMMARY, label_set_version="", actor="test"))
    run_id = site.enqueue(task=TaskKind.SUMMARY)
    status = run_training(run_id, site.settings, stop=site.stop)
    run = site.get_run(run_id)
    assert status in {RunStatus.PROMOTED, RunStatus.REJECTED}, run.error
    counts = run.data_counts
    assert len(counts["sweep"]["trials"]) == 2
    preference, chosen = counts["preference"], counts["sweep"]["chosen"]
    assert 8 <= preference["n_pairs"] <= counts["n_train"]
    assert preference["margin"] != 0.0
    assert len(run.curves["loss"]) > 1
    assert len(run.curves["preference_loss"]) > 1
    directory = site.settings.runs_dir / str(run_id)
    notes = (directory / "notes.md").read_text()
    assert f"trained with rank {chosen['r']}, learning rate {chosen['learning_rate']:g}" in notes
    assert f"{preference['n_pairs']} pairs of draft and edited summary" in notes
    assert f"log loss {counts['validation']['log_loss']:.4f}" in notes
    assert "rank 4" in (directory / "card.md").read_text()
