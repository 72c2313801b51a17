"""A small Slack for tests: keeps messages, opens forms, counts calls, and refuses what Slack's own document or Block Kit would not take."""

import asyncio
import itertools
import json
from collections import Counter, defaultdict

from aiohttp import WSMsgType, web

from tests.plugins.slack.block_lint import find_message_faults, find_view_faults
from tests.plugins.slack.contracts import find_call_faults, load_web_api

BOT_USER, BOT_ID, TEAM = "UBOT", "BBOT", "T1"


class FakeSlack:
    """Knobs: `refuse` maps a method to an error code, `limit` a method to pauses still to be asked for, `is_down` answers 503."""

    def __init__(self):
        self.calls = []
        self.counts = Counter()
        self.messages = defaultdict(dict)
        self.ephemerals = []
        self.answers = []
        self.views = []
        self.faults = []
        self.refuse = {}
        self.limit = defaultdict(list)
        self.lost = Counter()
        self.is_down = False
        self.page_size = 200
        self.delay_s = 0.0
        self.sockets = []
        self.envelopes = []
        self._ts = itertools.count(1)
        self._web_api = load_web_api()
        self._runner = None
        self.url = ""

    async def start(self):
        app = web.Application(client_max_size=10_000_000)
        app.router.add_route("*", "/api/{method}", self._serve)
        app.router.add_post("/response/{name}", self._take_answer)
        app.router.add_get("/socket", self._serve_socket)
        self._runner = web.AppRunner(app, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self):
        for socket in self.sockets:
            await socket.close()
        await self._runner.cleanup()

    def add_message(self, channel, ts, text, *, user="U1", thread_ts=None, **more):
        self.messages[channel][ts] = {"type": "message", "user": user, "text": text, "ts": ts, **more}
        if thread_ts:
            self.messages[channel][ts]["thread_ts"] = thread_ts

    def get_own(self, channel):
        """Return the messages that the bot posted, oldest first."""
        return [m for _, m in sorted(self.messages[channel].items()) if m.get("bot_id") == BOT_ID]

    async def _serve(self, request):
        method = request.match_info["method"]
        self.counts[method] += 1
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.is_down:
            return web.Response(status=503, text="down")
        if self.limit[method]:
            pause = self.limit[method].pop(0)
            return web.json_response({"ok": False, "error": "ratelimited"}, status=429, headers={"Retry-After": str(pause)})
        if method in self.refuse:
            return web.json_response({"ok": False, "error": self.refuse[method]})
        arguments = await self._read(request)
        self.calls.append((method, arguments))
        self._check(method, arguments)
        if not request.headers.get("Authorization", "").startswith("Bearer x"):
            return web.json_response({"ok": False, "error": "not_authed"})
        answer = getattr(self, "_" + method.replace(".", "_"))(arguments)
        if self.lost[method]:  # done, but the answer never arrives
            self.lost[method] -= 1
            request.transport.close()
        return web.json_response(answer if "ok" in answer else {"ok": True, **answer})

    async def _read(self, request):
        if request.content_type == "application/json":
            return await request.json()
        arguments = {**request.query, **(await request.post())}
        for name in ("blocks", "view"):
            if isinstance(arguments.get(name), str):
                arguments[name] = json.loads(arguments[name])
        return dict(arguments)

    def _check(self, method, arguments):
        self.faults += find_call_faults(self._web_api, method, arguments)
        if "blocks" in arguments:
            self.faults += find_message_faults(arguments["blocks"])
        if "view" in arguments:
            self.faults += find_view_faults(arguments["view"])
        if method.startswith("chat.") and not str(arguments.get("text", "")).strip():
            self.faults.append(f"{method} without a text for notifications")

    def _auth_test(self, _):
        return {"url": "https://x.slack.com/", "team": "X", "user": "bot", "team_id": TEAM, "user_id": BOT_USER, "bot_id": BOT_ID}

    def _chat_postMessage(self, arguments):  # noqa: N802  Slack's name
        ts = f"1800000000.{next(self._ts):06d}"
        extra = {"thread_ts": arguments["thread_ts"]} if "thread_ts" in arguments else {}
        self.add_message(
            arguments["channel"], ts, arguments["text"], user=BOT_USER, bot_id=BOT_ID, blocks=arguments.get("blocks", []), **extra
        )
        return {"channel": arguments["channel"], "ts": ts, "message": self.messages[arguments["channel"]][ts]}

    def _chat_update(self, arguments):
        message = self.messages[arguments["channel"]].get(arguments["ts"])
        if message is None:
            return {"ok": False, "error": "message_not_found"}
        message.update(text=arguments["text"], blocks=arguments["blocks"])
        message["n_updates"] = message.get("n_updates", 0) + 1
        return {"channel": arguments["channel"], "ts": arguments["ts"], "text": arguments["text"]}

    def _chat_postEphemeral(self, arguments):  # noqa: N802  Slack's name
        self.ephemerals.append(arguments)
        return {"message_ts": "1800000000.999999"}

    def _conversations_open(self, arguments):
        return {"channel": {"id": f"D{arguments['users']}"}}

    def _conversations_replies(self, arguments):
        root = str(arguments["ts"])
        found = [
            m for _, m in sorted(self.messages[arguments["channel"]].items()) if m["ts"] == root or m.get("thread_ts") == root
        ]
        if not found:
            return {"ok": False, "error": "thread_not_found"}
        return self._page(found, arguments)

    def _conversations_history(self, arguments):
        found = [m for _, m in sorted(self.messages[arguments["channel"]].items(), reverse=True) if "thread_ts" not in m]
        return self._page(found, arguments)

    def _page(self, found, arguments):
        if "oldest" in arguments:
            found = [m for m in found if float(m["ts"]) >= float(arguments["oldest"])]
        if "latest" in arguments:
            found = [m for m in found if float(m["ts"]) <= float(arguments["latest"])]
        start = int(arguments.get("cursor") or 0)
        size = min(self.page_size, int(arguments.get("limit", 100)))
        end = start + size
        more = str(end) if end < len(found) else ""
        return {"messages": found[start:end], "has_more": bool(more), "response_metadata": {"next_cursor": more}}

    def _views_open(self, arguments):
        if "expired" in arguments["trigger_id"]:
            return {"ok": False, "error": "expired_trigger_id"}
        self.views.append(arguments["view"])
        return {"view": {"id": f"V{len(self.views)}"}}

    def _apps_connections_open(self, _):
        return {"url": self.url.replace("http:", "ws:") + "/socket"}

    async def _take_answer(self, request):
        self.answers.append(await request.json())
        return web.Response(text="ok")

    async def _serve_socket(self, request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        await socket.send_json({"type": "hello", "num_connections": 1})
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                self.envelopes.append(json.loads(message.data))
        return socket
