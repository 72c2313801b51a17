"""Words of the internal note: what is suggested, how sure, why, which macro, and a summary.

Knows no helpdesk's markup: the note is plain text. It holds nothing of other tickets.
"""

from bot.plugin_api import Classification, Summary

MARKER_PREFIX = "understudy:"


def build_marker(external_id: str, number: int | str) -> str:
    """Return the name of what is written, unique over tickets and by the `number` of its inference or decision, that ends its note."""
    return f"{MARKER_PREFIX}{external_id}:{number}"


def find_marker(text: str) -> str:
    """Return the marker a note ends with, or empty."""
    last = text.rstrip().rpartition("\n")[2].strip().strip("[]")
    return last if last.startswith(MARKER_PREFIX) else ""


def render_note(
    card: Classification, *, marker: str, macro: str = "", summary: Summary | None = None, is_label_written: bool = False
) -> str:
    """Return the note. Its texts are unmasked for those who may see the ticket."""
    lines = [f"Understudy suggests: {card.label} ({card.confidence:.0%})"]
    if is_label_written:
        lines.append("The field is filled in; change it where it is wrong, and the suggestion learns.")
    if card.reason:
        lines.append(f"Why: {card.reason}")
    others = [f"{other.label} ({other.probability:.0%})" for other in card.candidates if other.label != card.label][:2]
    if others:
        lines.append(f"Otherwise: {', '.join(others)}")
    if macro:
        lines.append(f"Macro: {macro}")
    if card.notice:
        lines.append(card.notice)
    if summary is not None and summary.text:
        title = "Summary (excerpt)" if summary.is_excerpt else "Summary"
        lines += ["", f"{title}:", summary.text]
    return "\n".join([*lines, "", f"[{marker}]"])
