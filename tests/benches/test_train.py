"""The training bench: what its figures are computed from, and how they meet their bars."""

import asyncio
import os
from types import SimpleNamespace

import pytest

from benches import train
from benches.paths import BenchError
from benches.publish import PAGE, TRAIN_BEGIN, TRAIN_END, build_train_figures, write_page
from benches.report import Samples
from benches.train import KEYS, SECTIONS, build_rows, parse_arguments
from benches.train_live import OpenLoad, Phases, compare_latencies, read_peak_bytes, split_by_phase
from benches.train_sides import build_encoder_figures


class _SlowBot:
    """Answers one request at a time, each after `seconds`."""

    def __init__(self, seconds):
        self.bot, self._seconds, self._lock = self, seconds, asyncio.Lock()

    async def classify(self, text, *, source):
        async with self._lock:
            await asyncio.sleep(self._seconds)
        return SimpleNamespace(inference_id=1 if text else None)


class _Ticket:
    id, text = "t", "text"


async def test_a_latency_counts_from_when_its_request_was_due_so_that_a_queue_shows():
    load = OpenLoad(_SlowBot(0.05), [_Ticket()], rate=100.0)
    latencies = await load.run(seconds=0.2)
    assert len(latencies) >= 20
    assert max(latencies) > 5 * min(latencies)
    assert load.n_failed == 0


async def test_a_request_without_a_suggestion_counts_as_failed():
    load = OpenLoad(_SlowBot(0.0), [SimpleNamespace(id="t", text="")], rate=100.0)
    assert len(await load.run(seconds=0.05)) == load.n_failed > 0


def test_the_ratio_is_of_the_99th_percentiles():
    figures = compare_latencies([10.0] * 98 + [50.0] * 2, [10.0] * 98 + [25.0] * 2)
    assert figures["serving_p99_ratio"] == pytest.approx(2.0)
    assert figures["serving_p50_ms_while_training"] == figures["serving_p50_ms_without"] == 10.0


def test_phases_that_come_again_are_added_up():
    phases = Phases()
    for name in ("training", "training", "evaluating", "training", "done"):
        phases.enter(name)
    assert list(phases.seconds) == ["waiting for the training process", "training", "evaluating"]


def test_the_peak_of_a_process_that_has_ended_is_zero():
    assert read_peak_bytes(os.getpid()) > 2**20
    assert read_peak_bytes(2**22 + 1) == 0


def test_the_encoders_ratio_is_the_median_of_the_rounds():
    samples = Samples()
    for ours, peer in ((2.0, 1.0), (30.0, 10.0), (8.0, 2.0)):
        samples.add("ours", ours)
        samples.add("peer", peer)
        samples.add("peer_by_length", 2 * peer)
        samples.add("ours_rss", 1.0)
        samples.add("peer_rss", 2.0)
    figures = build_encoder_figures(samples)
    assert figures["encoder_ratio_vs_peer"] == 3.0
    assert figures["encoder_ratio_vs_peer_by_length"] == 1.5
    assert figures["encoder_examples_per_s"] == 8.0


@pytest.mark.parametrize(
    ("section", "figures", "verdict"),
    [
        ("live", {"trigger_to_live_s": 181.0, "phases_s": {"training": 2.0}}, "<= 180: missed"),
        ("latency", {"serving_p99_ratio": 1.5}, "<= 1.5: met"),
        ("encoder", {"encoder_ratio_vs_peer": 0.99}, ">= 1: missed"),
        ("decoder", {"decoder_ratio_vs_trl": 1.0}, ">= 1: met"),
        ("agreement", {"served_agreement_faithful_q4": 0.975}, ">= 0.98: missed"),
    ],
)
def test_a_table_says_which_bar_is_met(section, figures, verdict):
    assert verdict in [remark for _, _, remark in build_rows(section, figures)]


def test_a_section_that_cannot_be_measured_is_told_and_leaves_the_others(monkeypatch, tmp_path, capsys):
    def measure(section, *, is_quick, threads):
        if section == "decoder":
            raise BenchError("the peer is missing")
        return {"serving_p99_ratio": 1.0}

    written = []
    monkeypatch.setattr(train, "measure", measure)
    monkeypatch.setattr(train, "write_json", lambda name, figures, *, keep: written.append(name) or train.ROOT / "x.json")
    monkeypatch.setattr("sys.argv", ["benches.train", "--quick"])
    with pytest.raises(SystemExit, match="1"):
        train.main()
    assert len(written) == len(SECTIONS) - 1
    assert "bench-train: decoder: the peer is missing" in capsys.readouterr().err


def test_the_slowest_requests_are_found_in_the_phase_they_were_due_in():
    phases = Phases()
    phases.spans = [("training", 0.0, 10.0), ("evaluating", 10.0, 12.0), ("training", 12.0, 14.0), ("done", 14.0, 14.0)]
    asked = [(1.0, 5.0), (11.0, 70.0), (13.0, 9.0), (20.0, 900.0)]
    assert split_by_phase(asked, phases) == {"training": pytest.approx(8.96), "evaluating": 70.0}


REQUIRED = """trigger_to_live_s peak_rss_bytes encoder_examples_per_s encoder_examples_per_s_peer decoder_tokens_per_s decoder_tokens_per_s_trl
served_agreement_nf4_q4 served_agreement_faithful_q4 serving_p99_ratio"""
MACHINE = {
    "cpu_model": "a processor",
    "cpu_flags": ["avx2"],
    "n_cores": 4,
    "n_threads": 2,
    "versions": {"torch": "2"},
    "measured_at": "2026-01-02T03:04:05+00:00",
}


def make_full_run():
    figures = dict.fromkeys(KEYS, 1.0) | {"encoder_ratio_vs_peer": 2.0, "decoder_ratio_vs_trl": 0.5}
    return (
        figures | {f"{section}_machine": MACHINE for section in SECTIONS} | {f"{section}_is_quick": False for section in SECTIONS}
    )


def test_every_key_that_others_read_is_promised():
    assert set(REQUIRED.split()) <= set(KEYS)


def test_the_tables_of_a_full_run_have_a_remark_for_every_bar():
    text = build_train_figures(make_full_run())
    for title in SECTIONS:
        assert f"### Training: {title}" in text
    for remark in ("<= 180: met", "<= 1.5: met", ">= 1: met", ">= 1: missed", ">= 0.98: met"):
        assert remark in text


@pytest.mark.parametrize("key", KEYS)
def test_a_run_without_one_of_the_keys_is_not_published(key):
    figures = make_full_run()
    figures.pop(key)
    with pytest.raises(BenchError, match=f"no '{key}'"):
        build_train_figures(figures)


@pytest.mark.parametrize("section", SECTIONS)
def test_quick_runs_of_training_are_not_published(section):
    with pytest.raises(BenchError, match=f"bench-train, {section} was a quick run"):
        build_train_figures(make_full_run() | {f"{section}_is_quick": True})


def test_the_figures_of_training_have_marks_of_their_own(monkeypatch):
    monkeypatch.setattr("benches.publish._read", lambda name: make_full_run() if name == "train" else {})
    page = write_page(PAGE.read_text(encoding="utf-8"), ["train"])
    written = page[page.index(TRAIN_BEGIN) : page.index(TRAIN_END)]
    assert "### Training: agreement" in written
    with pytest.raises(BenchError, match="no figures called 'trian'"):
        write_page(page, ["trian"])


def test_the_command_line_names_one_section():
    arguments = parse_arguments(["--only", "live", "--quick"])
    assert (arguments.only, arguments.quick, arguments.threads) == ("live", True, 2)
