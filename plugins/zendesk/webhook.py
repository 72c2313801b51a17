"""Zendesk's webhooks: how they are signed, and which ticket a body is about. Takes event webhooks and trigger webhooks.

Pure but for the clock; the route is `plugins.helpdesk.intake`.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from plugins.helpdesk.client import Clock
from plugins.helpdesk.signing import SignatureError, check_signature, check_window, parse_time, sign_base64
from plugins.zendesk.client import ZendeskClient
from plugins.zendesk.settings import ZendeskSettings

SIGNATURE_HEADER = "x-zendesk-webhook-signature"
TIME_HEADER = "x-zendesk-webhook-signature-timestamp"
INVOCATION_HEADER = "x-zendesk-webhook-invocation-id"
EVENT_PREFIX = "zen:event-type:"
CREATED = "ticket.created"
# Every event that may say something about a ticket's text, label, macro or state. All are handled alike: by looking at the ticket.
EVENTS = frozenset(
    {
        CREATED,
        "ticket.brand_changed",
        "ticket.comment_added",
        "ticket.comment_made_private",
        "ticket.comment_redacted",
        "ticket.custom_field_changed",
        "ticket.custom_status_changed",
        "ticket.description_changed",
        "ticket.form_changed",
        "ticket.group_assignment_changed",
        "ticket.merged",
        "ticket.permanently_deleted",
        "ticket.priority_changed",
        "ticket.requester_changed",
        "ticket.soft_deleted",
        "ticket.status_changed",
        "ticket.subject_changed",
        "ticket.tags_changed",
        "ticket.type_changed",
        "ticket.undeleted",
    }
)
MAX_DIGITS = 20
_TICKET_KEYS = ("ticket_id", "ticketID", "ticketId", "id")
_VERSION_KEYS = ("updated_at", "updatedAt")


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """Return Zendesk's signature: over the time as text, then the raw body."""
    return sign_base64(secret, timestamp.encode() + body)


def read_notice(message: Mapping[str, Any], body: bytes, headers: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the ticket's number and a key that a repetition has as well, or None for what says nothing about a ticket."""
    kind = str(message.get("type", ""))
    if kind.startswith(EVENT_PREFIX):
        if kind.removeprefix(EVENT_PREFIX) not in EVENTS:
            return None
        detail = message.get("detail")
        number = str(detail.get("id", "")) if isinstance(detail, Mapping) else ""
        number = number or str(message.get("subject", "")).rpartition(":")[2]
        key = f"event:{message['id']}" if message.get("id") else f"body:{hashlib.sha256(body).hexdigest()}"
        return (number, key) if _is_number(number) else None
    inner = message.get("ticket")
    ticket = inner if isinstance(inner, Mapping) else message
    number = next((str(ticket[name]) for name in _TICKET_KEYS if _is_number(str(ticket.get(name, "")))), "")
    if not number:
        return None
    # The delivery's own number is the same when it is repeated. Zendesk's time of a change is cut to the minute: it comes second.
    version = headers.get(INVOCATION_HEADER) or next((str(ticket[name]) for name in _VERSION_KEYS if ticket.get(name)), "")
    digest = hashlib.sha256(body).hexdigest()[:32]
    return number, f"trigger:{number}:{version or headers.get(TIME_HEADER, '')}:{digest}"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS


class ZendeskDialect:
    """Implements `plugins.helpdesk.intake.Dialect`."""

    def __init__(self, client: ZendeskClient, settings: ZendeskSettings, clock: Clock) -> None:
        self._client, self._settings, self._clock = client, settings, clock

    def check(self, headers: Mapping[str, str], body: bytes) -> None:
        """Check signature and time. Raises SignatureError."""
        if self._settings.webhook_secret is None:
            raise SignatureError("no signing secret is set here: set ZENDESK_WEBHOOK_SECRET")
        secret, timestamp = self._settings.webhook_secret.get_secret_value(), headers.get(TIME_HEADER, "")
        check_signature(headers.get(SIGNATURE_HEADER, ""), sign(secret, timestamp, body))
        check_window(parse_time(timestamp), self._clock.now(), tolerance_s=self._settings.webhook_tolerance_s)

    def read(self, message: Mapping[str, Any], body: bytes, headers: Mapping[str, str]) -> tuple[str, str] | None:
        """See `read_notice`; what tells of our own change is left out."""
        return None if self._is_own(message) else read_notice(message, body, headers)

    def _is_own(self, message: Mapping[str, Any]) -> bool:
        """Whether it tells of our own change. A ticket made with our token is somebody's ticket all the same."""
        detail = message.get("detail")
        actor = str(detail.get("actor_id", "")) if isinstance(detail, Mapping) else ""
        return bool(actor) and actor == self._client.known_own_id and message.get("type") != f"{EVENT_PREFIX}{CREATED}"
