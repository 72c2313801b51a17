"""Commands of people's data: corrections of masking, export, erasure, retention, the data map.

Each opens the database and leaves the rest to `bot.privacy.service`. The masker is loaded only where something is masked.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from bot.cli.common import get_actor, read_settings
from bot.cli.output import console, print_json, print_table, write_json
from bot.errors import UserError
from db.privacy_tables import CorrectionKind, CorrectionStatus

if TYPE_CHECKING:
    from bot.masking.corrections import CorrectedMasker
    from bot.privacy.service import PrivacyService
    from bot.privacy_api import CorrectionInfo, Findings, Subject

T = TypeVar("T")
app = typer.Typer(no_args_is_help=True)

JSON_OPTION = typer.Option(False, "--json", help="Print JSON.")
REASON_OPTION = typer.Option("", "--reason", help="Why; masked, and kept in the audit trail.")
PERSON_OPTION = typer.Option("", "--person", help="Name, e-mail address, phone number; '-' reads it from standard input.")
TICKET_OPTION = typer.Option([], "--ticket", help="Number of a ticket; may be given several times.")
PLUGIN_OPTION = typer.Option("", "--plugin", help="Plugin that brought the ticket; goes with --external-id.")
EXTERNAL_OPTION = typer.Option("", "--external-id", help="The ticket's id in the system it came from.")
CORRECTION_ARGUMENT = typer.Argument(help="Number of the correction, as `privacy list` shows it.")


def register(main: typer.Typer) -> None:
    """Add the commands."""
    main.add_typer(app, name="privacy", help="People's data: corrections of masking, export, erase, purge, map, regression.")


@contextmanager
def open_service() -> "Iterator[PrivacyService]":
    """Hand out the service over the database, its schema checked."""
    from bot.app import build_vault, open_database
    from bot.masking import Masker
    from bot.masking.corrections import CorrectedMasker, load_rules
    from bot.privacy.service import PrivacyService
    from db.session import transaction

    settings = read_settings()
    vault = build_vault(settings)
    db_engine = open_database(settings)

    @cache
    def get_masker() -> "CorrectedMasker":
        with transaction(db_engine, is_read_only=True) as session:
            rules = load_rules(session, vault)
        return CorrectedMasker(Masker(settings.masking), rules)

    try:
        yield PrivacyService(db_engine, settings, vault, get_masker=get_masker)
    finally:
        db_engine.dispose()


def ask(work: "Callable[[PrivacyService], Awaitable[T]]") -> T:
    """Run one request against the service."""

    async def run(service: "PrivacyService") -> T:
        return await work(service)

    with open_service() as service:
        return asyncio.run(run(service))


def build_subject(person: str, tickets: list[int], plugin: str, external_id: str) -> "Subject":
    """Return whose data is meant. Raises UserError unless exactly one way of saying it was used."""
    from bot.privacy_api import Subject
    from bot.types import SourceRef

    if bool(plugin) != bool(external_id):
        raise UserError("--plugin and --external-id go together")
    if bool(person) + bool(tickets) + bool(plugin) != 1:
        raise UserError("say whose data: --person TEXT, --ticket NUMBER, or --plugin NAME with --external-id ID")
    if person == "-":  # a name on the command line stands in the shell's history and in the list of processes
        person = typer.get_text_stream("stdin").readline().strip()
    return Subject(person=person, ticket_ids=tuple(tickets), source=SourceRef(plugin, external_id) if plugin else None)


@app.command()
def find(
    person: str = PERSON_OPTION,
    tickets: list[int] = TICKET_OPTION,
    plugin: str = PLUGIN_OPTION,
    external_id: str = EXTERNAL_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """Say what is held on a person or a ticket; change nothing."""
    subject = build_subject(person, tickets, plugin, external_id)
    findings = ask(lambda service: service.find(subject))
    print_json(findings) if as_json else _print_findings(findings)


def _print_findings(findings: "Findings") -> None:
    if findings.tickets:
        rows = [
            (ticket.ticket_id, ticket.plugin, ticket.how, ", ".join(f"{n} {name}" for name, n in ticket.rows.items() if n))
            for ticket in findings.tickets
        ]
        print_table("Tickets", ("id", "plugin", "found by", "rows"), rows)
    else:
        console.print("No ticket holds anything on them, as far as that can be known.")
    console.print(
        f"{findings.n_plugin_rows} rows of plugins, {findings.n_other_rows} other texts, {findings.n_actor_rows} rows as a team member.",
        highlight=False,
    )
    for note in findings.notes:
        console.print(f"Note: {note}", highlight=False)


@app.command()
def export(
    path: Path = typer.Argument(help="JSON file to write; readable by you alone."),  # noqa: B008
    *,
    person: str = PERSON_OPTION,
    tickets: list[int] = TICKET_OPTION,
    plugin: str = PLUGIN_OPTION,
    external_id: str = EXTERNAL_OPTION,
) -> None:
    """Write everything held on a person or a ticket to a file, unmasked as far as the vault goes. Audited."""
    subject = build_subject(person, tickets, plugin, external_id)
    found = ask(lambda service: service.export(subject, actor=get_actor()))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))  # it holds personal data in clear
        write_json(path, found)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or type(error).__name__}") from None
    state = "unmasked" if found["is_unmasked"] else "masked where no key opens the placeholder map"
    console.print(f"{len(found['tickets'])} tickets written to {path}, {state}.", highlight=False)
    for note in found["notes"]:
        console.print(f"Note: {note}", highlight=False)


@app.command()
def erase(
    *,
    person: str = PERSON_OPTION,
    tickets: list[int] = TICKET_OPTION,
    plugin: str = PLUGIN_OPTION,
    external_id: str = EXTERNAL_OPTION,
    is_dry: bool = typer.Option(False, "--dry-run", help="Show what would be erased, and change nothing."),
    is_sure: bool = typer.Option(False, "--yes", help="Do not ask for confirmation."),
    reason: str = REASON_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """Erase everything held on a person or a ticket. Shows what that is and asks first; a second time there is nothing left."""
    subject = build_subject(person, tickets, plugin, external_id)
    with open_service() as service:
        findings = asyncio.run(_find(service, subject))
        if is_dry or not as_json:
            print_json(findings) if as_json else _print_findings(findings)
        if is_dry:
            return
        if not is_sure and not typer.confirm("Erase all of this for good?"):
            raise UserError("nothing was erased")
        report = asyncio.run(service.erase(subject, actor=get_actor(), reason=reason))
    if as_json:
        print_json(report)
        return
    rows = ", ".join(f"{count} {name}" for name, count in report.rows.items()) or "nothing"
    console.print(f"{report.n_tickets} tickets erased: {rows}.", highlight=False)
    for digest in report.adapters:
        console.print(f"Adapter {digest[:12]} had learned from it and is marked.", highlight=False)
    for task in report.retrains:
        console.print(f"A new {task} run is asked for.", highlight=False)


async def _find(service: "PrivacyService", subject: "Subject") -> "Findings":
    return await service.find(subject)


@app.command("list")
def list_corrections(
    status: CorrectionStatus | None = typer.Option(None, "--status", help="open, approved or rejected; all without it."),  # noqa: B008
    limit: int = typer.Option(100, "--limit", min=1, max=10_000, help="How many."),
    as_json: bool = JSON_OPTION,
) -> None:
    """List corrections of masking, newest first. Shows phrases in clear where the vault key opens them."""
    found = ask(lambda service: service.list_corrections(status=status, limit=limit))
    if as_json:
        print_json(list(found))
        return
    rows = [(row.id, row.status.value, row.kind.value, row.entity, row.phrase, row.context, row.actor) for row in found]
    print_table("Corrections", ("id", "state", "kind", "type", "phrase", "context (masked)", "by"), rows)


@app.command()
def report(
    kind: CorrectionKind = typer.Argument(help="mask: it should have been masked; keep: it is not personal."),  # noqa: B008
    entity: str = typer.Argument(help="Type, such as PERSON or LOCATION."),
    text: str = typer.Argument(help="The words themselves; '-' reads them from standard input."),
    *,
    ticket: int | None = typer.Option(None, "--ticket", help="The ticket in which they stand."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Say that words should have been masked, or are not personal. Takes effect once approved."""
    words = typer.get_text_stream("stdin").readline().strip() if text == "-" else text
    row = ask(
        lambda service: service.report_correction(kind=kind, entity=entity, text=words, actor=get_actor(), ticket_id=ticket)
    )
    print_json(row) if as_json else console.print(f"Correction {row.id} waits for review.", highlight=False)


