"""Real servers of others, started by the scripts beside the checkout; what cannot be started here is skipped with its reason."""

import asyncio
import atexit
import contextlib
import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import uvicorn

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "peers"
START_LIMIT_S = 600


@functools.cache
def start_peer(script):
    """The settings of a running peer. It is installed where that is possible, and stopped after the last test unless it ran before."""
    path = FOLDER / script
    if not path.exists():
        pytest.skip(f"no ../shared/peers/{script} beside the checkout")
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip(f"{script} installs Debian packages, which needs root and apt-get")
    if subprocess.run([path, "status"], capture_output=True, check=False).returncode != 0:
        atexit.register(subprocess.run, [path, "down"], capture_output=True, check=False)
    try:
        done = subprocess.run([path, "up"], capture_output=True, text=True, timeout=START_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{script} did not start within {START_LIMIT_S} s")
    if done.returncode != 0:
        pytest.skip(f"{script} could not be started: {done.stderr.strip().splitlines()[-1:]}")
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


@contextlib.asynccontextmanager
async def serve(app):
    """An ASGI app on a free port of this machine, in the test's own event loop; gives its address."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off"))
    worker = asyncio.create_task(server.serve())
    try:
        while not server.started:  # noqa: ASYNC110 - uvicorn tells it by this flag alone
            await asyncio.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await worker
