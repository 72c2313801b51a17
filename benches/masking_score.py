"""Scores a masker on texts with known spans: recall, precision and whole coverage per type.

A gold span is found when a span of the same type overlaps it (recall), and wholly masked when every letter and digit of it lies in
spans of any type. A span is right when a gold span of its type overlaps it (precision); spans of types a set does not mark are not counted.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from benches.masking_sets import ScoredSet

Spans = list[tuple[int, int, str]]
Find = Callable[[str], Spans | None]
"""Spans of a text, None where the masker withholds it: nothing gets out then, but nothing is found either."""

STRUCTURED: Final = (
    *(
        "EMAIL_ADDRESS",
        "PHONE_NUMBER",
        "CREDIT_CARD",
        "CVV",
        "IBAN_CODE",
        "BANK_ACCOUNT",
        "CRYPTO",
        "US_SSN",
        "NATIONAL_ID",
        "PASSPORT",
    ),
    *("DRIVER_LICENSE", "DATE_OF_BIRTH", "IP_ADDRESS", "MAC_ADDRESS", "USERNAME"),
)
"""Types whose values have a form of their own; SECRET, PERSON and LOCATION stand alone."""


@dataclass
class Tally:
    """Totals of one type or group."""

    gold: int = 0
    found: int = 0
    covered: int = 0
    predicted: int = 0
    right: int = 0

    def add(self, other: "Tally") -> None:
        """Take in another one's counts."""
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def get_figures(self) -> dict[str, float | None]:
        """Return recall, share wholly masked and precision; None where there is nothing to divide by."""
        return {
            "recall": self.found / self.gold if self.gold else None,
            "fully_masked": self.covered / self.gold if self.gold else None,
            "precision": self.right / self.predicted if self.predicted else None,
        }


@dataclass
class Score:
    """What a masker did on one set."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    n_withheld: int = 0
    n_benign: int = 0
    n_benign_touched: int = 0
    n_words: int = 0
    n_unasked_names: int = 0

    def build_group(self, types: Iterable[str]) -> Tally:
        """Return the sum over several types."""
        total = Tally()
        for entity in types:
            total.add(self.tallies.get(entity, Tally()))
        return total


def score_set(find: Find, scored: ScoredSet) -> Score:
    """Run a masker over a set."""
    score = Score(tallies={entity: Tally() for _, gold in scored.rows for _, _, entity in gold})
    for index, (text, gold) in enumerate(scored.rows):
        found = find(text)
        if found is None:
            score.n_withheld += 1
            found = []
        optional = scored.optional[index] if scored.optional else ()
        found = [span for span in found if any(_overlaps(span, g) for g in gold) or not any(_overlaps(span, o) for o in optional)]
        _count(score, text, gold=gold, found=found)
    return score


def _overlaps(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return bool(one[0] < other[1] and other[0] < one[1])


def _count(score: Score, text: str, *, gold: Spans, found: Spans) -> None:
    hidden = {i for span in found for i in range(span[0], span[1])}
    for span in gold:
        tally = score.tallies[span[2]]
        tally.gold += 1
        tally.found += any(other[2] == span[2] and _overlaps(other, span) for other in found)
        tally.covered += all(i in hidden for i in range(span[0], span[1]) if text[i].isalnum())
    for span in found:
        if span[2] in score.tallies:
            tally = score.tallies[span[2]]
            tally.predicted += 1
            tally.right += any(other[2] == span[2] and _overlaps(other, span) for other in gold)
        if span[2] in {"PERSON", "LOCATION"}:
            score.n_unasked_names += not any(_overlaps(span, other) for other in gold)
    score.n_words += len(text.split())
    score.n_benign += not gold
    score.n_benign_touched += bool(found) and not gold


def flatten_score(name: str, score: Score, *, suffix: str = "") -> dict[str, Any]:
    """Return a set's figures under flat keys such as `recall_PERSON_ewt_dev`; `suffix` marks the peer's."""
    figures: dict[str, Any] = {}
    groups: dict[str, Tally] = {entity: score.tallies[entity] for entity in sorted(score.tallies)}
    groups["structured"] = score.build_group(STRUCTURED)
    groups["all"] = score.build_group(score.tallies)
    for entity, tally in groups.items():
        if not tally.gold:
            continue
        figures |= {f"{key}_{entity}_{name}{suffix}": value for key, value in tally.get_figures().items() if value is not None}
        if not suffix:
            figures[f"n_{entity}_{name}"] = tally.gold
    figures[f"names_unasked_per_1000_words_{name}{suffix}"] = 1000 * score.n_unasked_names / max(1, score.n_words)
    if score.n_benign:
        figures[f"benign_rows_touched_{name}{suffix}"] = score.n_benign_touched
        figures[f"n_benign_rows_{name}"] = score.n_benign
    if score.n_withheld:
        figures[f"n_withheld_{name}{suffix}"] = score.n_withheld
    return figures


def pick_headline(figures: Mapping[str, Any], *, names: str, structured: str) -> dict[str, Any]:
    """Return the headline keys: persons from one set and structured types from another, with the peer's beside them."""
    picked: dict[str, Any] = {}
    for entity, source in (("PERSON", names), ("LOCATION", names), ("structured", structured)):
        for key in ("recall", "precision", "fully_masked"):
            for suffix in ("", "_presidio"):
                value = figures.get(f"{key}_{entity}_{source}{suffix}")
                if value is not None:
                    picked[f"{key}_{entity}{suffix}"] = value
    return picked