@app.command()
def approve(correction_id: int = CORRECTION_ARGUMENT, reason: str = REASON_OPTION, as_json: bool = JSON_OPTION) -> None:
    """Put a correction in force. Stored texts that hold the phrase are masked by the bot, or by `privacy work`."""
    _print_review(_review(correction_id, is_approved=True, reason=reason), as_json=as_json)


@app.command()
def reject(correction_id: int = CORRECTION_ARGUMENT, reason: str = REASON_OPTION, as_json: bool = JSON_OPTION) -> None:
    """Reject a correction, or take an approved one back; what was masked stays masked."""
    _print_review(_review(correction_id, is_approved=False, reason=reason), as_json=as_json)


def _review(correction_id: int, *, is_approved: bool, reason: str) -> "CorrectionInfo":
    return ask(
        lambda service: service.review_correction(correction_id, is_approved=is_approved, actor=get_actor(), reason=reason)
    )


def _print_review(row: "CorrectionInfo", *, as_json: bool) -> None:
    print_json(row) if as_json else console.print(f"Correction {row.id} is {row.status.value}.", highlight=False)


@app.command()
def work(as_json: bool = JSON_OPTION) -> None:
    """Do now what the bot does by the hour: mask newly approved phrases in stored texts, delete what is older than the settings allow."""
    with open_service() as service:
        count = service.remask_pending()
        purged = service.purge()
    if as_json:
        print_json({"corrections": count, "purged": purged})
        return
    deleted = ", ".join(f"{number} {name}" for name, number in purged.items()) or "nothing"
    console.print(f"{count} corrections applied to stored texts; deleted: {deleted}.", highlight=False)


