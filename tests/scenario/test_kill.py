"""kill -9 of the bot at any point: what it acknowledged is there, and the next start goes on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from sqlmodel import Session, select

from bot.app import App
from bot.plugin_api import SourceRef
from db.tables import Example, FeedbackRow
from tests.scenario.conftest import make_settings

CLICKER = """
import asyncio, sys
from pathlib import Path
from bot.app import App
from bot.plugin_api import Feedback, FeedbackKind, SourceRef
from bot.settings import Settings

async def main():
    app = App(Settings(home=Path(sys.argv[1]), blind_share=0.0), with_plugins=False, with_training=False)
    await app.start()
    number = 0
    while True:
        number += 1
        card = await app.bot.classify(f"my printer number {number} is broken", source=SourceRef("kill", str(number)))
        receipt = await app.bot.record_feedback(Feedback(card.inference_id, FeedbackKind.ACCEPT, "ana", idempotency_key=f"k{number}"))
        print(receipt.feedback_id, flush=True)

asyncio.run(main())
"""


def click_until_killed(home: Path, n_clicks: int) -> list[int]:
    """Run a bot that records feedback; kill it as soon as `n_clicks` were acknowledged; return every acknowledged id."""
    process = subprocess.Popen([sys.executable, "-c", CLICKER, str(home)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    seen = [int(process.stdout.readline()) for _ in range(n_clicks)]
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read()
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    return seen + [int(line) for line in rest.splitlines()]


async def test_a_killed_bot_loses_no_acknowledged_feedback_and_starts_again(tmp_path: Path, model_home: Path):
    settings = make_settings(tmp_path / "home", model_home)
    acknowledged: set[int] = set()
    for n_clicks in (1, 7):
        acknowledged |= set(click_until_killed(settings.home, n_clicks))
    app = App(settings, with_plugins=False, with_training=False)
    await app.start()
    try:
        with Session(app.db_engine) as session:
            rows = session.exec(select(FeedbackRow)).all()
            taught = {example.feedback_id for example in session.exec(select(Example))}
        assert acknowledged <= {row.id for row in rows}
        assert {row.id for row in rows} == taught
        card = await app.bot.classify("my printer number 1 is broken", source=SourceRef("kill", "1"))
        assert card.label is not None
    finally:
        await app.stop()
