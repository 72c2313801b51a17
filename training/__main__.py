"""The commands of the training process: `python -m training COMMAND`. Also the one place where its errors become an exit status.

Parses and prints; what a command does lives elsewhere. Imports nothing heavy before it knows which command is meant.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from db.types import TaskKind

if TYPE_CHECKING:
    from bot.settings import Settings
    from training.encoder.types import Progress

EXIT_FAILED = 1
EXIT_BUSY = 75
"""Another process trains: try again later (sysexits.h's EX_TEMPFAIL)."""
_CHATTY = ("alembic", "apscheduler", "gguf", "httpx", "matplotlib", "presidio-analyzer", "transformers")
_BITSANDBYTES = "bitsandbytes"
"""Its warnings are about a kernel that it would fetch from a hub and does well without."""
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def _run(arguments: argparse.Namespace, settings: "Settings") -> int:
    from db.types import RunStatus
    from training.daemon import catch_signals
    from training.lease import LeaseTakenError
    from training.pipeline import run_training
    from training.priority import lower_priority

    stop = catch_signals()
    lower_priority(settings)
    directory = settings.runs_dir / str(arguments.run_id)
    directory.mkdir(parents=True, exist_ok=True)
    logging.getLogger().addHandler(_build_handler(logging.FileHandler(directory / "log.txt")))
    try:
        status = run_training(arguments.run_id, settings, stop=stop)
    except LeaseTakenError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_BUSY
    if sys.stdout.isatty():
        sys.stdout.write(f"run {arguments.run_id}: {status.value}\n")
    return EXIT_FAILED if status is RunStatus.FAILED else 0


def _daemon(arguments: argparse.Namespace, settings: "Settings") -> int:
    from training.daemon import catch_signals, run_daemon, stop_at_end_of
    from training.source import open_database

    logging.getLogger().addHandler(_build_handler(logging.StreamHandler()))
    stop = catch_signals()
    if arguments.with_parent:
        stop_at_end_of(sys.stdin.buffer, stop)
    run_daemon(open_database(settings), settings, stop=stop)
    return 0


def _dry_run(arguments: argparse.Namespace, settings: "Settings") -> int:
    from training.dry_run import render_lines, run_dry

    answer = run_dry(settings, TaskKind(arguments.task))
    if arguments.json:
        sys.stdout.write(json.dumps(asdict(answer)) + "\n")
        return 0
    sys.stdout.write("\n".join(render_lines(answer)) + "\n")
    return 0


def _notes(arguments: argparse.Namespace, settings: "Settings") -> int:
    from db.session import transaction
    from training.notes import read_record, write_notes
    from training.source import open_database

    with transaction(open_database(settings), is_read_only=True) as session:
        record = read_record(session, arguments.run_id)
    path = write_notes(record, settings.runs_dir / str(arguments.run_id))
    sys.stdout.write(f"{path}\n")
    return 0


def _evaluate(arguments: argparse.Namespace, settings: "Settings") -> int:
    from training.evaluate import evaluate_files, write_figures
    from training.priority import lower_priority

    lower_priority(settings)
    if settings.training.sweep_minutes:
        sys.stderr.write("training.sweep_minutes is left out here: what is scored is trained with the settings as they are\n")
    if not arguments.learning_curve:
        figures = evaluate_files(arguments.labels, arguments.train, arguments.test, settings=settings, on_progress=_show)
    else:
        figures = _evaluate_curve(arguments, settings)
    write_figures(arguments.json, figures)
    return 0


def _evaluate_curve(arguments: argparse.Namespace, settings: "Settings") -> dict[str, Any]:
    from training.learning_curve import evaluate_curve, parse_sizes, plot_curve

    sizes = parse_sizes(arguments.sizes)
    files = arguments.labels, arguments.train, arguments.test
    figures = evaluate_curve(*files, settings=settings, sizes=sizes, on_progress=_show)
    if arguments.plot is not None:
        plot_curve(figures, arguments.plot)
    return figures


def _baselines(arguments: argparse.Namespace, settings: "Settings") -> int:
    from training.compare import compare_baselines
    from training.evaluate import write_figures
    from training.priority import lower_priority

    lower_priority(settings)
    figures = compare_baselines(arguments.labels, arguments.train, arguments.test, settings=settings)
    write_figures(arguments.json, figures)
    return 0


def _show(progress: "Progress") -> None:
    """Show progress on standard error: one line that changes on a terminal, a line per phase in a log."""
    loss = f", loss {progress.loss:.3f}" if progress.loss is not None else ""
    line = f"{progress.phase}: {progress.step} of {progress.total_steps}{loss}"
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.write("\n" if progress.step >= progress.total_steps else "")
        sys.stderr.flush()
    elif progress.step >= progress.total_steps:
        sys.stderr.write(f"{line}\n")


def _build_handler(handler: logging.Handler) -> logging.Handler:
    handler.setFormatter(logging.Formatter(_FORMAT))
    return handler


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(prog="python -m training", description="The training process of Understudy.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="work off one queued run")
    run.add_argument("run_id", type=int)
    run.set_defaults(work=_run)
    daemon = commands.add_parser("daemon", help="wait for queued runs and the schedule")
    daemon.add_argument(
        "--with-parent", action="store_true", help="stop when standard input ends, as it does with the parent process"
    )
    daemon.set_defaults(work=_daemon)
    dry_run = commands.add_parser("dry-run", help="say what a run would use now, and what not")
    dry_run.add_argument("--task", choices=[task.value for task in TaskKind], default=TaskKind.CLASSIFICATION.value)
    dry_run.add_argument("--json", action="store_true", help="print JSON")
    dry_run.set_defaults(work=_dry_run)
    notes = commands.add_parser("notes", help="write the release notes of a run again, with what was decided since")
    notes.add_argument("run_id", type=int)
    notes.set_defaults(work=_notes)
    for name, text in (
        ("evaluate", "train an adapter on one file and score it on another"),
        ("baselines", "score simple baselines on files"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--labels", type=Path, required=True, help="YAML file of the label set")
        command.add_argument("--train", type=Path, required=True, help="JSON Lines with id, text, label")
        command.add_argument("--test", type=Path, required=True, help="JSON Lines with id, text, label")
        command.add_argument("--json", type=Path, required=True, help="file to write the result to")
        command.set_defaults(work=_evaluate if name == "evaluate" else _baselines)
        if name == "evaluate":
            command.add_argument("--learning-curve", action="store_true", help="evaluate with more and more of the examples")
            command.add_argument(
                "--sizes", default="", help="numbers of examples with commas between; doubling from 50 without it"
            )
            command.add_argument("--plot", type=Path, help="PNG file to draw the curve to")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    arguments = build_parser().parse_args(argv)
    # OpenMP threads that spin while they wait take the processors from the bot, and on a busy machine from training itself.
    # Read when torch and llama.cpp are loaded, so it has to stand before.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from training.errors import KNOWN_ERRORS, render_frames

    try:
        from training import source

        settings = source.read_settings()
        logging.getLogger().setLevel(settings.log_level.upper())
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger(_BITSANDBYTES).setLevel(logging.ERROR)
        status: int = arguments.work(arguments, settings)
    except KNOWN_ERRORS as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_FAILED
    except Exception as error:
        sys.stderr.write(f"this is a fault in Understudy, please report it: {render_frames(error)}\n")
        return EXIT_FAILED
    return status


if __name__ == "__main__":
    sys.exit(main())
