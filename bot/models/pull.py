"""Downloading a catalog model from the hub: progress, checks, and installing it in the registry.

Blocking; run it off the event loop. Knows nothing of licences' approval.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

from bot.bundle import hash_file
from bot.engine.protocol import ModelFileError
from bot.models.catalog import CatalogEntry
from bot.models.default import Progress, ensure_default_model
from bot.models.registry import ModelEntry, add_model, list_models

DOWNLOADS: Final = ".downloads"
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def pull_model(entry: CatalogEntry, home: Path, *, progress: Progress | None = None, accept_unpinned: bool = False) -> Path:
    """Download a model of the catalog, check its SHA-256 and install it; returns the file. Raises ModelFileError.

    `progress` gets (done, total) bytes. A model that nobody pinned needs `accept_unpinned`; the hash it came with is recorded and other
    bytes under its name are refused afterwards. What is installed and whole already is not downloaded again.
    """
    if entry.is_bundled:
        return ensure_default_model(home, progress)
    installed = next((model for model in list_models(home) if model.name == entry.name), None)
    if installed is not None and installed.path.is_file() and hash_file(installed.path) == (entry.sha256 or installed.digest):
        return installed.path
    if not entry.is_pinned and not accept_unpinned:
        raise ModelFileError(
            f"the catalog does not know the SHA-256 of {entry.name}: look at https://huggingface.co/{entry.repo}, "
            f"then pull it with --accept-unpinned, which records the hash it comes with"
        )
    folder = home / "models" / DOWNLOADS / entry.name
    with _translate_errors(entry):
        path, revision, announced = _download(entry, folder, progress=progress)
    try:
        _check_digest(path, entry, installed=installed, announced=announced)
        model = add_model(
            path, home, name=entry.name, licence=entry.licence, source=f"https://huggingface.co/{entry.repo}", revision=revision
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return model.path


def _download(entry: CatalogEntry, folder: Path, *, progress: Progress | None) -> tuple[Path, str, str]:
    """Return the downloaded file, the commit it came from, and the hub's own SHA-256 of it ("" where it announced none)."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    endpoint = os.environ.get("HF_ENDPOINT") or None
    revision = entry.revision or None
    found = get_hf_file_metadata(hf_hub_url(entry.repo, entry.file, revision=revision, endpoint=endpoint), endpoint=endpoint)
    commit = found.commit_hash or entry.revision
    bar: Any = None if progress is None else _build_bar(progress)
    # The commit, not the branch: what was looked at is what is downloaded, though somebody may push in between.
    path = hf_hub_download(entry.repo, entry.file, revision=commit or None, local_dir=folder, endpoint=endpoint, tqdm_class=bar)
    etag = (found.etag or "").lower()
    return Path(path), commit, etag if _SHA256.fullmatch(etag) else ""


def _check_digest(path: Path, entry: CatalogEntry, *, installed: ModelEntry | None, announced: str) -> None:
    digest = hash_file(path)
    expected, whose = entry.sha256, "the catalog"
    if not expected and installed is not None:
        expected, whose = installed.digest, "the first download"
    if not expected and announced:
        expected, whose = announced, "the hub"
    if expected and digest != expected:
        raise ModelFileError(
            f"{entry.name} came with SHA-256 {digest[:12]}... but {whose} says {expected[:12]}...: nothing was installed; "
            f"pull it again, and if that repeats look at https://huggingface.co/{entry.repo} before you trust it"
        )


@contextmanager
def _translate_errors(entry: CatalogEntry) -> Iterator[None]:
    """Turn the hub's errors into one sentence that says what to do."""
    from huggingface_hub import errors

    where = f"https://huggingface.co/{entry.repo}"
    try:
        yield
    except errors.GatedRepoError:
        raise ModelFileError(f"{entry.name} is gated: accept its licence at {where} and set HF_TOKEN, then pull again") from None
    except errors.RepositoryNotFoundError:
        raise ModelFileError(
            f"the hub has no repository {entry.repo} (or it needs HF_TOKEN): use `understudy models add FILE`"
        ) from None
    except (errors.RemoteEntryNotFoundError, errors.RevisionNotFoundError):
        at = f" at revision {entry.revision[:12]}" if entry.revision else ""
        raise ModelFileError(
            f"{entry.repo} has no file {entry.file}{at}: see {where} and use `understudy models add FILE`"
        ) from None
    except errors.OfflineModeIsEnabled:
        raise ModelFileError(
            "downloads are switched off (HF_HUB_OFFLINE): unset it, or use `understudy models add FILE`"
        ) from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        raise ModelFileError(
            f"the hub answered {status} for {entry.repo}: try again later, or use `understudy models add FILE`"
        ) from None
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]  # the hub's transport, whichever it is built on
        host = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
        raise ModelFileError(
            f"{entry.name} could not be downloaded from {host} ({type(error).__name__}): check the connection and pull again, "
            "or bring the file and use `understudy models add FILE`"
        ) from None


def _build_bar(progress: Progress) -> type:
    """Return a class with the few methods of a tqdm bar that the hub's client calls, which reports to `progress`."""

    class Bar:
        """Counts bytes; draws nothing."""

        def __init__(self, *, total: int | None = None, initial: int = 0, **_: object) -> None:
            self.n = initial
            self.total = total or 0

        def update(self, n: float = 1) -> None:
            self.n += int(n)
            progress(self.n, max(self.total, self.n))

        def close(self) -> None: ...

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            self.close()

    return Bar
