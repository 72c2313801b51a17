"""The study behind the encoder's recipe: `python -m training.study`. Variants, sizes and seeds on one labelled set, one JSON line per cell.

Cells that are in the file already are not measured again, so that an interrupted study goes on. Knows variants and figures; not how training works.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from bot.errors import UserError

if TYPE_CHECKING:
    from bot.engine.head import EncoderHead
    from training.encoder.served import ServedEncoder
    from training.evaluate import Row, Work

RECIPE: Final = "recipe"
NO_EXPERT: Final = "no product of experts"
FROZEN: Final = "frozen embeddings"
TRAINED: Final[Mapping[str, Mapping[str, Any]]] = {
    RECIPE: {},
    "+ contrastive stage": {"contrast_epochs": 1},
    "random head": {"has_label_texts": False},
}
"""Variants with a training of their own, and the settings in which they differ from the recipe."""
VARIANTS: Final = (RECIPE, *(name for name in TRAINED if name != RECIPE), NO_EXPERT, FROZEN)
"""`no product of experts` is the recipe's own training, calibrated without the lexical expert: the encoder learns nothing from it."""
SIZES: Final = (100, 300, 1_000)
FIGURES: Final = ("accuracy", "macro_f1", "ece", "log_loss")


@dataclass(frozen=True)
class Cell:
    """One variant, trained on `n_train` examples that `seed` drew."""

    variant: str
    n_train: int
    seed: int


def plan(sizes: Sequence[int], n_seeds: int, variants: Sequence[str], *, done: Iterable[Cell]) -> list[Cell]:
    """Return the cells still to measure: whole seeds first, then small sizes before large ones. Raises UserError for an unknown variant."""
    unknown = sorted(set(variants) - set(VARIANTS))
    if unknown:
        raise UserError(f"there is no variant '{unknown[0]}'; choose from {', '.join(VARIANTS)}")
    measured = set(done)
    cells = [Cell(name, size, seed) for seed in range(n_seeds) for size in sorted(sizes) for name in VARIANTS if name in variants]
    return [cell for cell in cells if cell not in measured]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the measured cells of a file; none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def compute_figures(log_probabilities: NDArray[np.floating], gold: NDArray[np.int64]) -> dict[str, float]:
    """Return accuracy, macro-F1, calibration error and log loss of answers, shape (n, n_labels)."""
    from training.metrics import compute_accuracy, compute_expected_calibration_error, compute_macro_f1

    best = np.asarray(log_probabilities.argmax(axis=1), np.int64)
    figures = {
        "accuracy": compute_accuracy(gold, best),
        "macro_f1": compute_macro_f1(gold, best),
        "ece": compute_expected_calibration_error(np.exp(log_probabilities), gold),
        "log_loss": float(-log_probabilities[np.arange(len(gold)), gold].mean()),
    }
    return {name: round(value, 4) for name, value in figures.items()}


class Study:
    """One set at work: training and test rows, and the base as it is served. Measures cells one at a time."""

    def __init__(self, work: "Work", served: "ServedEncoder", *, threads: int) -> None:
        self._work, self._served, self._threads = work, served, threads
        self._gold = np.array([row.label for row in work.judge], np.int64)
        self._texts = [row.text for row in work.judge]
        self._bare: NDArray[np.float32] | None = None

    def measure(self, cell: Cell) -> dict[str, dict[str, Any]]:
        """Return the figures by variant: of the cell's own, and after the recipe's training also of the recipe without its expert."""
        from training.learning_curve import draw_nested

        rows = draw_nested(self._work.learn, [cell.n_train], seed=cell.seed)[0]
        if len(rows) < cell.n_train:
            raise UserError(f"the training file holds {len(rows)} examples; {cell.n_train} were asked for")
        started = time.monotonic()
        found = {FROZEN: self._measure_frozen(rows)} if cell.variant == FROZEN else self._measure_trained(rows, cell)
        seconds = round(time.monotonic() - started, 1)
        return {name: {**figures, "seconds": seconds} for name, figures in found.items()}

    def _measure_frozen(self, rows: "Sequence[Row]") -> dict[str, Any]:
        from training.baselines import predict_linear

        if self._bare is None:
            self._bare = self._served.embed(self._texts)
        known = self._served.embed([row.text for row in rows])
        labels = np.array([row.label for row in rows], np.int64)
        answers = predict_linear(known, labels, self._bare, n_labels=len(self._work.label_set.labels))
        return compute_figures(np.log(np.maximum(answers, 1e-9)), self._gold)

    def _measure_trained(self, rows: "Sequence[Row]", cell: Cell) -> dict[str, dict[str, Any]]:
        from bot.bundle import ADAPTER_FILE, Bundle
        from bot.engine.head import EncoderHead
        from training.encoder.prepare import prepare
        from training.encoder.settings import EncoderSettings
        from training.encoder.train import calibrate_trials, train_encoder
        from training.encoder.types import RunInfo, TrainExample

        changed = TRAINED[RECIPE if cell.variant == NO_EXPERT else cell.variant]
        settings = EncoderSettings(threads=self._threads, seed=cell.seed, text_tokens=self._work.settings.engine.text_tokens)
        settings = settings.model_copy(update=dict(changed))
        labels = self._work.label_set
        examples = [TrainExample(row.text, labels.names[row.label]) for row in rows]
        with tempfile.TemporaryDirectory(prefix=".study-", dir=self._work.folder) as folder:
            directory = train_encoder(
                examples,
                labels.labels,
                base_gguf=self._work.base_path,
                settings=settings,
                checkpoint_dir=Path(folder),
                on_progress=_ignore,
                should_stop=lambda: False,
                run=RunInfo(prompt_version="study"),
            )
            bundle = Bundle.load(directory)
            head = EncoderHead.load(directory, bundle.manifest)
            embeddings = self._served.embed(self._texts, lora=directory / ADAPTER_FILE)
            prepared = prepare(examples, labels.labels, settings)
            plain, lift = calibrate_trials(Path(folder), prepared, has_lexical_expert=False)
            _, own_lift = calibrate_trials(Path(folder), prepared, has_lexical_expert=True)
        found = {cell.variant: self._score(head, embeddings)}
        if cell.variant in {RECIPE, NO_EXPERT}:
            found = {RECIPE: self._score(head, embeddings)}
            bias = head.bias + np.where(prepared.is_absent, np.float32(lift - own_lift), np.float32(0.0))
            found[NO_EXPERT] = self._score(replace(head, bias=bias, calibration=plain, lexical=None), embeddings)
        return found

    def _score(self, head: "EncoderHead", embeddings: NDArray[np.float32]) -> dict[str, Any]:
        figures = compute_figures(head.log_probabilities(embeddings, self._texts), self._gold)
        share, temperature = head.calibration.lexical_weight, head.calibration.temperature
        return {**figures, "lexical_weight": share, "temperature": temperature}


