"""Masking, checked on planted personal data: what goes in by the plugin contract must not be found in the database file.

The planted values are invented.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bot.app import App
from bot.types import SourceRef

PLANTED = (
    "Hello, this is Margaret Oduya, my card 4111 1111 1111 1111 was charged twice. Reach me at margaret.oduya@example.com.",
    "Hi team, Tomás Lindqvist here. My laptop will not start. Call +44 20 7946 0958, desk in 14 Harbour Lane, Leeds.",
    "password is Hunter2!orchid and the VPN says access denied for user toliver from 192.0.2.17",
    "Please refund to IBAN GB82 WEST 1234 5698 7654 32. Regards, Priya Raman",
)
VALUES = (
    "Margaret Oduya",
    "4111 1111 1111 1111",
    "margaret.oduya@example.com",
    "Tomás Lindqvist",
    "7946 0958",
    "Hunter2!orchid",
    "192.0.2.17",
    "GB82 WEST 1234 5698 7654 32",
    "Priya Raman",
)


_SEARCH = """
import json, pathlib, sys
content = b"".join(pathlib.Path(name).read_bytes() for name in sys.argv[1:])
print(sum(value.encode() in content for value in json.load(sys.stdin)))
"""


async def check_masking(app: App) -> dict[str, Any]:
    """Send the planted tickets in, then look for every value in the bytes of the database."""
    masked = 0
    for number, text in enumerate(PLANTED):
        await app.bot.classify(text, source=SourceRef("demo-privacy", str(number)))
        masked += len((await app.core.masker.mask_async(text)).spans)
    files = [Path(app.db_engine.url.database or "")]
    files += [path for path in files[0].parent.glob(files[0].name + "-*") if path.is_file()]
    n_found = await count_found(VALUES, files)
    return {"planted_values": len(VALUES), "spans_masked": masked, "found_in_database": n_found}


async def count_found(values: Sequence[str], files: Sequence[Path]) -> int:
    """Count the values that stand in the bytes of any of the files.

    In a process of its own: closing a database file drops every lock that this process holds on it, and SQLite relies on those.
    https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SEARCH, *map(str, files), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(json.dumps(list(values)).encode())
    return int(out)
