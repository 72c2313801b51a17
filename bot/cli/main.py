"""The list of commands, and the one place where a known error becomes an exit status.

Each command lives in a module of its subject; they are imported when called, so that `--help` is quick.
"""

import logging
import sys
import traceback
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points, version

import typer

from bot.cli import adapters, data, events, manage, masking, models, privacy, review, runs, serve, tickets, vault
from bot.cli.output import print_error

logger = logging.getLogger(__name__)
COMMANDS = "bot.commands"
"""The group of entry points that name a plugin's `typer.Typer`."""
_OURS = frozenset({"bot", "db", "plugins", "training"})

app = typer.Typer(
    name="understudy",
    help="A self-hosted assistant for support teams that learns from every correction.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (serve, tickets, masking, manage, runs, adapters, data, review, events, privacy, vault):
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
    from bot.sealing import SealError
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
        SealError,
        SettingsError,
        LabelSetError,
        DatabaseError,
    )


def add_plugin_commands(cli: typer.Typer, arguments: list[str], *, entries: Iterable[EntryPoint] | None = None) -> None:
    """Add the commands that plugins bring, such as `understudy zendesk setup`; only the one asked for is imported."""
    for entry in entry_points(group=COMMANDS) if entries is None else entries:
        if arguments[:1] == [entry.name]:
            cli.add_typer(entry.load(), name=entry.name)
        else:
            cli.add_typer(typer.Typer(), name=entry.name, help=f"Commands of the plugin {entry.name}.")


def main() -> None:
    """Run the command line."""
    try:
        add_plugin_commands(app, sys.argv[1:])
        app()
    except get_known_errors() as error:
        logger.debug("details", exc_info=error)
        print_error(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        print_error("stopped")
        sys.exit(130)
    except Exception as error:
        logger.debug("details", exc_info=error)
        print_error(describe_unknown(error))
        sys.exit(1)


def describe_unknown(error: Exception) -> str:
    """Say in one sentence what an error is that nobody foresaw. The text of a foreign exception may hold a ticket: it is left out."""
    if isinstance(error, OSError) and error.strerror:
        return f"cannot use {error.filename}: {error.strerror}" if error.filename else f"the system refuses: {error.strerror}"
    frames = [(frame.f_globals.get("__name__", "?"), line) for frame, line in traceback.walk_tb(error.__traceback__)]
    ours = [frame for frame in frames if str(frame[0]).partition(".")[0] in _OURS]
    module, line = (ours or frames or [("?", 0)])[-1]
    return (
        f"this is a fault in Understudy ({type(error).__name__} in {module}:{line}); "
        "run again with UNDERSTUDY_LOG_LEVEL=debug for the details"
    )
