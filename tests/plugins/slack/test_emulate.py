"""The plugin against a stateful Slack written by others, where it can be installed: cards, forms, edits, deletions."""

import os
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from tests.plugins.slack.slack_helpers import run_bench, show_text

SCRIPT = Path(__file__).resolve().parents[4] / "shared" / "peers" / "slack-emulate-up.sh"


@pytest.fixture(scope="module")
def emulate(tmp_path_factory):
    if not SCRIPT.is_file():
        pytest.skip("../shared/peers/slack-emulate-up.sh is not beside the checkout")
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed, and the emulated Slack is an npm package")
    port = str(20_000 + os.getpid() % 20_000)
    home = Path(os.environ.get("SLACK_PEER_HOME") or Path.home() / ".cache" / "peers" / "slack-emulate")
    environment = {**os.environ, "SLACK_PEER_PORT": port, "SLACK_PEER_HOME": str(home)}
    done = subprocess.run([str(SCRIPT), "up"], env=environment, capture_output=True, text=True, timeout=280, check=False)
    if done.returncode != 0:
        pytest.skip(f"the emulated Slack cannot be installed: {done.stderr.strip()[-200:]}")
    settings = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    yield settings
    subprocess.run([str(SCRIPT), "down"], env=environment, check=False, timeout=60)


class Emulated:
    """Asks the emulated Slack what it holds, in the shape that the bench's own fake has."""

    is_down = True  # the bench then does not wait for ids that are the fake's own

    def __init__(self, url, token):
        self.url = url.removesuffix("/api/")
        self._client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=10)

    def close(self):
        self._client.close()

    def call(self, method, *, token=None, **arguments):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = self._client.post(method, json=arguments, headers=headers).json()
        assert answer["ok"], answer
        return answer

    def find_channel(self, name):
        return next(c["id"] for c in self.call("conversations.list")["channels"] if c["name"] == name)

    def get_replies(self, channel, ts):
        return self.call("conversations.replies", channel=channel, ts=ts)["messages"][1:]


@pytest.fixture
async def world(emulate):
    slack = Emulated(emulate["SLACK_API_URL"], "xoxp-customer")  # an unknown token writes as another user than the bot
    channel = slack.find_channel(emulate["SLACK_CHANNEL_NAME"])
    token = SecretStr(emulate["SLACK_BOT_TOKEN"])
    async with run_bench(slack, bot_token=token, channels={channel: ()}) as bench:
        yield slack, channel, bench
    slack.close()


def write(slack, channel, text, **more):
    return slack.call("chat.postMessage", channel=channel, text=text, **more)["ts"]


async def triage(bench, slack, channel, text):
    ts = write(slack, channel, text)
    inner = {"type": "message", "channel": channel, "user": "U1", "text": text, "ts": ts}
    await bench.send_event(inner)
    return ts, slack.get_replies(channel, ts)


async def test_card_is_posted_clicked_and_changed_in_its_thread(world):
    slack, channel, bench = world
    ts, replies = await triage(bench, slack, channel, "my vpn does not connect")
    assert len(replies) == 1
    await bench.click(replies[0], "triage_accept", channel=channel)
    after = slack.get_replies(channel, ts)
    assert len(after) == 1
    assert "accepted" in show_text(after[0]["blocks"])
    assert len(bench.bot.feedback) == 1


async def test_form_opens_with_a_trigger_once_and_then_says_so(world):
    slack, channel, bench = world
    _, replies = await triage(bench, slack, channel, "my vpn does not connect again")
    trigger = slack.call("views.generateTriggerId")["trigger_id"]
    told = []

    async def note(asker, text, *, blocks=None):
        told.append(text)
        return True

    bench.plugin.desk.tell = note
    for _ in range(2):
        block, element = bench.find_element(replies[0], "triage_override")
        action = {"type": "button", "action_id": "triage_override", "block_id": block["block_id"], "value": element["value"]}
        body = {"type": "block_actions", "team": {"id": "T1"}, "user": {"id": "U1"}, "channel": {"id": channel}}
        await bench.send(
            {**body, "message": replies[0], "trigger_id": trigger, "actions": [{**action, "action_ts": "1.1"}]}, form=True
        )
    assert len(told) == 1
    assert "click again" in told[0]


async def test_deleted_card_is_posted_anew_and_the_decision_counts(world, emulate):
    slack, channel, bench = world
    ts, replies = await triage(bench, slack, channel, "my vpn does not connect once more")
    slack.call("chat.delete", token=emulate["SLACK_BOT_TOKEN"], channel=channel, ts=replies[0]["ts"])
    await bench.click(replies[0], "triage_accept", channel=channel)
    after = slack.get_replies(channel, ts)
    assert ["accepted" in show_text(message["blocks"]) for message in after] == [True]
    assert len(bench.bot.feedback) == 1


async def test_thread_is_summarised_from_what_slack_holds(world):
    slack, channel, bench = world
    root = write(slack, channel, "The printer is broken. It smokes.")
    for n in range(5):
        write(slack, channel, f"Reply number {n}.", thread_ts=root)
    link = f"https://peer.slack.com/archives/{channel}/p{root.replace('.', '')}"
    await bench.send_command("/summarize", link, channel=channel)
    card = slack.get_replies(channel, root)[-1]
    assert "The printer is broken." in show_text(card["blocks"])
