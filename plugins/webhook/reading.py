"""Reads whatever JSON a helpdesk posts by the paths in the settings, into one plain message.

Pure; knows no HTTP and no storage.
"""

from collections.abc import Mapping
from typing import Any

from plugins.helpdesk.values import Author, TicketState
from plugins.webhook.settings import DEFAULT_PATHS, WebhookSettings

LABEL = "label"
"""The name of the one field there is."""
MAX_MESSAGES = 200
_STATES = {
    "open": "open", "new": "open", "pending": "open", "waiting": "open", "reopened": "open",
    "solved": "solved", "resolved": "solved", "done": "solved",
    "closed": "closed", "merged": "merged", "deleted": "deleted",
}  # fmt: skip
_KINDS = {
    "person": Author.PERSON, "agent": Author.PERSON, "user": Author.PERSON, "staff": Author.PERSON,
    "customer": Author.CUSTOMER, "requester": Author.CUSTOMER, "end-user": Author.CUSTOMER,
    "bulk": Author.BULK, "import": Author.BULK,
}  # fmt: skip
_CUSTOMERS = frozenset({"customer", "requester", "end-user", "user", "client"})


class ReadingError(Exception):
    """The JSON has no ticket's id at the path where it should stand."""


def follow(node: object, path: str) -> object:
    """Return what stands at a dotted path; numbers index lists. None where there is nothing."""
    for part in path.split("."):
        if isinstance(node, Mapping):
            node = node.get(part)
        elif isinstance(node, list) and part.isdecimal() and int(part) < len(node):
            node = node[int(part)]
        else:
            return None
    return node


def _to_text(value: object) -> str:
    return "" if value is None or isinstance(value, (Mapping, list)) else str(value)


class Reader:
    """Turns posted JSON into messages."""

    def __init__(self, settings: WebhookSettings) -> None:
        self._paths = DEFAULT_PATHS | settings.paths
        self._states = {word.casefold(): state for word, state in (_STATES | settings.statuses).items()}
        self._kinds = {word.casefold(): kind for word, kind in _KINDS.items()}
        self._kinds |= {word.casefold(): Author(kind) for word, kind in settings.actor_kinds.items()}

    def read(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the message: what the plugin uses and nothing else. Raises ReadingError."""

        def get(name: str) -> str:
            return _to_text(follow(body, self._paths[name])).strip()

        if not get("ticket_id"):
            raise ReadingError(f"there is no ticket id at '{self._paths['ticket_id']}': correct the JSON or the setting paths")
        message: dict[str, Any] = {
            name: get(name) for name in ("ticket_id", "event_id", "at", "actor", "macro", "subject", "scope", "customer")
        }
        message["turns"] = self._read_turns(body)
        # Who is not known to be a person of the support team is taken for a rule: what it changes teaches nothing.
        message["author"] = self._kinds.get(get("actor_kind").casefold(), Author.RULE).value
        status = get("status").casefold()
        message["state"] = self._states.get(status, TicketState.OPEN.value) if status else None
        label = follow(body, self._paths["label"])
        message["label"] = None if label is None else _to_text(label)
        return message

    def _read_turns(self, body: Mapping[str, Any]) -> list[list[str]]:
        found = follow(body, self._paths["messages"])
        turns: list[list[str]] = []
        for item in found[-MAX_MESSAGES:] if isinstance(found, list) else ():
            text = _to_text(follow(item, self._paths["message_text"])).strip()
            speaker = _to_text(follow(item, self._paths["message_speaker"])).strip().casefold()
            if text:
                turns.append(["customer" if speaker in _CUSTOMERS or not speaker else "agent", text])
        text = _to_text(follow(body, self._paths["text"])).strip()
        return turns or ([["customer", text]] if text else [])
