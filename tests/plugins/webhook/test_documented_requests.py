"""The requests in docs/helpdesks.md, run as they stand there, are accepted."""

import asyncio
import re
import shutil
from pathlib import Path

import pytest
from fastapi import FastAPI

from bot.testing import FakeBot
from plugins.helpdesk.client import SystemClock
from plugins.webhook.app import build_plugin
from plugins.webhook.settings import WebhookSettings
from tests.plugins.webhook.webhook_double import SECRET
from tests.support.peers import serve

PAGE = Path(__file__).resolve().parents[3] / "docs" / "helpdesks.md"


async def run_documented(block, address):
    script = f"export UNDERSTUDY_WEBHOOK_SECRET={SECRET}\n{block.replace('http://127.0.0.1:8000', address)}"
    process = await asyncio.create_subprocess_exec(
        "bash", "-ec", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("openssl")), reason="needs curl and openssl")
async def test_documented_requests_are_signed_as_the_plugin_asks():
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    bot = FakeBot(clock=SystemClock())
    plugin = build_plugin(bot, WebhookSettings(secret=SECRET))
    app = FastAPI()
    app.include_router(plugin.router, prefix="/plugins/webhook")
    await plugin.start()
    async with serve(app) as address:
        told = await run_documented(blocks[0], address)
        again = await run_documented(blocks[0], address)
        await plugin.desk.queue.join()
        asked = await run_documented(blocks[1], address)
    await plugin.stop()
    assert (told, again) == ((0, '{"status":"stored"}'), (0, '{"status":"known"}'))
    [ticket] = bot.tickets.values()
    assert asked[0] == 0
    assert f'"label":"{ticket.classification.label}"' in asked[1]
    assert len(blocks) == 2
