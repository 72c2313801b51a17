"""How the fields of another system's export become a ticket: the mapping a team writes as YAML, and its application to one row.

Knows paths and values, not files or databases. An error names a field and what is wrong with it, never its content.
"""

import codecs
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from bot.errors import UserError
from bot.jsonl import replace_surrogates
from bot.types import LabelSet, PastTicket, Turn

_PART = re.compile(r"^(?P<name>[^\[\]]*)(?:\[(?:(?P<index>\d+)|(?P<key>[^=\]]+)=(?P<value>[^\]]*))\])?$")
_MAX_MAP_BYTES = 1_000_000
CUSTOMER, AGENT = "customer", "agent"


class RowError(Exception):
    """A row that cannot be imported. `field` is the field's path in the export; the message holds nothing of its content."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"the field '{field}' {reason}")
        self.field = field


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Fields = Annotated[tuple[str, ...], BeforeValidator(_as_list)]


class LabelMapping(BaseModel):
    """Where the label stands and what its values are called here. A list, such as tags, counts by its first value that is known."""

    model_config = ConfigDict(extra="forbid")

    field: str
    values: dict[str, str] = Field(default_factory=dict, description="Value in the export to label; others count as they are.")
    unknown: Literal["reject", "skip"] = "reject"


class TurnsMapping(BaseModel):
    """Where the messages of a conversation stand. `text` names fields of a message; the first that is filled counts."""

    model_config = ConfigDict(extra="forbid")

    field: str
    text: Fields
    speaker: str
    customer: str | None = Field(
        default=None, description="Field of the ticket whose value names the customer among the speakers."
    )
    only: str | None = Field(default=None, description="Field of a message that must be true, such as `public`.")


class ImportMap(BaseModel):
    """A whole mapping."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["csv", "jsonl", "zendesk"] | None = None
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    encoding: str = "utf-8-sig"
    id: str = "id"
    subject: str | None = None
    text: Fields = ()
    label: LabelMapping | None = None
    summary: Fields = ()
    created_at: str | None = None
    created_format: str | None = None
    group: str | None = None
    turns: TurnsMapping | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        filled = {**(ZENDESK if data.get("format") == "zendesk" else {}), **data}
        if isinstance(filled.get("label"), str):
            filled["label"] = {"field": filled["label"]}
        return filled

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, value: str) -> str:
        try:
            codecs.lookup(value)
        except LookupError:
            message = "there is no such encoding; common ones are utf-8-sig, cp1252 and latin-1"
            raise ValueError(message) from None
        return value

    @model_validator(mode="after")
    def _check(self) -> "ImportMap":
        if self.label is None and not self.summary:
            message = "it names neither label nor summary: there would be nothing to learn"
            raise ValueError(message)
        if not self.text and self.turns is None:
            message = "it names neither text nor turns: there would be nothing to read"
            raise ValueError(message)
        return self


ZENDESK: Mapping[str, Any] = {
    "subject": "subject",
    "text": ["description"],
    "created_at": "created_at",
    "group": "requester_id",
    "turns": {
        "field": "comments",
        "text": ["plain_body", "body"],
        "speaker": "author_id",
        "customer": "requester_id",
        "only": "public",
    },
}
"""What Zendesk calls things; a mapping may name anything otherwise."""


