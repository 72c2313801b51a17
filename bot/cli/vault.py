"""Commands of the vault's keys: new-key, status, rotate."""

from typing import TYPE_CHECKING

import typer

from bot.cli.common import get_actor, read_settings
from bot.cli.output import console, print_json, print_table
from bot.errors import UserError

if TYPE_CHECKING:
    from bot.masking import Vault
    from bot.settings import Settings

app = typer.Typer(no_args_is_help=True)

JSON_OPTION = typer.Option(False, "--json", help="Print JSON.")
NO_KEY = "there is no vault key, so nothing is kept in the vault: set UNDERSTUDY_VAULT_KEY, for example to what `understudy vault new-key` prints"


def register(main: typer.Typer) -> None:
    """Add the commands."""
    main.add_typer(app, name="vault", help="The keys of the placeholder vault: new-key, status, rotate.")


@app.command("new-key")
def new_key() -> None:
    """Print a fresh key. Nothing is stored: put it into UNDERSTUDY_VAULT_KEY, in front of the keys there are, with a comma."""
    from bot.masking import Vault

    typer.echo(Vault.new_key())


@app.command()
def status(as_json: bool = JSON_OPTION) -> None:
    """Say how many entries each key opens, and when they expire."""
    from bot.app import open_database
    from bot.privacy.keys import get_status
    from bot.sealing import Sealer

    settings = read_settings()
    vault = _open(settings)
    db_engine = open_database(settings)
    try:
        found = get_status(db_engine, vault, Sealer.open(settings.home, settings.vault_keys))
    finally:
        db_engine.dispose()
    if as_json:
        print_json(found)
        return
    rows = [
        (position + 1, name, found.n_maps.get(name, 0), found.n_phrases.get(name, 0), found.n_plugin_rows.get(name, 0))
        for position, name in enumerate(found.fingerprints)
    ]
    print_table("Vault keys, newest first", ("key", "fingerprint", "placeholder maps", "phrases", "rows of plugins"), rows)
    if found.n_own:
        console.print(
            f"{found.n_own} rows of plugins are under the key in the home folder; `vault rotate` moves them.", highlight=False
        )
    console.print(f"{found.n_unreadable} entries cannot be opened with these keys.", highlight=False)
    if found.expires_first is not None:
        console.print(f"Placeholder maps expire between {found.expires_first} and {found.expires_last}.", highlight=False)


@app.command()
def rotate(as_json: bool = JSON_OPTION) -> None:
    """Encrypt everything with the first key of UNDERSTUDY_VAULT_KEY: placeholder maps, phrases, and what plugins keep."""
    from bot.app import open_database
    from bot.privacy.keys import rotate as rotate_all
    from bot.sealing import Sealer

    settings = read_settings()
    vault = _open(settings)
    db_engine = open_database(settings)
    try:
        sealer = Sealer.open(settings.home, settings.vault_keys)
        done = rotate_all(db_engine, vault, sealer, actor=get_actor())
    finally:
        db_engine.dispose()
    if as_json:
        print_json({"rotated": done.rotated, "unreadable": done.n_unreadable, "bare": done.n_bare, "is_done": done.is_done})
        return
    what = ", ".join(f"{count} {name}" for name, count in done.rotated.items()) or "nothing"
    console.print(f"Encrypted anew with key {vault.fingerprints[0]}: {what}.", highlight=False)
    if done.n_unreadable:
        console.print(
            f"{done.n_unreadable} entries cannot be opened with any key; placeholder maps among them expire by themselves.",
            highlight=False,
        )
    if done.n_bare:
        console.print(
            f"{done.n_bare} corrections are kept as hashes under an older key and end with it: report them again first.",
            highlight=False,
        )
    if done.is_done:
        console.print("Once every process runs with the new key in front, the older keys can be removed.", highlight=False)


def _open(settings: "Settings") -> "Vault":
    from bot.app import build_vault

    vault = build_vault(settings)
    if vault is None:
        raise UserError(NO_KEY)
    return vault
