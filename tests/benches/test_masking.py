"""What the masking figures rest on: how spans are scored, which stretches are asked for, the table's bars."""

import json

import pytest

from benches import masking
from benches.masking import KEYS, SECTIONS, build_figures, build_rows, parse_arguments
from benches.masking_peer import PresidioPeer
from benches.masking_score import Score, Tally, flatten_score, pick_headline, score_set
from benches.masking_sets import DATA, ScoredSet, build_hostile, join_tagged, load_own, load_sets, load_tickets
from benches.masking_speed import bench_pool, describe_latency, find_slowest, time_each
from benches.paths import BenchError
from benches.report import describe_machine
from bot.masking import MaskingError, MaskingSettings

TEXT = "Ann Lee, ann@x.io"
GOLD = [(0, 7, "PERSON"), (9, 17, "EMAIL_ADDRESS")]


def score(found, *, gold=GOLD, optional=()):
    return score_set(lambda _: found, ScoredSet("x", "", ((TEXT, gold),), optional))


def test_half_a_name_is_found_but_not_wholly_masked():
    tally = score([(0, 3, "PERSON")]).tallies["PERSON"]

    assert (tally.found, tally.covered, tally.right) == (1, 0, 1)


def test_value_masked_under_another_type_is_covered_but_neither_found_nor_right():
    tallies = score([(9, 17, "PERSON")]).tallies

    assert (tallies["EMAIL_ADDRESS"].found, tallies["EMAIL_ADDRESS"].covered) == (0, 1)
    assert (tallies["PERSON"].predicted, tallies["PERSON"].right) == (1, 0)


def test_blank_between_two_spans_of_a_name_need_not_be_hidden():
    assert score([(0, 3, "PERSON"), (4, 7, "PERSON")]).tallies["PERSON"].covered == 1


def test_type_that_the_set_does_not_mark_is_held_against_nobody():
    assert score([(0, 7, "USERNAME")]).build_group(["PERSON", "EMAIL_ADDRESS", "USERNAME"]).predicted == 0


def test_optional_stretch_may_be_masked_or_not():
    spans = [(0, 7, "PERSON")]

    assert score(spans, gold=[], optional=(((0, 7),),)).n_benign_touched == 0
    assert score(spans, gold=[]).n_benign_touched == 1


def test_withheld_text_is_counted_and_finds_nothing():
    result = score(None)

    assert (result.n_withheld, result.tallies["PERSON"].found) == (1, 0)


def test_figures_stand_under_flat_keys_and_groups_add_up():
    result = Score(
        {"PERSON": Tally(4, 3, 2, 5, 4), "US_SSN": Tally(1, 1, 1, 1, 1), "IBAN_CODE": Tally(1, 0, 0, 0, 0)}, n_words=1000
    )
    figures = flatten_score("s", result) | flatten_score("s", result, suffix="_presidio")

    assert (figures["recall_PERSON_s"], figures["fully_masked_PERSON_s"], figures["precision_PERSON_s"]) == (0.75, 0.5, 0.8)
    assert (figures["recall_structured_s"], figures["precision_structured_s"], figures["n_structured_s"]) == (0.5, 1.0, 2)
    assert "precision_IBAN_CODE_s" not in figures
    assert figures["recall_PERSON_s_presidio"] == 0.75
    headline = pick_headline(figures, names="s", structured="s")
    assert (headline["recall_PERSON"], headline["recall_structured"], headline["recall_PERSON_presidio"]) == (0.75, 0.5, 0.75)


def test_words_of_one_answer_are_one_span_and_organisations_none():
    row = {
        "tokens": ["im", "ann", "lee", "of", "acme", "in", "york"],
        "tags": ["O", "B-PERSON", "I-PERSON", "O", "B-ORG", "O", "B-LOC"],
    }
    text, spans = join_tagged(row)

    assert [(text[start:end], label) for start, end, label in spans] == [("ann lee", "PERSON"), ("york", "LOCATION")]


def test_own_sets_are_scored_without_the_shared_data(tmp_path, monkeypatch):
    monkeypatch.setattr("benches.masking_sets.DATA", tmp_path)

    assert "adversarial" in {scored.name for scored in load_sets()}
    assert [len(ticket) for ticket in load_tickets(500, count=30)] == [500] * 30


def test_shared_sets_are_all_there():
    if not DATA.is_dir():
        pytest.skip("the data sets are not beside this checkout (../shared/data)")
    sets = {scored.name: scored for scored in load_sets()}

    assert {masking.NAMES_SET, masking.STRUCTURED_SET, "btc_dev", "wnut17_dev", "multidogo_dev"} <= set(sets)
    assert all(text[start:end].strip() for scored in sets.values() for text, spans in scored.rows for start, end, _ in spans)


