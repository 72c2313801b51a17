"""Peers as processes: waited for, ended, and explained where they do not come up. A small Python server stands in for the real ones."""

import subprocess
import sys
import urllib.request

import pytest

from benches import peers
from benches.paths import BenchError, run_logged
from benches.tools import TOOLS, ensure_tools, find_libraries


@pytest.fixture(autouse=True)
def logs(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "LOG_DIR", tmp_path)
    return tmp_path


@pytest.fixture
def started(monkeypatch):
    """Keep the processes that are started."""
    kept = []
    real = subprocess.Popen

    def start(*args, **kwargs):
        kept.append(real(*args, **kwargs))
        return kept[-1]

    monkeypatch.setattr(peers.subprocess, "Popen", start)
    return kept


def run_server(command, port):
    return peers._run_server("stand-in", command, url=f"http://127.0.0.1:{port}", health="/", env={})


def test_a_server_answers_inside_its_with_and_is_gone_after_it(tmp_path, started):
    port = peers.find_free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(tmp_path)]

    with run_server(command, port) as server:
        server.wait_healthy(30)
        with urllib.request.urlopen(server.url) as reply:
            assert reply.status == 200
        assert started[0].poll() is None

    assert started[0].poll() is not None


def test_a_server_that_ends_at_once_is_an_error_with_its_last_words():
    with (
        run_server([sys.executable, "-c", "print('no such model'); raise SystemExit(3)"], peers.find_free_port()) as server,
        pytest.raises(BenchError, match=r"ended with code 3[\s\S]*no such model"),
    ):
        server.wait_healthy(30)


def test_a_server_that_never_answers_is_given_up(started):
    with (
        run_server([sys.executable, "-c", "import time; time.sleep(60)"], peers.find_free_port()) as server,
        pytest.raises(BenchError, match="did not answer within 0 s"),
    ):
        server.wait_healthy(0.2)

    assert started[0].poll() is not None


def test_a_server_does_not_inherit_how_our_engine_lets_openmp_wait(monkeypatch, logs):
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    port = peers.find_free_port()

    command = [sys.executable, "-c", "import os; print(os.environ.get('OMP_WAIT_POLICY', 'its own'))"]
    with run_server(command, port) as server, pytest.raises(BenchError):
        server.wait_healthy(30)

    assert (logs / f"stand-in-{port}.log").read_text() == "its own\n"


def test_an_unknown_tool_is_refused_with_the_known_ones():
    with pytest.raises(BenchError, match=f"no tool 'llama-chat'; choose among {', '.join(TOOLS)}"):
        ensure_tools(["llama-chat"])


def test_libraries_that_are_not_compiled_here_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("benches.tools.sysconfig.get_path", lambda _: str(tmp_path))

    with pytest.raises(BenchError, match="reinstall it from source"):
        find_libraries()


def test_a_command_that_fails_is_an_error_with_its_output_and_advice(tmp_path):
    with pytest.raises(BenchError, match=r"code 2; install a compiler[\s\S]*no compiler"):
        run_logged(
            [sys.executable, "-c", "print('no compiler'); raise SystemExit(2)"],
            log=tmp_path / "x.log",
            advice="install a compiler",
        )


def test_a_program_that_is_not_there_is_an_error_with_advice(tmp_path):
    with pytest.raises(BenchError, match="'no-such-program' was not found; install it"):
        run_logged(["no-such-program"], log=tmp_path / "x.log")
