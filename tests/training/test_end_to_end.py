"""Real training on the embedded default model: what is better goes live, what is poisoned does not, what is killed is finished."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from bot.data import load_demo_dialogues, load_demo_tickets
from db.queries import adapters, gate, leases, runs
from db.queries.examples import NewExample, add_examples
from db.types import MaskedText, RunStatus, TaskKind
from training.pipeline import run_training

pytestmark = [
    pytest.mark.train,
    # PEFT asks transformers for an attribute that transformers renames: https://github.com/huggingface/peft
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
DEADLINE_S = 240.0
QUICK = {"epochs": 4, "r": 8}


def wait_for(condition):
    ends_at = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        if time.monotonic() > ends_at:
            pytest.fail("what was waited for did not happen")
        time.sleep(0.1)
    return found


@contextlib.contextmanager
def daemon_of(site, **training):
    variables = {f"UNDERSTUDY_TRAINING_{name.upper()}": str(value) for name, value in training.items()}
    environment = {
        **os.environ,
        "UNDERSTUDY_HOME": str(site.settings.home),
        "UNDERSTUDY_TRAINING_POLL_INTERVAL_S": "0.1",
        **variables,
    }
    process = subprocess.Popen([sys.executable, "-m", "training", "daemon"], env=environment, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


def get_child_pid(site):
    holder = site.read(lambda session: leases.get_holder(session, leases.TRAINING))
    return int(holder.rpartition(":")[2]) if holder else None


def test_a_real_gain_is_promoted_on_the_served_artefact(make_site):
    site = make_site(**QUICK)
    site.add_tickets(240)
    run_id = site.enqueue()
    assert run_training(run_id, site.settings, stop=site.stop) is RunStatus.PROMOTED, site.get_run(run_id).message
    row = site.get_run(run_id)
    report = site.read(lambda session: gate.get_gate_report(session, run_id=run_id))
    assert report.numbers["candidate_accuracy"] > report.numbers["base_accuracy"] + 0.1
    live = site.read(lambda session: adapters.get_active(session, TaskKind.CLASSIFICATION))
    assert (site.settings.adapters_dir / live.path / "adapter.gguf").exists()
    assert row.data_digest in (site.settings.runs_dir / str(run_id) / "notes.md").read_text()


def test_shuffled_labels_are_refused(make_site):
    site = make_site(epochs=2, r=8)
    labels = [ticket.label for ticket in load_demo_tickets().stream[:160]]
    shuffled = np.random.default_rng(0).permutation(labels).tolist()
    site.add_tickets(160, relabel=lambda place, _: shuffled[place])
    run_id = site.enqueue()
    assert run_training(run_id, site.settings, stop=site.stop) is RunStatus.REJECTED
    report = site.read(lambda session: gate.get_gate_report(session, run_id=run_id))
    assert any("may not belong to their texts" in reason for reason in report.reasons)
    assert site.read(lambda session: adapters.get_active(session, TaskKind.CLASSIFICATION)) is None


def test_a_run_killed_in_training_is_taken_up_from_its_checkpoint_and_finished(make_site):
    site = make_site()
    site.add_tickets(160)
    with daemon_of(site, epochs=8, r=8, checkpoint_seconds=0, has_second_masking="false"):
        run_id = site.enqueue()
        checkpoint = site.settings.runs_dir / str(run_id) / "work" / "checkpoint.safetensors"
        wait_for(lambda: checkpoint.exists() and site.get_run(run_id).loss is not None)
        killed = get_child_pid(site)
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: site.get_run(run_id).finished_at)
    row = site.get_run(run_id)
    assert row.status in {RunStatus.PROMOTED, RunStatus.REJECTED}, row.error
    assert row.attempts == 2
    first_steps = [int(step) for step in re.findall(r"trial 1 of 2 from step (\d+) of", site.get_log(run_id))]
    assert len(first_steps) == 2
    assert first_steps[0] == 1 < first_steps[1]


def test_a_run_cancelled_in_training_stops_and_leaves_no_checkpoint(make_site):
    site = make_site()
    site.add_tickets(160)
    with daemon_of(site, epochs=200, r=8, has_second_masking="false"):
        run_id = site.enqueue()
        wait_for(lambda: site.get_run(run_id).loss is not None)
        site.write(lambda session: runs.request_cancel(session, run_id, actor="ana"))
        wait_for(lambda: site.get_run(run_id).finished_at)
        wait_for(lambda: get_child_pid(site) is None)
    assert site.get_run(run_id).status is RunStatus.CANCELLED
    assert not (site.settings.runs_dir / str(run_id) / "work").exists()


def test_summaries_that_people_accepted_teach_which_lines_to_show(make_site):
    site = make_site(gate_min_test=10)
    rows = [
        NewExample(
            text=MaskedText(dialogue.turns[0].text),
            turns=tuple({"speaker": turn.speaker, "text": turn.text} for turn in dialogue.turns),
            target=dialogue.summary,
        )
        for dialogue in load_demo_dialogues()[:120]
    ]
    site.write(lambda s: add_examples(s, rows, task=TaskKind.SUMMARY, label_set_version="", actor="test"))
    run_id = site.enqueue(task=TaskKind.SUMMARY)
    status = run_training(run_id, site.settings, stop=site.stop)
    assert status in {RunStatus.PROMOTED, RunStatus.REJECTED}, site.get_run(run_id).error
    report = site.read(lambda session: gate.get_gate_report(session, run_id=run_id))
    assert report.is_passed is (status is RunStatus.PROMOTED)
    assert report.numbers["candidate_overlap"] >= report.numbers["base_overlap"]
    assert 0.1 < report.numbers["candidate_overlap"] < 1.0
