"""Builds a dataset of many made-up examples and prints what that took: `python -m tests.support.many_examples 1000000`.

A process of its own, so that its peak memory is the dataset's and not a test runner's.
"""

import json
import random
import resource
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from bot.training_settings import TrainingSettings
from db.tables import Example
from db.types import TaskKind
from training.dataset import build_dataset

LABELS = tuple(f"label {number}" for number in range(40))
START = datetime(2020, 1, 1, tzinfo=UTC)
WORDS = [
    f"{first}{middle}{last}" for first in "bdfgklmnprst" for middle in "aeiou" for last in ("ner", "vo", "shi", "tal", "mek")
]


def iterate(n: int) -> Iterator[Example]:
    """Yield examples like a busy team's: one in ten repeats a ticket or nearly does, five tickets a customer, one label in 50 a slip.

    It is one object, filled anew each time: making a million rows would take longer than what is measured.
    """
    row = Example(task=TaskKind.CLASSIFICATION, text="", target="")
    for number in range(1, n + 1):
        source = number - number % 7 if number % 10 == 0 else number
        generator = random.Random(source)
        words = generator.choices(WORDS, k=25)
        ending = " please" if number % 20 == 0 else ""
        label = LABELS[(source + (number % 50 == 0)) % len(LABELS)]
        row.id, row.text, row.target = number, " ".join(words) + ending, label
        row.group_key, row.created_at = f"customer-{number // 5}", START + timedelta(minutes=number)
        yield row


def get_peak_bytes() -> int:
    """Return the most memory this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(n: int) -> None:
    """Build and report."""
    build_dataset(lambda: iterate(200), TaskKind.CLASSIFICATION, labels=LABELS, settings=TrainingSettings())
    before, started = get_peak_bytes(), time.perf_counter()
    dataset = build_dataset(lambda: iterate(n), TaskKind.CLASSIFICATION, labels=LABELS, settings=TrainingSettings())
    report = dataset.report
    figures = {
        "n": report.n_seen,
        "seconds": round(time.perf_counter() - started, 1),
        "before_bytes": before,
        "peak_bytes": get_peak_bytes(),
        "n_train": report.n_train,
        "n_validation": report.n_validation,
        "n_test": report.n_test,
        "left_out": dict(report.left_out),
        "n_contradictions": len(report.contradictions),
        "n_disagreements": len(report.disagreements),
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
