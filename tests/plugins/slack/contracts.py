"""Slack's own documents, as far as they lie beside the checkout: what a call may say, what an event looks like, what blocks may hold."""

import gzip
import json
from pathlib import Path

import pytest

CONTRACTS = Path(__file__).resolve().parents[4] / "shared" / "contracts" / "slack"
NEWER_THAN_THE_DOCUMENT = {"apps.connections.open": set()}
JSON_ARGUMENTS = {"blocks", "view"}


def need(name):
    """Return a file of the contracts; skip the test where they are not there."""
    path = CONTRACTS / name
    if not path.is_file():
        pytest.skip(f"../shared/contracts/slack/{name} is not beside the checkout")
    return path


def load(name):
    path = need(name)
    return json.loads(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_text(encoding="utf-8"))


def load_web_api():
    """Method to its arguments, as Slack's document names them; None where the document is not there."""
    path = CONTRACTS / "openapi" / "slack_web_openapi_v2.json.gz"
    if not path.is_file():
        return None
    document = json.loads(gzip.decompress(path.read_bytes()))
    return {
        route.removeprefix("/"): {p["name"]: p for operation in verbs.values() for p in operation.get("parameters", [])}
        for route, verbs in document["paths"].items()
    }


def find_call_faults(web_api, method, arguments):
    """Return what Slack's document has against a call."""
    if web_api is None or method in NEWER_THAN_THE_DOCUMENT:
        return []
    if method not in web_api:
        return [f"{method} is not in Slack's document"]
    known = web_api[method]
    faults = [f"{method} takes no {name}" for name in arguments if name not in known]
    required = [name for name, argument in known.items() if argument.get("required") and name != "token"]
    faults += [f"{method} needs {name}" for name in required if arguments.get(name) in (None, "")]
    faults += [
        f"{method}: {name} is no {known[name]['type']}"
        for name, value in arguments.items()
        if name in known and name not in JSON_ARGUMENTS and not _fits(known[name]["type"], value)
    ]
    return faults


def _fits(kind, value):
    """Whether a value is of a documented type; forms carry everything as text."""
    if kind in {"integer", "number"}:
        try:
            float(value)
        except (TypeError, ValueError):
            return False
        return kind == "number" or "." not in str(value)
    if kind == "boolean":
        return isinstance(value, bool) or str(value).lower() in {"0", "1", "true", "false"}
    return isinstance(value, str)
