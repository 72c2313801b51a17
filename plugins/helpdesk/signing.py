"""Checking signed webhooks and signing our own: HMAC-SHA256, compared in constant time, inside a window of time.

Knows no header names and no body; each helpdesk says what it signs and how it writes the signature.
"""

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

from starlette.requests import Request

MAX_BODY_BYTES = 1_000_000


class SignatureError(Exception):
    """A webhook that is not accepted. The message holds nothing that was sent."""


class BodyTooLargeError(SignatureError):
    """A webhook with more bytes than any helpdesk sends."""


def sign_base64(secret: str, message: bytes) -> str:
    """Return the signature in base64."""
    return base64.b64encode(hmac.new(secret.encode(), message, hashlib.sha256).digest()).decode("ascii")


def sign_hex(secret: str, message: bytes) -> str:
    """Return the signature in hexadecimal."""
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def check_signature(given: str, expected: str) -> None:
    """Compare in constant time. Raises SignatureError."""
    if not hmac.compare_digest(given.strip().encode(), expected.encode()):
        raise SignatureError("the signature does not fit: check the signing secret on both sides")


def parse_time(text: str) -> datetime:
    """Return a time given in ISO 8601 (any number of decimals) or as seconds since 1970. Raises SignatureError."""
    text = text.strip()
    try:
        if text.isdecimal():
            return datetime.fromtimestamp(int(text), UTC)
        at = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        raise SignatureError("the time of signing cannot be read") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def check_window(signed_at: datetime, now: datetime, *, tolerance_s: float) -> None:
    """Refuse what was signed too long ago, or in the future. Raises SignatureError."""
    if abs(now - signed_at) > timedelta(seconds=tolerance_s):
        raise SignatureError("the webhook was signed too long ago, or the clocks differ")


async def read_body(request: Request, *, limit: int = MAX_BODY_BYTES) -> bytes:
    """Return the raw body, reading no more than `limit` bytes. Raises BodyTooLargeError."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise BodyTooLargeError(f"the body has more than {limit} bytes")
        parts.append(part)
    return b"".join(parts)
