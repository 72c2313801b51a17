"""Zendesk's own document and recordings beside the checkout, and a check of requests against the document."""

import functools
import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

FOLDER = Path(__file__).resolve().parents[4] / "shared" / "contracts" / "zendesk"


def need(*parts):
    """The path of a contract file; the test is skipped where the checkout has none beside it."""
    path = FOLDER.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"no {'/'.join(parts)} of Zendesk's contracts in ../shared/contracts/zendesk")
    return path


@functools.cache
def load_recorded():
    return json.loads(gzip.decompress(need("recorded_api.json.gz").read_bytes()))["interactions"]


@functools.cache
def load_document():
    files = [need("openapi", name) for name in ("normalise.py", "support_api.yaml.gz", "webhooks_api.yaml.gz")]
    done = subprocess.run([sys.executable, *map(str, files)], capture_output=True, check=True)
    return json.loads(done.stdout)


class Contract:
    """Holds requests against the document: method and path exist, the body fits, credentials are there."""

    def __init__(self):
        document = load_document()
        self._document = document
        self._patterns = [(re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))), path) for path in document["paths"]]
        self.checked = set()

    def check(self, request, body):
        method, path = request.method.lower(), request.url.path
        known = [name for pattern, name in self._patterns if pattern.fullmatch(path) and method in self._document["paths"][name]]
        assert known, f"{request.method} {path} is not in Zendesk's document"
        name = min(known, key=lambda found: found.count("{"))  # a written-out path goes before one with parameters
        assert request.headers["authorization"].startswith(("Basic ", "Bearer "))
        self.checked.add((method, name))
        self._check_query(request, self._document["paths"][name])
        operation = self._document["paths"][name][method]
        if "requestBody" in operation and body is not None:
            self._check_body(operation["requestBody"], body, f"{request.method} {path}")
        else:
            assert body is None

    def _check_query(self, request, item):
        known = {self._resolve(parameter)["name"] for parameter in item.get("parameters", [])}
        known |= {self._resolve(parameter)["name"] for parameter in item[request.method.lower()].get("parameters", [])}
        # Pages are a convention of the whole API that the document does not repeat at each list.
        assert set(request.url.params) - known - {"page[size]", "page[after]", "per_page", "cursor"} == set()

    def _check_body(self, request_body, body, what):
        schema = self._resolve(request_body)["content"]["application/json"]["schema"]
        validator = Draft202012Validator({"components": self._document["components"], "allOf": [schema]})
        errors = [f"{what} {error.json_path}: {error.message[:200]}" for error in validator.iter_errors(body)]
        assert errors == []

    def _resolve(self, node):
        while "$ref" in node:
            found = self._document
            for part in node["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            node = found
        return node

    def answer(self, request):
        """The document's own example for a request, as a mock server made from it would answer."""
        path, method = request.url.path, request.method.lower()
        known = [name for pattern, name in self._patterns if pattern.fullmatch(path) and method in self._document["paths"][name]]
        if not known:
            return 404, {"error": "InvalidEndpoint"}
        responses = self._document["paths"][min(known, key=lambda found: found.count("{"))][method]["responses"]
        status, response = next((code, self._resolve(item)) for code, item in responses.items() if code.startswith("2"))
        for media in response.get("content", {}).values():
            if "example" in media:
                return int(status), media["example"]
            for example in media.get("examples", {}).values():
                return int(status), self._resolve(example)["value"]
        return int(status), {}
