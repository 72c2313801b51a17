"""Zendesk's own SDK for apps, as its npm package holds it, for browser tests. Fetched once, kept outside the checkout, never shipped.

In production the app loads it from Zendesk; a test answers that address with this text.
"""

import functools
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

ADDRESS = "https://static.zdassets.com/zendesk_app_framework_sdk/2.0/zaf_sdk.min.js"
PACKAGE = "zendesk_app_framework_sdk@2.0.11"
ARCHIVE = "zendesk_app_framework_sdk-2.0.11.tgz"
SHA256 = "60ed91410cba453ba45d5617b5bf93e638c41aca3e6d6666c78edbc567573415"
HOME = Path(os.environ.get("ZAF_SDK_PEER_HOME", Path.home() / ".cache" / "peers" / "zaf-sdk"))
FILES = {
    "./client": "package/lib/client.js",
    "./utils": "package/lib/utils.js",
    "./vendor/native-promise-only": "package/lib/vendor/native-promise-only.js",
    "./index": "package/lib/index.js",
}


@functools.cache
def load_sdk():
    """The SDK as one script that sets `ZAFClient`; the test is skipped where it can be had neither here nor from the registry."""
    archive = HOME / ARCHIVE
    if not archive.exists():
        fetch(archive)
    if hashlib.sha256(archive.read_bytes()).hexdigest() != SHA256:
        pytest.skip(f"{archive} is not the package {PACKAGE}: delete it")
    with tarfile.open(archive) as package:
        modules = {name: package.extractfile(path).read().decode("utf-8") for name, path in FILES.items()}
    wrapped = ",\n".join(
        f"{json.dumps(name)}: function (module, exports, require) {{\n{text}\n}}" for name, text in modules.items()
    )
    return (
        f"(function () {{ var modules = {{\n{wrapped}\n}}, made = {{}};\n"
        "function require(name) { if (!made[name]) { made[name] = { exports: {} }; "
        "modules[name](made[name], made[name].exports, require); } return made[name].exports; }\n"
        'window.ZAFClient = require("./index"); })();'
    )


def fetch(archive):
    if shutil.which("npm") is None:
        pytest.skip(f"npm is not installed, and {PACKAGE} is an npm package")
    archive.parent.mkdir(parents=True, exist_ok=True)
    command = ["npm", "pack", PACKAGE, "--silent"]
    try:
        done = subprocess.run(command, cwd=archive.parent, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not fetch {PACKAGE} within two minutes")
    if done.returncode != 0 or not archive.exists():
        pytest.skip(f"npm could not fetch {PACKAGE}: {done.stderr.strip().splitlines()[-1:]}")
