"""How a ticket becomes the one text that a model reads, for serving and for training alike.

Knows nothing of prompts (see classification and summary) or of masking: it joins what it is given.
"""

from collections.abc import Sequence

from bot.types import Turn
from db.types import MaskedText

CUSTOMER_SPEAKERS = frozenset({"customer", "user", "requester", "client", "caller", "patient"})


def is_customer(speaker: str, *, first_speaker: str) -> bool:
    """Whether a turn is the customer's own: by role name, or because the conversation's first speaker asked for help."""
    name = speaker.strip().casefold()
    return name in CUSTOMER_SPEAKERS or name == first_speaker.strip().casefold()


def render_ticket(subject: str, text: str, turns: Sequence[Turn] = ()) -> MaskedText:
    """Join subject and what the customer wrote; all arguments are masked already. Turns, where given, take the place of `text`."""
    first = turns[0].speaker if turns else ""
    body = [turn.text for turn in turns if is_customer(turn.speaker, first_speaker=first)] if turns else [text]
    parts = [part.strip() for part in (subject, *body)]
    return MaskedText("\n".join(part for part in parts if part))
