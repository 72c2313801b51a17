"""Commands on base models: list, pull, add, approve."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bot.cli.common import get_actor, open_session, read_settings
from bot.cli.output import console, errors, print_json, print_table
from bot.errors import UserError

if TYPE_CHECKING:
    from bot.models.licence import LicenceFacts
    from bot.settings import Settings

app = typer.Typer(no_args_is_help=True)
JSON_OPTION = typer.Option(False, "--json", help="Print JSON.")


@app.command("list")
def list_all(as_json: bool = JSON_OPTION) -> None:
    """Show the installed models and the catalog of well-known open ones."""
    from bot.models.catalog import load_catalog
    from bot.models.registry import list_models

    settings = read_settings()
    installed = {model.name: model for model in list_models(settings.home)}
    catalog = load_catalog()
    if as_json:
        print_json(
            {
                "installed": [{**asdict(model), "kind": model.kind.value} for model in installed.values()],
                "catalog": [entry.model_dump(mode="json") for entry in catalog],
            }
        )
        return
    rows = [(m.name, m.kind.value, f"{m.n_bytes / 1e6:.0f}", m.licence or "not noted", m.digest[:12]) for m in installed.values()]
    print_table("Installed", ("name", "kind", "MB", "licence", "sha256"), rows)
    others = [(e.name, e.kind.value, f"{e.approx_mb}", e.licence, e.commercial_use) for e in catalog if e.name not in installed]
    print_table("Catalog: `understudy models pull NAME`", ("name", "kind", "about MB", "licence", "commercial use"), others)


@app.command()
def pull(
    name: str = typer.Argument(help="Name in the catalog."),
    is_unpinned: bool = typer.Option(
        False,
        "--accept-unpinned",
        help="Take a file whose hash the catalog does not know; its hash is recorded.",
    ),
) -> None:
    """Download a model of the catalog, check its SHA-256, and note its licence. It serves once the licence is approved."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from bot.models.catalog import find_entry
    from bot.models.licence import build_facts
    from bot.models.pull import pull_model
    from bot.models.registry import list_models

    settings = read_settings()
    entry = find_entry(name)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=errors) as progress:
        bar = progress.add_task(entry.name, total=None)
        path = pull_model(
            entry,
            settings.home,
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
            accept_unpinned=is_unpinned,
        )
    console.print(f"{entry.name} is installed at {path}.", highlight=False)
    installed = next((model for model in list_models(settings.home) if model.path == path), None)
    if installed is not None and not entry.is_bundled:
        _note(settings, installed.digest, build_facts(entry, revision=installed.revision))
        console.print(f"Licence: {entry.licence}. Read it, then `understudy models approve {entry.name}`.", highlight=False)


@app.command()
def add(
    path: Path = typer.Argument(help="A GGUF file on this machine."),  # noqa: B008
    name: str | None = typer.Option(None, help="Name to give it; the file's own by default."),
    licence: str = typer.Option("", help="Name of its licence, as you read it."),
    source: str = typer.Option("", help="Where it comes from."),
) -> None:
    """Install a local model file. It serves once its licence is approved."""
    from datetime import UTC, datetime

    from bot.models.licence import LicenceFacts
    from bot.models.registry import add_model

    settings = read_settings()
    entry = add_model(path, settings.home, name=name, licence=licence, source=source)
    console.print(
        f"{entry.name} ({entry.kind.value}, {entry.architecture}) is installed, sha256 {entry.digest[:12]}.", highlight=False
    )
    if entry.licence:
        today = datetime.now(UTC).date().isoformat()
        facts = LicenceFacts(
            model_name=entry.name, source=entry.source, revision=entry.revision, licence=entry.licence, noted_on=today
        )
        _note(settings, entry.digest, facts)
        console.print(f"Licence noted: {entry.licence}. `understudy models approve {entry.name}` lets it serve.", highlight=False)
    else:
        console.print("It has no licence note yet: add it again with --licence NAME, then approve it.", highlight=False)


@app.command()
def approve(name: str = typer.Argument(help="Name of an installed model whose licence you have read.")) -> None:
    """Record that you have read a model's licence and let it serve."""
    from bot.models.registry import list_models
    from db.queries.licences import approve_licence

    settings = read_settings()
    entry = next((model for model in list_models(settings.home) if model.name.lower() == name.lower()), None)
    if entry is None:
        raise UserError(f"there is no installed model '{name}': `understudy models list` shows all")
    with open_session(settings) as session:
        row = approve_licence(session, entry.digest, actor=get_actor())
        console.print(f"{row.model_name} ({row.licence}) is approved by {row.approved_by}.", highlight=False)


def _note(settings: "Settings", digest: str, facts: "LicenceFacts") -> None:
    from db.queries.licences import upsert_licence

    with open_session(settings) as session:
        upsert_licence(session, base_digest=digest, actor=get_actor(), **asdict(facts))
