"""Slack's text and plain text: what people wrote for the model, what the model said for Slack, and numbers in words.

Pure functions; knows nothing of blocks or requests.
"""

import re
from collections.abc import Mapping
from typing import Any

# Slack escapes what people type, but not in commands: a bracket that begins none of its references stays what it is.
_MARKUP = re.compile(r"<([@#!][^<>\s][^<>\n]*|[a-z][a-z0-9+.-]*:[^<>\s|]+(?:\|[^<>\n]*)?)>")
_LEADING_MENTION = re.compile(r"^\s*(?:<@[A-Z0-9]+(?:\|[^>]*)?>[\s,:]*)+")


def escape(text: str) -> str:
    """Make text safe for mrkdwn: no mention, channel or link can arise from it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def cut(text: str, limit: int) -> str:
    """Shorten to `limit` characters, with a mark where something is missing."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def cut_escaped(text: str, limit: int) -> str:
    """Escape and shorten to `limit` characters, never within an escape."""
    kept = cut(text, limit)
    while len(escape(kept)) > limit:
        kept = cut(kept, len(kept) - max(1, (len(escape(kept)) - limit) // 5))
    return escape(kept)


def to_plain(text: str) -> str:
    """Turn Slack's markup into what a person reads: names for mentions, addresses for links, real ampersands."""
    plain = _MARKUP.sub(lambda match: _render_reference(match.group(1)), text)
    return plain.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _render_reference(inner: str) -> str:
    target, _, label = inner.partition("|")
    if target.startswith("@"):
        return f"@{label.removeprefix('@')}" if label else target
    if target.startswith("#"):
        return f"#{label.removeprefix('#')}" if label else target
    if target.startswith("!"):
        name = label or target[1:].partition("^")[0]
        return name if name.startswith("@") or label else f"@{name}"
    address = target.removeprefix("mailto:").removeprefix("tel:")
    return address if not label or label in address else f"{label} ({address})"


def strip_mention(text: str) -> str:
    """Take the mention off the beginning of a message to the bot."""
    return _LEADING_MENTION.sub("", text)


def read_text(message: Mapping[str, Any]) -> str:
    """Return a message's words as plain text; of an app's message, those of its attachments where it has no own."""
    own = message.get("text")
    if isinstance(own, str) and own.strip():
        return to_plain(own).strip()
    parts = []
    attachments = message.get("attachments")
    for attachment in attachments if isinstance(attachments, list) else []:
        if isinstance(attachment, dict):
            parts += [str(attachment[name]) for name in ("pretext", "title", "text") if attachment.get(name)]
    return to_plain("\n".join(parts)).strip()


def describe_confidence(probability: float, *, low: float) -> str:
    """Say a probability in words and as a number."""
    if probability < low:
        words = "not sure"
    elif probability >= 0.9:
        words = "very sure"
    elif probability >= 0.75:
        words = "fairly sure"
    else:
        words = "somewhat sure"
    return f"{words}, {probability:.0%}".replace("%", " %")
