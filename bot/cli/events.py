"""Commands on what plugins have to handle: how much waits, what was given up, and trying it again.

They show keys, kinds and the types of errors; what an event says stays encrypted.
"""

from typing import Any

import typer

from bot.cli.common import get_actor, open_session, read_settings
from bot.cli.output import console, print_json, print_table
from db.types import EventStatus

JSON_OPTION = typer.Option(False, "--json", help="Print JSON.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(events)


def events(
    plugin: str = typer.Option("", "--plugin", help="Of this plugin's queue alone."),
    status: EventStatus | None = typer.Option(None, "--status", help="Only those that stand there."),  # noqa: B008
    retry: list[int] = typer.Option([], "--retry", help="Try a failed event again, by its id; may be given several times."),  # noqa: B008
    limit: int = typer.Option(20, "--limit", min=1, max=1000, help="How many to show, newest first."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Events that reached plugins: waiting, done, given up; `--retry ID` handles a failed one again."""
    from db.queries.events import list_events, requeue_event

    with open_session(read_settings()) as session:
        for event_id in retry:
            requeue_event(session, event_id, actor=get_actor())
        rows = list_events(session, plugin=plugin or None, status=status, limit=limit)
        found: list[dict[str, Any]] = [
            {
                "id": row.id,
                "plugin": row.plugin,
                "kind": row.kind,
                "key": row.key,
                "status": row.status.value,
                "attempts": row.attempts,
                "error": row.error,
                "created_at": row.created_at.isoformat(),
                "available_at": row.available_at.isoformat(),
            }
            for row in rows
        ]
    if as_json:
        print_json(found)
    elif not found:
        console.print("No events.")
    else:
        names = ("id", "plugin", "kind", "status", "attempts", "error", "created_at")
        print_table("Events", names, [tuple(str(row[name]) for name in names) for row in found])
