"""The list of commands, and the one place where a known error becomes an exit status.

Each command lives in a module of its subject; they are imported when called, so that `--help` is quick.
"""

import sys
from importlib.metadata import version

import typer

from bot.cli import data, manage, models, serve, tickets
from bot.cli.output import print_error

app = typer.Typer(
    name="understudy",
    help="A self-hosted assistant for support teams that learns from every correction.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (serve, tickets, manage, data):
    group.register(app)
app.add_typer(models.app, name="models", help="Base models: list, pull, add.")


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"understudy {version('understudy')}")
        raise typer.Exit


@app.callback()
def run(
    is_version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    """Commands of Understudy."""


def get_known_errors() -> tuple[type[Exception], ...]:
    """Errors whose message is meant for the person at the keyboard."""
    from bot.bundle import BundleError
    from bot.engine.protocol import EngineError
    from bot.errors import UserError
    from bot.masking import MaskingError, VaultError
    from bot.plugin_api import BotError
    from bot.plugin_host import PluginError
    from bot.settings import SettingsError
    from bot.tasks.labels import LabelSetError
    from db.errors import DatabaseError

    return (
        BundleError,
        EngineError,
        UserError,
        MaskingError,
        VaultError,
        BotError,
        PluginError,
        SettingsError,
        LabelSetError,
        DatabaseError,
    )


def main() -> None:
    """Run the command line."""
    try:
        app()
    except get_known_errors() as error:
        print_error(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        print_error("stopped")
        sys.exit(130)
