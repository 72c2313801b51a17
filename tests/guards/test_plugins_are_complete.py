"""Every plugin that pyproject.toml declares has its folder, its README and a spec that goes by the same name."""

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from bot.plugin_api import API_VERSION, PluginSpec

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LIBRARIES = {"helpdesk"}
"""Folders that plugins share; they are no plugins themselves."""
ENTRIES = [EntryPoint(name, value, "bot.plugins") for name, value in PROJECT["entry-points"]["bot.plugins"].items()]


@pytest.fixture(params=ENTRIES, ids=lambda entry: entry.name)
def entry(request: pytest.FixtureRequest) -> EntryPoint:
    return request.param


def test_spec_goes_by_the_name_of_its_entry_point_and_folder(entry: EntryPoint):
    spec = entry.load()
    assert isinstance(spec, PluginSpec)
    assert spec.name == entry.name
    assert entry.module == f"plugins.{entry.name}"
    assert spec.api_version == API_VERSION


def test_plugin_has_a_readme_that_names_its_settings(entry: EntryPoint):
    readme = ROOT / "plugins" / entry.name / "README.md"
    assert readme.is_file(), f"plugins/{entry.name}/README.md is missing"
    text = readme.read_text(encoding="utf-8")
    prefix = str(entry.load().settings_type.model_config.get("env_prefix", ""))
    missing = [name for name in entry.load().settings_type.model_fields if f"{prefix}{name}".upper() not in text]
    assert missing == []


def test_settings_of_a_plugin_lie_under_its_own_prefix(entry: EntryPoint):
    assert entry.load().settings_type.model_config.get("env_prefix") == f"UNDERSTUDY_{entry.name.upper()}_"


def test_every_plugin_folder_is_declared():
    folders = {path.parent.name for path in (ROOT / "plugins").glob("*/__init__.py")}
    assert folders - LIBRARIES == {entry.name for entry in ENTRIES}
