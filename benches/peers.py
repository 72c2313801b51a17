"""The peers as running servers: llama-server, and llama-cpp-python's own. Each is a process of ours on 127.0.0.1 that ends with its `with`.

Knows how to start, wait for and end them; how they are asked is in `benches.clients`. `ensure_tools` builds what is missing.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benches.paths import LOG_DIR, BenchError, read_tail
from benches.tools import ensure_python_peer, ensure_tools, get_tool_env

__all__ = ["BenchError", "ensure_tools", "find_free_port", "start_llama_cpp_python_server", "start_llama_server"]
START_TIMEOUT_S: Final = 120.0
END_TIMEOUT_S: Final = 10.0
HTTP_OK: Final = 200


def find_free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def start_llama_server(
    model: Path, *, port: int = 0, args: Sequence[str] = (), timeout_s: float = START_TIMEOUT_S
) -> Iterator[str]:
    """Run llama-server on a GGUF and yield its base URL once it is healthy. Port 0 takes a free one. Raises BenchError.

    `args` are llama-server's own flags (`["--threads", "2", "--embeddings"]`).
    """
    tool = ensure_tools(["llama-server"])["llama-server"]
    port = port or find_free_port()
    command = [str(tool), "--model", str(model), "--host", "127.0.0.1", "--port", str(port), "--offline", *args]
    with _run_server("llama-server", command, url=f"http://127.0.0.1:{port}", health="/health", env=get_tool_env()) as server:
        server.wait_healthy(timeout_s)
        yield server.url


@contextmanager
def start_llama_cpp_python_server(
    model: Path, *, port: int = 0, args: Sequence[str] = (), timeout_s: float = START_TIMEOUT_S
) -> Iterator[str]:
    """Run `python -m llama_cpp.server` on a GGUF and yield its base URL once it answers. Port 0 takes a free one. Raises BenchError."""
    folder = ensure_python_peer("llama_cpp.server")
    port = port or find_free_port()
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(model), "--host", "127.0.0.1", "--port", str(port), *args]
    env = {"PYTHONPATH": str(folder)}
    with _run_server("llama-cpp-python", command, url=f"http://127.0.0.1:{port}", health="/v1/models", env=env) as server:
        server.wait_healthy(timeout_s)
        yield server.url


class _Server:
    def __init__(self, name: str, process: subprocess.Popen[bytes], url: str, *, health: str, log: Path) -> None:
        self.url = url
        self._name = name
        self._process = process
        self._health = url + health
        self._log = log

    def wait_healthy(self, timeout_s: float) -> None:
        """Return once the server answers. Raises BenchError where it ends or takes too long."""
        ends_at = time.monotonic() + timeout_s
        while not self._is_healthy():
            code = self._process.poll()
            if code is not None:
                message = f"{self._name} ended with code {code} before it answered ({self._log})\n{read_tail(self._log)}"
                raise BenchError(message)
            if time.monotonic() > ends_at:
                message = f"{self._name} did not answer within {timeout_s:.0f} s ({self._log})\n{read_tail(self._log)}"
                raise BenchError(message)
            time.sleep(0.1)

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(self._health, timeout=5) as reply:  # noqa: S310 - 127.0.0.1
                return bool(reply.status == HTTP_OK)
        except (urllib.error.URLError, OSError):  # not listening yet, or still loading (503)
            return False

    def end(self) -> None:
        """End the process that was started here, and no other."""
        self._process.terminate()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def _run_server(name: str, command: Sequence[str], *, url: str, health: str, env: Mapping[str, str]) -> Iterator[_Server]:
    LOG_DIR.mkdir(parents=True, exist_ok=True)
    log = LOG_DIR / f"{name}-{url.rsplit(':', 1)[1]}.log"
    with log.open("wb") as output:
        # how the engine lets OpenMP wait is its own choice; a peer keeps its default
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("OMP_")}
        process = subprocess.Popen(  # noqa: S603 - the command is our own
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env={**inherited, **env}
        )
        server = _Server(name, process, url, health=health, log=log)
        try:
            yield server
        finally:
            server.end()
