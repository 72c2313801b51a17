"""The app manifests fit Slack's schema and ask for exactly what the plugin listens to and calls."""

import json
from pathlib import Path

import jsonschema
import pytest

from plugins.slack.events import HANDLERS, OPENERS, ROUTES
from tests.plugins.slack import contracts

FOLDER = Path(__file__).resolve().parents[3] / "deploy" / "slack"
MANIFESTS = ("manifest.json", "manifest.http.json")
SUBSCRIPTIONS = {"message.channels": "message", "message.groups": "message", "message.im": "message"}


def load(name):
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def get_names(kind):
    return {name.partition(":")[2] for name in (*HANDLERS, *OPENERS, *ROUTES) if name.startswith(f"{kind}:")}


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifest_fits_slacks_schema(name):
    jsonschema.validate(load(name), contracts.load("manifest/manifest.schema.1.0.0.json"))


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifest_names_every_command_shortcut_and_event_that_is_listened_to(name):
    manifest = load(name)
    features = manifest["features"]
    assert {one["command"] for one in features["slash_commands"]} == get_names("command")
    assert {one["callback_id"] for one in features["shortcuts"]} == get_names("shortcut")
    events = manifest["settings"]["event_subscriptions"]["bot_events"]
    assert {SUBSCRIPTIONS.get(one, one) for one in events} == get_names("event")


def test_manifests_differ_in_the_transport_alone():
    socket, http = load("manifest.json"), load("manifest.http.json")
    assert socket["settings"].pop("socket_mode_enabled") is True
    assert http["settings"].pop("socket_mode_enabled") is False
    urls = {http["settings"][part].pop("request_url") for part in ("event_subscriptions", "interactivity")}
    urls |= {command.pop("url") for command in http["features"]["slash_commands"]}
    assert len(urls) == 1
    assert urls.pop().endswith("/plugins/slack/events")
    assert socket == http
