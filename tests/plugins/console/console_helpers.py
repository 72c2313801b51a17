"""The console as tests reach it: in process through ASGI, and on a real port for the browser."""

import os
import re
import shutil
import threading
import time
from dataclasses import dataclass

import httpx
import uvicorn
from fastapi import FastAPI

from bot.testing import FakeBot
from plugins.console import create
from plugins.console.settings import ConsoleSettings

MOUNT = "/plugins/console"
CHROMIUM_ARGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


def build_app(bot, settings=None):
    app = FastAPI()
    app.include_router(create(bot, settings or ConsoleSettings()).router, prefix=MOUNT)
    return app


def connect(app, *, host="127.0.0.1", client="127.0.0.1"):
    """A browser without scripts: keeps cookies, follows no redirect by itself."""
    transport = httpx.ASGITransport(app=app, client=(client, 50000))
    return httpx.AsyncClient(transport=transport, base_url=f"http://{host}")


def parse_forms(html):
    """Every form as (action, fields): hidden fields and named buttons as a browser without scripts would send them."""
    forms = []
    for action, body in re.findall(r'<form method="post" action="([^"]+)"[^>]*>(.*?)</form>', html, flags=re.DOTALL):
        pairs = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', body)
        forms.append((action, dict(pairs)))
    return forms


@dataclass
class Console:
    """The console as a person without scripts uses it."""

    bot: FakeBot
    client: httpx.AsyncClient

    async def get(self, path, *, status=200):
        response = await self.client.get(MOUNT + path)
        assert response.status_code == status, response.text
        return response.text

    async def submit(self, page, action, *, status=303, changes=None, **wanted):
        """Send the form of `page` with that action whose hidden fields equal `wanted`."""
        html = await self.get(page)
        found = [f for a, f in parse_forms(html) if a == MOUNT + action and all(f.get(k) == v for k, v in wanted.items())]
        assert found, f"no form {action} {wanted} on {page}"
        response = await self.client.post(MOUNT + action, data={**found[0], **(changes or {})})
        assert response.status_code == status, response.text
        return response


class Server:
    """uvicorn on a free port of this machine, in a thread."""

    def __init__(self, app):
        self._server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", ws="none", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self):
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}{MOUNT}"

    def __exit__(self, *_):
        self._server.should_exit = True
        self._thread.join(timeout=15)


CHROMIUM_VARIABLE = os.environ.get("UNDERSTUDY_CHROMIUM")  # read at import: each test's environment is cleaned of our names


def find_chromium():
    """Return the path of a Chromium, or None."""
    return CHROMIUM_VARIABLE or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
