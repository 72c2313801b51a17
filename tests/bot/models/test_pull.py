"""Downloads from a hub that is whole, wrong, closed, gated, or goes away in the middle."""

import hashlib
import time

import pytest

from bot.bundle import hash_file
from bot.engine.protocol import ModelFileError
from bot.models.catalog import CatalogEntry
from bot.models.pull import pull_model
from bot.models.registry import find_model, list_models
from tests.bot.models.conftest import COMMIT


def make_entry(hub, **changes):
    values = {
        "name": "tiny",
        "kind": "encoder",
        "repo": hub.repo,
        "file": hub.file,
        "sha256": hashlib.sha256(hub.content).hexdigest(),
        "approx_mb": 1,
        "base_model": "maker/tiny",
        "licence": "mit",
        "commercial_use": "yes",
        "hosted_use": "yes",
        "affiliate_use": "yes",
        "noted_on": "2026-01-01",
        "url": "https://example.com/tiny",
    }
    return CatalogEntry.model_validate({**values, **changes})


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    """The hub's client waits a second between attempts."""
    monkeypatch.setattr(time, "sleep", lambda _: None)


def get_methods(hub):
    return [method for method, _, _ in hub.requests]


def test_pinned_model_is_downloaded_checked_and_registered(hub, tmp_path):
    seen = []
    path = pull_model(make_entry(hub), tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == hub.content
    assert seen[-1] == (len(hub.content), len(hub.content))
    (entry,) = list_models(tmp_path)
    assert (entry.name, entry.digest, entry.licence, entry.revision) == ("tiny", hash_file(path), "mit", COMMIT)
    assert entry.source == f"https://huggingface.co/{hub.repo}"
    assert find_model("TINY", tmp_path) == path
    assert sorted(item.name for item in (tmp_path / "models").iterdir() if item.is_file()) == ["registry.json", "tiny.gguf"]


def test_second_pull_asks_nobody(hub, tmp_path):
    first = pull_model(make_entry(hub), tmp_path)
    n_requests = len(hub.requests)
    assert pull_model(make_entry(hub), tmp_path) == first
    assert len(hub.requests) == n_requests


def test_damaged_file_is_downloaded_again(hub, tmp_path):
    path = pull_model(make_entry(hub), tmp_path)
    path.write_bytes(b"GGUF broken")
    assert pull_model(make_entry(hub), tmp_path).read_bytes() == hub.content


def test_other_bytes_than_pinned_are_not_installed(hub, tmp_path):
    with pytest.raises(ModelFileError, match="but the catalog says 00000"):
        pull_model(make_entry(hub, sha256="0" * 64), tmp_path)
    assert list_models(tmp_path) == ()
    assert not list((tmp_path / "models").rglob("*.gguf"))


def test_other_bytes_than_the_hub_announced_are_not_installed(hub, tmp_path):
    hub.etag = "ab" * 32
    with pytest.raises(ModelFileError, match="but the hub says abab"):
        pull_model(make_entry(hub, sha256=""), tmp_path, accept_unpinned=True)
    assert list_models(tmp_path) == ()


def test_unpinned_model_needs_consent_before_anything_is_asked(hub, tmp_path):
    with pytest.raises(ModelFileError, match="--accept-unpinned"):
        pull_model(make_entry(hub, sha256=""), tmp_path)
    assert hub.requests == []


def test_unpinned_model_is_held_to_its_first_hash(hub, tmp_path):
    path = pull_model(make_entry(hub, sha256=""), tmp_path, accept_unpinned=True)
    path.unlink()
    hub.content = hub.content[:-1] + b"x"
    hub.etag = hashlib.sha256(hub.content).hexdigest()
    with pytest.raises(ModelFileError, match="but the first download says"):
        pull_model(make_entry(hub, sha256=""), tmp_path, accept_unpinned=True)


def test_branch_is_resolved_to_a_commit_before_the_download(hub, tmp_path):
    pull_model(make_entry(hub), tmp_path)
    paths = [path for method, path, _ in hub.requests if method == "GET"]
    assert paths == [f"/{hub.repo}/resolve/{COMMIT}/{hub.file}"]


def test_broken_connection_is_resumed_where_it_broke(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    hub.drop_after = 5000
    assert pull_model(make_entry(hub), tmp_path).read_bytes() == hub.content
    ranges = [wanted for method, _, wanted in hub.requests if method == "GET"]
    assert ranges[:3] == [None, "bytes=5000-", "bytes=10000-"]


def test_connection_that_breaks_for_good_leaves_nothing(hub, tmp_path):
    hub.drop_after = 0
    with pytest.raises(ModelFileError, match="could not be downloaded from http://127"):
        pull_model(make_entry(hub), tmp_path)
    assert hub.n_drops > 1
    assert list_models(tmp_path) == ()
    assert not list((tmp_path / "models").rglob("*.gguf"))


def test_missing_file_says_where_to_look(hub, tmp_path):
    with pytest.raises(ModelFileError, match=r"has no file other\.gguf: see https://huggingface\.co/maker/tiny-GGUF"):
        pull_model(make_entry(hub, file="other.gguf"), tmp_path)


def test_missing_repository_is_named(hub, tmp_path):
    with pytest.raises(ModelFileError, match="no repository maker/none"):
        pull_model(make_entry(hub, repo="maker/none"), tmp_path)


def test_gated_repository_asks_for_the_licence(hub, tmp_path):
    hub.is_gated = True
    with pytest.raises(ModelFileError, match="tiny is gated: accept its licence"):
        pull_model(make_entry(hub), tmp_path)


def test_failing_hub_is_reported_by_status(hub, tmp_path):
    hub.is_failing = True
    with pytest.raises(ModelFileError, match="the hub answered 500"):
        pull_model(make_entry(hub), tmp_path)


def test_unreachable_hub_says_what_else_works(hub, tmp_path):
    entry = make_entry(hub)
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
        with pytest.raises(ModelFileError, match="check the connection and pull again, or bring the file"):
            pull_model(entry, tmp_path)


def test_file_that_is_no_model_is_not_installed(hub, tmp_path):
    hub.content = b"<html>not a model</html>"
    hub.etag = hashlib.sha256(hub.content).hexdigest()
    with pytest.raises(ModelFileError, match="not a GGUF file"):
        pull_model(make_entry(hub), tmp_path)
    assert list_models(tmp_path) == ()
