"""Request Tracker as a plugin: client, desk, and the signed webhook that a scrip of Request Tracker posts.

Signature: hex(HMAC-SHA256(secret, timestamp + "." + body)) with the time in seconds; the scrip is in docs/helpdesks.md.
"""

from collections.abc import Mapping
from typing import Any

import httpx

from bot.plugin_api import Bot
from plugins.helpdesk.app import HelpdeskPlugin
from plugins.helpdesk.client import Clock, SystemClock
from plugins.helpdesk.desk import Desk
from plugins.helpdesk.intake import SignedWebhook
from plugins.helpdesk.signing import SignatureError, check_signature, check_window, parse_time, sign_hex
from plugins.request_tracker.client import RequestTrackerClient, build_api
from plugins.request_tracker.settings import RequestTrackerSettings

NAME = "request_tracker"
SIGNATURE_HEADER = "x-rt-signature"
TIME_HEADER = "x-rt-timestamp"


class RequestTrackerDialect:
    """Implements `plugins.helpdesk.intake.Dialect`."""

    def __init__(self, settings: RequestTrackerSettings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock

    def check(self, headers: Mapping[str, str], body: bytes) -> None:
        """Check signature and time. Raises SignatureError."""
        if self._settings.webhook_secret is None:
            raise SignatureError("no secret is set here: set UNDERSTUDY_REQUEST_TRACKER_WEBHOOK_SECRET")
        secret, timestamp = self._settings.webhook_secret.get_secret_value(), headers.get(TIME_HEADER, "")
        check_signature(headers.get(SIGNATURE_HEADER, ""), sign_hex(secret, timestamp.encode() + b"." + body))
        check_window(parse_time(timestamp), self._clock.now(), tolerance_s=self._settings.webhook_tolerance_s)

    def read(self, message: Mapping[str, Any], body: bytes, headers: Mapping[str, str]) -> tuple[str, str] | None:  # noqa: ARG002
        """Return the ticket and the transaction, which is told of once; our own are left out."""
        ticket, transaction = message.get("ticket"), str(message.get("transaction_id", ""))
        number = str(ticket.get("id", "")) if isinstance(ticket, Mapping) else ""
        is_own = message.get("creator") == self._settings.user and message.get("event") != "Create"
        if not number.isdecimal() or not transaction.isdecimal() or is_own:
            return None
        return number, f"transaction:{transaction}"


def build_plugin(
    bot: Bot,
    settings: RequestTrackerSettings,
    *,
    clock: Clock | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> HelpdeskPlugin:
    """Build the plugin; `transport` stands in for the network."""
    clock = clock or SystemClock()
    client = RequestTrackerClient(build_api(settings, clock, transport), settings, clock)
    desk = Desk(bot, client, settings, name=NAME, clock=clock, allowed={"queue": settings.queue_labels})
    webhook = SignedWebhook(desk, RequestTrackerDialect(settings, clock))
    return HelpdeskPlugin(desk, name=NAME, clock=clock, router=webhook.router, watch=settings)
