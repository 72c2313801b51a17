"""The team's label set: reading the YAML file, refusing what is wrong with it by line, writing it back.

Knows nothing of prompts or models. Every error is one sentence that names file and line and says what to change.
"""

import difflib
import hashlib
import json
import unicodedata
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import yaml

from bot.types import Label, LabelSet

MAX_FILE_BYTES: Final = 1_000_000
MAX_LABELS: Final = 1_000
MAX_DEPTH: Final = 8
MAX_NAME_CHARS: Final = 120
MAX_TEXT_CHARS: Final = 4_000
LABEL_KEYS: Final = ("name", "description", "macro", "queue", "priority", "escalate")
TOP_KEYS: Final = ("name", "labels")

_STR: Final = "tag:yaml.org,2002:str"
_NULL: Final = "tag:yaml.org,2002:null"
_BOOL: Final = "tag:yaml.org,2002:bool"
_BIDI: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_KINDS: Final = {
    _BOOL: "a yes/no value",
    "tag:yaml.org,2002:int": "a number",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:timestamp": "a date",
    _NULL: "nothing",
}


class LabelSetError(Exception):
    """A label set file that cannot be used. The message is one sentence: file, line, what to change."""


def load_label_set(path: Path) -> LabelSet:
    """Read a label set file. Raises LabelSetError."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise LabelSetError(f"{path} is larger than {MAX_FILE_BYTES // 1000} kB: give a label set file")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise LabelSetError(f"there is no label set file {path}: correct the path") from None
    except OSError as error:
        raise LabelSetError(f"{path} cannot be read ({error.strerror}): give a readable label set file") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise LabelSetError(f"{path}, line {line}: not UTF-8 text; save the file as UTF-8") from None
    return parse_label_set(text, source=str(path))


def parse_label_set(yaml_text: str, *, source: str) -> LabelSet:
    """Parse a label set; `source` names it in errors. Raises LabelSetError."""
    if len(yaml_text.encode("utf-8", errors="surrogatepass")) > MAX_FILE_BYTES:
        raise LabelSetError(f"{source} is larger than {MAX_FILE_BYTES // 1000} kB: give a label set file")
    return _Parser(source).parse(yaml_text)


def render_label_set(label_set: LabelSet) -> str:
    """Write a label set as YAML that parses back to an equal one."""
    labels = [{key: value for key, value in asdict(label).items() if value} for label in label_set.labels]
    content = {"name": label_set.name, "labels": labels}
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120))


def compute_version(labels: tuple[Label, ...], *, name: str) -> str:
    """Return the first 12 hex digits of the SHA-256 over the canonical JSON of a label set's content."""
    content = {"name": name, "labels": [asdict(label) for label in labels]}
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


class _RefusedError(Exception):
    """Raised inside the YAML loader, where the file's name is not known."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line


class _StrictLoader(yaml.SafeLoader):
    """Composes nodes of plain YAML. Aliases and deep nesting are refused, as a small file could stand for gigabytes."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise _RefusedError(line, f"the alias '*{event.anchor}' is not allowed; write the value out")
        if self._depth >= MAX_DEPTH:
            raise _RefusedError(line, f"nested deeper than {MAX_DEPTH} levels; a label set is a list of labels")
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


