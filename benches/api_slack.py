"""A Slack for `benches.api`: takes cards and counts them, opens forms, and makes what Slack would send, signed.

Knows nothing of time or figures.
"""

import hashlib
import hmac
import itertools
import json
import time
from collections import Counter
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

CHANNEL = "C0BENCH00"
TEAM = "T0BENCH00"
SECRET = "bench-signing-secret"  # noqa: S105 - of a server that lives for a minute on this machine
FIRST_TS = 1_700_000_000


class BenchSlack:
    """The few methods the plugin calls. `cards` counts the cards of each thread, `messages` holds them."""

    def __init__(self) -> None:
        self.cards: Counter[str] = Counter()
        self.messages: dict[str, dict[str, Any]] = {}
        self._numbers = itertools.count(1)
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        """Listen on a free port."""
        app = web.Application(client_max_size=10_000_000)
        app.router.add_route("*", "/api/{method}", self._serve)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/api/"

    def forget(self) -> None:
        """Begin anew: no message has been posted."""
        self.cards.clear()
        self.messages.clear()

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.Response:
        method = request.match_info["method"]
        arguments = await request.json() if request.content_type == "application/json" else dict(await request.post())
        if method == "chat.postMessage":
            return web.json_response({"ok": True, **self._post(arguments)})
        if method == "conversations.replies":
            root = arguments.get("ts")
            found = [message for message in self.messages.values() if message["thread_ts"] == root]
            return web.json_response({"ok": True, "messages": found})
        if method == "auth.test":
            return web.json_response({"ok": True, "team_id": TEAM, "user_id": "U0BOT", "bot_id": "B0BOT"})
        return web.json_response({"ok": True, "ts": arguments.get("ts", "")})

    def _post(self, arguments: dict[str, Any]) -> dict[str, Any]:
        ts = f"1800000000.{next(self._numbers):06d}"
        thread_ts = arguments.get("thread_ts", ts)
        self.messages[ts] = {"ts": ts, "thread_ts": thread_ts, "blocks": arguments.get("blocks", []), "bot_id": "B0BOT"}
        self.cards[thread_ts] += 1
        return {"ts": ts, "channel": arguments["channel"]}


def sign(body: bytes, content_type: str) -> dict[str, str]:
    """Return the headers of a request from Slack."""
    timestamp = str(int(time.time()))
    digest = hmac.new(SECRET.encode(), b"v0:" + timestamp.encode() + b":" + body, hashlib.sha256).hexdigest()
    return {"X-Slack-Request-Timestamp": timestamp, "X-Slack-Signature": f"v0={digest}", "Content-Type": content_type}


def get_ts(number: int) -> str:
    """Return the time stamp of the message of that number."""
    return f"{FIRST_TS + number}.000100"


def build_message(number: int, text: str) -> tuple[bytes, str]:
    """Return a new message: every event of one number is the same event."""
    event = {"type": "message", "channel": CHANNEL, "user": f"U{number % 50:09d}", "text": text, "ts": get_ts(number)}
    body = {"type": "event_callback", "team_id": TEAM, "api_app_id": "A0BENCH00", "event_id": f"Ev{number}", "event": event}
    return json.dumps(body).encode(), "application/json"


def build_click(number: int, inference_id: int) -> tuple[bytes, str]:
    """Return a click on Accept, on the card of the message of that number."""
    action = {
        "type": "button",
        "action_id": "triage_accept",
        "block_id": f"ticket-do/{TEAM}/{CHANNEL}/{get_ts(number)}/{inference_id}",
        "value": str(inference_id),
        "action_ts": f"{FIRST_TS + number}.{number % 1_000_000:06d}",
    }
    body = {
        "type": "block_actions",
        "team": {"id": TEAM},
        "user": {"id": f"U{number % 50:09d}"},
        "channel": {"id": CHANNEL},
        "message": {"ts": "1800000000.000001", "thread_ts": get_ts(number)},
        "trigger_id": f"{number}.1",
        "actions": [action],
    }
    return urlencode({"payload": json.dumps(body)}).encode(), "application/x-www-form-urlencoded"


def build_command(number: int, text: str) -> tuple[bytes, str]:
    """Return a /triage command."""
    fields = {"team_id": TEAM, "channel_id": CHANNEL, "user_id": "U000000001", "command": "/triage", "text": text}
    return urlencode({**fields, "trigger_id": f"{number}.2"}).encode(), "application/x-www-form-urlencoded"