def _ignore(_: object) -> None:
    """Take progress nobody asked for."""


def run_study(arguments: argparse.Namespace) -> None:
    """Measure what is missing in the file, and append it line by line."""
    from training.encoder.served import ServedEncoder
    from training.evaluate import prepare_work
    from training.source import read_settings

    lines = [line for line in read_lines(arguments.out) if line["set"] == arguments.name]
    done = [Cell(line["variant"], line["n_train"], line["seed"]) for line in lines]
    cells = plan(arguments.sizes, arguments.seeds, arguments.variants, done=done)
    work = prepare_work(arguments.labels, arguments.train, arguments.test, settings=read_settings())
    with ServedEncoder(work.base_path, text_tokens=work.settings.engine.text_tokens, n_threads=arguments.threads) as served:
        study = Study(work, served, threads=arguments.threads)
        measured = set(done)
        for cell in cells:
            if cell in measured:
                continue  # came with the recipe
            for variant, figures in study.measure(cell).items():
                own = replace(cell, variant=variant)
                if own in measured:
                    continue
                measured.add(own)
                shared = {"n_test": len(work.judge), "n_labels": len(work.label_set.labels)}
                line = {
                    "set": arguments.name,
                    "variant": variant,
                    "n_train": cell.n_train,
                    "seed": cell.seed,
                    **figures,
                    **shared,
                }
                with arguments.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                sys.stderr.write(f"{json.dumps(line)}\n")


def render_table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return a Markdown table: mean and standard deviation over seeds of accuracy and calibration error, by set, variant and size.

    A cell with fewer seeds than there are says so.
    """
    sizes = sorted({line["n_train"] for line in lines})
    n_seeds = len({line["seed"] for line in lines})
    heads = [f"{size:,} examples" for size in sizes]
    table = ["| set | variant | " + " | ".join(heads) + " |", "|---|---|" + "---|" * len(sizes)]
    for name in dict.fromkeys(line["set"] for line in lines):
        for variant in VARIANTS:
            cells = [
                [line for line in lines if (line["set"], line["variant"], line["n_train"]) == (name, variant, size)]
                for size in sizes
            ]
            if any(cells):
                table.append(f"| {name} | {variant} | " + " | ".join(_render_cell(cell, n_seeds) for cell in cells) + " |")
    return "\n".join(table)


def _render_cell(lines: Sequence[Mapping[str, Any]], n_seeds: int) -> str:
    if not lines:
        return "-"
    parts = []
    for figure in ("accuracy", "ece"):
        values = np.array([line[figure] for line in lines])
        spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
        parts.append(f"{values.mean():.3f}{spread}".replace("0.", "."))
    missing = f", {len(lines)} of {n_seeds} seeds" if len(lines) < n_seeds else ""
    return f"{parts[0]} (ECE {parts[1]}{missing})"


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.study", description="Compare the recipe's variants on one labelled set."
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON Lines file that every measured cell is appended to")
    parser.add_argument("--table", action="store_true", help="print the file's table and measure nothing")
    parser.add_argument("--name", default="set", help="what to call the set")
    parser.add_argument("--labels", type=Path, help="YAML file of the label set")
    parser.add_argument("--train", type=Path, help="JSON Lines with id, text, label; the examples are drawn from it")
    parser.add_argument("--test", type=Path, help="JSON Lines with id, text, label")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="numbers of examples")
    parser.add_argument("--seeds", type=int, default=3, help="how many draws, each trained with a seed of its own")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), help=f"of: {', '.join(VARIANTS)}")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study and return its exit status."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is loaded; see training.__main__
    if arguments.table:
        sys.stdout.write(render_table(read_lines(arguments.out)) + "\n")
        return 0
    if None in (arguments.labels, arguments.train, arguments.test):
        parser.error("--labels, --train and --test are needed, unless --table is given")
    try:
        run_study(arguments)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
