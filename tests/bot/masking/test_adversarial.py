"""Scores the masker on hard snippets with gold spans; the floors lie a few points below what it reached when they were set."""

import json
from collections import Counter
from pathlib import Path

import pytest

from bot.masking import Masker, MaskingSettings
from bot.masking.placeholders import KEPT_BY_DEFAULT

FOLDER = Path(__file__).parent
FILES = {"seen": "adversarial.jsonl", "unseen": "adversarial_unseen.jsonl"}
"""The rules were written beside the first file; the second was scored once before they were changed (docs/masking.md has both figures)."""
FREE_FORM = {"PERSON", "LOCATION", "SECRET"}


def read(name):
    return [json.loads(line) for line in (FOLDER / FILES[name]).read_text(encoding="utf-8").splitlines()]


def is_covered(span, text, hidden):
    return all(i in hidden for i in range(span["start"], span["end"]) if text[i].isalnum())


def hidden_by(spans):
    return {i for span in spans for i in range(span.start, span.end)}


@pytest.fixture(scope="module", params=sorted(FILES))
def score(masker, request):
    """Counts per type: gold spans, those of which every letter and digit is masked, and spans masked; plus benign rows touched."""
    gold, covered, masked, right, touched = Counter(), Counter(), Counter(), Counter(), []
    for row in read(request.param):
        spans = masker.mask(row["text"]).spans
        hidden = hidden_by(spans)
        if not row["spans"]:
            touched.append(bool(spans))
        for span in row["spans"]:
            gold[span["type"]] += 1
            covered[span["type"]] += is_covered(span, row["text"], hidden)
        for span in spans:
            masked[span.type] += 1
            right[span.type] += any(g["start"] < span.end and span.start < g["end"] for g in row["spans"])
    return gold, covered, masked, right, touched


def test_set_is_large_and_its_offsets_fit():
    rows = [row for name in FILES for row in read(name)]
    assert sum(bool(row["spans"]) for row in rows) >= 150
    assert sum(not row["spans"] for row in rows) >= 50
    assert len({row["id"] for row in rows}) == len(rows)
    spans = [(row, span) for row in rows for span in row["spans"] + row.get("optional", [])]
    assert all(0 <= span["start"] < span["end"] <= len(row["text"]) for row, span in spans)
    assert {span["type"] for row in rows for span in row.get("optional", [])} == KEPT_BY_DEFAULT


def test_share_of_spans_wholly_masked_stays_above_the_floor(score):
    gold, covered, *_ = score
    assert sum(covered.values()) / sum(gold.values()) >= 0.96


@pytest.mark.parametrize(("types", "floor"), [({"PERSON"}, 0.92), ({"LOCATION"}, 0.92), ({"SECRET"}, 0.97), (None, 0.97)])
def test_share_per_group_stays_above_the_floor(score, types, floor):
    gold, covered, *_ = score
    wanted = types or set(gold) - FREE_FORM
    assert sum(covered[t] for t in wanted) / sum(gold[t] for t in wanted) >= floor


def test_most_of_what_is_masked_should_be(score):
    _, _, masked, right, _ = score
    assert sum(right.values()) / sum(masked.values()) >= 0.94


def test_benign_rows_are_hardly_touched(score):
    assert sum(score[-1]) <= 0.1 * len(score[-1])


def test_numbers_of_the_team_and_medical_details_are_masked_where_the_settings_say_so():
    masker = Masker(MaskingSettings(actions=dict.fromkeys(KEPT_BY_DEFAULT, "mask"), chunk_timeout_ms=60_000))
    gold, covered = Counter(), Counter()
    for name in FILES:
        for row in read(name):
            hidden = hidden_by(masker.mask(row["text"]).spans)
            for span in row.get("optional", []):
                gold[span["type"]] += 1
                covered[span["type"]] += is_covered(span, row["text"], hidden)
    assert set(gold) == KEPT_BY_DEFAULT
    assert sum(covered.values()) / sum(gold.values()) >= 0.9


def test_numbers_of_the_team_are_kept_by_default(masker):
    rows = [row for name in FILES for row in read(name) if row.get("optional")]
    left = sum(row["text"][s["start"] : s["end"]] in masker.mask(row["text"]).text for row in rows for s in row["optional"])
    assert left / sum(len(row["optional"]) for row in rows) >= 0.95
