"""A fake Slack that also knows groups, home tabs, uploads and installations, and a bench with a manager in it."""

import itertools
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from unittest.mock import AsyncMock

from aiohttp import web

from bot.testing import FakeBot, FakeClock
from tests.plugins.slack.fake_slack import TEAM, FakeSlack
from tests.plugins.slack.slack_helpers import run_bench

MANAGER = "UBOSS"
_hashes = itertools.count(1)


class ManagerSlack(FakeSlack):
    """`groups` maps a user group or a channel to its members; `homes` holds the tab of each person, `uploads` what was put where."""

    def __init__(self):
        super().__init__()
        self.groups = {"S1": [MANAGER]}
        self.homes, self.uploads, self.tokens = {}, [], {"good": ("T2", "xoxb-two")}
        self.install_answer = {}

    def _check(self, method, arguments):
        if not method.startswith("files."):  # newer than Slack's document
            super()._check(method, arguments)

    async def _serve(self, request):
        method = request.match_info["method"]
        if method == "upload":
            self.uploads.append(await request.read())
            return web.Response(text="OK")
        if method == "oauth.v2.access":
            form = await request.post()
            self._check(method, dict(form))
            known = (form["client_id"], form["client_secret"])
            if form["code"] not in self.tokens or known != ("1.2", "a-client-secret"):
                return web.json_response({"ok": False, "error": "invalid_code"})
            team, token = self.tokens[form["code"]]
            answer = {"ok": True, "access_token": token, "bot_user_id": "UBOT2", "team": {"id": team}, "enterprise": None}
            return web.json_response({**answer, **self.install_answer})
        return await super()._serve(request)

    def _usergroups_users_list(self, arguments):
        members = self.groups.get(arguments["usergroup"])
        return {"ok": False, "error": "no_such_subteam"} if members is None else {"users": members}

    def _conversations_members(self, arguments):
        return {"members": self.groups.get(arguments["channel"], []), "response_metadata": {"next_cursor": ""}}

    def _views_update(self, arguments):
        self.views.append(arguments["view"])
        return {"view": {"id": arguments["view_id"]}}

    def _views_publish(self, arguments):
        assert arguments["view"]["type"] == "home"
        self.homes[arguments["user_id"]] = arguments["view"]
        return {"view": {"id": "VH"}}

    def _files_getUploadURLExternal(self, arguments):  # noqa: N802  Slack's name
        assert arguments["filename"].endswith(".png")
        assert int(arguments["length"]) > 0
        return {"upload_url": f"{self.url}/api/upload", "file_id": "F1"}

    def _files_completeUploadExternal(self, arguments):  # noqa: N802  Slack's name
        assert arguments["channel_id"]
        assert arguments["thread_ts"] in self.messages[arguments["channel_id"]]
        return {"files": [{"id": "F1"}]}


@asynccontextmanager
async def run_managed(slack, *, bot=None, **changes):
    """Run a bench whose runs are followed only when the test says so (`bench.plugin.runs.join`)."""
    bot = bot or FakeBot(clock=FakeClock(datetime.now(UTC)))
    async with run_bench(slack, bot=bot, **{"managers": ("S1",), **changes}) as bench:
        await bench.plugin.runs.stop()
        bench.plugin.runs._sleep = AsyncMock()
        yield bench


async def submit_form(bench, view, *, user=MANAGER, why=""):
    body = {
        "type": "view_submission",
        "team": {"id": TEAM},
        "user": {"id": user},
        "api_app_id": "A1",
        "view": {
            "id": f"VF{next(_hashes)}",
            "type": "modal",
            "hash": "1.a",
            "callback_id": view["callback_id"],
            "private_metadata": view["private_metadata"],
            "state": {"values": {"why": {"why": {"type": "plain_text_input", "value": why}}}},
        },
    }
    return await bench.send(body, form=True)


async def click_home(bench, action_id, *, user, block_id, **action):
    body = {
        "type": "block_actions",
        "team": {"id": TEAM},
        "user": {"id": user, "team_id": TEAM},
        "container": {"type": "view", "view_id": "VH"},
        "view": {"id": "VH", "type": "home", "hash": "1.a", "private_metadata": ""},
        "trigger_id": "t",
        "actions": [{"action_id": action_id, "block_id": block_id, "action_ts": bench.now_ts(), **action}],
    }
    return await bench.send(body, form=True)
