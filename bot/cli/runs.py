"""Commands on training runs: list them, cancel one. Also whether anybody is there to work one off.

Works on the database alone; the training process sees the request at its next step.
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import typer

from bot.cli.common import get_actor, open_session, read_settings
from bot.cli.output import console, print_json, print_table

if TYPE_CHECKING:
    from sqlmodel import Session

JSON_OPTION = typer.Option(False, "--json", help="Print JSON.")
RUN_ARGUMENT = typer.Argument(help="Number of the run, as `understudy runs` shows it.")
MAX_LIMIT = 10_000
_DAEMON_ALIVE = timedelta(seconds=20)
_COLUMNS = {
    "id": "id",
    "task": "task",
    "status": "status",
    "trigger": "trigger",
    "actor": "actor",
    "created_at": "created (UTC)",
    "adapter_digest": "adapter",
    "message": "message",
}
_LENGTHS = {"created_at": 16, "adapter_digest": 12, "message": 160}

app = typer.Typer(help="Training runs, newest first; or cancel one.", invoke_without_command=True)


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="runs")


@app.callback()
def list_all(
    context: typer.Context,
    limit: int = typer.Option(20, min=1, max=MAX_LIMIT, help="How many."),
    as_json: bool = JSON_OPTION,
) -> None:
    """List training runs, newest first; or cancel one."""
    if context.invoked_subcommand is not None:
        return
    from db.queries.runs import list_runs

    with open_session(read_settings()) as session:
        rows = [row.model_dump(mode="json", exclude={"curves"}) for row in list_runs(session, limit=limit)]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        row["created_at"] = row["created_at"].replace("T", " ")
    table = [[str(row[name] or "–")[: _LENGTHS.get(name, 40)] for name in _COLUMNS] for row in rows]
    print_table("Training runs", tuple(_COLUMNS.values()), table)


@app.command()
def cancel(run_id: int = RUN_ARGUMENT, as_json: bool = JSON_OPTION) -> None:
    """Stop a run at its next step. What is live stays live; a run that nobody works on ends at once."""
    from db.queries.runs import cancel_run, request_cancel
    from db.types import RUNNING

    with open_session(read_settings()) as session:
        row = request_cancel(session, run_id, actor=get_actor())
        if row.status in RUNNING and is_left_alone(session):
            row = cancel_run(session, run_id, actor=get_actor())
        found = {"run_id": run_id, "status": row.status.value, "is_over": row.status not in RUNNING}
    told = "is cancelled" if found["is_over"] else "stops at its next step"
    print_json(found) if as_json else console.print(f"Run {run_id} {told}.")


def is_daemon_alive(session: "Session") -> bool:
    """Say whether a training daemon has shown itself lately."""
    from db.queries.state import get_daemon_heartbeat

    beat = get_daemon_heartbeat(session)
    return beat is not None and datetime.now(UTC) - beat < _DAEMON_ALIVE


def is_left_alone(session: "Session") -> bool:
    """Say whether nobody works off runs: no daemon, and no process that trains on its own."""
    from db.queries.leases import TRAINING, get_holder

    return get_holder(session, TRAINING) is None and not is_daemon_alive(session)
