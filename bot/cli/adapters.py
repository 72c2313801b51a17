"""Commands on adapters and their history: adapters (list, show, reject, retire), promote, timeline, lineage.

They work on the database alone; a running bot sees the change and swaps.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from bot.cli.common import get_actor, mask_reason, open_session, read_settings
from bot.cli.output import console, print_json, print_table
from bot.errors import UserError
from db.types import TaskKind

if TYPE_CHECKING:
    from sqlmodel import Session

    from bot.settings import Settings
    from db.queries.lineage import Trace
    from db.queries.timeline import LivePeriod

JSON_OPTION = typer.Option(False, "--json", help="Print JSON.")
TASK_OPTION = typer.Option(None, "--task", help="Only one task.")
RETIRED_OPTION = typer.Option(TaskKind.CLASSIFICATION, "--task", help="Which task.")
REASON_OPTION = typer.Option("", "--reason", help="Why; kept in the audit trail.")
DIGEST_ARGUMENT = typer.Argument(help="Digest of the adapter, at least 8 digits of it.")
_SHORT = 12

app = typer.Typer(help="Adapters, newest first, with what is live.", invoke_without_command=True)


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="adapters")
    for command in (promote, timeline, lineage):
        parent.command()(command)


@app.callback()
def list_all(context: typer.Context, as_json: bool = JSON_OPTION) -> None:
    """List adapters, newest first, with what is live."""
    if context.invoked_subcommand is not None:
        return
    from db.queries.adapters import list_adapters
    from db.queries.state import get_state

    with open_session(read_settings(), is_read_only=True) as session:
        serving = {(get_state(session, f"serving.{task}") or {}).get("digest") for task in TaskKind}
        rows = [{**row.model_dump(mode="json"), "is_serving": row.digest in serving} for row in list_adapters(session)]
    if as_json:
        print_json(rows)
        return
    table = [
        (
            row["digest"][:_SHORT],
            row["task"],
            row["status"],
            "yes" if row["is_serving"] else "",
            row["activated_at"] and row["activated_at"][:16].replace("T", " "),
            f"{row['n_erased']} examples" if row["n_erased"] else "",
            row["reason"],
        )
        for row in rows
    ]
    print_table("Adapters", ("digest", "task", "status", "serving", "active since (UTC)", "erased since", "why"), table)


@app.command()
def show(digest: str = DIGEST_ARGUMENT, as_json: bool = JSON_OPTION) -> None:
    """Show all of one adapter: where it comes from, what it learned from, when it was live, who decided what, where its notes are."""
    from db.queries.adapters import resolve_digest

    settings = read_settings()
    with open_session(settings, is_read_only=True) as session:
        found = _describe(session, settings, resolve_digest(session, digest).digest)
    if as_json:
        print_json(found)
        return
    for key in ("adapter", "run", "gate", "examples", "notes"):
        _print_fields(key, found[key])
    _print_periods(found["live"])
    decisions = [(row["at"], row["actor"], row["action"], row["detail"].get("reason")) for row in found["decisions"]]
    print_table("Who did what", ("at", "who", "what", "why"), decisions)


@app.command()
def reject(digest: str = DIGEST_ARGUMENT, reason: str = REASON_OPTION) -> None:
    """Turn down a candidate for good; the run that waited for approval ends with it."""
    from bot.approval import reject_adapter

    settings = read_settings()
    masked = mask_reason(settings, reason)
    with open_session(settings) as session:
        row = reject_adapter(session, digest, actor=get_actor(), reason=masked or "rejected by hand")
        console.print(f"{row.digest[:_SHORT]} is rejected.")


@app.command()
def retire(task: TaskKind = RETIRED_OPTION, reason: str = REASON_OPTION) -> None:
    """Let the bare base model serve a task; the adapter that was live is kept and can be promoted again."""
    from db.queries.adapters import deactivate_to_base

    settings = read_settings()
    masked = mask_reason(settings, reason)
    with open_session(settings) as session:
        row = deactivate_to_base(session, task, actor=get_actor(), reason=masked or "retired by hand")
        told = f"{row.digest[:_SHORT]} is retired" if row else "no adapter was live"
    console.print(f"{told}: the base model serves {task.value}.")


def promote(digest: str = DIGEST_ARGUMENT, reason: str = REASON_OPTION, as_json: bool = JSON_OPTION) -> None:
    """Approve an adapter and, where that is enough, make it the active one. A running bot swaps within its watch interval."""
    from bot.approval import promote_adapter
    from db.types import AdapterStatus

    settings = read_settings()
    masked = mask_reason(settings, reason)
    with open_session(settings) as session:
        row = promote_adapter(
            session,
            digest,
            actor=get_actor(),
            reason=masked or "promoted by hand",
            approvers_needed=settings.training.approvers_needed,
        )
        is_active = row.status is AdapterStatus.ACTIVE
        found = {
            "task": row.task.value,
            "active": row.digest if is_active else None,
            "waiting": None if is_active else row.reason,
        }
        short = row.digest[:_SHORT]
    if as_json:
        print_json(found)
    else:
        console.print(f"{short} is now active for {found['task']}." if is_active else f"{short} is {found['waiting']}.")


def timeline(
    task: TaskKind | None = TASK_OPTION,
    at: datetime | None = typer.Option(None, help="Only what was live at that time (UTC)."),  # noqa: B008
    as_json: bool = JSON_OPTION,
) -> None:
    """Say what was live when, trained on what, passed by which verdict and approved by whom."""
    from db.queries.timeline import build_timeline

    moment = at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at
    with open_session(read_settings(), is_read_only=True) as session:
        periods = build_timeline(session, task=task, at=moment)
    print_json(periods) if as_json else _print_periods(periods)


def lineage(
    example: int | None = typer.Option(None, help="Id of an example."),
    ticket: int | None = typer.Option(None, help="Id of a ticket: all its examples."),
    adapter: str | None = typer.Option(None, help="Digest of an adapter: what it learned from and was judged on."),
    limit: int = typer.Option(1_000, min=1, max=1_000_000, help="How many rows of an adapter's lineage."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Follow examples to the runs and adapters they went into, or an adapter back to its examples."""
    from db.queries import lineage as queries
    from db.queries.adapters import resolve_digest

    if sum(value is not None for value in (example, ticket, adapter)) != 1:
        raise UserError("lineage needs one of --example, --ticket and --adapter")
    with open_session(read_settings(), is_read_only=True) as session:
        if adapter is not None:
            traces = queries.trace_adapter(session, resolve_digest(session, adapter).digest, limit=limit)
        elif ticket is not None:
            traces = queries.trace_ticket(session, ticket)
        else:
            traces = queries.trace_example(session, example or 0)
    print_json(list(traces)) if as_json else _print_traces(traces)


