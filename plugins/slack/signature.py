"""Checks that a request comes from Slack: its signature, in constant time, and its age.

Knows nothing of what the request says, and logs nothing.
"""

import hashlib
import hmac

MAX_AGE_S = 300


def sign(secret: str, *, timestamp: str, body: bytes) -> str:
    """Return the value of `X-Slack-Signature` for a body."""
    signed = b"v0:" + timestamp.encode() + b":" + body
    return "v0=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def is_genuine(secret: str, *, timestamp: str, signature: str, body: bytes, now: float) -> bool:
    """Whether the body was signed with the secret within the last five minutes (or is as little ahead of our clock)."""
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16):
        return False
    wanted = sign(secret, timestamp=timestamp, body=body)
    is_equal = hmac.compare_digest(wanted.encode(), signature.encode("utf-8", "surrogateescape"))
    return is_equal and abs(now - int(timestamp)) <= MAX_AGE_S
