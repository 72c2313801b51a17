"""Every setting is described, documented and offered in deploy/env.example; the settings classes are the only list."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from bot.plugin_host import get_plugin_env_names
from bot.settings import CONFIG_VARIABLE, Settings, get_env_names, load_settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def table() -> ModuleType:
    spec = importlib.util.spec_from_file_location("settings_table", ROOT / "scripts" / "settings_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def known(table: ModuleType) -> set[str]:
    """Names as the program itself knows them, not as the table's script reads them."""
    return {CONFIG_VARIABLE, *get_env_names(), *get_plugin_env_names(table.read_plugin_entries())}


def test_page_lists_exactly_the_settings_there_are(known: set[str]):
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)) == known


def test_env_example_offers_exactly_the_settings_there_are(known: set[str], table: ModuleType):
    example = (ROOT / "deploy" / "env.example").read_text(encoding="utf-8")
    offered = set(re.findall(r"^#(\w+)=", example, flags=re.MULTILINE))
    assert offered == known | {setting.name for setting in table.COMPOSE_SETTINGS}


def test_env_example_sets_nothing_as_it_stands():
    lines = (ROOT / "deploy" / "env.example").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []


def test_page_and_example_are_what_make_settings_writes(table: ModuleType):
    sections = table.read_sections()
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == table.render_page(sections), "run `make settings`"
    assert (ROOT / "deploy" / "env.example").read_text(encoding="utf-8") == table.render_environment(sections), (
        "run `make settings`"
    )


def test_no_secret_has_a_default(table: ModuleType):
    secrets = [setting for section in table.read_sections() for setting in section.settings if setting.values == "secret"]
    assert secrets
    assert [setting.name for setting in secrets if setting.default] == []


def test_every_description_is_a_sentence(table: ModuleType):
    settings = [setting for section in table.read_sections() for setting in section.settings]
    bad = [setting.name for setting in settings if not setting.description[0].isupper() or not setting.description.endswith(".")]
    assert bad == []


def test_defaults_as_written_in_the_example_are_the_defaults_of_the_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)  # a settings file in the checkout must not count
    for name in get_env_names():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)
    defaults = Settings()
    example = (ROOT / "deploy" / "env.example").read_text(encoding="utf-8")
    written = dict(re.findall(r"^#(UNDERSTUDY_\w+)=(.*)$", example, flags=re.MULTILINE))
    for name in get_env_names():
        monkeypatch.setenv(name, written[name])
    assert load_settings() == defaults
