"""How drafts reach a trainer and its figures a run's record: masked once more, only where they are learnt from, and nothing overwritten."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from bot.training_settings import TrainingSettings
from db.queries import runs
from db.tables import Example
from db.types import MaskedText, TaskKind
from training.dataset import build_dataset
from training.notes_training import (
    build_trials,
    describe_passes,
    describe_preference,
    describe_sweep,
    describe_validation,
    get_trained_settings,
)
from training.progress import Progress
from training.trainers import build_summary_examples

START = datetime(2026, 1, 1, tzinfo=UTC)
LEAKY = "call Zebulon back"
SWEEP = {
    "budget_s": 60.0,
    "spent_s": 31.4,
    "is_measured": True,
    "start": {"r": 16, "learning_rate": 0.002},
    "chosen": {"r": 8, "learning_rate": 0.004},
    "trials": [
        {
            "r": 16,
            "learning_rate": 0.002,
            "log_loss": 0.91,
            "accuracy": 0.7,
            "n": 40,
            "seconds": 12.4,
            "outcome": "measured",
            "note": "",
        },
        {
            "r": 32,
            "learning_rate": 0.1,
            "log_loss": None,
            "accuracy": None,
            "n": 0,
            "seconds": 3.0,
            "outcome": "failed",
            "note": "no number",
        },
    ],
}


def build(*, is_checked=True, **settings):
    rows = [
        Example(
            id=number,
            task=TaskKind.SUMMARY,
            text=" ".join(f"word{number * 31 + place}" for place in range(12)),
            target=f"summary {number}",
            draft=LEAKY if number % 2 else f"draft {number}",
            created_at=START + timedelta(minutes=number),
        )
        for number in range(1, 81)
    ]
    checked = []

    def check(text):
        checked.append(text)
        return "Zebulon" in text

    dataset = build_dataset(
        lambda: iter(rows),
        TaskKind.SUMMARY,
        labels=(),
        settings=TrainingSettings(**settings),
        check=check if is_checked else None,
    )
    return dataset, checked


def test_a_draft_with_new_personal_data_is_dropped_and_its_example_stays():
    dataset, _ = build(preference_epochs=2)
    examples = build_summary_examples(dataset, has_drafts=True)
    assert len(examples) == len(dataset.train) + len(dataset.validation)
    drafts = {example.summary: example.draft for example in examples}
    assert drafts["summary 1"] is None
    assert drafts["summary 2"] == "draft 2"
    assert LEAKY not in drafts.values()


def test_drafts_are_neither_masked_nor_handed_over_where_nothing_learns_from_them():
    dataset, checked = build()
    assert not any("draft" in text or "Zebulon" in text for text in checked)
    assert all(example.draft is None for example in build_summary_examples(dataset))


def test_which_draft_belongs_to_the_judging_tickets_is_left_alone():
    dataset, checked = build(preference_epochs=2)
    assert {bool(item.draft) for item in dataset.test} == {True}
    assert MaskedText(LEAKY) in {item.draft for item in dataset.test}
    assert len(checked) < 2 * 80 + len(dataset.train) + len(dataset.validation) + 1


@pytest.fixture
def progress(make_site):
    site = make_site()
    run_id = site.enqueue()
    site.write(lambda session: runs.start_run(session, run_id, actor="test"))
    site.write(lambda session: runs.update_progress(session, run_id, data_counts={"n_train": 80, "sweep": {"old": 1}}))
    return Progress(site.db_engine, run_id, check_lease=lambda: None, stop=threading.Event()), lambda: site.get_run(run_id)


def test_figures_are_added_to_the_counts_at_once(progress):
    reporter, read = progress
    reporter.report("sweep", 1, 10)
    reporter.report(
        "sweep", 1, 10, figures={"sweep": SWEEP}
    )  # within the quarter of a second in which mere steps are not written
    reporter.report("sweep", 1, 10, figures={"preference": {"n_pairs": 3}})
    assert read().data_counts == {"n_train": 80, "sweep": SWEEP, "preference": {"n_pairs": 3}}


def test_the_loss_of_learning_from_edits_is_a_curve_of_its_own(progress):
    reporter, _ = progress
    reporter.report("training", 1, 1, loss=2.0)
    reporter.report("learning from edits", 1, 1, loss=0.7)
    assert reporter.curves.series == {"loss": [[1.0, 2.0]], "preference_loss": [[1.0, 0.7]]}


def test_notes_say_what_a_sweep_chose_and_list_every_trial():
    counts = {"sweep": SWEEP, "settings": {"r": 16, "learning_rate": None, "mode": "nf4"}}
    lines = describe_sweep(counts)
    assert lines[0] == "2 trials in 31 of 60 s"
    assert (
        lines[1] == "trained with rank 8, learning rate 0.004; without the sweep it would have been rank 16, learning rate 0.002"
    )
    assert build_trials(counts)[1:] == [
        ("16", "0.002", "0.9100", "0.7000", "40", "12", "measured"),
        ("32", "0.1", "", "", "0", "3", "failed: no number"),
    ]
    assert get_trained_settings(counts) == {"r": 8, "learning_rate": 0.004, "mode": "nf4"}


def test_notes_of_a_sweep_without_a_measured_trial_say_what_was_trained_with():
    lines = describe_sweep({"sweep": SWEEP | {"is_measured": False, "chosen": SWEEP["start"]}})
    assert lines[1] == "no trial was measured in that time: trained with rank 16, learning rate 0.002"


def test_notes_say_why_a_step_was_skipped_and_nothing_where_there_is_none():
    counts = {"sweep": {"skipped": "too few"}, "preference": {"n_pairs": 0, "skipped": "off"}}
    assert describe_sweep(counts) == ["skipped: too few"]
    assert build_trials(counts) == []
    assert describe_preference(counts) == ["skipped: off"]
    assert (
        describe_sweep({}) == build_trials({}) == describe_preference({}) == describe_passes({}) == describe_validation({}) == []
    )
    assert get_trained_settings({"sweep": {"skipped": "too few"}, "settings": {"r": 4}}) == {"r": 4}


def test_notes_show_pairs_that_were_learnt_from_and_others():
    figures = {"accuracy_before": 0.25, "accuracy_after": 0.75, "margin": 0.5, "edited_change": 1.0, "draft_change": -4.0}
    step = {
        "n_pairs": 12,
        "n_held_out": 4,
        "beta": 0.1,
        "epochs": 3,
        **figures,
        **{f"held_out_{k}": v for k, v in figures.items()},
    }
    lines = describe_preference({"preference": step})
    assert lines[0] == "12 pairs of draft and edited summary, 3 passes, beta 0.1"
    assert lines[1].startswith("12 pairs it learned from: the edited summary is the likelier one in 25 % before and 75 % after")
    assert lines[2].startswith("4 pairs it did not learn from")
    assert "mean margin +0.500, log-probability of the edit +1.00, of the draft -4.00" in lines[2]
    assert describe_validation({"validation": {"n": 9, "log_loss": 1.25, "accuracy": 0.5}}) == [
        "9 held-out examples: log loss 1.2500, accuracy 0.500"
    ]


@pytest.mark.parametrize(
    "values", [{"sweep_r": [0]}, {"sweep_r": []}, {"sweep_r": [257]}, {"sweep_rates": [0.0]}, {"sweep_rates": []}]
)
def test_grids_that_no_run_could_train_are_refused(values):
    with pytest.raises(ValueError, match="sweep_r"):
        TrainingSettings(**values)


def test_the_passes_of_a_decoder_are_told_with_the_one_that_was_kept():
    passes = {"n_planned": 12, "n_done": 4, "n_kept": 2, "held_out_losses": [1.0, 0.5, 0.6, 0.7]}
    (line,) = describe_passes({"passes": passes})
    assert line == "4 of 12 passes, the weights of pass 2 kept; held-out loss after each: 1.000, 0.500, 0.600, 0.700"
