"""What can be set, and what a wrong or missing credential says."""

import pytest
from pydantic import SecretStr, ValidationError

from bot.plugin_api import BotError
from bot.plugin_host import PluginError, read_plugin_settings
from bot.testing import FakeBot
from plugins.slack import spec
from plugins.slack.app import SlackPlugin
from plugins.slack.settings import SlackSettings
from tests.plugins.slack.slack_helpers import make_settings


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch):
    for name in ("SLACK_BOT_TOKEN", "SLACK_SIGNING_SECRET", "SLACK_APP_TOKEN", "SLACK_CLIENT_ID", "SLACK_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("prefix", ["", "UNDERSTUDY_"])
def test_credentials_are_read_under_slacks_names_and_under_ours(monkeypatch, prefix):
    monkeypatch.setenv(f"{prefix}SLACK_BOT_TOKEN", "xoxb-1")
    monkeypatch.setenv(f"{prefix}SLACK_SIGNING_SECRET", "s")
    settings = SlackSettings()
    assert settings.bot_token.get_secret_value() == "xoxb-1"
    assert settings.signing_secret.get_secret_value() == "s"


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/api", "http://127.0.0.1:9/api/"])
def test_address_of_a_test_server_works_with_and_without_a_slash(monkeypatch, url):
    monkeypatch.setenv("UNDERSTUDY_SLACK_API_URL", url)
    monkeypatch.setenv("SLACK_BOT_TOKEN", "xoxb-1")
    monkeypatch.setenv("SLACK_SIGNING_SECRET", "s")
    assert SlackSettings().api_url == "http://127.0.0.1:9/api/"


def test_channels_are_read_from_json(monkeypatch):
    monkeypatch.setenv("SLACK_BOT_TOKEN", "xoxb-1")
    monkeypatch.setenv("SLACK_SIGNING_SECRET", "s")
    monkeypatch.setenv("UNDERSTUDY_SLACK_CHANNELS", '{"C1": [], "C2": ["vpn"]}')
    assert SlackSettings().channels == {"C1": (), "C2": ("vpn",)}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "nothing says how Slack reaches the bot"),
        ({"SLACK_SIGNING_SECRET": "s"}, "set SLACK_BOT_TOKEN"),
        ({"SLACK_BOT_TOKEN": "xoxb-s3cret"}, "set SLACK_SIGNING_SECRET"),
        ({"SLACK_BOT_TOKEN": "xoxb-s3cret", "SLACK_APP_TOKEN": "xoxb-s3cret"}, "begins with xapp-"),
    ],
)
def test_missing_credential_stops_the_start_with_one_line_that_names_it(monkeypatch, given, said):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PluginError, match=said) as caught:
        read_plugin_settings(spec)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "over HTTP"),
        ({"signing_secret": None, "app_token": SecretStr("xapp-1")}, "HTTP endpoint is closed"),
        ({"app_token": SecretStr("xapp-1")}, "HTTP endpoint is open as well"),
    ],
)
def test_transport_in_use_is_said_in_one_sentence(changes, said):
    assert said in make_settings("http://127.0.0.1:9", **changes).describe_transport()


def test_address_that_is_none_is_refused():
    with pytest.raises(ValidationError, match="must begin with https"):
        make_settings("slack.com")


def test_labels_of_a_channel_that_the_set_does_not_have_are_named():
    with pytest.raises(BotError, match="gives C1 labels that are not in the label set: nonsense"):
        SlackPlugin(FakeBot(), make_settings("http://127.0.0.1:9", channels={"C1": ("nonsense",)}))


async def test_credentials_of_an_oauth_app_in_the_environment_change_nothing(monkeypatch, tmp_path):
    """Bolt takes an OAuth flow with files in the home folder from these names by itself."""
    monkeypatch.setenv("SLACK_CLIENT_ID", "1.2")
    monkeypatch.setenv("SLACK_CLIENT_SECRET", "x")
    monkeypatch.setenv("SLACK_BOT_TOKEN", "xoxb-another")
    monkeypatch.setenv("HOME", str(tmp_path))
    SlackPlugin(FakeBot(), make_settings("http://127.0.0.1:9"))
    assert list(tmp_path.iterdir()) == []
