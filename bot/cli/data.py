"""Commands that move examples in and out, or measure: import, export, evaluate, demo."""

import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bot.cli.common import open_session, read_settings
from bot.cli.output import console, open_replacing, print_json, print_table, write_json
from bot.errors import UserError
from db.types import TaskKind

if TYPE_CHECKING:
    from bot.settings import Settings
    from bot.types import LabelSet


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("import")(import_examples)
    app.command("export")(export_examples)
    app.command()(evaluate)
    app.command()(demo)


def _read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    from bot.jsonl import describe_unreadable, read_numbered

    if path.suffix != ".csv":
        yield from read_numbered(path, required=("text", "label"))
        return
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = {"text", "label"} - set(reader.fieldnames or ())
            if missing:
                raise UserError(f"{path}: the first line names no column '{min(missing)}'")
            for row in reader:
                yield f"{path}, line {reader.line_num}", row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = str(error) if isinstance(error, csv.Error) else describe_unreadable(error)
        raise UserError(f"cannot read {path}: {reason}") from None


def import_examples(
    path: Path = typer.Argument(help="JSON Lines or CSV with `text` and `label`; with --map any export."),  # noqa: B008
    *,
    map_path: Path | None = typer.Option(None, "--map", help="YAML file that maps the export's fields; see docs/importing.md."),  # noqa: B008
    is_golden: bool = typer.Option(False, "--golden", help="Keep these for the gate; never train on them."),
    rejects: Path | None = typer.Option(None, "--rejects", help="With --map: file for rows that cannot be imported."),  # noqa: B008
    is_dry: bool = typer.Option(False, "--dry-run", help="With --map: read and check everything, and store nothing."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Import labelled tickets as examples, masked. The same file twice adds nothing.

    Without --map a bad line stops before anything is stored; with it bad rows go to a file of their own, with the reason.
    """
    from bot.app import load_labels

    settings = read_settings()
    label_set = load_labels(settings)
    if map_path is not None:
        from bot.cli.importing import import_export

        counts = import_export(
            path, map_path, settings=settings, label_set=label_set, is_golden=is_golden, rejects=rejects, is_dry=is_dry
        )
        print_json(counts) if as_json else console.print(_describe_import(counts), highlight=False)
        return
    if rejects is not None or is_dry:
        raise UserError("--rejects and --dry-run go with --map; without it a bad line stops before anything is stored")
    counts = _import_plain(path, label_set, settings=settings, is_golden=is_golden)
    print_json(counts) if as_json else console.print(
        f"{counts['imported']} imported, {counts['known']} known already, {counts['withheld']} left out because they could not be masked."
    )


def _describe_import(counts: dict[str, Any]) -> str:
    verb = "could be imported" if counts["is_dry_run"] else "imported"
    line = (
        f"{counts['read']} rows read: {counts['imported']} {verb}, {counts['known']} known already, {counts['skipped']} skipped by the "
        f"mapping, {counts['rejected']} rejected"
    )
    return f"{line}; see {counts['rejects']}." if counts["rejects"] else f"{line}."


def _import_plain(path: Path, label_set: "LabelSet", *, settings: "Settings", is_golden: bool) -> dict[str, int]:
    from bot.cli.importing import BATCH, Importer
    from bot.importing import build_plain_ticket

    rows = list(_read_rows(path))
    for where, row in rows:
        if not (row["text"] or "").strip():
            raise UserError(f"{where}: the field 'text' is empty; give the ticket's text or take the line out")
        if label_set.get(str(row["label"])) is None:
            raise UserError(f"{where}: the label is not in the label set '{label_set.name}'; add it there or correct the file")
    tickets = [build_plain_ticket(row) for _, row in rows]
    with Importer(settings, label_set, is_golden=is_golden) as importer:
        for start in range(0, len(tickets), BATCH):
            importer.store(tickets[start : start + BATCH])
    return importer.counts


def export_examples(
    path: Path = typer.Argument(help="JSON Lines file to write; masked text only."),  # noqa: B008
    task: TaskKind = typer.Option(TaskKind.CLASSIFICATION, "--task", help="Which task."),  # noqa: B008
) -> None:
    """Export the examples, masked, one object per line."""
    from db.queries.examples import iterate_examples

    count = 0
    with open_session(read_settings(), is_read_only=True) as session, open_replacing(path) as out:
        for row in iterate_examples(session, task=task):
            line = row.model_dump(mode="json", exclude={"feedback_id"})
            line["label" if task is TaskKind.CLASSIFICATION else "summary"] = line.pop("target")
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
    console.print(f"{count} examples written to {path}.")


def evaluate(
    labels: Path = typer.Option(..., help="Label set, YAML."),  # noqa: B008
    train: Path = typer.Option(..., help="Training examples, JSON Lines with id, text, label."),  # noqa: B008
    test: Path = typer.Option(..., help="Test examples, likewise."),  # noqa: B008
    *,
    json_out: Path | None = typer.Option(None, "--json", help="File to write the figures to; standard output without it."),  # noqa: B008
    is_curve: bool = typer.Option(False, "--learning-curve", help="Do so with more and more of the training examples; a table."),
    sizes: str = typer.Option(
        "", help="With --learning-curve: numbers of examples, such as 50,100,200; doubling from 50 without it."
    ),
    plot: Path | None = typer.Option(None, help="With --learning-curve: PNG file to draw the curve to."),  # noqa: B008
) -> None:
    """Train an adapter on one file, score it on another as served, and compare it with the baselines."""
    read_settings()
    if not is_curve and (sizes or plot is not None):
        raise UserError("--sizes and --plot go with --learning-curve")
    with tempfile.TemporaryDirectory() as folder:
        out = json_out or Path(folder) / "figures.json"
        options = ["--labels", str(labels), "--train", str(train), "--test", str(test), "--json", str(out)]
        if is_curve:
            options += ["--learning-curve", "--sizes", sizes, *(["--plot", str(plot)] if plot is not None else [])]
        done = subprocess.run([sys.executable, "-m", "training", "evaluate", *options], check=False)  # noqa: S603
        if done.returncode == 0 and is_curve:
            _print_curve(json.loads(out.read_text(encoding="utf-8")))
        elif done.returncode == 0 and json_out is None:
            typer.echo(out.read_text(encoding="utf-8"), nl=False)
    raise typer.Exit(code=done.returncode)


def _print_curve(figures: dict[str, Any]) -> None:
    """Show a learning curve: accuracies per number of examples, and what the adapter gains with 95 % intervals, in points."""

    def show_gain(point: dict[str, Any], name: str) -> str:
        low, high = point[f"gain_over_{name}_ci95"]
        return f"{100 * low:+.1f} to {100 * high:+.1f}"

    names = ("base", "adapter", "tfidf", "frozen", "knn")
    rows = [
        (
            str(point["n_train"]),
            *(f"{point[f'accuracy_{name}']:.3f}" for name in names),
            *(show_gain(point, name) for name in ("base", "tfidf", "frozen")),
        )
        for point in figures["learning_curve"]
    ]
    titles = ("examples", "bare model", "adapter", "TF-IDF", "frozen", "kNN", "gain over bare", "over TF-IDF", "over frozen")
    print_table(f"Accuracy on {figures['n_test']} tickets", titles, rows)
    slope = figures["gain_per_doubling"]
    if slope is not None:
        console.print(f"From the last size but one to the last, the adapter gained {100 * slope:+.1f} points per doubling.")


def demo(
    json_out: Path | None = typer.Option(None, "--json", help="File to write the figures to, beside the report."),  # noqa: B008
    n_stream: int = typer.Option(600, "--tickets", min=100, help="Tickets that simulated support agents work through."),
    n_unseen: int = typer.Option(1500, "--unseen", min=100, help="Unseen tickets that are scored before and after."),
) -> None:
    """Run the whole loop once on bundled real tickets, in a fresh folder, and print what it brought."""
    from bot.demo import run_demo

    report = run_demo(n_stream=n_stream, n_unseen=n_unseen)
    if json_out is not None:
        write_json(json_out, report)
        console.print(f"Figures written to {json_out}.")
