"""What is kept of a run: lineage, release notes with plots, the model card with its licence, and the trackers."""

import sys
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from bot.training_settings import TrainingSettings
from db.queries import lineage
from db.queries.licences import approve_licence, upsert_licence
from db.tables import Audit, GateReport, TrainingRun
from db.types import MaskedText, ModelKind, RunStatus, RunTrigger, Split, TaskKind
from tests.training.test_pipeline import fake_train, make_judge
from training import pipeline
from training.dataset import Item, build_dataset
from training.errors import TrainingError
from training.model_card import build_model_card
from training.notes import RunRecord, render_markdown, write_notes
from training.pipeline import run_training
from training.plots import plot_confusion
from training.records import record_lineage
from training.tracking import build_tracked, track_run

NUMBERS = {
    "n_test": 40,
    "candidate_accuracy": 0.9,
    "candidate_coverage_at_95": 0.625,
    "confusion": [[0, 0, 10], [0, 1, 2], [1, 1, 28]],
    "label_names": ["billing", "refund"],
    "per_label": {
        "billing": {
            "support": 12.0,
            "before_f1": 0.5,
            "after_f1": 0.9,
            "before_recall": 0.4,
            "after_recall": 0.8,
            "before_coverage_at_95": 0.0,
            "after_coverage_at_95": 0.75,
        }
    },
}


@pytest.fixture
def record():
    run = TrainingRun(
        id=7,
        task=TaskKind.CLASSIFICATION,
        status=RunStatus.PROMOTED,
        trigger=RunTrigger.MANUAL,
        actor="ana",
        adapter_digest="c" * 64,
        data_digest="d" * 64,
        data_counts={
            "n_train": 80,
            "base_digest": "b" * 64,
            "label_set_version": "v1",
            "settings": {"r": 8, "mode": "nf4", "seed": 0},
        },
        curves={"loss": [[1, 1.0], [2, 0.5]]},
    )
    report = GateReport(run_id=7, adapter_digest="c" * 64, is_passed=True, reasons=["better: 90 %"], numbers=NUMBERS)
    approved = Audit(
        id=1, at=datetime.now(UTC), actor="bo", action="adapter.approve", subject_type="adapter", subject_id="c" * 64
    )
    return RunRecord(run=run, report=report, decisions=(approved,))


def note_licence(session):
    upsert_licence(
        session,
        base_digest="b" * 64,
        model_name="Tiny",
        source="example",
        revision="1",
        licence="apache-2.0",
        noted_on="2026-01-01",
        restrictions="name the authors",
        actor="ana",
    )
    return approve_licence(session, "b" * 64, actor="bo")


def test_notes_show_each_label_before_and_after_and_draw_the_confusion(record, tmp_path):
    text = write_notes(record, tmp_path).read_text()
    assert "| billing | 12 | 0.500 | 0.900 | 0.400 | 0.800 | 0.000 | 0.750 |" in text
    assert "(confusion.png)" in text
    assert (tmp_path / "confusion.png").stat().st_size > 1_000


def test_a_confusion_of_nothing_is_not_drawn(tmp_path):
    assert plot_confusion([], [], tmp_path / "c.png") is None


def test_the_card_names_base_licence_data_use_limits_and_figures(record, make_site):
    site = make_site()
    card = render_markdown(build_model_card(record, site.write(note_licence)))
    for part in ("Tiny", "apache-2.0", "approved by bo", "name the authors", "suggest one label", "d" * 64, "80 examples"):
        assert part in card
    assert "| share that could go out unseen with 95 % right | 0.625 |" in card
    assert "| billing | 12 | 0.900 | 75 % |" in card
    assert "Known limits" in card


def test_a_card_without_a_licence_note_says_so(record):
    assert "no licence note is recorded" in render_markdown(build_model_card(record, None))


@pytest.mark.parametrize(
    ("mode", "held_as", "said"), [("nf4", None, "nf4,"), ("nf4", "nf4", "nf4,"), ("faithful", "blocks", "faithful (blocks),")]
)
def test_a_card_says_what_the_base_was_held_as(record, mode, held_as, said):
    counts = {
        **record.run.data_counts,
        "settings": {"r": 8, "mode": mode},
        **({"holding": {"held_as": held_as}} if held_as else {}),
    }
    record.run.data_counts = counts
    assert f"frozen weights held as {said}" in render_markdown(build_model_card(record, None))


