"""Medians, ratios, tables and the workload: what the published figures rest on."""

import json

import pytest

from benches import report, workload
from benches.decoder_peers import build_grammar
from benches.encoder_peers import cut_batches
from benches.engine import SECTIONS, build_rows, parse_arguments
from benches.paths import BenchError
from benches.publish import BEGIN, END, PAGE, build_figures, replace_figures
from benches.report import Samples, describe_machine, write_json
from benches.swap import combine


def test_a_ratio_is_the_median_of_the_rounds_and_not_of_the_sides():
    samples = Samples()
    for ours, theirs in ((2.0, 1.0), (30.0, 10.0), (8.0, 2.0)):
        samples.add("ours", ours)
        samples.add("theirs", theirs)

    assert samples.ratio("ours", "theirs") == 3.0
    assert samples.medians() == {"ours": 8.0, "theirs": 2.0}


def test_one_section_alone_keeps_the_other_sections_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "BENCH_DIR", tmp_path)
    write_json("x", {"a_per_s": 1.23456, "old": 1})
    path = write_json("x", {"a_per_s": 2.0, "b": {"8": 0.33333}}, keep=True)

    assert json.loads(path.read_text()) == {"a_per_s": 2.0, "old": 1, "b": {"8": 0.3333}}


def test_a_full_run_leaves_no_figure_of_an_earlier_one(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "BENCH_DIR", tmp_path)
    write_json("x", {"old": 1})

    assert json.loads(write_json("x", {"new": 2}).read_text()) == {"new": 2}


def test_the_machine_names_its_threads_and_versions():
    machine = describe_machine(threads=3)

    assert machine["n_threads"] == 3
    assert machine["versions"]["llama-cpp-python"][0].isdigit()


def test_a_missed_bar_is_said_so():
    rows = build_rows("encoder", {"encoder_ratio_vs_llama_server": 1.1, "encoder_limit_fraction": 0.95})

    assert [row[2] for row in rows] == [">= 1.2: missed", ">= 0.9: met"]


def test_the_command_line_knows_every_section():
    assert parse_arguments(["--quick", "--only", "decoder", "--threads", "4"]).threads == 4
    assert {"encoder", "decoder"} == set(SECTIONS)


def test_totals_add_counts_and_take_the_worst_time():
    parts = {"requests": 5, "requests_with_swaps": 2, "swaps": 1, "fresh_loads": 1, "failed": 1, "wrong_adapter": 0}
    times = {"p99_ms_with_swaps": 3.0, "p99_ms_without": 2.0, "p99_ratio": 1.5, "rollback_ms": 9.0, "rss_growth_bytes": 10}
    figures = {f"{kind}_{key}": value for kind in ("encoder", "decoder") for key, value in (parts | times).items()}
    figures["decoder_p99_ratio"] = 1.7

    totals = combine(figures, ["encoder", "decoder"])

    assert (totals["requests"], totals["failed"], totals["p99_ratio"], totals["rollback_ms"]) == (10, 2, 1.7, 9.0)


def test_batches_keep_the_order_and_the_budget():
    assert cut_batches([3, 4, 2, 9, 1], budget=7) == [[0, 1], [2], [3], [4]]


def test_a_grammar_names_answers_token_by_token():
    assert build_grammar([[1, 2], [7]]) == "root ::= <[1]> <[2]> | <[7]>"


def test_made_up_labels_stand_in_where_the_data_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(workload, "BANKING77", tmp_path / "missing.jsonl.gz")
    workload.load_labels.cache_clear()
    try:
        labels = workload.load_labels()
    finally:
        workload.load_labels.cache_clear()

    assert len(set(labels.choices.names)) == 77
    assert labels.source.startswith("made up")
    assert workload.load_short_tickets(3) == ()


def test_banking77_gives_its_own_labels_where_it_is_there():
    if not workload.BANKING77.exists():
        pytest.skip("banking77 is not beside this checkout (../shared/data/classification)")
    workload.load_labels.cache_clear()

    assert len(workload.load_labels().choices.names) == 77
    assert "card_arrival" in workload.load_labels().choices.names
    assert len(workload.load_short_tickets(5)) == 5


def test_tickets_come_in_the_same_order_every_time():
    assert workload.load_tickets(20)[:5] == workload.load_tickets(5)


def test_new_figures_take_the_place_of_the_old_ones():
    page = f"# Page\n{BEGIN}\nold\n{END}\nafter\n"

    assert replace_figures(page, "new") == f"# Page\n{BEGIN}\n\nnew\n{END}\nafter\n"
    assert replace_figures(replace_figures(page, "x"), "new") == replace_figures(page, "new")


def test_the_page_has_its_marks():
    text = PAGE.read_text(encoding="utf-8")

    assert text.index(BEGIN) < text.index(END)


def test_quick_runs_are_not_published():
    with pytest.raises(BenchError, match="bench-engine, encoder was a quick run"):
        build_figures({"encoder_is_quick": True}, {})
