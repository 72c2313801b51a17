"""The catalog: well-known open models with a licence note each, read from catalog.toml.

A list, not an endorsement: nobody has approved anything here. Downloads are in `pull`, what is installed in `registry`.
"""

import difflib
import tomllib
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from bot.engine.protocol import ModelFileError
from bot.models.registry import find_model
from db.types import ModelKind

__all__ = ["CatalogEntry", "find_entry", "find_model", "load_catalog"]

Use = Literal["yes", "no", "conditions"]


class CatalogEntry(BaseModel):
    """One model file on the hub. An empty `revision` or `sha256` means that nobody pinned it; `licence` is an SPDX name or the text's own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: ModelKind
    repo: str
    file: str
    revision: str = ""
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    approx_mb: int = Field(gt=0)
    base_model: str
    licence: str
    restrictions: str = ""
    commercial_use: Use
    hosted_use: Use
    affiliate_use: Use
    noted_on: str
    url: str
    note: str = ""
    is_bundled: bool = False

    @property
    def is_pinned(self) -> bool:
        """Whether the exact bytes are known beforehand."""
        return bool(self.sha256)


def load_catalog() -> tuple[CatalogEntry, ...]:
    """Return the catalog in file order."""
    content = tomllib.loads(files("bot.models").joinpath("catalog.toml").read_text(encoding="utf-8"))
    return tuple(CatalogEntry.model_validate(row) for row in content["model"])


def find_entry(name: str) -> CatalogEntry:
    """Return the entry of that name, in any case. Raises ModelFileError with the nearest name."""
    entries = {entry.name.lower(): entry for entry in load_catalog()}
    if name.lower() in entries:
        return entries[name.lower()]
    close = difflib.get_close_matches(name.lower(), entries, n=1, cutoff=0.4)
    hint = f"did you mean {entries[close[0]].name}?" if close else "`understudy models list` shows all"
    raise ModelFileError(f"the catalog has no model '{name}'; {hint}")
