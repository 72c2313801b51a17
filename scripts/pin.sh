#!/usr/bin/env bash
# Writes constraints.txt from what .venv holds, limited to what pyproject.toml asks for. Run it after a dependency has changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec .venv/bin/python scripts/pin.py