@app.command("map")
def show_map(
    is_markdown: bool = typer.Option(False, "--markdown", help="Print a page."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Print the data map: every table and column, what it holds, how long, who reads it, where it leaves."""
    from bot.privacy.datamap import render_markdown

    tables = ask(lambda service: service.get_map())
    if as_json:
        print_json(list(tables))
    elif is_markdown:
        typer.echo(render_markdown(tables))
    else:
        rows = [(table.name, table.n_rows, table.retention, table.on_erasure, table.leaves) for table in tables]
        print_table("Data map", ("table", "rows", "kept", "on erasure", "leaves"), rows)


@app.command()
def regression(as_json: bool = JSON_OPTION) -> None:
    """Run the masker over every approved correction; exits with 1 where one fails."""
    with open_service() as service:
        found = service.run_regression()
    if as_json:
        print_json(found)
    else:
        rows = [
            (
                result.correction_id,
                result.entity,
                "mask" if result.must_mask else "keep",
                _say(result.is_passed),
                _say(result.is_recognized),
            )
            for result in found.results
        ]
        print_table("Corrections as tests", ("correction", "type", "must", "in force", "recognisers alone"), rows)
        console.print(
            f"{len(found.results) - found.n_failed} passed, {found.n_failed} failed, {found.n_closed} cannot be tried without their key.",
            highlight=False,
        )
    if found.n_failed:
        raise typer.Exit(code=1)


def _say(is_right: bool) -> str:
    return "passed" if is_right else "failed"