def test_a_run_leaves_lineage_card_and_notes_and_the_adapter_is_found_from_each_example(make_site, monkeypatch):
    site = make_site(gate_max_ece=0.9)
    site.add_tickets(150)
    monkeypatch.setattr(pipeline, "train", fake_train)
    monkeypatch.setattr(pipeline, "judge", make_judge(0.9, 0.3))
    run_id = site.enqueue()
    run_training(run_id, site.settings, stop=site.stop)
    row = site.get_run(run_id)
    uses = site.read(lambda session: lineage.count_uses(session, run_id))
    assert uses[Split.TRAIN] == row.data_counts["n_train"]
    assert uses[Split.VALIDATION] == row.data_counts["n_validation"]
    assert uses[Split.TEST] == row.data_counts["n_test"]
    traces = site.read(lambda session: lineage.trace_adapter(session, row.adapter_digest))
    assert len(traces) == sum(uses.values())
    (found,) = site.read(lambda session: lineage.trace_example(session, traces[0].example_id))
    assert found.adapter_digest == row.adapter_digest
    folder = site.settings.runs_dir / str(run_id)
    assert row.adapter_digest in (folder / "card.md").read_text()
    assert (folder / "confusion.png").exists()


def test_lineage_is_written_anew_when_a_run_is_taken_up_again(make_site):
    site = make_site()
    run_id = site.enqueue()
    dataset = build_dataset(list, TaskKind.SUMMARY, labels=(), settings=TrainingSettings())
    item = Item(
        id=1,
        text=MaskedText("t"),
        turns=(),
        target="s",
        draft=None,
        weight=1.0,
        created_at=datetime.now(UTC),
        is_golden=True,
        is_blind=False,
    )
    for _ in range(2):
        record_lineage(replace(dataset, test=(item,)), run_id, write=site.write)
    assert site.read(lambda session: lineage.count_uses(session, run_id)) == {Split.GOLDEN: 1}


@pytest.mark.parametrize(
    ("task", "kind", "n"),
    [
        (TaskKind.SUMMARY, ModelKind.DECODER, 4),
        (TaskKind.SUMMARY, ModelKind.ENCODER, 0),
        (TaskKind.CLASSIFICATION, ModelKind.DECODER, 0),
    ],
)
def test_secrets_are_planted_only_where_a_decoder_learns_to_write(make_site, monkeypatch, task, kind, n):
    monkeypatch.setattr(pipeline, "read_model_head", lambda path: path)
    monkeypatch.setattr(pipeline, "choose_kind", lambda head: kind)
    job = SimpleNamespace(settings=make_site().settings, task=task, run_id=1, base_path=None)
    assert len(pipeline._make_canaries(job)) == n


def test_a_tracker_that_is_missing_is_named_with_what_to_install(record, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(TrainingError, match=r"training\.tracking is 'mlflow' .*: run `pip install mlflow-skinny`"):
        track_run(record, tmp_path, settings=TrainingSettings(tracking="mlflow"), home=tmp_path)
    track_run(record, tmp_path, settings=TrainingSettings(), home=tmp_path)


def test_what_a_tracker_refuses_does_not_change_the_run(make_site, monkeypatch, caplog):
    site = make_site(gate_max_ece=0.9, tracking="mlflow")
    site.add_tickets(150)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setattr(pipeline, "train", fake_train)
    monkeypatch.setattr(pipeline, "judge", make_judge(0.9, 0.3))
    run_id = site.enqueue()
    assert run_training(run_id, site.settings, stop=site.stop) is RunStatus.PROMOTED
    assert "pip install mlflow-skinny" in caplog.text


def test_what_is_sent_holds_settings_figures_curves_and_pages(record, tmp_path):
    write_notes(record, tmp_path)
    tracked = build_tracked(record, tmp_path)
    assert tracked.params["r"] == "8"
    assert tracked.metrics == {"n_train": 80, "n_test": 40, "candidate_accuracy": 0.9, "candidate_coverage_at_95": 0.625}
    assert tracked.curves == {"loss": [(1, 1.0), (2, 0.5)]}
    assert {path.name for path in tracked.files} >= {"notes.md", "confusion.png", "loss.png"}
    assert tracked.tags["understudy.adapter"] == "c" * 64


@pytest.mark.filterwarnings("ignore")  # another project's library
def test_mlflow_keeps_a_run_in_a_local_folder(record, tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="mlflow-skinny is an extra and not installed")
    write_notes(record, tmp_path / "run")
    track_run(record, tmp_path / "run", settings=TrainingSettings(tracking="mlflow"), home=tmp_path)
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("understudy")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.data.params["r"] == "8"
    assert found.data.metrics["candidate_accuracy"] == 0.9
    assert [point.value for point in client.get_metric_history(found.info.run_id, "loss")] == [1.0, 0.5]
    assert "notes.md" in {entry.path for entry in client.list_artifacts(found.info.run_id)}
