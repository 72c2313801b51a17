"""Commands that move examples in and out, or measure: import, export, evaluate, demo."""

import csv
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bot.cli.common import get_actor, open_session, read_settings
from bot.cli.output import console, open_replacing, print_json, write_json
from bot.errors import UserError
from db.types import TaskKind

if TYPE_CHECKING:
    from bot.masking import Masker
    from bot.types import LabelSet

_BATCH = 200


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
    path: Path = typer.Argument(help="JSON Lines or CSV with `text` and `label`; `id` names the ticket where it has one."),  # noqa: B008
    is_golden: bool = typer.Option(False, "--golden", help="Keep these for the gate; never train on them."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Import labelled tickets as examples, masked. The same file twice adds nothing; a bad line stops before anything is stored."""
    from bot.app import load_labels
    from bot.masking import Masker

    settings = read_settings()
    label_set = load_labels(settings)
    rows = list(_read_rows(path))
    for where, row in rows:
        if not (row["text"] or "").strip():
            raise UserError(f"{where}: the field 'text' is empty; give the ticket's text or take the line out")
        if label_set.get(str(row["label"])) is None:
            raise UserError(f"{where}: the label is not in the label set '{label_set.name}'; add it there or correct the file")
    counts = _import_rows(Masker(settings.masking), label_set, [row for _, row in rows], is_golden=is_golden)
    print_json(counts) if as_json else console.print(
        f"{counts['imported']} imported, {counts['known']} known already, {counts['withheld']} left out because they could not be masked."
    )


def _import_rows(masker: "Masker", label_set: "LabelSet", rows: list[dict[str, Any]], *, is_golden: bool) -> dict[str, int]:
    from bot.importing import find_new, import_batch, mask_rows

    counts = {"imported": 0, "known": 0, "withheld": 0}
    settings = read_settings()
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        with open_session(settings, is_read_only=True) as session:
            new = find_new(session, batch)
        masked = mask_rows(masker, new)  # slow: outside the transactions, or everyone else would wait
        with open_session(settings) as session:
            found = import_batch(session, masked, label_set=label_set, is_golden=is_golden, actor=get_actor())
        found["known"] += len(batch) - len(new)
        for name, count in found.items():
            counts[name] += count
    return counts


def export_examples(
    path: Path = typer.Argument(help="JSON Lines file to write; masked text only."),  # noqa: B008
    task: TaskKind = typer.Option(TaskKind.CLASSIFICATION, "--task", help="Which task."),  # noqa: B008
) -> None:
    """Export the examples, masked, one object per line."""
    import json

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
    json_out: Path | None = typer.Option(None, "--json", help="File to write the figures to; standard output without it."),  # noqa: B008
) -> None:
    """Train an adapter on one file, score it on another as served, and compare it with the baselines."""
    read_settings()
    with tempfile.TemporaryDirectory() as folder:
        out = json_out or Path(folder) / "figures.json"
        files = ["--labels", str(labels), "--train", str(train), "--test", str(test), "--json", str(out)]
        done = subprocess.run([sys.executable, "-m", "training", "evaluate", *files], check=False)  # noqa: S603
        if done.returncode == 0 and json_out is None:
            typer.echo(out.read_text(encoding="utf-8"), nl=False)
    raise typer.Exit(code=done.returncode)


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
