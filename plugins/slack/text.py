"""Slack's text and plain text: what people wrote for the model, what the model said for Slack, and numbers in words.

Pure functions; knows nothing of blocks or requests.
"""

import re
from collections.abc import Mapping
from typing import Any

# Slack escapes what people type, but not in commands: a bracket that begins none of its references stays what it is.
_MARKUP = re.compile(r"<([@#!][^<>\s][^<>\n]*|[a-z][a-z0-9+.-]*:[^<>\s|]+(?:\|[^<>\n]*)?)>")
_LEADING_MENTION = re.compile(r"\s*<@([A-Z0-9]+)(?:\|[^>]*)?>[\s,:]*(?:<@[A-Z0-9]+(?:\|[^>]*)?>[\s,:]*)*")


def escape(text: str) -> str:
    """Make text safe for mrkdwn: no mention, channel or link can arise from it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def to_sentence(error: Exception) -> str:
    """Return what an error says as a sentence for mrkdwn."""
    text = escape(str(error).strip())
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


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


def split_mention(text: str) -> tuple[str, str]:
    """Return who is mentioned at the beginning of a message (empty for nobody), and what is said after that."""
    match = _LEADING_MENTION.match(text)
    if match is None:
        return "", to_plain(text).strip()
    return match.group(1), to_plain(text[match.end() :]).strip()


def read_text(message: Mapping[str, Any]) -> str:
    """Return a message's words as plain text; where it has none of its own, those of its blocks, attachments or forwarded mail."""
    if message.get("subtype") == "tombstone":
        return ""  # Slack's words in place of a deleted message's
    own = message.get("text")
    if isinstance(own, str) and own.strip():
        return to_plain(own).strip()
    parts = _read_blocks(message.get("blocks"))
    for attachment in _get_dicts(message.get("attachments")):
        parts += [str(attachment[name]) for name in ("pretext", "title", "text") if attachment.get(name)]
    for file in _get_dicts(message.get("files")):
        if file.get("mode") == "email" or file.get("filetype") == "email":
            parts += [str(file[name]) for name in ("subject", "plain_text") if file.get(name)]
    return to_plain("\n".join(parts)).strip()


def _get_dicts(found: Any) -> list[Mapping[str, Any]]:
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _read_blocks(blocks: Any) -> list[str]:
    """Return the words of an app's blocks: headings, sections with their fields, small print. What people type has a text of its own."""
    parts = []
    for block in _get_dicts(blocks):
        words = [block.get("text"), *_get_dicts(block.get("fields"))]
        words += _get_dicts(block.get("elements")) if block.get("type") == "context" else []
        parts += [str(one["text"]) for one in words if isinstance(one, Mapping) and isinstance(one.get("text"), str)]
    return parts


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
    return f"{words}, {say_share(probability)}"


def say_share(share: float) -> str:
    """Say a number between 0 and 1 in percent."""
    return f"{share:.0%}".replace("%", " %")
