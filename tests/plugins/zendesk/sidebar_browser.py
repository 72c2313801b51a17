"""The sidebar app in a workspace: a page that speaks Zendesk's protocol, the plugin on a FakeBot, and Zendesk's proxy between them."""

import asyncio
import contextlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import httpx
import uvicorn
from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from bot.plugin_api import SourceRef, Turn
from bot.testing import FakeBot, FakeClock
from plugins.zendesk.sidebar_token import sign_token
from tests.plugins.zendesk.sidebar_helpers import APP_SECRET, OTHER_AGENT
from tests.plugins.zendesk.zendesk_double import ZendeskDouble

ROOT = Path(__file__).resolve().parents[3]
ASSETS = ROOT / "deploy" / "zendesk-app" / "assets"
HOST = ROOT.parent / "shared" / "peers" / "zaf-host"
TICKET = 7
AGENT = 21
"""The host's ticket and support agent."""
SUBJECT = "Card declined twice"
TEXT = "The invoice shows the yearly subscription twice. Could the second charge be refunded? The payment method is a card."


class Desk:
    """The plugin on a FakeBot, served with app and host. `secret` is what the app's settings in Zendesk hold."""

    def __init__(self):
        self.double = ZendeskDouble()
        self.double.clock = FakeClock(datetime.now(UTC))
        self.bot = FakeBot(clock=self.double.clock)
        self.plugin = self.double.build(self.bot)
        self.secret = APP_SECRET
        self.is_down = False
        self.asked = []
        self.api = {f"/api/v2/users/{OTHER_AGENT}.json": {"user": {"name": "Agent Two"}}}
        self.address = ""

    def build_app(self):
        @contextlib.asynccontextmanager
        async def lifespan(_):
            await self.plugin.desk.start()
            yield
            await self.plugin.desk.stop()

        app = FastAPI(lifespan=lifespan)
        app.include_router(self.plugin.router, prefix="/plugins/zendesk")
        app.mount("/app", StaticFiles(directory=ASSETS))
        app.mount("/host", StaticFiles(directory=HOST))
        return app

    def take_in(self, text=TEXT, subject=SUBJECT):
        """The bot knows the ticket."""
        turns = (Turn("customer", text),)
        return run(self.bot.classify("", source=SourceRef("zendesk", str(TICKET)), subject=subject, turns=turns))

    def proxy(self, options):
        """What Zendesk's proxy does with a request: it puts the secret in, signs, and lets only the bot's host have it."""
        self.asked.append(options)
        url = options["url"]
        if url.startswith("/api/v2/"):
            found = self.api.get(url)
            return {"status": 404, "body": {"error": "RecordNotFound"}} if found is None else {"status": 200, "body": found}
        if self.is_down:
            return {"status": 502, "body": "<html>Bad gateway</html>"}
        assert url.startswith(f"{self.address}/plugins/zendesk/app/")
        assert (options["secure"], options["cors"], options["autoRetry"]) == (True, False, False)
        wish = options["jwt"]
        assert (wish["algorithm"], wish["secret_key"]) == ("HS256", "{{setting.shared_secret}}")
        now = int(self.double.clock.now().timestamp())
        token = sign_token(wish["claims"] | {"iat": now, "exp": now + wish["expiry"]}, self.secret)
        headers = {name: value.replace("{{jwt.token}}", token) for name, value in options["headers"].items()}
        answer = httpx.request(options["type"], url, content=options["data"], headers=headers, timeout=20.0)
        return {"status": answer.status_code, "body": answer.json()}


def run(coroutine):
    """Run a coroutine while a browser holds this thread's event loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


@contextlib.contextmanager
def serve(app):
    """uvicorn on a free port of this machine, in a thread; gives its address."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(timeout=15)


START = """(app) => {
  window.zaf.onrequest = async (options) => {
    const answer = await window.askProxy(options);
    if (answer.status >= 400) throw answer;
    return answer.body;
  };
  document.getElementById('app').src = `${app}?origin=${encodeURIComponent(location.origin)}&app_guid=${window.zaf.guid}`;
}"""


class Sidebar:
    """One open sidebar. `frame` is the app's page; `get` reads what stands in the ticket's form."""

    def __init__(self, page, desk):
        self.page, self.desk = page, desk
        self.frame = page.frame_locator("#app")

    def start(self, *, ticket=None, has_address=True):
        settings = {"api_url": f"{self.desk.address}/"} if has_address else {}
        query = urlencode({"settings": json.dumps(settings), "ticket": json.dumps(ticket or {})})
        self.page.expose_function("askProxy", self.desk.proxy)
        self.page.goto(f"{self.desk.address}/host/host.html?{query}")
        self.page.evaluate(START, f"{self.desk.address}/app/iframe.html")
        self.frame.locator("main[aria-busy=false] h2, .alert").first.wait_for()
        return self

    def get(self, path):
        return self.page.evaluate("(path) => window.zaf.state[path]", path)

    def set(self, path, value):
        self.page.evaluate("([path, value]) => { window.zaf.state[path] = value; }", [path, value])

    def click(self, name):
        self.frame.get_by_role("button", name=name, exact=True).click()

    def see(self, text):
        self.frame.get_by_text(text).first.wait_for()

    def evaluate(self, script):
        return self.page.frames[1].evaluate(script)