def load_import_map(path: Path, label_set: LabelSet) -> ImportMap:
    """Read a mapping. Raises UserError that names the file and what to change."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if len(text) > _MAX_MAP_BYTES:
            raise UserError(f"{path} is too large for a mapping: give the YAML file that maps fields")
        data = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"cannot read {path}: {reason}") from None
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise UserError(f"{path}{f', line {mark.line + 1}' if mark else ''}: this is not valid YAML") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: a mapping is expected, such as 'text: [subject, description]'")
    try:
        found = ImportMap.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: {place + ': ' if place else ''}{first['msg'].removeprefix('Value error, ')}") from None
    unknown = sorted({label for label in (found.label.values.values() if found.label else ()) if label_set.get(label) is None})
    if unknown:
        raise UserError(f"{path}: label.values names '{unknown[0]}', which is not in the label set '{label_set.name}'")
    return found


def apply_map(mapping: ImportMap, row: Mapping[str, Any], label_set: LabelSet) -> PastTicket | None:
    """Return the ticket a row describes, or None where its label is one to skip. Raises RowError."""
    label = _read_label(mapping.label, row, label_set) if mapping.label is not None else None
    if mapping.label is not None and label is None:
        return None
    turns = tuple(_read_turns(mapping.turns, row)) if mapping.turns is not None else ()
    subject = _read_text(row, mapping.subject) if mapping.subject else ""
    text = "\n\n".join(part for part in (_read_text(row, field) for field in mapping.text) if part)
    if not text and not turns:
        raise RowError(mapping.text[0] if mapping.text else mapping.turns.field if mapping.turns else "text", "is empty")
    summary = "\n\n".join(part for part in (_read_text(row, field) for field in mapping.summary) if part)
    if mapping.label is None and not summary:
        raise RowError(mapping.summary[0], "is empty")
    external_id = _read_text(row, mapping.id)
    if not external_id:
        raise RowError(mapping.id, "is empty, and every ticket needs an id so that a second import adds nothing")
    return PastTicket(
        external_id=external_id,
        subject=subject,
        text=text,
        turns=turns,
        label=label,
        summary=summary or None,
        created_at=_read_time(mapping, row),
        group=_read_text(row, mapping.group) if mapping.group else "",
    )


def get_value(row: object, path: str) -> Any:
    """Return what stands at a path such as `requester.email` or `custom_fields[id=77].value`; None where it leads nowhere."""
    if isinstance(row, Mapping) and path in row:  # a CSV column may be called anything
        return row[path]
    found: Any = row
    for part in path.split("."):
        matched = _PART.match(part)
        if matched is None:
            return None
        if matched["name"]:
            found = found.get(matched["name"]) if isinstance(found, Mapping) else None
        found = _pick(found, matched)
    return found


def _pick(found: Any, matched: re.Match[str]) -> Any:
    if matched["index"] is None and matched["key"] is None:
        return found
    if not isinstance(found, Sequence) or isinstance(found, str):
        return None
    if matched["index"] is not None:
        return found[int(matched["index"])] if int(matched["index"]) < len(found) else None
    return next((item for item in found if isinstance(item, Mapping) and str(item.get(matched["key"])) == matched["value"]), None)


def _read_text(row: Mapping[str, Any], path: str) -> str:
    value = get_value(row, path)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise RowError(path, "is not text")
    return replace_surrogates(str(value)).replace("\x00", "").strip()


def _read_label(mapping: LabelMapping, row: Mapping[str, Any], label_set: LabelSet) -> str | None:
    value = get_value(row, mapping.field)
    candidates = value if isinstance(value, list) else [value]
    names = [str(name).strip() for name in candidates if isinstance(name, str | int | float) and not isinstance(name, bool)]
    for name in names:
        label = mapping.values.get(name, name)
        if label_set.get(label) is not None:
            return label
    if mapping.unknown == "skip":
        return None
    if not any(names):
        raise RowError(mapping.field, "is empty")
    raise RowError(mapping.field, f"holds nothing that label.values or the label set '{label_set.name}' knows")


def _read_turns(mapping: TurnsMapping, row: Mapping[str, Any]) -> Iterator[Turn]:
    messages = get_value(row, mapping.field)
    if messages is None:
        return
    if not isinstance(messages, list):
        raise RowError(mapping.field, "is not a list of messages")
    customer = _read_text(row, mapping.customer) if mapping.customer else ""
    for place, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise RowError(f"{mapping.field}[{place}]", "is not a message with fields")
        if mapping.only is not None and get_value(message, mapping.only) is False:
            continue
        text = next((text for text in (_read_text(message, field) for field in mapping.text) if text), "")
        speaker = _read_text(message, mapping.speaker)
        if customer:
            speaker = CUSTOMER if speaker == customer else AGENT
        if text:
            yield Turn(speaker=speaker or AGENT, text=text)


def _read_time(mapping: ImportMap, row: Mapping[str, Any]) -> datetime | None:
    if mapping.created_at is None:
        return None
    text = _read_text(row, mapping.created_at)
    if not text:
        return None
    try:
        if mapping.created_format is not None:
            at = datetime.strptime(text, mapping.created_format)  # noqa: DTZ007  # made UTC below where it names no zone
        elif text.replace(".", "", 1).isdigit():
            at = datetime.fromtimestamp(float(text), tz=UTC)
        else:
            at = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        expected = mapping.created_format or "ISO 8601 or seconds since 1970"
        raise RowError(mapping.created_at, f"is not a time of the form {expected}") from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at
