"""The forms of Slack: choosing a label, handing off, editing a reply or a summary. Pure functions.

Knows nothing of what a submission does.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from bot.plugin_api import LabelSet
from plugins.slack.payloads import Body, get_dict, get_str
from plugins.slack.text import cut

Block = dict[str, Any]
MAX_OPTIONS = 100
MAX_OPTION_CHARS = 75
MAX_INPUT_CHARS = 3000
MAX_WHY_CHARS = 300

TITLES: Mapping[str, str] = {"override": "Choose another label", "handoff": "Hand off", "edit": "Edit the reply"}


def build_plain(text: str) -> Block:
    """Return a plain text object."""
    return {"type": "plain_text", "text": text, "emoji": True}


def get_option_value(label: str) -> str:
    """Return what stands for a label in a menu: itself, or a digest where Slack's limit is shorter."""
    return label if len(label) <= MAX_OPTION_CHARS else "#" + hashlib.sha256(label.encode()).hexdigest()[:24]


def find_label(value: str, label_set: LabelSet) -> str | None:
    """Return the label that a menu's value stands for."""
    return next((name for name in label_set.names if get_option_value(name) == value), None)


def build_option(label: str, *, note: str = "") -> Block:
    """Return one entry of a menu."""
    return {"text": build_plain(cut(label, MAX_OPTION_CHARS - len(note)) + note), "value": get_option_value(label)}


def build_menu(
    action_id: str, labels: Sequence[str], *, placeholder: str, chosen: str | None = None, notes: Mapping[str, str] | None = None
) -> Block:
    """Return a menu of labels, each with its note behind; more than a hundred are put into groups, as Slack asks."""
    menu: Block = {"type": "static_select", "action_id": action_id, "placeholder": build_plain(placeholder)}
    known = notes or {}
    options = [build_option(label, note=known.get(label, "")) for label in labels]
    if len(options) <= MAX_OPTIONS:
        menu["options"] = options
    else:
        chunks = [options[start : start + MAX_OPTIONS] for start in range(0, len(options), MAX_OPTIONS)][:MAX_OPTIONS]
        menu["option_groups"] = [
            {"label": build_plain(cut(f"{chunk[0]['value']} …", MAX_OPTION_CHARS)), "options": chunk} for chunk in chunks
        ]
    if chosen is not None and chosen in labels:
        menu["initial_option"] = build_option(chosen, note=known.get(chosen, ""))
    return menu


def _build_input(name: str, label: str, *, element: Block, is_optional: bool = False) -> Block:
    return {"type": "input", "block_id": name, "optional": is_optional, "label": build_plain(label), "element": element}


def _build_why() -> Block:
    element = {"type": "plain_text_input", "action_id": "why", "max_length": MAX_WHY_CHARS}
    return _build_input("why", "Why? (one line, optional)", element=element, is_optional=True)


def _build_view(callback_id: str, title: str, *, submit: str, blocks: Sequence[Block], meta: Mapping[str, Any]) -> Block:
    return {
        "type": "modal",
        "callback_id": callback_id,
        "title": build_plain(title),
        "submit": build_plain(submit),
        "close": build_plain("Cancel"),
        "private_metadata": json.dumps(dict(meta)),
        "blocks": list(blocks),
    }


def build_decision_view(
    kind: str, labels: Sequence[str], *, meta: Mapping[str, Any], chosen: str | None = None, reply: str = ""
) -> Block:
    """Return the form behind Override, Edit and Hand off; `meta` comes back with it."""
    blocks: list[Block] = []
    if kind in {"override", "edit"}:
        menu = build_menu("label", labels, placeholder="Choose a label", chosen=chosen)
        blocks.append(_build_input("label", "Label", element=menu))
    if kind == "edit":
        element: Block = {"type": "plain_text_input", "action_id": "reply", "multiline": True, "max_length": MAX_INPUT_CHARS}
        if reply:
            element["initial_value"] = reply[:MAX_INPUT_CHARS]
        blocks.append(_build_input("reply", "Reply, posted to the thread for copying", element=element, is_optional=True))
    blocks.append(_build_why())
    submit = "Hand off" if kind == "handoff" else "Save"
    return _build_view("triage_decide", TITLES[kind], submit=submit, blocks=blocks, meta={**meta, "kind": kind})


def build_summary_view(text: str, *, meta: Mapping[str, Any]) -> Block:
    """Return the form that edits a summary."""
    element: Block = {"type": "plain_text_input", "action_id": "text", "multiline": True, "max_length": MAX_INPUT_CHARS}
    if text:
        element["initial_value"] = text[:MAX_INPUT_CHARS]
    blocks = [_build_input("text", "Summary", element=element)]
    return _build_view("summary_edit", "Edit the summary", submit="Save", blocks=blocks, meta=meta)


def read_input(body: Body, name: str) -> str:
    """Return what was written into a field of a form, or the value that was chosen; empty where nothing was."""
    state = get_dict(body, "view", "state", "values", name, name)
    return (get_str(state, "value") or get_str(state, "selected_option", "value")).strip()
