"""How a run can end, with the trainer and the judge replaced: every way leaves one status, one sentence and no ticket text."""

import logging
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from bot.bundle import MANIFEST_FILE, Calibration, Manifest, Probe, seal, write_json
from db.errors import RunConflictError
from db.queries import adapters, gate, leases, lineage, runs
from db.queries.audit import list_audit
from db.queries.wanted import list_wanted
from db.types import AdapterStatus, ModelKind, RunStatus, RunTrigger, Split, TaskKind
from training import pipeline, preparation
from training.contest import Answers, Contest
from training.dataset import build_dataset
from training.gate import decide
from training.lease import LeaseTakenError, build_holder
from training.pipeline import run_training
from training.progress import Progress, RunCancelledError, RunStoppedError

SECRET = "the customer said: my dog is called Bello"


def fake_train(job):
    """Write a bundle without weights, after a few reported steps."""
    for step in range(1, 4):
        job.report("training", step, 3, loss=1.0 / step)
    folder = job.work_dir / "bundle"
    folder.mkdir(parents=True)
    manifest = Manifest(
        task=TaskKind.CLASSIFICATION,
        model_kind=ModelKind.ENCODER,
        base_digest="b" * 64,
        label_set_version=job.label_set.version,
        labels=job.label_set.names,
        prompt_version="1",
        run_id=job.run_id,
        created_at=datetime.now(UTC),
    )
    write_json(folder / MANIFEST_FILE, manifest)
    write_json(folder / "calibration.json", Calibration())
    write_json(folder / "probe.json", Probe(texts=(), expected=(), base=()))
    return seal(folder, job.settings.adapters_dir)


def make_judge(candidate, base):
    async def fake_judge(_, dataset, *, label_set, settings, on_step, **more):
        on_step(1, 1)
        gold = np.array([label_set.names.index(item.target) for item in dataset.test])
        n = len(label_set.names)

        def answer(rate):
            right = np.random.default_rng(1).random(len(gold)) < rate
            return Answers(np.eye(n)[np.where(right, gold, (gold + 1) % n)] * 0.6 + 0.4 / n)

        contest = Contest(labels=label_set.names, gold=gold, candidate=answer(candidate), base=answer(base))
        return decide(contest, settings=settings.training)

    return fake_judge


@pytest.fixture
def site(make_site, monkeypatch):
    site = make_site(gate_max_ece=0.9)
    site.add_tickets(150)
    monkeypatch.setattr(pipeline, "train", fake_train)
    monkeypatch.setattr(pipeline, "judge", make_judge(0.9, 0.3))
    return site


def run(site, **values):
    run_id = site.enqueue(**values)
    run_training(run_id, site.settings, stop=site.stop)
    return site.get_run(run_id)


def test_a_gain_is_promoted_with_report_notes_and_an_adapter_that_is_live(site):
    row = run(site)
    assert row.status is RunStatus.PROMOTED, row.error
    assert "accuracy" in row.message
    live = site.read(lambda session: adapters.get_active(session, TaskKind.CLASSIFICATION))
    assert live.digest == row.adapter_digest
    assert live.metrics["candidate_accuracy"] > live.metrics["base_accuracy"]
    assert site.read(lambda session: gate.get_gate_report(session, run_id=row.id)).is_passed
    folder = site.settings.runs_dir / str(row.id)
    notes = (folder / "notes.md").read_text()
    for part in (row.data_digest, "label set", "prompt", "Known limits", "passed", "run.promoted"):
        assert part in notes
    assert {path.name for path in folder.iterdir()} >= {"notes.html", "loss.png", "labels.png", "reliability.png"}
    assert not (folder / "work").exists()
    assert row.curves["loss"]


