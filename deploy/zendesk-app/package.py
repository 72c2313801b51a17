"""Packs the sidebar app for one bot: `python deploy/zendesk-app/package.py --domain understudy.example.com [--out FILE]`.

Writes the bot's host into the manifest: Zendesk's proxy uses the shared secret for requests to that host alone. Needs nothing installed.
"""

import argparse
import json
import re
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
FOLDERS = ("assets", "translations")
EPOCH = (2020, 1, 1, 0, 0, 0)  # the same files make the same package
HOST = re.compile(r"(\*\.)?([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def build_manifest(domain: str) -> str:
    """Return the manifest for a bot on that host; an empty one keeps the example's."""
    manifest = json.loads((ROOT / "manifest.json").read_text(encoding="utf-8"))
    if domain:
        manifest["domainWhitelist"] = [domain]
    return json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"


def find_files() -> list[Path]:
    """Return what goes into the package beside the manifest."""
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file())


def write_package(out: Path, domain: str) -> None:
    """Write the zip file."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as package:
        contents = [("manifest.json", build_manifest(domain).encode())]
        contents += [(path.relative_to(ROOT).as_posix(), path.read_bytes()) for path in find_files()]
        for name, content in contents:
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            package.writestr(entry, content)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description="Pack the Zendesk sidebar app.")
    parser.add_argument("--domain", default="", help="host of the bot, such as understudy.example.com")
    parser.add_argument("--out", type=Path, default=Path("dist/zendesk-app.zip"), help="file to write")
    given = parser.parse_args(arguments)
    domain = given.domain.strip().lower()
    if domain and HOST.fullmatch(domain) is None:
        sys.stderr.write(f"{given.domain!r} is no host name: give it without https:// and without a path\n")
        return 2
    write_package(given.out, domain)
    sys.stdout.write(f"wrote {given.out}\n")
    if not domain:
        example = json.loads((ROOT / "manifest.json").read_text(encoding="utf-8"))["domainWhitelist"][0]
        sys.stdout.write(f"it may only talk to {example}: for your own bot run make zendesk-app DOMAIN=its.host.name\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