def test_own_set_keeps_its_optional_stretches(tmp_path):
    row = {"text": TEXT, "spans": [{"start": 0, "end": 7, "type": "PERSON"}], "optional": [{"start": 9, "end": 17, "type": "X"}]}
    (tmp_path / "s.jsonl").write_text(json.dumps(row) + "\n")
    loaded = load_own("adversarial", tmp_path / "s.jsonl")

    assert loaded.rows == ((TEXT, [(0, 7, "PERSON")]),)
    assert loaded.optional == (((9, 17),),)


def test_presidio_out_of_the_box_finds_patterns_but_no_names():
    found = PresidioPeer().find("Ann Lee, ann@example.com, licence A1234567, 4111 1111 1111 1111 and https://example.com")

    assert {"EMAIL_ADDRESS", "CREDIT_CARD"} <= {label for _, _, label in found}
    assert not {"PERSON", "URL", "US_DRIVER_LICENSE"} & {label for _, _, label in found}


def test_hostile_inputs_have_their_size_and_the_slowest_is_named():
    hostile = build_hostile(1000)
    seen = []

    def mask(text):
        seen.append(text)
        if text.startswith(":"):
            raise MaskingError("withheld")

    found = find_slowest(mask, hostile)

    assert {len(text) for text in hostile.values()} == {1000}
    assert len(seen) == found["n_hostile"] == len(hostile) > 50
    assert found["worst_20_kb_input"] in hostile
    assert found["n_hostile_withheld"] == 1


def test_times_are_counted_for_withheld_texts_too():
    def mask(_):
        raise MaskingError("withheld")

    assert len(time_each(mask, ["a"] * 7)) == 7
    assert describe_latency([1.0, 2.0, 3.0], "x", suffix="_peer")["p50_ms_x_peer"] == 2.0


async def test_pool_is_measured_with_its_memory():
    tickets = ["Hi Sarah, call +44 20 7946 0958"] * 20
    figures = await bench_pool(MaskingSettings(chunk_timeout_ms=60_000), tickets, long_text="ann@example.com " * 500)

    assert figures["tickets_per_s"] > 0
    assert figures["worker_peak_rss_mb"] >= figures["worker_rss_mb"] > 50
    assert {"p99_ms_500_chars_pool", "p95_ms_500_chars_behind_long", "long_ticket_s"} <= set(figures)


def test_missed_bar_is_said_so_and_the_peer_stands_beside_it():
    figures = {"p50_ms_500_chars": 12.0, "p50_ms_500_chars_presidio": 3.0, "p95_ms_500_chars": 41.0, "tickets_per_s": 90.0}

    assert [row[1:] for row in build_rows("speed", figures)] == [
        ("12", "<= 25: met; Presidio 3"),
        ("41", "<= 40: missed"),
        ("90", ">= 80: met"),
    ]


def test_table_of_a_set_has_a_row_per_type_and_one_for_rows_without_any():
    result = Score({"SECRET": Tally(10, 9, 9, 10, 9)}, n_benign=4, n_benign_touched=1, n_words=100)
    figures = flatten_score("adversarial", result) | flatten_score("adversarial", result, suffix="_presidio")
    rows = build_rows("quality", figures)

    assert rows[0] == (
        "adversarial, SECRET (10)",
        "0.90 / 0.90 / 0.90",
        "fully masked >= 0.95: missed; Presidio 0.90 / 0.90 / 0.90",
    )
    assert rows[-1] == ("adversarial, rows without any, touched", "1 of 4", "Presidio 1")


def test_page_refuses_quick_and_partial_runs_and_shows_the_rest():
    full = {
        f"{section}_{key}": value
        for section in SECTIONS
        for key, value in (("is_quick", False), ("machine", describe_machine(threads=1)))
    }
    with pytest.raises(BenchError, match="speed was a quick run"):
        build_figures(full | {"speed_is_quick": True})
    with pytest.raises(BenchError, match="has no recall_PERSON, "):
        build_figures(full)
    shown = build_figures(full | dict.fromkeys(KEYS, 1.0))
    assert "### Masking: speed and memory" in shown
    assert "| one process, 500 characters, p50 ms | 1 | <= 25: met |" in shown


def test_command_line_knows_the_sections():
    assert parse_arguments(["--quick", "--only", "speed"]).only == "speed"
    assert "recall_structured" in KEYS