def _describe(session: "Session", settings: "Settings", digest: str) -> dict[str, Any]:
    from db.queries.adapters import get_adapter
    from db.queries.approvals import list_approvers
    from db.queries.audit import list_audit
    from db.queries.gate import get_gate_report
    from db.queries.lineage import count_uses
    from db.queries.runs import get_run
    from db.queries.timeline import build_timeline

    row = get_adapter(session, digest)
    run = None if row.run_id is None else get_run(session, row.run_id)
    report = get_gate_report(session, adapter_digest=digest)
    folder = None if row.run_id is None else settings.runs_dir / str(row.run_id)
    files = [] if folder is None else [folder / name for name in ("notes.md", "notes.html", "card.md", "dataset.md")]
    return {
        "adapter": row.model_dump(mode="json"),
        "run": None if run is None else run.model_dump(mode="json", exclude={"curves", "settings"}),
        "gate": None if report is None else {"is_passed": report.is_passed, "reasons": report.reasons},
        "examples": {} if row.run_id is None else {split.value: n for split, n in count_uses(session, row.run_id).items()},
        "notes": {path.name: str(path) for path in files if path.exists()},
        "approved_by": list(list_approvers(session, digest)),
        "live": [asdict(period) for period in build_timeline(session, task=row.task) if period.digest == digest],
        "decisions": [
            entry.model_dump(mode="json") for entry in reversed(list_audit(session, subject_type="adapter", subject_id=digest))
        ],
    }


def _print_fields(title: str, fields: dict[str, Any] | None) -> None:
    if not fields:
        console.print(f"{title}: nothing recorded", highlight=False)
        return
    print_table(title.capitalize(), ("field", "value"), [(key, _shorten(value)) for key, value in fields.items()])


def _shorten(value: object) -> str:
    if isinstance(value, list):
        return "\n".join(str(item) for item in value)
    return "–" if value is None else str(value)[:200]


def _print_periods(periods: "Sequence[LivePeriod | dict[str, Any]]") -> None:
    rows = [entry if isinstance(entry, dict) else asdict(entry) for entry in periods]
    table = [
        (
            row["task"],
            f"{row['since']:%Y-%m-%d %H:%M}" if row["since"] else "the beginning",
            f"{row['until']:%Y-%m-%d %H:%M}" if row["until"] else "now",
            (row["digest"] or "base")[:_SHORT],
            _describe_data(row),
            {True: "passed", False: "refused", None: ""}[row["is_passed"]],
            ", ".join(row["approved_by"]) or row["actor"],
            ("rolled back: " if row["is_rollback"] else "") + row["reason"],
        )
        for row in rows
    ]
    columns = ("task", "from (UTC)", "to", "live", "trained on", "gate", "approved by", "why")
    print_table("What was live", columns, table)


def _describe_data(row: dict[str, Any]) -> str:
    if row["run_id"] is None:
        return ""
    counts = row["data_counts"]
    erased = f", {row['n_erased']} erased since" if row["n_erased"] else ""
    return (
        f"run {row['run_id']}, {counts.get('n_train', 0)} examples, data {(row['data_digest'] or '')[:_SHORT]}, "
        f"labels {row['label_set_version'][:_SHORT] or '–'}, base {(row['base_digest'] or '')[:_SHORT]}{erased}"
    )


def _print_traces(traces: "Sequence[Trace]") -> None:
    counts = Counter(trace.split.value for trace in traces)
    table = [
        (
            trace.example_id,
            trace.ticket_id,
            trace.run_id,
            trace.split.value,
            trace.run_status.value,
            (trace.adapter_digest or "–")[:_SHORT],
            trace.adapter_status.value if trace.adapter_status else None,
        )
        for trace in traces
    ]
    print_table("Lineage", ("example", "ticket", "run", "used for", "run ended", "adapter", "adapter is"), table)
    console.print(", ".join(f"{split} {count}" for split, count in sorted(counts.items())) or "never used", highlight=False)
