"""The Slack plugin on a FakeBot and a fake Slack, driven as Slack drives it: with signed requests over HTTP."""

import asyncio
import copy
import itertools
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import urlencode

import httpx
from fastapi import FastAPI
from pydantic import SecretStr

from bot.testing import FakeBot, FakeClock
from plugins.slack.app import SlackPlugin
from plugins.slack.settings import SlackSettings
from plugins.slack.signature import sign
from tests.plugins.slack.fake_slack import BOT_USER, TEAM

SECRET = "a-signing-secret"
CHANNEL = "C1"
URL = "/plugins/slack/events"
_numbers = itertools.count(1)


def make_settings(url, **changes):
    given = {
        "bot_token": SecretStr("xoxb-test"),
        "signing_secret": SecretStr(SECRET),
        "api_url": f"{url}/api",
        "channels": {CHANNEL: ()},
        **changes,
    }
    return SlackSettings(**given)


def build_signed(body, *, secret=SECRET, now=None, content_type="application/json"):
    timestamp = str(int((now or datetime.now(UTC)).timestamp()))
    return {
        "X-Slack-Request-Timestamp": timestamp,
        "X-Slack-Signature": sign(secret, timestamp=timestamp, body=body),
        "Content-Type": content_type,
    }


class Bench:
    """One plugin with everything around it. `send_*` return the HTTP answer once all that came of it is handled."""

    def __init__(self, bot, slack, plugin, client):
        self.bot, self.slack, self.plugin, self.client = bot, slack, plugin, client
        self.sent = []

    async def send(self, body, *, form=False):
        kinds = {"block_actions": "BlockAction", "view_submission": "ViewSubmission", "message_action": "MessageShortcut"}
        self.sent.append((kinds.get(body["type"], "event/Message"), body))
        raw = urlencode({"payload": json.dumps(body)}).encode() if form else json.dumps(body).encode()
        kind = "application/x-www-form-urlencoded" if form else "application/json"
        answer = await self.client.post(URL, content=raw, headers=build_signed(raw, content_type=kind))
        await self.settle()
        return answer

    async def settle(self):
        await self.plugin.intake.join()
        await self.plugin.queue.join()

    async def send_message(self, text, *, ts, channel=CHANNEL, event_id=None, **event):
        self.slack.add_message(channel, ts, text, thread_ts=event.get("thread_ts"))
        inner = {"type": "message", "channel": channel, "user": "U1", "text": text, "ts": ts, "channel_type": "channel", **event}
        return await self.send_event(inner, event_id=event_id)

    async def send_event(self, inner, *, event_id=None):
        body = {"type": "event_callback", "team_id": TEAM, "api_app_id": "A1", "event": inner}
        return await self.send({**body, "event_id": event_id or f"Ev{next(_numbers)}", "event_time": 1})

    async def send_command(self, command, text, *, channel=CHANNEL, user="U1", trigger=None, **more):
        fields = {
            "team_id": TEAM,
            "channel_id": channel,
            "user_id": user,
            "command": command,
            "text": text,
            "response_url": f"{self.slack.url}/response/1",
            "trigger_id": trigger or f"t{next(_numbers)}",
            **more,
        }
        self.sent.append(("SlashCommand", fields))
        raw = urlencode(fields).encode()
        answer = await self.client.post(
            URL, content=raw, headers=build_signed(raw, content_type="application/x-www-form-urlencoded")
        )
        await self.settle()
        return answer

    async def send_shortcut(self, callback_id, message, *, channel=CHANNEL, user="U1", **more):
        body = {
            "type": "message_action",
            "callback_id": callback_id,
            "action_ts": f"1700000100.{next(_numbers):06d}",
            "team": {"id": TEAM},
            "user": {"id": user},
            "channel": {"id": channel},
            "trigger_id": f"t{next(_numbers)}",
            "message_ts": message["ts"],
            "message": message,
            "response_url": f"{self.slack.url}/response/1",
            **more,
        }
        return await self.send(body, form=True)

    def find_element(self, message, action_id):
        for block in message["blocks"]:
            for element in [*block.get("elements", []), block.get("accessory", {})]:
                if element.get("action_id") == action_id:
                    return block, element
        raise AssertionError(f"there is no {action_id} on the card")

    async def click(self, message, action_id, *, user="U1", chosen=None, channel=CHANNEL, action_ts=None, trigger="t", **more):
        block, element = self.find_element(message, action_id)
        action = {
            "type": element["type"],
            "action_id": action_id,
            "block_id": block.get("block_id", "generated"),
            "action_ts": action_ts or self.now_ts(),
        }
        if "text" in element:
            action["text"] = element["text"]
        if chosen is None:
            action["value"] = element["value"]
        else:
            action["selected_option"] = next(option for option in element["options"] if option["value"] == chosen)
        body = {
            "type": "block_actions",
            "team": {"id": TEAM},
            "user": {"id": user, "team_id": TEAM},
            "api_app_id": "A1",
            "token": "verification",
            "container": {"type": "message", "message_ts": message.get("ts"), "channel_id": channel},
            "channel": {"id": channel},
            "message": message,
            "trigger_id": f"{trigger}{next(_numbers)}",
            "response_url": f"{self.slack.url}/response/1",
            "actions": [action],
            **more,
        }
        return await self.send(body, form=True)

    def now_ts(self):
        return f"{self.plugin.desk.clock():.3f}{next(_numbers) % 1000:03d}"

    async def submit(self, view, values, *, user="U1", view_id=None):
        state = {}
        for block in view["blocks"]:
            name = block["block_id"]
            element = block["element"]
            if element["type"] == "static_select":
                value = {"selected_option": {"value": values.get(name) or element.get("initial_option", {}).get("value")}}
            else:
                value = {"value": values.get(name, element.get("initial_value"))}
            state[name] = {element["action_id"]: {"type": element["type"], **value}}
        body = {
            "type": "view_submission",
            "team": {"id": TEAM},
            "user": {"id": user},
            "api_app_id": "A1",
            "trigger_id": f"t{next(_numbers)}",
            "view": {
                "id": view_id or f"V{next(_numbers)}",
                "type": "modal",
                "hash": "1.a",
                "callback_id": view["callback_id"],
                "private_metadata": view["private_metadata"],
                "state": {"values": state},
            },
        }
        return await self.send(body, form=True)

    def get_card(self, channel=CHANNEL):
        """Return the one message of the bot in the channel as it stands now."""
        own = self.slack.get_own(channel)
        assert len(own) == 1, [message["text"] for message in own]
        return copy.deepcopy(own[0])


def show_text(blocks):
    """Return every word that a person sees in blocks."""
    words = []

    def walk(node):
        if isinstance(node, dict):
            if isinstance(node.get("text"), str):
                words.append(node["text"])
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(blocks)
    return "\n".join(words)


@asynccontextmanager
async def run_bench(slack, *, bot=None, **changes):
    bot = bot or FakeBot(clock=FakeClock(datetime.now(UTC)))
    plugin = SlackPlugin(bot, make_settings(slack.url, **changes))
    plugin.desk.clock = lambda: bot.clock.now().timestamp()
    web = FastAPI()
    web.include_router(plugin.router, prefix="/plugins/slack")
    transport = httpx.ASGITransport(app=web)
    await plugin.start()
    while not (slack.is_down or getattr(slack, "refuse", None) or plugin.desk.tokens.is_own(BOT_USER)):  # noqa: ASYNC110  nothing tells when it has learnt its ids
        await asyncio.sleep(0.005)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://bot") as client:
            yield Bench(bot, slack, plugin, client)
    finally:
        await plugin.stop()
