"""What several commands share: reading settings with plugin names known, opening the database, running the bot without its plugins."""

import asyncio
import getpass
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlmodel import Session

    from bot.app import App
    from bot.masking.corrections import Rules
    from bot.settings import Settings

T = TypeVar("T")


def get_actor() -> str:
    """Name under which the command line is audited. A container may run under a number without a name."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return f"cli:uid-{os.getuid()}"


def read_settings(*, is_server: bool = False) -> "Settings":
    """Read the settings; unknown names are refused, those of installed plugins are known. Short commands log warnings alone."""
    from bot.plugin_host import get_plugin_env_names
    from bot.settings import load_settings

    settings = load_settings(plugin_names=get_plugin_env_names())
    level = settings.log_level.upper() if is_server or settings.log_level == "debug" else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if settings.log_level != "debug":
        for name in ("httpx", "apscheduler", "alembic", "gguf", "presidio-analyzer"):
            logging.getLogger(name).setLevel(logging.WARNING)
    return settings


@contextmanager
def open_session(settings: "Settings", *, is_read_only: bool = False) -> "Iterator[Session]":
    """Open the database, its schema checked, and hand out one transaction. A read-only one keeps nobody waiting."""
    from bot.app import open_database
    from db.session import transaction

    db_engine = open_database(settings)
    try:
        with transaction(db_engine, is_read_only=is_read_only) as session:
            yield session
    finally:
        db_engine.dispose()


def mask_reason(settings: "Settings", reason: str) -> str:
    """Mask a person's words before they are stored; no masker is loaded for none. Raises MaskingError."""
    from bot.masking import Masker
    from bot.masking.corrections import CorrectedMasker

    if not reason.strip():
        return ""
    return CorrectedMasker(Masker(settings.masking), load_corrections(settings)).mask(reason).text


def load_corrections(settings: "Settings") -> "Rules":
    """Return what people corrected about masking, as far as the vault's keys open it."""
    from bot.app import build_vault
    from bot.masking.corrections import load_rules

    with open_session(settings, is_read_only=True) as session:
        return load_rules(session, build_vault(settings))


def run_with_bot(work: "Callable[[App], Awaitable[T]]") -> T:
    """Build the bot without plugins and training, start it, do the work, stop it."""
    from bot.app import App

    settings = read_settings()

    async def run() -> T:
        app = App(settings, with_plugins=False, with_training=False)
        await app.start()
        try:
            return await work(app)
        finally:
            await app.stop()

    return asyncio.run(run())
