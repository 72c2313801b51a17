"""Commands for managers and auditors: retrain, rollback, pause, resume, audit. Those on adapters and runs have modules of their own.

They work on the database alone; a running bot sees the change and swaps.
"""

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from bot.cli.common import get_actor, mask_reason, open_session, read_settings
from bot.cli.output import console, errors, print_json, print_table
from bot.cli.runs import MAX_LIMIT, is_daemon_alive, is_left_alone
from bot.errors import UserError
from db.types import TaskKind

if TYPE_CHECKING:
    from sqlalchemy import Engine as DbEngine
    from sqlmodel import Session

    from bot.settings import Settings
    from db.tables import TrainingRun

JSON_OPTION = typer.Option(False, "--json", help="Print JSON.")
TASK_OPTION = typer.Option(TaskKind.CLASSIFICATION, "--task", help="Which task.")
REASON_OPTION = typer.Option("", "--reason", help="Why; kept in the audit trail.")
_LOOK_INTERVAL_S = 0.3


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (retrain, rollback, pause, resume, audit):
        app.command()(command)


def retrain(
    task: TaskKind = TASK_OPTION,
    is_dry: bool = typer.Option(False, "--dry-run", help="Say what would be used, and stop."),
    is_waiting: bool = typer.Option(True, "--wait/--no-wait", help="Follow the run to its verdict."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Train a new adapter on the feedback collected so far, and let the gate decide."""
    from db.queries.runs import enqueue_run, get_run

    settings = read_settings()
    if is_dry:
        _print_dry_run(task, as_json=as_json)
        return
    from db.types import RunTrigger

    with open_session(settings) as session:
        _check_no_orphan(session)
        row = enqueue_run(session, task=task, trigger=RunTrigger.MANUAL, actor=get_actor())
        run_id = row.id or 0
        has_daemon = is_daemon_alive(session)
    if not is_waiting:
        if not has_daemon:
            errors.print("No training daemon is running: the run starts with `understudy serve` or `python -m training daemon`.")
        print_json({"run_id": run_id}) if as_json else console.print(f"Run {run_id} is queued.")
        return
    _follow(settings, run_id)
    with open_session(settings) as session:
        _print_verdict(session, get_run(session, run_id), as_json=as_json)


def _check_no_orphan(session: "Session") -> None:
    """Say what to do about a run whose process is gone while nobody is there to take it up: waiting for it would be in vain."""
    from db.queries.runs import get_running

    row = get_running(session)
    if row is not None and row.attempts and is_left_alone(session):
        raise UserError(
            f"run {row.id} ({row.task.value}) was left unfinished and nobody works on it: `understudy serve` goes on with it, "
            f"`understudy runs cancel {row.id}` ends it"
        )


def _print_dry_run(task: TaskKind, *, as_json: bool) -> None:
    command = [sys.executable, "-m", "training", "dry-run", "--task", task.value, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise UserError(f"the dry run failed: {lines[-1] if lines else 'no reason given'}")
    found: dict[str, Any] = json.loads(done.stdout)
    if as_json:
        print_json(found)
        return
    console.print(found["message"], style="bold", highlight=False)
    unknown = ", ".join(f"'{label}' ({count})" for label, count in found["unknown_labels"].items())
    if found["balance"]:
        parts = list(next(iter(found["balance"].values())))
        print_table(
            "Used, by label", ("label", *parts), [(label, *counts.values()) for label, counts in found["balance"].items()]
        )
    print_table("Used, by part", ("part", "examples"), _list_parts(found))
    if found["left_out"]:
        left_out: dict[str, int] = found["left_out"]
        ranked = sorted(left_out.items(), key=lambda item: -item[1])
        print_table("Left out", ("why", "examples"), ranked)
    if unknown:
        console.print(f"Labels that are not in the label set in force: {unknown}.", highlight=False)
    asked = [(what, count) for what, count in found["to_review"].items() if count]
    if asked:
        print_table("For people to settle (`understudy review list` after a run)", ("what", "groups"), asked)
    for sentence in found["not_checked"]:
        console.print(sentence, highlight=False)


def _list_parts(found: dict[str, Any]) -> list[tuple[str, int]]:
    return [
        ("train", found["n_train"]),
        ("train, handoffs (what a ticket is not)", found["n_negative"]),
        ("validation", found["n_validation"]),
        ("test", found["n_test"]),
        ("test, golden ones of these", found["n_golden"]),
        ("left out", sum(found["left_out"].values())),
        ("seen", found["n_seen"]),
    ]


def _follow(settings: "Settings", run_id: int) -> None:
    """Show a run until it is over. While no daemon is alive to work it off, a child of this process does."""
    from bot.app import open_database

    db_engine = open_database(settings)
    try:
        _show_run(db_engine, run_id)
    finally:
        db_engine.dispose()


def _show_run(db_engine: "DbEngine", run_id: int) -> None:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from db.queries.runs import get_run
    from db.session import transaction
    from db.types import RUNNING

    child: subprocess.Popen[bytes] | None = None
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=errors) as progress:
        bar = progress.add_task(f"run {run_id}: waiting", total=1.0)
        while True:
            is_over = child is not None and child.poll() is not None
            with transaction(db_engine, is_read_only=True) as session:
                row, has_daemon = get_run(session, run_id), is_daemon_alive(session)
            fraction = row.step / row.total_steps if row.total_steps else 0.0
            progress.update(bar, completed=min(fraction, 1.0), description=f"run {run_id}: {row.message or row.status.value}")
            if row.status not in RUNNING:
                progress.update(bar, completed=1.0)
                return
            if is_over and not has_daemon:
                raise UserError(
                    f"the training process ended before run {run_id} did; `understudy serve` takes it up where it stopped"
                )
            if is_over:  # a daemon came first
                child = None
            elif child is None and not has_daemon:
                child = _start_run(run_id)
            time.sleep(_LOOK_INTERVAL_S)


def _start_run(run_id: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "training", "run", str(run_id)])  # noqa: S603


def _print_verdict(session: "Session", row: "TrainingRun", *, as_json: bool) -> None:
    from db.queries.gate import get_gate_report
    from db.types import RunStatus

    report = get_gate_report(session, run_id=row.id or 0)
    reasons = list(report.reasons) if report else []
    if as_json:
        print_json(
            {
                "run_id": row.id,
                "status": row.status.value,
                "adapter_digest": row.adapter_digest,
                "message": row.message,
                "reasons": reasons,
                "error": row.error,
                "numbers": report.numbers if report else {},
            }
        )
    else:
        is_answer = row.status is RunStatus.CANCELLED and not row.is_cancel_requested
        console.print(f"Run {row.id}: {'nothing to do' if is_answer else row.status.value}", style="bold", highlight=False)
        for line in reasons or [row.error or row.message]:
            console.print(f"  {line}", highlight=False)
    if row.status is RunStatus.FAILED:
        raise typer.Exit(code=1)


def rollback(task: TaskKind = TASK_OPTION, reason: str = REASON_OPTION, as_json: bool = JSON_OPTION) -> None:
    """Return to the adapter that was active before, or to the bare base model."""
    from db.queries.adapters import rollback as roll_back

    settings = read_settings()
    masked = mask_reason(settings, reason)
    with open_session(settings) as session:
        row = roll_back(session, task, actor=get_actor(), reason=masked or "rolled back by hand")
        found = {"task": task.value, "active": "base" if row is None else row.digest}
    print_json(found) if as_json else console.print(f"{found['active'][:12]} is now active for {task.value}.")


def _set_paused(*, is_paused: bool) -> None:
    from db.queries.state import set_paused

    with open_session(read_settings()) as session:
        set_paused(session, is_paused=is_paused, actor=get_actor())
    console.print("Suggestions are paused." if is_paused else "Suggestions are on.")


def pause() -> None:
    """Stop making suggestions; tickets are still taken in."""
    _set_paused(is_paused=True)


def resume() -> None:
    """Make suggestions again."""
    _set_paused(is_paused=False)


def audit(
    subject: str | None = typer.Option(None, help="Only one subject: a ticket id, run id or adapter digest."),
    action: str | None = typer.Option(None, help="Only one action, such as adapter.activated."),
    at: datetime | None = typer.Option(None, help="Say what was live at that time (UTC) instead."),  # noqa: B008
    limit: int = typer.Option(50, min=1, max=MAX_LIMIT, help="How many."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Show who did what, when; or, with --at, which adapter was live at a time."""
    from db.queries.adapters import what_was_live
    from db.queries.audit import list_audit

    with open_session(read_settings()) as session:
        if at is not None:
            moment = at.replace(tzinfo=UTC) if at.tzinfo is None else at
            live = [{"task": task.value, "digest": what_was_live(session, moment, task=task) or "base"} for task in TaskKind]
            print_json(live) if as_json else print_table(
                f"Live at {moment.isoformat()}", ("task", "digest"), [tuple(entry.values()) for entry in live]
            )
            return
        entries = [row.model_dump(mode="json") for row in list_audit(session, subject_id=subject, action=action, limit=limit)]
    if as_json:
        print_json(entries)
        return
    table = [(e["at"], e["actor"], e["action"], f"{e['subject_type']} {e['subject_id'][:12]}", e["detail"]) for e in entries]
    print_table("Audit", ("at", "actor", "action", "subject", "detail"), table)
