"""Forms from the browser to values: reading with limits, checking, one sentence where something is missing.

Knows nothing of pages; what is checked here is what the core need not see.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request

from bot.plugin_api import BotError, FeedbackKind, TaskKind

MAX_BODY_BYTES = 512 * 1024
MAX_SUBJECT_CHARS, MAX_TICKET_CHARS, MAX_SUMMARY_CHARS, MAX_REASON_CHARS = 300, 20_000, 8_000, 300
_MAX_KEY_CHARS = 80


class FormError(BotError):
    """Something a person entered that has to be changed."""


@dataclass(frozen=True)
class DecisionForm:
    """A click on a card, as far as the form knows it."""

    kind: FeedbackKind
    inference_id: int
    value: str | None
    reason: str | None
    idempotency_key: str
    stamp: str


@dataclass(frozen=True)
class TicketForm:
    """A ticket pasted in to try it."""

    subject: str
    text: str
    key: str


async def read_form(request: Request) -> Mapping[str, str]:
    """Return the text fields of a posted form. Raises FormError for one that is too long or no form at all."""
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
        raise FormError(f"The form is longer than the {MAX_BODY_BYTES // 1024} kB that are taken; shorten the text.")
    kind = request.headers.get("content-type", "").partition(";")[0]
    if kind not in {"application/x-www-form-urlencoded", "multipart/form-data"}:
        raise FormError("The console takes forms alone; send application/x-www-form-urlencoded.")
    try:
        form = await request.form(max_files=0, max_fields=40)
    except HTTPException:
        raise FormError("The form could not be read; go back, reload the page and try again.") from None
    return {name: value for name, value in form.items() if isinstance(value, str)}


def parse_decision(form: Mapping[str, str]) -> DecisionForm:
    """Return what was decided on which inference."""
    try:
        kind = FeedbackKind(form.get("kind", ""))
    except ValueError:
        raise FormError("The form does not say what was decided; go back, reload the page and try again.") from None
    value: str | None = None
    if kind is FeedbackKind.OVERRIDE:
        value = form.get("label", "").strip()
        if not value:
            raise FormError("Choose a label first, then save.")
    if kind is FeedbackKind.EDIT:
        value = parse_text(form, "text", name="summary", limit=MAX_SUMMARY_CHARS)
    return DecisionForm(
        kind=kind,
        inference_id=parse_id(form, "inference_id"),
        value=value,
        reason=parse_text(form, "reason", name="reason", limit=MAX_REASON_CHARS, is_optional=True) or None,
        idempotency_key=parse_key(form),
        stamp=form.get("stamp", ""),
    )


def parse_ticket(form: Mapping[str, str]) -> TicketForm:
    """Return the pasted ticket."""
    return TicketForm(
        subject=parse_text(form, "subject", name="subject", limit=MAX_SUBJECT_CHARS, is_optional=True),
        text=parse_text(form, "text", name="text", limit=MAX_TICKET_CHARS),
        key=parse_key(form),
    )


def parse_reason(form: Mapping[str, str]) -> str:
    """Return the reason a manager must give."""
    return parse_text(form, "reason", name="reason", limit=MAX_REASON_CHARS)


def parse_task(form: Mapping[str, str]) -> TaskKind:
    """Return the task a button stands for."""
    try:
        return TaskKind(form.get("task", ""))
    except ValueError:
        raise FormError("The form names no known task; go back, reload the page and try again.") from None


def parse_text(form: Mapping[str, str], field: str, *, name: str, limit: int, is_optional: bool = False) -> str:
    """Return a text field without surrounding space."""
    text = form.get(field, "").replace("\r\n", "\n").replace("\x00", "").strip()
    if not text and not is_optional:
        raise FormError(f"The {name} is empty; write a line and try again.")
    if len(text) > limit:
        raise FormError(f"The {name} has {len(text):,} characters, {limit:,} are taken; shorten it.")
    return text


def parse_id(form: Mapping[str, str], field: str) -> int:
    """Return a positive number from a hidden field."""
    raw = form.get(field, "")
    if not raw.isdecimal() or len(raw) > 18:
        raise FormError("The form is incomplete; go back, reload the page and try again.")
    return int(raw)


def parse_key(form: Mapping[str, str]) -> str:
    """Return the key that names this form, so that a double click counts once."""
    key = form.get("idempotency_key", "")
    if not key or len(key) > _MAX_KEY_CHARS or not key.replace("-", "").isalnum():
        raise FormError("The form is incomplete; go back, reload the page and try again.")
    return key
