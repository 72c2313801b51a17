"""Installing into several workspaces."""

import json
import logging
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr

from plugins.slack import oauth
from plugins.slack.tokens import Workspace
from tests.plugins.slack import contracts
from tests.plugins.slack.manager_helpers import ManagerSlack, run_managed
from tests.plugins.slack.slack_helpers import CHANNEL, make_settings
from tests.plugins.slack.test_recorded import load_cases, post

APP = {"client_id": "1.2", "client_secret": SecretStr("a-client-secret")}
PATH = "/plugins/slack"


@pytest.fixture
async def slack():
    fake = ManagerSlack()
    await fake.start()
    yield fake
    await fake.stop()
    assert fake.faults == []


@pytest.fixture
async def managed(slack):
    async with run_managed(slack, **APP) as bench:
        yield bench


async def begin(bench):
    answer = await bench.client.get(f"{PATH}/install")
    assert answer.status_code == 302
    return parse_qs(urlsplit(answer.headers["Location"]).query)


async def finish(bench, state, *, code="good", **more):
    return await bench.client.get(f"{PATH}/oauth_redirect", params={"state": state, "code": code, **more})


async def install(bench, *, code="good"):
    return await finish(bench, (await begin(bench))["state"][0], code=code)


async def send_in(bench, team, inner, **more):
    body = {"type": "event_callback", "team_id": team, "api_app_id": "A1", "event": inner, "event_time": 1, **more}
    return await bench.send({"event_id": f"Ev{json.dumps(inner)[:40]}{len(bench.sent)}", **body})


async def test_install_sends_the_browser_to_slack_with_scopes_and_a_state(managed):
    asked = await begin(managed)
    assert asked["client_id"] == ["1.2"]
    assert asked["scope"][0].split(",") == list(oauth.SCOPES)
    assert len(asked["state"][0]) > 30


async def test_installed_workspace_is_answered_with_its_own_token(managed):
    assert (await install(managed)).text == oauth.INSTALLED
    assert (await managed.plugin.desk.tokens.get_workspace("T2")).bot_token == "xoxb-two"
    assert (await managed.plugin.desk.tokens.get_workspace("T1")).bot_token == "xoxb-test"
    assert managed.plugin.desk.tokens.is_own("UBOT2")
    managed.slack.add_message(CHANNEL, "1700000000.000100", "my vpn is down")
    message = {"type": "message", "channel": CHANNEL, "user": "U1", "text": "my vpn is down", "ts": "1700000000.000100"}
    await send_in(managed, "T2", message)
    assert managed.bot.calls == [("classify", f"T2/{CHANNEL}/1700000000.000100")]


async def test_state_counts_once(managed):
    state = (await begin(managed))["state"][0]
    cookie = managed.client.cookies[oauth.COOKIE]
    assert (await finish(managed, state)).status_code == 200
    managed.client.cookies.set(oauth.COOKIE, cookie)
    assert (await finish(managed, state)).status_code == 400


async def test_state_expires_after_ten_minutes(managed):
    state = (await begin(managed))["state"][0]
    managed.bot.clock.advance(601)
    assert (await finish(managed, state)).text == oauth.AGAIN


async def test_state_of_another_browser_is_refused(managed):
    state = (await begin(managed))["state"][0]
    managed.client.cookies.clear()
    assert (await finish(managed, state)).status_code == 400
    assert await managed.plugin.desk.store.get_all("team/") == {}


@pytest.mark.parametrize("state", ["", "invented"])
async def test_missing_or_invented_state_is_refused(managed, state):
    managed.client.cookies.set(oauth.COOKIE, state)
    assert (await finish(managed, state)).status_code == 400


async def test_wrong_code_and_cancelled_installation_store_nothing(managed):
    assert (await install(managed, code="bad")).text == oauth.AGAIN
    state = (await begin(managed))["state"][0]
    assert (await finish(managed, state, error="access_denied")).text == oauth.DENIED
    assert await managed.plugin.desk.store.get_all("team/") == {}


async def test_whole_organisation_is_refused_with_a_clear_word(managed):
    managed.slack.install_answer = {"is_enterprise_install": True, "team": None}
    assert (await install(managed)).text == oauth.WHOLE_ORG


async def test_workspace_that_the_settings_do_not_name_is_refused(slack):
    async with run_managed(slack, **APP, workspaces=("T9",)) as bench:
        assert (await install(bench)).status_code == 403
        assert await bench.plugin.desk.store.get_all("team/") == {}


@pytest.mark.parametrize(
    "inner", [{"type": "app_uninstalled"}, {"type": "tokens_revoked", "tokens": {"oauth": [], "bot": ["UBOT2"]}}]
)
async def test_removed_app_takes_its_token_along(managed, inner):
    await install(managed)
    await send_in(managed, "T2", inner, event_time=4_000_000_000)
    assert await managed.plugin.desk.store.get_all("team/") == {}
    assert (await managed.plugin.desk.tokens.get_workspace("T2")).bot_token == "xoxb-test"


async def test_late_removal_does_not_take_the_token_of_a_newer_installation(managed):
    await install(managed)
    await send_in(managed, "T2", {"type": "app_uninstalled"}, event_time=1)
    assert list(await managed.plugin.desk.store.get_all("team/")) == ["team/T2"]


async def test_revoked_token_of_a_person_leaves_the_bots(managed):
    await install(managed)
    await send_in(managed, "T2", {"type": "tokens_revoked", "tokens": {"oauth": ["U1"]}}, event_time=4_000_000_000)
    assert list(await managed.plugin.desk.store.get_all("team/")) == ["team/T2"]


async def test_no_token_code_or_state_is_logged(managed, caplog):
    caplog.set_level(logging.DEBUG)
    state = (await begin(managed))["state"][0]
    await finish(managed, state)
    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("plugins"))
    assert not any(secret in ours for secret in ("xoxb-two", "a-client-secret", state))
    assert "installed into workspace T2" in ours


async def test_pages_are_closed_without_client_credentials(slack):
    async with run_managed(slack) as bench:
        assert (await bench.client.get(f"{PATH}/install")).status_code == 404


def test_client_credentials_stand_in_for_the_bot_token_but_only_both():
    assert make_settings("http://x", bot_token=None, **APP).is_installable
    with pytest.raises(ValueError, match="set SLACK_CLIENT_ID and SLACK_CLIENT_SECRET"):
        make_settings("http://x", client_id="1.2")


@pytest.mark.parametrize("name", ["manifest.json", "manifest.http.json"])
def test_manifests_ask_for_the_same_scopes(name):
    folder = Path(__file__).resolve().parents[3] / "deploy" / "slack"
    assert json.loads((folder / name).read_text(encoding="utf-8"))["oauth_config"]["scopes"]["bot"] == list(oauth.SCOPES)


@pytest.mark.parametrize(("kind", "case"), load_cases("event_callback"))
async def test_recorded_removal_deletes_the_token_and_nothing_else_does(slack, kind, case):
    contracts.need(f"inbound/{kind}.json")
    payload = case["payload"]
    event = payload["event"]
    is_removal = event["type"] == "app_uninstalled" or bool(event.get("tokens", {}).get("bot"))
    async with run_managed(slack, **APP) as bench:
        await bench.plugin.desk.tokens.keep(Workspace("xoxb-two", team=oauth.read_team(payload)), installed_at=1.0)
        assert (await post(bench, json.dumps(payload).encode(), "application/json")).status_code == 200
        assert bool(await bench.plugin.desk.store.get_all("team/")) is not is_removal