def test_what_is_erased_while_a_run_trains_marks_its_adapter_and_asks_for_another_run(site, monkeypatch):
    def erase_and_train(job):
        gone = [item.id for item in job.dataset.train[:3]] + [job.dataset.test[0].id]
        site.write(lambda session: lineage.erase_examples(session, example_ids=gone, actor="ana", reason="asked for"))
        return fake_train(job)

    monkeypatch.setattr(pipeline, "train", erase_and_train)
    row = run(site)
    assert row.status is RunStatus.PROMOTED, row.error
    assert row.message.endswith("3 of its examples were erased while it was trained")
    live = site.read(lambda session: adapters.get_active(session, TaskKind.CLASSIFICATION))
    assert (live.n_erased, live.erased_at is not None) == (3, True)
    assert [(wanted.task, wanted.trigger) for wanted in site.read(list_wanted)] == [(TaskKind.CLASSIFICATION, RunTrigger.ERASURE)]
    assert site.read(lambda session: list_audit(session, action=lineage.ACTION_MARKED))[0].subject_id == live.digest


def test_what_is_erased_while_a_run_prepares_does_not_break_it(site, monkeypatch):
    def build_and_erase(*values, **more):
        dataset = build_dataset(*values, **more)
        gone = [dataset.train[0].id]
        site.write(lambda session: lineage.erase_examples(session, example_ids=gone, actor="ana", reason="asked for"))
        return dataset

    monkeypatch.setattr(preparation, "build_dataset", build_and_erase)
    row = run(site)
    assert row.status is RunStatus.PROMOTED, row.error
    assert site.read(lambda session: adapters.get_active(session, TaskKind.CLASSIFICATION)).n_erased == 1


def test_a_candidate_that_is_no_better_is_rejected_with_the_reason(site, monkeypatch):
    monkeypatch.setattr(pipeline, "judge", make_judge(0.5, 0.5))
    row = run(site)
    assert row.status is RunStatus.REJECTED
    assert "learned nothing" in row.message
    adapter = site.read(lambda session: adapters.get_adapter(session, row.adapter_digest))
    assert adapter.status is AdapterStatus.REJECTED
    assert site.read(lambda session: adapters.get_active(session, TaskKind.CLASSIFICATION)) is None


def test_under_the_policy_of_approval_a_passed_candidate_waits(make_site, site):
    waiting = make_site(policy="approval", gate_max_ece=0.9)
    row = run(waiting)
    assert row.status is RunStatus.AWAITING_APPROVAL
    assert site.read(lambda session: adapters.get_active(session, TaskKind.CLASSIFICATION)) is None


def test_too_few_examples_end_as_an_answer_not_as_a_failure(make_site):
    site = make_site()
    site.add_tickets(10)
    row = run(site)
    assert row.status is RunStatus.CANCELLED
    assert row.error is None
    assert row.message.startswith("nothing to train on: needs 4")


def test_a_failure_becomes_one_sentence_and_frames_without_ticket_text(site, monkeypatch, caplog):
    def broken(job):
        raise RuntimeError(SECRET)

    monkeypatch.setattr(pipeline, "train", broken)
    with caplog.at_level(logging.INFO):
        row = run(site)
    assert row.status is RunStatus.FAILED
    assert "an unexpected RuntimeError in test_pipeline.py" in row.error
    assert "in broken" in caplog.text
    told = caplog.text + row.error + (site.settings.runs_dir / str(row.id) / "notes.md").read_text()
    assert "Bello" not in told


def test_a_cancel_is_honoured_at_the_next_step(site, monkeypatch):
    def cancelled_meanwhile(job):
        site.write(lambda session: runs.request_cancel(session, job.run_id, actor="ana"))
        job.report("training", 3, 3)

    monkeypatch.setattr(pipeline, "train", cancelled_meanwhile)
    assert run(site).status is RunStatus.CANCELLED


def test_a_run_that_is_asked_to_stop_stays_as_it_is_and_the_stop_is_not_counted_as_a_death(site, monkeypatch):
    def stopped(job):
        site.stop.set()
        job.report("training", 1, 3)

    monkeypatch.setattr(pipeline, "train", stopped)
    row = run(site)
    assert row.status is RunStatus.TRAINING
    for _ in range(3):
        run_training(row.id, site.settings, stop=site.stop)
    site.stop.clear()
    monkeypatch.setattr(pipeline, "train", fake_train)
    assert run_training(row.id, site.settings, stop=site.stop) is RunStatus.PROMOTED


