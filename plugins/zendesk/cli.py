"""The set-up command: shows what it will do to the account, asks, and does it.

Knows no label set: the caller says where labels come from.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import httpx
import typer
import yaml
from pydantic import ValidationError

from bot.plugin_api import BotError, RetryLaterError
from plugins.helpdesk.client import HelpdeskError, SystemClock
from plugins.zendesk.client import build_api
from plugins.zendesk.settings import ZendeskSettings
from plugins.zendesk.setup import Account, SetUp

LoadLabels = Callable[[Path | None], Sequence[str]]


class SetUpError(BotError):
    """Set-up cannot go on. The message says what to change."""


def read_label_names(path: Path | None) -> Sequence[str]:
    """Return the label names of a label set file. Raises SetUpError."""
    if path is None:
        raise SetUpError("which labels? name the label set file with --labels or in UNDERSTUDY_LABELS")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return [str(label["name"] if isinstance(label, dict) else label) for label in content["labels"]]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        raise SetUpError(f"{path} is not a label set file: see docs/label-sets.md") from None


def build_commands(
    load_labels: LoadLabels = read_label_names, *, transport: httpx.AsyncBaseTransport | None = None
) -> typer.Typer:
    """Return the commands; `load_labels` turns the option --labels (None where it is not given) into label names."""
    app = typer.Typer(name="zendesk", help="Zendesk: set the account up.", no_args_is_help=True)

    @app.callback()
    def group() -> None:
        """Commands for Zendesk."""

    @app.command()
    def setup(
        url: str = typer.Option(..., help="Public https address of this bot, without a path."),
        labels: Annotated[Path | None, typer.Option(envvar="UNDERSTUDY_LABELS", help="Label set file.")] = None,
        is_dry: bool = typer.Option(False, "--dry-run", help="Show what would be done, and do nothing."),
        is_agreed: bool = typer.Option(False, "--yes", "-y", help="Do not ask."),
        shows_secret: bool = typer.Option(False, "--show-secret", help="Print the webhook's signing secret at the end."),
    ) -> None:
        """Create the ticket fields, the webhook and the trigger, or what is missing of them. May be run again."""
        try:
            names = load_labels(labels)
            run = _Run(_read_settings(), transport, is_dry=is_dry, is_agreed=is_agreed, shows_secret=shows_secret)
            asyncio.run(run.set_up(url, names))
        except (SetUpError, HelpdeskError, RetryLaterError) as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from None

    return app


class _Run:
    """One run of the set-up command."""

    def __init__(
        self,
        settings: ZendeskSettings,
        transport: httpx.AsyncBaseTransport | None,
        *,
        is_dry: bool,
        is_agreed: bool,
        shows_secret: bool,
    ) -> None:
        self._settings, self._transport = settings, transport
        self._is_dry, self._is_agreed, self._shows_secret = is_dry, is_agreed, shows_secret

    async def set_up(self, url: str, labels: Sequence[str]) -> None:
        """Plan, show, ask, do."""
        api = build_api(self._settings, SystemClock(), self._transport)
        try:
            work = SetUp(api, public_url=url, labels=labels)
            account = await work.plan()
            if account.steps and not await self._do(account):
                return
            if not account.steps:
                typer.echo(f"{self._settings.get_base_url()} is set up already; nothing to do.")
            if self._shows_secret and account.webhook_id:
                typer.echo(f"ZENDESK_WEBHOOK_SECRET={await work.fetch_secret(account)}")
            elif account.steps:
                typer.echo("Set ZENDESK_WEBHOOK_SECRET to the webhook's signing secret (run again with --show-secret to see it).")
        finally:
            await api.close()

    async def _do(self, account: Account) -> bool:
        """Show the steps and run them; False where nothing was done."""
        typer.echo(f"In {self._settings.get_base_url()} this will be done:")
        for number, step in enumerate(account.steps, 1):
            typer.echo(f"  {number}. {step.sentence}")
        if self._is_dry:
            return False
        if not self._is_agreed and not await asyncio.to_thread(typer.confirm, "Go on?"):
            typer.echo("Nothing was done.")
            return False
        for step in account.steps:
            await step.run()
        typer.echo("Done.")
        return True


def _read_settings() -> ZendeskSettings:
    try:
        return ZendeskSettings()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SetUpError(f"{where}: {first['msg']}" if where else first["msg"].removeprefix("Value error, ")) from None


app = build_commands()
"""What the entry point names: `understudy zendesk ...`."""
