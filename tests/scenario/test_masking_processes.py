"""The bot that serves masks in processes of its own: a long ticket keeps nobody waiting, trouble shows, and none outlives the bot."""

import asyncio
import os
from pathlib import Path

import pytest

from bot.app import App
from bot.masking import MaskingSettings
from bot.plugin_api import BusyError, SourceRef
from tests.scenario.conftest import make_settings

LONG = "Hi, the export of ann.lee@example.com failed again and again.\n" * 3300  # 200 kB: seconds of work


def make_app(home: Path, model_home: Path, **masking: object) -> App:
    masking_settings = MaskingSettings(**{"chunk_timeout_ms": 60_000, **masking})
    return App(make_settings(home, model_home, plugins=("console",), masking=masking_settings), with_training=False)


async def test_short_tickets_are_answered_while_a_long_one_is_masked(tmp_path: Path, model_home: Path):
    app = make_app(tmp_path / "home", model_home)
    await app.start()
    try:
        pids = app._pool.pids
        answered = []

        async def ask(name: str, text: str) -> None:
            card = await app.bot.classify(text, source=SourceRef("test", name))
            answered.append((name, card.label is not None))

        await asyncio.gather(ask("long", LONG), *(ask(f"short {n}", f"ann{n}@example.com cannot log in") for n in range(4)))
        assert {name for name, _ in answered[:4]} == {f"short {n}" for n in range(4)}
        assert answered[4] == ("long", True)
        assert app.get_problems() == {}
    finally:
        await app.stop()
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_too_many_waiting_tickets_are_refused_as_busy_and_not_withheld(tmp_path: Path, model_home: Path):
    app = make_app(tmp_path / "home", model_home, workers=1, max_waiting=1)
    await app.start()
    try:
        asked = [app.bot.classify(LONG, source=SourceRef("test", str(n))) for n in range(4)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert any(isinstance(answer, BusyError) for answer in answers)
        assert all(isinstance(answer, BusyError) or answer.label is not None for answer in answers)
        assert len(await app.bot.inbox.list_tickets()) == sum(not isinstance(answer, BusyError) for answer in answers)
    finally:
        await app.stop()


async def test_processes_that_cannot_be_started_are_a_problem_that_health_names(tmp_path: Path, model_home: Path):
    app = make_app(tmp_path / "home", model_home, workers=1)
    app._pool._seats[0].trouble = "out of memory"
    assert app.get_problems() == {"masking": "no masking process can be started: out of memory"}
    app.db_engine.dispose()


def test_a_command_that_answers_once_starts_no_process(tmp_path: Path, model_home: Path):
    app = App(make_settings(tmp_path / "home", model_home), with_plugins=False, with_training=False)
    assert app._pool is None
    app.db_engine.dispose()
