"""Scores the masker on hard snippets with gold spans; the floors lie a few points below what it reached when they were set."""

import json
from collections import Counter
from pathlib import Path

import pytest

ROWS = [json.loads(line) for line in Path(__file__).with_name("adversarial.jsonl").read_text(encoding="utf-8").splitlines()]
STRUCTURED = {
    "EMAIL_ADDRESS",
    "PHONE_NUMBER",
    "CREDIT_CARD",
    "IBAN_CODE",
    "BANK_ACCOUNT",
    "US_SSN",
    "NATIONAL_ID",
    "IP_ADDRESS",
    "USERNAME",
}


@pytest.fixture(scope="module")
def score(masker):
    """Counts per type: gold spans, and those of which every letter and digit is masked; plus benign rows that were touched."""
    gold, covered, touched = Counter(), Counter(), 0
    for row in ROWS:
        text = row["text"]
        spans = masker.mask(text).spans
        hidden = {i for span in spans for i in range(span.start, span.end)}
        touched += bool(spans) and not row["spans"]
        for span in row["spans"]:
            gold[span["type"]] += 1
            covered[span["type"]] += all(i in hidden for i in range(span["start"], span["end"]) if text[i].isalnum())
    return gold, covered, touched


def test_set_is_large_and_its_offsets_fit():
    assert sum(bool(row["spans"]) for row in ROWS) >= 60
    assert all(0 <= s["start"] < s["end"] <= len(row["text"]) for row in ROWS for s in row["spans"])


def test_share_of_spans_wholly_masked_stays_above_the_floor(score):
    gold, covered, _ = score
    assert sum(covered.values()) / sum(gold.values()) >= 0.95


@pytest.mark.parametrize(("types", "floor"), [({"PERSON"}, 0.9), ({"LOCATION"}, 0.9), ({"SECRET"}, 0.95), (STRUCTURED, 0.95)])
def test_share_per_group_stays_above_the_floor(score, types, floor):
    gold, covered, _ = score
    assert sum(covered[t] for t in types) / sum(gold[t] for t in types) >= floor


def test_benign_rows_are_hardly_touched(score):
    assert score[2] <= 1
