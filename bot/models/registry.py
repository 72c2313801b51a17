"""The models installed under the home folder: one JSON file that names each, with its digest and where it came from.

Knows nothing of engines or the database; a licence's approval lives in the database, not here.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bot.bundle import hash_file
from bot.engine.protocol import ModelFileError
from bot.models.default import DEFAULT_DIGEST, DEFAULT_FILE, DEFAULT_NAME, LICENCE, SOURCE, WEIGHTS_DIGEST
from bot.models.gguf_info import inspect_gguf
from db.types import ModelKind

REGISTRY_FILE: Final = "registry.json"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True)
class ModelEntry:
    """An installed model. `digest` is the file's SHA-256; `revision` is empty where the source has none."""

    name: str
    path: Path
    digest: str
    kind: ModelKind
    architecture: str
    n_bytes: int
    licence: str
    source: str
    revision: str
    added_at: str


def list_models(home: Path) -> tuple[ModelEntry, ...]:
    """Return the installed models by name, the embedded default first where it was written. Raises ModelFileError."""
    entries = sorted(_read(home).values(), key=lambda entry: entry.name.lower())
    default = home / "models" / DEFAULT_FILE
    return (_describe_default(default), *entries) if default.exists() else tuple(entries)


def find_model(name: str, home: Path) -> Path | None:
    """Return the file of an installed model, or None. Raises ModelFileError where it was installed but its file is gone."""
    entry = next((entry for entry in list_models(home) if entry.name.lower() == name.lower()), None)
    if entry is None:
        return None
    if not entry.path.is_file():
        raise ModelFileError(f"the file of the model '{entry.name}', {entry.path}, is gone: pull or add the model again")
    return entry.path


def add_model(
    path: Path, home: Path, *, name: str | None = None, licence: str = "", source: str = "", revision: str = ""
) -> ModelEntry:
    """Install a local GGUF: link it (copy across file systems) under `home`/models and register it. Raises ModelFileError.

    Adding the same file again changes nothing; another file under a name in use is refused.
    """
    info = inspect_gguf(path)
    name = name or path.name.removesuffix(".gguf")
    _check_name(name)
    digest = hash_file(path)
    known = _read(home)
    existing = next((entry for entry in known.values() if entry.name.lower() == name.lower()), None)
    if existing is not None and existing.digest != digest:
        raise ModelFileError(f"another model is named '{existing.name}' already: give this one another name with --name")
    target = home / "models" / f"{name}.gguf"
    _place(path, target, digest=digest)
    entry = ModelEntry(
        name=name,
        path=target.resolve(),
        digest=digest,
        kind=info.kind,
        architecture=info.architecture,
        n_bytes=target.stat().st_size,
        licence=licence or (info.licence if existing is None else existing.licence),
        source=source or (str(path.resolve()) if existing is None else existing.source),
        revision=revision or ("" if existing is None else existing.revision),
        added_at=datetime.now(UTC).isoformat(timespec="seconds") if existing is None else existing.added_at,
    )
    _write(home, [*(other for other in known.values() if other.name != name), entry])
    return entry


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ModelFileError(f"'{name[:80]}' cannot be a model's name: use letters, digits, dots, dashes and underscores")
    if name.lower() in {DEFAULT_NAME.lower(), DEFAULT_FILE.removesuffix(".gguf").lower()}:
        raise ModelFileError(f"'{name}' is the embedded default's name: give this model another name with --name")


def _place(path: Path, target: Path, *, digest: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and (target.samefile(path) or hash_file(target) == digest):
        return
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    try:
        try:
            os.link(path.resolve(), part)
        except OSError:  # another file system, or one without links
            shutil.copyfile(path, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _describe_default(path: Path) -> ModelEntry:
    stat = path.stat()
    return ModelEntry(
        name=DEFAULT_NAME,
        path=path.resolve(),
        digest=DEFAULT_DIGEST,
        kind=ModelKind.ENCODER,
        architecture="bert",
        n_bytes=stat.st_size,
        licence=LICENCE,
        source=SOURCE,
        revision=WEIGHTS_DIGEST[:12],
        added_at=datetime.fromtimestamp(stat.st_mtime, UTC).isoformat(timespec="seconds"),
    )


def _read(home: Path) -> dict[str, ModelEntry]:
    path = home / "models" / REGISTRY_FILE
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        entries = [
            ModelEntry(**{**row, "path": home.resolve() / "models" / row["path"], "kind": ModelKind(row["kind"])}) for row in rows
        ]
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError) as error:
        raise ModelFileError(f"{path} is damaged ({type(error).__name__}): remove it and add the models again") from None
    return {entry.name: entry for entry in entries}


def _write(home: Path, entries: Iterable[ModelEntry]) -> None:
    path = home / "models" / REGISTRY_FILE
    # Paths are kept relative to the folder, so that the home folder can be moved.
    rows = [{**asdict(entry), "path": entry.path.name, "kind": entry.kind.value} for entry in entries]
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{REGISTRY_FILE}.", suffix=".part")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(rows, file, indent=1, sort_keys=True)
        file.write("\n")
    part = Path(name)
    part.chmod(0o644)  # mkstemp makes it private, but training may run as another user
    part.replace(path)
