"""deploy/compose.yml: valid by the compose specification, nothing but the console published, no secret written into it."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from bot.plugin_host import get_plugin_env_names
from bot.settings import get_env_names


@pytest.fixture(scope="module")
def compose(root: Path) -> dict[str, Any]:
    return yaml.safe_load((root / "deploy" / "compose.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["compose.yml", "compose.cuda.yml"])
def test_file_matches_the_compose_specification(name: str, root: Path, need_tool: Callable[[str, str], str]):
    checker = need_tool("check-jsonschema", "pip install check-jsonschema")
    command = [checker, "--builtin-schema", "vendor.compose-spec", str(root / "deploy" / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_the_bot_is_published_and_on_loopback_by_default(compose: dict[str, Any]):
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert published == {"bot": ["${PUBLISH_ADDRESS:-127.0.0.1}:${PUBLISH_PORT:-8000}:8000"]}


def test_passwords_come_from_the_environment_file_alone(compose: dict[str, Any], root: Path):
    values = [str(value) for service in compose["services"].values() for value in service.get("environment", {}).values()]
    secrets = [value for value in values if "PASSWORD" in value or "://" in value]
    assert len(secrets) == 3
    assert all("${POSTGRES_PASSWORD" in value for value in secrets)
    example = (root / "deploy" / "env.example").read_text(encoding="utf-8")
    assert "#POSTGRES_PASSWORD=\n" in example, "an example password would be used as it stands"


def test_console_is_not_started_without_an_access_token(compose: dict[str, Any]):
    """Inside a container every visitor comes from another address, which the console refuses without a token."""
    assert ":?" in compose["services"]["bot"]["environment"]["UNDERSTUDY_CONSOLE_ACCESS_TOKEN"]


def test_every_variable_of_the_file_is_explained_in_env_example(root: Path):
    text = (root / "deploy" / "compose.yml").read_text(encoding="utf-8")
    example = (root / "deploy" / "env.example").read_text(encoding="utf-8")
    names = set(re.findall(r"\$\{(\w+)", text))
    assert names
    assert [name for name in sorted(names) if f"#{name}=" not in example] == []


def test_every_setting_in_the_file_exists(root: Path):
    for name in ("compose.yml", "compose.cuda.yml"):
        used = set(re.findall(r"\bUNDERSTUDY_\w+", (root / "deploy" / name).read_text(encoding="utf-8")))
        assert used
        assert used <= {*get_env_names(), *get_plugin_env_names()}, name


def test_both_processes_share_database_and_data_folder(compose: dict[str, Any]):
    bot, training = compose["services"]["bot"], compose["services"]["training"]
    for setting in ("UNDERSTUDY_DATABASE_URL", "UNDERSTUDY_HOME"):
        assert bot["environment"][setting] == training["environment"][setting]
    assert bot["volumes"] == training["volumes"]
    assert bot["environment"]["UNDERSTUDY_TRAINING_DAEMON"] == "external"


def test_start_waits_for_health_not_for_a_process(compose: dict[str, Any]):
    services = compose["services"]
    assert services["bot"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert services["training"]["depends_on"] == {"bot": {"condition": "service_healthy"}}
    assert "healthcheck" in services["postgres"]


def test_our_containers_have_a_read_only_root_and_no_capability(compose: dict[str, Any]):
    for name in ("bot", "training"):
        service = compose["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]


def test_recipes_named_in_the_file_exist(compose: dict[str, Any], root: Path):
    for name in ("bot", "training"):
        build = compose["services"][name]["build"]
        assert (root / "deploy" / build["context"] / build["dockerfile"]).is_file()
