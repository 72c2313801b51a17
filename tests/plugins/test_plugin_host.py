import logging
from importlib.metadata import EntryPoint

import pytest

from bot import plugin_host
from bot.plugin_host import PluginError, PluginHost, PluginStatus, find_specs, get_plugin_env_names
from bot.testing import FakeBot


def entry(name: str, attribute: str | None = None) -> EntryPoint:
    return EntryPoint(name=name, value=f"plugins_broken:{attribute or name}", group=plugin_host.GROUP)


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    import sys

    from tests.plugins import broken

    monkeypatch.setitem(sys.modules, "plugins_broken", broken)


def build(*names: str) -> PluginHost:
    return PluginHost(find_specs(names, [entry(name) for name in names]), FakeBot())


@pytest.mark.parametrize(
    ("names", "entries", "said"),
    [
        (["absent"], [], "there is no plugin 'absent'"),
        (["good", "good"], [entry("good")], "enabled twice"),
        (["mine"], [entry("mine", "wrong_name")], "calls itself 'other'"),
        (["old_version"], [entry("old_version")], "speaks plugin API 0"),
        (["gone"], [entry("gone")], r"'gone' cannot be loaded \(AttributeError\)"),
        (["not_a_spec"], [entry("not_a_spec")], "not a PluginSpec"),
    ],
)
def test_a_wrong_plugin_stops_the_start_with_one_line_that_names_it(names, entries, said):
    with pytest.raises(PluginError, match=said) as caught:
        find_specs(names, entries)
    assert "\n" not in str(caught.value)


def test_a_missing_setting_is_named_without_repeating_values(monkeypatch):
    monkeypatch.setenv("BROKENTEST_RETRIES", "s3cret-value")
    with pytest.raises(PluginError, match="'needs_secret' has a wrong setting") as caught:
        build("needs_secret")
    assert "s3cret-value" not in str(caught.value)


def test_a_plugin_without_async_methods_is_refused():
    with pytest.raises(PluginError, match="no 'async def start"):
        build("sync_start")


async def test_a_plugin_that_fails_in_start_is_marked_and_the_others_run(caplog):
    caplog.set_level(logging.CRITICAL, logger=plugin_host.__name__)
    host = build("raises", "good")
    await host.start()
    assert host.get_states() == {
        "raises": (PluginStatus.FAILED, "RuntimeError in start"),
        "good": (PluginStatus.RUNNING, ""),
    }
    await host.stop()
    assert host.plugins[1].plugin.events == ["start", "stop"]


async def test_a_plugin_that_hangs_in_stop_is_left_behind_after_the_time_limit(monkeypatch, caplog):
    caplog.set_level(logging.CRITICAL, logger=plugin_host.__name__)
    monkeypatch.setattr(plugin_host, "STOP_TIMEOUT_S", 0.05)
    host = build("good", "hangs")
    await host.start()
    await host.stop()
    assert host.get_states()["hangs"] == (PluginStatus.FAILED, "TimeoutError in stop")
    assert host.get_states()["good"][0] is PluginStatus.STOPPED


def test_a_plugin_that_fails_when_built_is_named_without_the_text_of_its_error():
    with pytest.raises(PluginError, match=r"'raises_in_init' cannot be built \(ValueError\)") as caught:
        build("raises_in_init")
    assert "s3cret-value" not in str(caught.value)


def test_a_list_that_is_not_json_is_a_wrong_setting(monkeypatch):
    monkeypatch.setenv("BROKENTEST_CHANNELS", "s3cret-value")
    with pytest.raises(PluginError, match=r"'needs_list' has a wrong setting.*channels.*as JSON") as caught:
        build("needs_list")
    assert "s3cret-value" not in str(caught.value)


def test_an_installed_plugin_that_cannot_be_loaded_breaks_nothing_while_it_is_not_enabled(monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_GONE_TOKEN", "x")
    names = get_plugin_env_names([entry("gone"), entry("needs_secret")])
    assert names == {"UNDERSTUDY_GONE_TOKEN", "BROKENTEST_API_KEY", "BROKENTEST_RETRIES"}


async def test_a_plugin_that_hangs_in_start_is_stopped_and_marked_after_the_time_limit(monkeypatch, caplog):
    caplog.set_level(logging.ERROR, logger=plugin_host.__name__)
    monkeypatch.setattr(plugin_host, "START_TIMEOUT_S", 0.05)
    host = build("hangs_in_start", "good")
    await host.start()
    assert host.get_states()["hangs_in_start"] == (PluginStatus.FAILED, "TimeoutError in start")
    assert host.get_states()["good"][0] is PluginStatus.RUNNING
    assert host.plugins[0].plugin.events == ["start", "stop"]
    await host.stop()
    assert host.plugins[0].plugin.events == ["start", "stop"]


async def test_the_text_of_a_plugins_error_is_not_logged(caplog):
    await build("raises").start()
    assert "no route to the helpdesk" not in caplog.text
    assert "RuntimeError" in caplog.text


def test_auto_adds_the_plugins_that_have_a_credential_set_and_no_other(monkeypatch):
    entries = [entry("good"), entry("needs_secret"), entry("gone")]
    assert [spec.name for spec in find_specs(["good", "auto"], entries)] == ["good"]
    monkeypatch.setenv("BROKENTEST_API_KEY", "k")
    assert [spec.name for spec in find_specs(["auto", "good"], entries)] == ["needs_secret", "good"]


def test_an_explicit_list_takes_no_other_though_its_credential_is_set(monkeypatch):
    monkeypatch.setenv("BROKENTEST_API_KEY", "k")
    assert [spec.name for spec in find_specs(["good"], [entry("good"), entry("needs_secret")])] == ["good"]


def test_the_credentials_of_every_shipped_plugin_are_known_by_their_usual_names():
    specs = {entry.name: entry.load() for entry in plugin_host.entry_points(group=plugin_host.GROUP)}
    names = {name: plugin_host.get_secret_env_names(spec.settings_type) for name, spec in specs.items()}
    assert {"SLACK_SIGNING_SECRET", "UNDERSTUDY_SLACK_APP_TOKEN"} <= names["slack"]
    assert "ZENDESK_API_TOKEN" in names["zendesk"]
    assert "UNDERSTUDY_REDMINE_API_KEY" in names["redmine"]


async def test_a_running_plugin_in_trouble_says_so_in_health(monkeypatch):
    host = build("good")
    await host.start()
    assert host.get_states()["good"] == (PluginStatus.RUNNING, "")
    monkeypatch.setattr(host.plugins[0].plugin, "find_trouble", lambda: "the helpdesk cannot be reached", raising=False)
    assert host.get_states()["good"] == (PluginStatus.RUNNING, "the helpdesk cannot be reached")
    await host.stop()
