"""Signed posts to the helpdesk's callback, and the check of signed requests from it: the same scheme in both directions.

Signature: hex(HMAC-SHA256(secret, timestamp + "." + body)); a request without a body signs its path in the body's place.
"""

import json
from collections.abc import Mapping
from typing import Any

import httpx

from plugins.helpdesk.client import Clock, StaleError
from plugins.helpdesk.http import JsonApi
from plugins.helpdesk.signing import check_signature, check_window, parse_time, sign_hex
from plugins.webhook.settings import WebhookSettings

KEY_HEADER = "Idempotency-Key"


class Signer:
    """Signs and checks by the settings."""

    def __init__(self, settings: WebhookSettings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock

    def sign(self, content: bytes) -> dict[str, str]:
        """Return the headers of a request with that content."""
        timestamp = str(int(self._clock.now().timestamp()))
        signature = self._build(timestamp, content)
        return {self._settings.timestamp_header: timestamp, self._settings.signature_header: signature}

    def check(self, headers: Mapping[str, str], content: bytes) -> None:
        """Check signature and time. Raises SignatureError."""
        timestamp = headers.get(self._settings.timestamp_header, "")
        check_signature(headers.get(self._settings.signature_header, ""), self._build(timestamp, content))
        check_window(parse_time(timestamp), self._clock.now(), tolerance_s=self._settings.tolerance_s)

    def _build(self, timestamp: str, content: bytes) -> str:
        return sign_hex(self._settings.secret.get_secret_value(), timestamp.encode() + b"." + content)


class Callback:
    """The address that suggestions are posted to."""

    def __init__(
        self, settings: WebhookSettings, signer: Signer, clock: Clock, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._url, self._signer = settings.callback_url, signer
        self._api = JsonApi("", clock=clock, per_minute=settings.requests_per_minute, transport=transport)

    async def post(self, content: Mapping[str, Any], *, key: str) -> None:
        """Post JSON once or more; the key tells repetitions. An answer of 409 means that it is there already."""
        if not self._url:
            return
        body = json.dumps(content).encode()
        headers = self._signer.sign(body) | {KEY_HEADER: key, "Content-Type": "application/json"}
        try:
            await self._api.send("POST", self._url, content=body, headers=headers, expects_json=False)
        except StaleError:
            return

    async def close(self) -> None:
        """Close connections."""
        await self._api.close()
