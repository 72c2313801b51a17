"""A real llama-server for tests, built from the source that llama-cpp-python publishes; tests that need one are skipped where it cannot be built."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from bot.engine.protocol import GenerateRequest
from bot.engine.remote.factory import build_remote_engine
from bot.engine.remote.settings import RemoteSettings, ServerChoice
from bot.engine.settings import EngineSettings
from db.types import MaskedText, TaskKind
from tests.support.engine_cases import make_text

ENGINE = EngineSettings(n_threads=1, n_ctx=2048, n_batch=128, n_seq_max=32)


@contextmanager
def run_llama_server(model: Path, *args: str, loras: Sequence[Path] = (), port: int = 0) -> Iterator[str]:
    """Run llama-server on a model with adapters and yield its URL."""
    peers = pytest.importorskip("benches.peers", reason="benches/ is not part of this checkout")
    try:
        peers.ensure_tools(["llama-server"])
    except peers.BenchError as error:
        pytest.skip(f"llama-server cannot be built here: {error}")
    flags = ["--threads", "1", "--parallel", "4", "--ctx-size", "8192", "--no-webui", *args]
    if loras:
        flags += ["--lora", ",".join(map(str, loras)), "--lora-init-without-apply"]
    with peers.start_llama_server(model, port=port, args=flags) as url:
        yield url


def build_remote(path: Path, url: str, *, backend: str = "llama-server", model: str | None = None, engine=ENGINE, **settings):
    """Return an engine for a server, not started."""
    return build_remote_engine(path, ServerChoice(url, backend, model), settings=engine, remote=RemoteSettings(**settings))


def find_free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write(number: int, **changes) -> GenerateRequest:
    """A request for a short greedy text."""
    options = {"max_tokens": 24, "stop": ("\n\n",)} | changes
    return GenerateRequest(TaskKind.SUMMARY, "s-1", "summarise: ", MaskedText(make_text(number)), "\nsummary:", **options)


def is_same_text(left: str, right: str) -> bool:
    """Whether two texts are equal but for bytes that are no characters, which servers replace in their own ways."""
    return left.replace("\ufffd", "") == right.replace("\ufffd", "")