def test_a_run_that_died_too_often_fails(site):
    run_id = site.enqueue()
    for _ in range(3):
        site.write(lambda session: runs.start_run(session, run_id, actor="test"))
    assert run_training(run_id, site.settings, stop=site.stop) is RunStatus.FAILED
    assert "was killed 3 times" in site.get_run(run_id).error


def test_a_second_training_process_is_refused_while_one_holds_the_lease(site):
    run_id = site.enqueue()
    site.write(lambda session: leases.acquire(session, leases.TRAINING, holder="elsewhere:1", ttl=timedelta(seconds=60)))
    with pytest.raises(LeaseTakenError, match="elsewhere:1 is training at the moment"):
        run_training(run_id, site.settings, stop=site.stop)
    assert site.get_run(run_id).status is RunStatus.QUEUED


def test_a_second_run_is_refused_while_one_is_queued(site):
    site.enqueue()
    with pytest.raises(RunConflictError):
        site.enqueue()


def test_a_run_taken_up_again_sees_the_same_data_though_more_has_come(site, monkeypatch):
    digests = []

    def remember(job):
        digests.append(job.dataset.digest)
        if len(digests) == 1:
            site.add_tickets(100, start=500)
            site.stop.set()
            job.report("training", 1, 3)
        return fake_train(job)

    monkeypatch.setattr(pipeline, "train", remember)
    run_id = site.enqueue()
    run_training(run_id, site.settings, stop=site.stop)
    site.stop.clear()
    assert run_training(run_id, site.settings, stop=site.stop) is RunStatus.PROMOTED
    assert digests[0] == digests[1]


def test_splits_are_written_back_and_settings_of_one_run_are_used(site):
    row = run(site, settings={"test_share": 0.4})
    assert row.data_counts["settings"]["test_share"] == 0.4
    from db.queries.examples import count_examples

    n_test = site.read(lambda session: count_examples(session, TaskKind.CLASSIFICATION, split=Split.TEST))
    assert n_test >= 50


def test_a_setting_that_cannot_be_fails_the_run_by_name(site):
    row = run(site, settings={"test_share": 7})
    assert row.status is RunStatus.FAILED
    assert "training.test_share" in row.error


def test_the_lease_is_given_back_whatever_happened(site, monkeypatch):
    monkeypatch.setattr(pipeline, "train", lambda job: 1 / 0)
    run(site)
    assert site.read(lambda session: leases.get_holder(session, leases.TRAINING)) is None
    assert build_holder().rpartition(":")[2].isdigit()


def test_the_gate_decision_is_audited_with_its_reasons(site):
    row = run(site)
    found = site.read(lambda session: list_audit(session, action="gate.decide"))
    assert found[0].detail["run_id"] == row.id
    assert found[0].detail["reasons"]


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_progress_is_written_at_most_four_times_a_second_and_always_at_the_end_of_a_phase(site):
    import threading

    run_id = site.enqueue()
    site.write(lambda session: runs.start_run(session, run_id, actor="test"))
    clock = Clock()
    progress = Progress(site.db_engine, run_id, check_lease=lambda: None, stop=threading.Event(), clock=clock)
    seen = []
    for step in range(1, 101):
        clock.now += 0.01
        progress.report("training", step, 100, loss=float(step))
        seen.append(site.get_run(run_id).step)
    assert len(set(seen)) <= 6
    assert seen[-1] == 700
    assert len(progress.curves.series["loss"]) == 100


def test_progress_ends_the_run_on_cancel_and_on_stop(site):
    import threading

    run_id = site.enqueue()
    site.write(lambda session: runs.start_run(session, run_id, actor="test"))
    stop = threading.Event()
    progress = Progress(site.db_engine, run_id, check_lease=lambda: None, stop=stop)
    site.write(lambda session: runs.request_cancel(session, run_id, actor="ana"))
    with pytest.raises(RunCancelledError):
        progress.report("training", 1, 3)
    stop.set()
    with pytest.raises(RunStoppedError):
        progress.report("training", 2, 3)
