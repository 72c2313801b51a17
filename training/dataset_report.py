"""What a dataset holds and what not, in counts: for the run's row, for the dry run, and the sentence that people read.

Holds no text and builds nothing; `training.dataset` fills it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bot.training_settings import TrainingSettings
from bot.types import DryRun
from db.types import TaskKind


@dataclass(frozen=True)
class DatasetReport:
    """What a dataset holds and what not. `left_out` maps a reason to a count; `contradictions` are groups of example ids to review."""

    n_seen: int
    n_train: int
    n_validation: int
    n_test: int
    n_golden: int
    per_label: Mapping[str, int]
    left_out: Mapping[str, int]
    unknown_labels: Mapping[str, int]
    contradictions: tuple[tuple[int, ...], ...]
    is_enough: bool
    message: str
    newest_id: int = 0
    n_negative: int = 0
    """Handoffs among the training examples, beyond `n_train`."""
    disagreements: tuple[tuple[int, ...], ...] = ()
    """Groups of example ids that are nearly the same and carry different labels; all of them are used."""
    balance: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Label to part (train, validation, test, golden) to count; empty for summaries."""

    def to_dry_run(self, not_checked: Sequence[str] = ()) -> DryRun:
        """Return what people are shown; `not_checked` says what a run does besides."""
        return DryRun(
            n_train=self.n_train,
            n_validation=self.n_validation,
            n_test=self.n_test,
            n_golden=self.n_golden,
            per_label=self.per_label,
            left_out=self.left_out,
            is_enough=self.is_enough,
            message=self.message,
            n_seen=self.n_seen,
            n_negative=self.n_negative,
            balance=self.balance,
            unknown_labels=self.unknown_labels,
            to_review={
                "the same text decided differently": len(self.contradictions),
                "nearly the same text decided differently": len(self.disagreements),
            },
            not_checked=tuple(not_checked),
        )

    def to_counts(self) -> dict[str, object]:
        """Return the counts that the run's row keeps; holds no text."""
        return {
            "n_seen": self.n_seen,
            "n_train": self.n_train,
            "n_validation": self.n_validation,
            "n_test": self.n_test,
            "n_golden": self.n_golden,
            "n_negative": self.n_negative,
            "per_label": dict(self.per_label),
            "left_out": dict(self.left_out),
            "unknown_labels": dict(self.unknown_labels),
            "n_contradictions": len(self.contradictions),
            "contradictions": [list(ids) for ids in self.contradictions[:50]],
            "n_disagreements": len(self.disagreements),
            "balance": {label: dict(parts) for label, parts in self.balance.items()},
            "newest_id": self.newest_id,
        }


def judge_size(
    *,
    n_train: int,
    n_validation: int,
    n_test: int,
    n_taught: int,
    per_label: Mapping[str, int],
    task: TaskKind,
    settings: TrainingSettings,
) -> tuple[bool, str]:
    """Say whether that is enough to train and judge, with the sentence people read. `n_taught` labels are among what is learned from."""
    n = n_train + n_validation + n_test
    is_classification = task is TaskKind.CLASSIFICATION
    n_labels = sum(count >= 2 for count in per_label.values())
    over = f" over {len(per_label)} label{'s' * (len(per_label) != 1)}" if is_classification else ""
    if n < settings.min_examples:
        return False, f"nothing to train on: needs {settings.min_examples - n} more examples, have {n}{over}"
    if is_classification and n_labels < settings.min_labels:
        return (
            False,
            f"nothing to train on: needs {settings.min_labels} labels with two examples or more, have {n_labels} (of {n} examples)",
        )
    if n_test < settings.gate_min_test:
        return False, f"nothing to train on: only {n_test} of {n} examples may judge, the gate needs {settings.gate_min_test}"
    if n_train < 2 or n_validation < 1:
        return False, f"nothing to train on: {n_train} examples to learn from and {n_validation} to validate, of {n}"
    if is_classification and n_taught < settings.min_labels:
        return (
            False,
            f"nothing to train on: what may be learned from carries {n_taught} label{'s' * (n_taught != 1)}, it needs {settings.min_labels}; "
            "examples of the others only judge",
        )
    return True, f"{n} examples{over}: {n_train} to learn from, {n_validation} to validate, {n_test} to judge"
