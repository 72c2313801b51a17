"""Checks the tokens with which Zendesk's proxy signs requests of the sidebar app: JSON Web Tokens, HS256, one request each.

Knows neither routes nor tickets. What the token says of agent and ticket was filled in by the app's page: see docs/zendesk-app.md.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from bot.plugin_api import Store
from plugins.helpdesk.client import Clock
from plugins.helpdesk.signing import SignatureError
from plugins.zendesk.settings import ZendeskSettings

MIN_SECRET_CHARS = 32
LEEWAY_S = 60
"""By how much the proxy's clock may differ from ours."""
MAX_LIFETIME_S = 300
"""The app asks for a minute; a token that claims to live longer than this was not made by it."""
MAX_TOKEN_CHARS = 4096
MAX_TIME = 1e12
_PART = r"([\w-]+)"
_BEARER = re.compile(rf"Bearer ({_PART}\.{_PART})\.{_PART}", flags=re.ASCII)


@dataclass(frozen=True)
class Caller:
    """Who asks, and about which ticket: Zendesk's own numbers."""

    agent_id: str
    ticket_id: str


class TokenChecker:
    """Lets a token through once. `issuer` is the subdomain of the account; `store` remembers tokens that were used."""

    def __init__(self, settings: ZendeskSettings, store: Store, clock: Clock, *, issuer: str) -> None:
        self._settings, self._store, self._clock, self._issuer = settings, store, clock, issuer

    async def check(self, authorization: str) -> Caller:
        """Return who asks. Raises SignatureError."""
        claims = read_token(authorization, self._get_secret())
        if not self._issuer:
            raise SignatureError("the bot does not know its account: set ZENDESK_SUBDOMAIN")
        if claims.get("iss") != self._issuer:
            raise SignatureError("the token comes from another account: check ZENDESK_SUBDOMAIN and where the app is installed")
        left_s = check_times(claims, self._clock.now())
        token_id = _get_text(claims, "jti", r"[\w-]{16,64}")
        caller = Caller(_get_text(claims, "sub", r"\d{1,20}"), _get_text(claims, "ticket", r"\d{1,20}"))
        if not await self._store.add(f"token/{token_id}", {}, expires_in_s=left_s + 2 * LEEWAY_S):
            raise SignatureError("the token was used before: each request needs one of its own")
        return caller

    def _get_secret(self) -> str:
        secret = self._settings.app_secret.get_secret_value() if self._settings.app_secret is not None else ""
        if not secret:
            raise SignatureError("no shared secret is set here: set ZENDESK_APP_SECRET")
        if len(secret) < MIN_SECRET_CHARS:
            raise SignatureError(f"ZENDESK_APP_SECRET is too short: take {MIN_SECRET_CHARS} characters or more")
        return secret


def sign_token(claims: Mapping[str, Any], secret: str) -> str:
    """Return a token as Zendesk's proxy makes it."""
    parts = [_encode(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "HS256"}, dict(claims))]
    signed = ".".join(parts)
    return f"{signed}.{_encode(_digest(signed, secret))}"


def read_token(authorization: str, secret: str) -> Mapping[str, Any]:
    """Return the claims of a token whose signature fits. Raises SignatureError. The header's algorithm is checked, never followed."""
    found = _BEARER.fullmatch(authorization) if len(authorization) <= MAX_TOKEN_CHARS else None
    if found is None:
        raise SignatureError("the request is not signed: it needs a bearer token of Zendesk's proxy")
    signed, header, claims, signature = found.groups()
    if not hmac.compare_digest(_encode(_digest(signed, secret)).encode(), signature.encode()):
        raise SignatureError("the signature does not fit: the app's shared secret and ZENDESK_APP_SECRET differ")
    if _decode(header).get("alg") != "HS256":
        raise SignatureError("the token names another algorithm than HS256")
    return _decode(claims)


def check_times(claims: Mapping[str, Any], now: datetime) -> float:
    """Return how many seconds a token still lives, at least 0. Raises SignatureError."""
    at = now.timestamp()
    expires_at, not_before = _get_time(claims, "exp"), _get_time(claims, "nbf", 0)
    left_s = expires_at - at
    if left_s < -LEEWAY_S or not_before > at + LEEWAY_S:
        raise SignatureError("the token has expired, or the clocks differ")
    if left_s > MAX_LIFETIME_S + LEEWAY_S:
        raise SignatureError(f"the token lives longer than {MAX_LIFETIME_S} seconds")
    return max(0.0, left_s)


def find_issuer(subdomain: str, base_url: str) -> str:
    """Return the account's subdomain: as set, else out of an address such as https://example.zendesk.com; empty where neither tells."""
    host = urlsplit(base_url).hostname or ""
    return subdomain or (host.partition(".")[0] if host.endswith(".zendesk.com") else "")


def _digest(signed: str, secret: str) -> bytes:
    return hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def _decode(part: str) -> Mapping[str, Any]:
    try:
        content = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except ValueError:
        raise SignatureError("the token cannot be read") from None
    if not isinstance(content, dict):
        raise SignatureError("the token cannot be read")
    return content


def _get_time(claims: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value = claims.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MAX_TIME:
        raise SignatureError(f"the token's claim '{name}' is no time")
    return float(value)


def _get_text(claims: Mapping[str, Any], name: str, pattern: str) -> str:
    value = str(claims.get(name, ""))
    if re.fullmatch(pattern, value, flags=re.ASCII) is None:
        raise SignatureError(f"the token lacks the claim '{name}'")
    return value
