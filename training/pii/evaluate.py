"""Measures the name model: precision, recall, F2 and full coverage per label, on sentences with BIO tags and on texts with spans.

A gold span counts as found when a predicted span of the same label overlaps it, and as covered when predictions of any label
hide all of it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from spacy.language import Language
from spacy.tokens import Doc

from training.pii.corpus import Sentence

MASKED_LABELS: Final = ("PERSON", "LOCATION")
Spans = Sequence[tuple[int, int, str]]


@dataclass
class Counts:
    """Totals for one label."""

    gold: int = 0
    found: int = 0
    covered: int = 0
    predicted: int = 0
    right: int = 0

    @property
    def precision(self) -> float:
        """Share of predicted spans that overlap a gold span of the label."""
        return self.right / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of gold spans that a predicted span of the label overlaps."""
        return self.found / self.gold if self.gold else 0.0

    @property
    def f2(self) -> float:
        """F measure that weighs recall twice."""
        p, r = self.precision, self.recall
        return 5 * p * r / (4 * p + r) if p + r else 0.0

    def as_dict(self) -> dict[str, float]:
        """Rounded figures for a report."""
        covered = self.covered / self.gold if self.gold else 0.0
        figures = {"precision": self.precision, "recall": self.recall, "f2": self.f2, "covered": covered}
        return {"gold": self.gold, **{k: round(v, 3) for k, v in figures.items()}}

    def __str__(self) -> str:
        return f"P {self.precision:.3f} R {self.recall:.3f} F2 {self.f2:.3f}"

    __repr__ = __str__


def count(pairs: Iterable[tuple[Spans, Spans]], labels: Sequence[str] = MASKED_LABELS) -> dict[str, Counts]:
    """Totals per label over (gold, predicted) pairs; offsets in any one unit. Predicted spans must not overlap each other."""
    totals = {label: Counts() for label in labels}
    for gold, predicted in pairs:
        masks = [p for p in predicted if p[2] in labels]
        for start, end, label in gold:
            if label not in totals:
                continue
            total = totals[label]
            total.gold += 1
            total.found += any(p[2] == label and p[0] < end and start < p[1] for p in masks)
            hidden = sum(max(0, min(end, p[1]) - max(start, p[0])) for p in masks)
            total.covered += hidden >= end - start
        for start, end, label in masks:
            totals[label].predicted += 1
            totals[label].right += any(g[2] == label and g[0] < end and start < g[1] for g in gold)
    return totals


def _gold(sentence: Sentence) -> list[tuple[int, int, str]]:
    spans: list[tuple[int, int, str]] = []
    for index, tag in enumerate(sentence.tags):
        prefix, _, label = tag.partition("-")
        if prefix == "B":
            spans.append((index, index + 1, label))
        elif prefix == "I":
            spans[-1] = (spans[-1][0], index + 1, label)
    return spans


def score_sentences(nlp: Language, sentences: Sequence[Sentence]) -> dict[str, Counts]:
    """The model alone on tagged sentences; offsets are word indices."""
    docs = nlp.pipe(Doc(nlp.vocab, words=list(s.words)) for s in sentences)
    return count(
        (_gold(sentence), [(e.start, e.end, e.label_) for e in doc.ents]) for sentence, doc in zip(sentences, docs, strict=True)
    )


def score_texts(nlp: Language, rows: Sequence[dict[str, Any]]) -> dict[str, Counts]:
    """The model alone on texts with character spans; street addresses count as places."""
    docs = nlp.pipe(row["text"] for row in rows)
    return count(
        (
            [(s["start"], s["end"], "LOCATION" if s["type"] == "ADDRESS" else s["type"]) for s in row["spans"]],
            [(e.start_char, e.end_char, e.label_) for e in doc.ents],
        )
        for row, doc in zip(rows, docs, strict=True)
    )
