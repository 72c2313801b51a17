"""A GGUF small enough to send about, and a hub on this machine that serves it."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from gguf import GGUFWriter

COMMIT = "1234567890abcdef1234567890abcdef12345678"


def write_tiny_gguf(path, *, architecture="bert", name="tiny", metadata=()):
    """Write a GGUF with a head, one tensor of 4,096 values and no sense."""
    writer = GGUFWriter(path, architecture)
    writer.add_name(name)
    writer.add_license("mit")
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_file_type(0)
    for key, value in metadata:
        writer.add_uint32(key, value)
    writer.add_tensor("token_embd.weight", np.arange(4096, dtype=np.float32).reshape(64, 64))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def tiny_gguf(tmp_path):
    return write_tiny_gguf(tmp_path / "tiny.gguf")


class FakeHub:
    """Answers as the hub does for one file. `drop_after` closes each connection after that many bytes of the body."""

    def __init__(self, content):
        self.content = content
        self.repo, self.file = "maker/tiny-GGUF", "tiny-q8_0.gguf"
        self.etag = hashlib.sha256(content).hexdigest()
        self.drop_after = None
        self.n_drops = 0
        self.requests = []
        self.is_gated = False
        self.is_failing = False
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                hub.answer(self, has_body=False)

            def do_GET(self):
                hub.answer(self, has_body=True)

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, handler, *, has_body):
        self.requests.append((handler.command, handler.path, handler.headers.get("Range")))
        if self.is_failing:
            self._refuse(handler, 500, {})
        elif self.is_gated:
            self._refuse(handler, 403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"})
        elif not handler.path.startswith(f"/{self.repo}/resolve/"):
            self._refuse(handler, 404, {"X-Error-Code": "RepoNotFound"})
        elif not handler.path.endswith(f"/{self.file}"):
            self._refuse(handler, 404, {"X-Error-Code": "EntryNotFound"})
        else:
            self._send(handler, has_body=has_body)

    def _refuse(self, handler, status, headers):
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": "0"}.items():
            handler.send_header(name, value)
        handler.end_headers()

    def _send(self, handler, *, has_body):
        wanted = handler.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        body = self.content[start:]
        handler.send_response(206 if wanted else 200)
        if wanted:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        handler.send_header("X-Repo-Commit", COMMIT)
        handler.send_header("ETag", f'"{self.etag}"')
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if not has_body:
            return
        if self.drop_after is None:
            handler.wfile.write(body)
            return
        self.n_drops += 1
        handler.wfile.write(body[: self.drop_after])
        handler.close_connection = True


@pytest.fixture
def hub(tiny_gguf, monkeypatch):
    fake = FakeHub(tiny_gguf.read_bytes())
    monkeypatch.setenv("HF_ENDPOINT", fake.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield fake
    fake.close()