class _Parser:
    """Turns nodes into a LabelSet; holds nothing but the file's name for the errors."""

    def __init__(self, source: str) -> None:
        self._source = source

    def parse(self, text: str) -> LabelSet:
        root = self._compose(text)
        if not isinstance(root, yaml.MappingNode):
            raise self._error(1, "the file must hold `name:` and `labels:`")
        fields = self._read_mapping(root, TOP_KEYS, what="the label set")
        if "labels" not in fields:
            raise self._error(root, "`labels:` is missing; list the labels under it")
        name = self._read_line(fields["name"], key="name") if "name" in fields else "labels"
        labels = self._read_labels(fields["labels"])
        return LabelSet(name=name, version=compute_version(labels, name=name), labels=labels)

    def _compose(self, text: str) -> yaml.Node:
        try:
            loader = _StrictLoader(text)
            node = loader.get_single_node()
        except _RefusedError as error:
            raise self._error(error.line, str(error)) from None
        except yaml.reader.ReaderError as error:
            line = text[: error.position].count("\n") + 1
            code = error.character if isinstance(error.character, int) else ord(error.character)
            raise self._error(line, f"the character U+{code:04X} is not allowed; remove it") from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = " ".join(str(error.problem or error.context).split())
            raise self._error(1 if mark is None else mark.line + 1, f"not valid YAML, {problem}; correct it") from None
        if node is None:
            raise self._error(1, "the file is empty; give `name:` and `labels:`")
        return node

    def _read_labels(self, node: yaml.Node) -> tuple[Label, ...]:
        if not isinstance(node, yaml.SequenceNode):
            raise self._error(node, "`labels:` must be a list; begin each label with `- name:`")
        if len(node.value) > MAX_LABELS:
            raise self._error(node, f"{len(node.value)} labels are more than the {MAX_LABELS} allowed; merge or remove some")
        labels: list[Label] = []
        seen: dict[str, tuple[str, int]] = {}
        for item in node.value:
            label = self._read_label(item)
            key = unicodedata.normalize("NFKC", "".join(label.name.split())).casefold()
            line = item.start_mark.line + 1
            if key in seen:
                first, first_line = seen[key]
                same = "is there twice" if first == label.name else f"differs from '{first}' in case or spaces alone"
                raise self._error(line, f"the label '{label.name}' {same} (first in line {first_line}); rename or remove one")
            seen[key] = (label.name, line)
            labels.append(label)
        if len(labels) < 2:
            count = "no label" if not labels else "a single label"
            raise self._error(node, f"{count} leaves nothing to choose; give at least two")
        return tuple(labels)

    def _read_label(self, node: yaml.Node) -> Label:
        if isinstance(node, yaml.ScalarNode):
            return Label(name=self._read_line(node, key="name"))
        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, "a label must be a name or a mapping with `name:`")
        fields = self._read_mapping(node, LABEL_KEYS, what="a label")
        if "name" not in fields:
            raise self._error(node, "this label has no `name:`; add one")
        return Label(
            name=self._read_line(fields["name"], key="name"),
            description=" ".join(self._read_text(fields.get("description"), key="description").split()),
            macro=self._read_text(fields.get("macro"), key="macro") or None,
            queue=" ".join(self._read_text(fields.get("queue"), key="queue").split()) or None,
            priority=" ".join(self._read_text(fields.get("priority"), key="priority").split()) or None,
            escalate=self._read_bool(fields.get("escalate"), key="escalate"),
        )

    def _read_mapping(self, node: yaml.MappingNode, known: tuple[str, ...], *, what: str) -> dict[str, yaml.Node]:
        fields: dict[str, yaml.Node] = {}
        for key_node, value in node.value:
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else ""
            if key not in known:
                close = difflib.get_close_matches(key.lower(), known, n=1)
                hint = f"did you mean `{close[0]}`?" if close else f"use one of {', '.join(known)}"
                raise self._error(key_node, f"`{key[:40]}` is not a key of {what}; {hint}")
            if key in fields:
                raise self._error(key_node, f"`{key}` is given twice; remove one")
            fields[key] = value
        return fields

    def _read_line(self, node: yaml.Node, *, key: str) -> str:
        text = self._read_text(node, key=key)
        if "\n" in text:
            raise self._error(node, f"`{key}` has more than one line; write it in one")
        text = " ".join(text.split())
        if not text:
            raise self._error(node, f"`{key}` is empty; fill it in")
        if len(text) > MAX_NAME_CHARS:
            raise self._error(node, f"`{key}` is longer than {MAX_NAME_CHARS} characters; shorten it")
        return text

    def _read_text(self, node: yaml.Node | None, *, key: str) -> str:
        if node is None or (node.tag == _NULL and key != "name"):
            return ""
        if not isinstance(node, yaml.ScalarNode):
            raise self._error(node, f"`{key}` must be text, not a list or mapping")
        if node.tag != _STR:
            kind = _KINDS.get(node.tag, "something else")
            raise self._error(node, f"`{key}` must be text, but YAML reads {node.value!r} as {kind}; put it in quotes")
        text = str(node.value).strip()
        bad = next(
            (char for char in text if char in _BIDI or (char not in "\n\t" and unicodedata.category(char) in {"Cc", "Cs"})), None
        )
        if bad is not None:
            raise self._error(node, f"`{key}` holds the control character U+{ord(bad):04X}; remove it")
        if len(text) > MAX_TEXT_CHARS:
            raise self._error(node, f"`{key}` is longer than {MAX_TEXT_CHARS:,} characters; shorten it")
        return text

    def _read_bool(self, node: yaml.Node | None, *, key: str) -> bool:
        if node is None or node.tag == _NULL:
            return False
        if node.tag != _BOOL:
            raise self._error(node, f"`{key}` must be true or false")
        return str(node.value).lower() in {"true", "yes", "on"}

    def _error(self, where: yaml.Node | int, what: str) -> LabelSetError:
        line = where if isinstance(where, int) else where.start_mark.line + 1
        return LabelSetError(f"{self._source}, line {line}: {what}")
