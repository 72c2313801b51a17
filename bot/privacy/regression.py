"""The regression set: every approved correction as a sentence that the masker must get right. Holds no masker of its own.

Used by `understudy privacy regression` and by the evaluation of the recognisers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from bot.masking import PLACEHOLDER, Masked, MaskingError, Vault, VaultError
from bot.privacy.correcting import HOLE
from db.privacy_tables import Correction, CorrectionKind
from db.queries.common import row_id

_NEUTRAL = "this"
"""Stands in a context for what was masked there: a placeholder would itself be masked."""


class AnyMasker(Protocol):
    """A masker, corrected or not."""

    def mask(self, text: str) -> Masked:
        """Mask a text of no ticket."""
        ...


@dataclass(frozen=True)
class Case:
    """A sentence with the phrase at `start` to `end`, and whether it must be masked there."""

    correction_id: int
    entity: str
    text: str
    start: int
    end: int
    must_mask: bool

    def __repr__(self) -> str:
        return f"Case({self.correction_id}, {self.entity})"  # never the text: it holds the phrase


@dataclass(frozen=True)
class CaseResult:
    """How a case went: with the corrections in force (`is_passed`) and with the recognisers alone (`is_recognized`)."""

    correction_id: int
    entity: str
    must_mask: bool
    is_passed: bool
    is_recognized: bool


@dataclass(frozen=True)
class RegressionReport:
    """All results. `n_closed` counts corrections whose phrase no key opens: they cannot be tried."""

    results: tuple[CaseResult, ...]
    n_closed: int

    @property
    def n_failed(self) -> int:
        """How many cases the masker gets wrong although the correction is in force."""
        return sum(not result.is_passed for result in self.results)


def build_cases(corrections: Iterable[Correction], vault: Vault | None) -> tuple[list[Case], int]:
    """Return the cases, and how many corrections could not be opened."""
    cases, n_closed = [], 0
    for row in corrections:
        phrase = _open(row, vault)
        if phrase is None:
            n_closed += 1
            continue
        context = row.context if HOLE in row.context else HOLE
        before, _, after = PLACEHOLDER.sub(_NEUTRAL, context).partition(HOLE)
        text = f"{before}{phrase}{after.replace(HOLE, phrase)}"
        must_mask = row.kind is CorrectionKind.MASK
        cases.append(Case(row_id(row), row.entity, text, len(before), len(before) + len(phrase), must_mask))
    return cases, n_closed


def _open(row: Correction, vault: Vault | None) -> str | None:
    if vault is None or row.ciphertext is None:
        return None
    try:
        return vault.decrypt_text(row.ciphertext)
    except VaultError:
        return None


def run_regression(cases: Sequence[Case], *, corrected: AnyMasker, bare: AnyMasker, n_closed: int = 0) -> RegressionReport:
    """Mask every case twice and compare. A text that cannot be masked is withheld, which fails a phrase to keep and passes the other."""
    results = [
        CaseResult(case.correction_id, case.entity, case.must_mask, _is_right(corrected, case), _is_right(bare, case))
        for case in cases
    ]
    return RegressionReport(tuple(results), n_closed)


def _is_right(masker: AnyMasker, case: Case) -> bool:
    try:
        spans = masker.mask(case.text).spans
    except MaskingError:
        return case.must_mask
    hidden = {place for span in spans for place in range(span.start, span.end)}
    letters = [place for place in range(case.start, case.end) if case.text[place].isalnum()]
    if case.must_mask:
        return all(place in hidden for place in letters)
    return not any(place in hidden for place in letters)
