"""Commands that plugins bring: found by their entry point, imported only when asked for."""

from importlib.metadata import EntryPoint

import pytest
import typer
from typer.testing import CliRunner

from bot.cli.main import COMMANDS, add_plugin_commands


@pytest.fixture
def cli():
    fresh = typer.Typer()
    fresh.callback()(lambda: None)
    return fresh


commands = typer.Typer()


@commands.callback()
def _group() -> None:
    """Commands of a plugin in this test."""


@commands.command()
def greet() -> None:
    """Say hello."""
    typer.echo("hello from the plugin")


def test_the_command_asked_for_is_imported_and_runs(cli):
    add_plugin_commands(cli, ["desk", "greet"], entries=[EntryPoint("desk", f"{__name__}:commands", COMMANDS)])
    assert "hello from the plugin" in CliRunner().invoke(cli, ["desk", "greet"]).output


def test_a_plugin_that_is_broken_or_not_asked_for_is_named_and_not_imported(cli):
    add_plugin_commands(cli, ["--help"], entries=[EntryPoint("broken", "no.such.module:app", COMMANDS)])
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0
    assert "broken" in result.output
