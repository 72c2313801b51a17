"""Finds faults in Block Kit: what Slack's SDK checks, at every depth, the size limits, and what no library looks for."""

from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models import JsonObject
from slack_sdk.models.blocks import Block
from slack_sdk.models.views import View

MAX_MESSAGE_BLOCKS = 50
MAX_VIEW_BLOCKS = 100
LIMITS = {"block_id": 255, "action_id": 255, "value": 2000, "private_metadata": 3000, "callback_id": 255}
OPTION_LIMIT = 75
MAX_OPTIONS = 100


def find_message_faults(blocks):
    """Return everything Slack would refuse in a message's blocks."""
    faults = [] if 0 < len(blocks) <= MAX_MESSAGE_BLOCKS else [f"{len(blocks)} blocks in a message"]
    faults += [f"an input block in a message: {b.get('block_id')}" for b in blocks if b.get("type") == "input"]
    return faults + _find_block_faults(blocks)


def find_view_faults(view):
    """Return everything Slack would refuse in a modal or a home tab."""
    faults = [] if 0 < len(view["blocks"]) <= MAX_VIEW_BLOCKS else [f"{len(view['blocks'])} blocks in a view"]
    faults += _validate(View(**view))
    has_input = any(block.get("type") == "input" for block in view["blocks"])
    if view["type"] == "modal" and has_input and "submit" not in view:
        faults.append("a modal with inputs has no submit")
    if view["type"] == "modal":
        faults += [
            f"{part} is over 24 characters"
            for part in ("title", "submit", "close")
            if len(view.get(part, {}).get("text", "")) > 24
        ]
    faults += [f"{name} is too long" for name in ("private_metadata", "callback_id") if len(view.get(name, "")) > LIMITS[name]]
    return faults + _find_block_faults(view["blocks"])


def _find_block_faults(blocks):
    faults = []
    ids = [block["block_id"] for block in blocks if "block_id" in block]
    faults += [f"block_id {one} is there twice" for one in set(ids) if ids.count(one) > 1]
    focused = 0
    for block in blocks:
        parsed = Block.parse(block)
        faults += [f"unknown block {block.get('type')}"] if parsed is None else _validate(parsed)
        actions = [node["action_id"] for node in _walk(block) if "action_id" in node]
        faults += [f"action_id {one} is there twice in a block" for one in set(actions) if actions.count(one) > 1]
        for node in _walk(block):
            focused += node.get("focus_on_load") is True
            faults += _find_node_faults(node)
    return faults + (["two elements want the focus"] if focused > 1 else [])


def _find_node_faults(node):
    faults = [
        f"{name} is too long" for name, limit in LIMITS.items() if isinstance(node.get(name), str) and len(node[name]) > limit
    ]
    if node.get("type") in {"plain_text", "mrkdwn", "text"} and not str(node.get("text", "")).strip():
        faults.append("an empty text")
    if node.get("type") == "section" and not (node.get("text") or node.get("fields")):
        faults.append("a section without text and fields")
    if node.get("type") in {"context", "actions"} and not node.get("elements"):
        faults.append(f"{node['type']} without elements")
    if "select" in str(node.get("type")) and ("options" in node or "option_groups" in node):
        faults += _find_menu_faults(node)
    return faults


def _find_menu_faults(menu):
    groups = menu.get("option_groups", [{"options": menu.get("options", [])}])
    faults = [] if len(groups) <= MAX_OPTIONS else ["over 100 groups in a menu"]
    options = [option for group in groups for option in group["options"]]
    faults += [f"{len(group['options'])} options in a menu" for group in groups if not 0 < len(group["options"]) <= MAX_OPTIONS]
    values = [option["value"] for option in options]
    faults += [f"two options stand for {one}" for one in set(values) if values.count(one) > 1]
    faults += ["an option is too long" for o in options if max(len(o["value"]), len(o["text"]["text"])) > OPTION_LIMIT]
    if "initial_option" in menu and menu["initial_option"] not in options:
        faults.append("the initial option is none of the options")
    return faults


def _walk(node):
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from _walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from _walk(value)


def _validate(parsed):
    """Let the SDK check an object and everything in it."""
    faults, todo, seen = [], [parsed], set()
    while todo:
        node = todo.pop()
        if isinstance(node, list | tuple):
            todo += node
        elif isinstance(node, JsonObject) and id(node) not in seen:
            seen.add(id(node))
            try:
                node.validate_json()
            except SlackObjectFormationError as error:
                faults.append(str(error))
            todo += list(vars(node).values())
    return faults
