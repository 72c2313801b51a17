"""The cards of Slack as Block Kit: a suggestion in each of its states, a summary. Pure functions from values to blocks.

Every text of the model or of a person is escaped and cut to Slack's limits here. Knows nothing of clicks or requests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bot.plugin_api import BASE, Classification, FeedbackKind, LabelSet, Summary
from plugins.slack.modals import Block, build_menu, build_plain
from plugins.slack.payloads import Place
from plugins.slack.text import cut, cut_escaped, describe_confidence, escape, say_share

MAX_SECTION = 3000
MAX_FIELD = 2000
MAX_CONTEXT = 2000
SHORT_MACRO = 240
UNFOLD = "Show all"
_YES = {"true": "yes", "false": "no"}
SHOWN_ALTERNATIVES = 8


@dataclass(frozen=True)
class Decision:
    """Who decided what on a card, and which feedback it became. `key` is the click's; `at` are seconds since 1970.

    `actor` is a user of Slack, or where it was decided elsewhere (the console) the name given there.
    """

    kind: FeedbackKind
    actor: str
    label: str | None
    feedback_id: int
    key: str
    at: float
    is_elsewhere: bool = False

    @property
    def who(self) -> str:
        """The person, as Slack shows them."""
        return escape(self.actor) if self.is_elsewhere else f"<@{self.actor}>"


@dataclass(frozen=True)
class CardLook:
    """How a card is shown: what was decided, whether it can still be undone, whether the reply is unfolded, where asking begins.

    `labels` are those of the channel; empty means all.
    """

    low_confidence: float
    decision: Decision | None = None
    can_undo: bool = False
    is_expanded: bool = False
    labels: tuple[str, ...] = ()


def build_section(text: str, *, block_id: str | None = None) -> Block:
    """Return a section of mrkdwn; the text is escaped already."""
    section: Block = {"type": "section", "text": {"type": "mrkdwn", "text": text}}
    return {**section, "block_id": block_id} if block_id else section


def build_context(*texts: str) -> Block:
    """Return a line of small print; the texts are escaped already."""
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": text} for text in texts if text]}


def build_button(text: str, action_id: str, *, value: str, style: str | None = None) -> Block:
    """Return a button."""
    button: Block = {"type": "button", "text": build_plain(text), "action_id": action_id, "value": value}
    return {**button, "style": style} if style else button


def build_code(text: str) -> Block:
    """Return a text that Slack shows with a button for copying."""
    return {
        "type": "rich_text",
        "elements": [{"type": "rich_text_preformatted", "elements": [{"type": "text", "text": cut(text, MAX_SECTION)}]}],
    }


def get_title_id(prefix: str, place: Place) -> str:
    """Return the block id that a card about a message always has, so that it can be found again in its thread."""
    return f"{prefix}/{place.external_id}"


def get_buttons_id(prefix: str, place: Place, inference_id: int | None) -> str:
    """Return the block id of a card's buttons: it says what a click is about."""
    return f"{prefix}-do/{place.external_id}/{inference_id or 0}"


def read_buttons_id(block_id: str) -> tuple[str, str, str, str, int] | None:
    """Return (prefix, team, channel, ts, inference id) of a block id made above, or None."""
    head, *rest = block_id.split("/")
    if not head.endswith("-do") or len(rest) != 4 or not rest[3].isdigit():
        return None
    return head.removesuffix("-do"), rest[0], rest[1], rest[2], int(rest[3])


def pack_seen(value: str, decision: Decision | None) -> str:
    """Add to a button's value which decision the person sees who clicks it: only then they override it knowingly."""
    return value if decision is None else f"{value}:{decision.feedback_id}"


def build_card(card: Classification, place: Place, label_set: LabelSet, *, look: CardLook) -> list[Block]:
    """Return the card of a suggestion."""
    title_id = get_title_id("ticket", place)
    if card.inference_id is None or card.label is None:
        return [
            build_section(cut_escaped(card.notice or "There is no suggestion for this message.", MAX_FIELD), block_id=title_id)
        ]
    buttons_id = get_buttons_id("ticket", place, card.inference_id)
    value = str(card.inference_id)
    if card.is_blind and look.decision is None:
        return _build_blind(look.labels or label_set.names, title_id=title_id, buttons_id=buttons_id, value=value)
    blocks = [build_section(_render_title(card, look), block_id=title_id)]
    shown = card.label if look.decision is None else look.decision.label
    label = None if shown is None else label_set.get(shown)
    if label is not None:
        blocks += _build_fields(card.fields if label.name == card.label else _get_fields(label_set, label.name))
        blocks += _build_macro(label.macro or "", value=value, is_expanded=look.is_expanded)
    blocks.append(build_context(*_render_notes(card)))
    elements = _build_decided_buttons(look, value) if look.decision else _build_open_buttons(card, label_set, value=value)
    blocks.append({"type": "actions", "block_id": buttons_id, "elements": elements})
    return blocks


def render_fallback(card: Classification, look: CardLook) -> str:
    """Return the line that notifications show: the label, never the ticket."""
    if card.label is None:
        return "No suggestion"
    if look.decision is not None:
        return "Decided" if look.decision.label is None else f"Decided: {cut(look.decision.label, 100)}"
    if card.is_blind:
        return "A ticket to decide"
    label = cut(card.label, 100)
    return f"Is this {label}?" if card.confidence < look.low_confidence else f"Suggestion: {label}"


def _build_blind(labels: Sequence[str], *, title_id: str, buttons_id: str, value: str) -> list[Block]:
    return [
        build_section(
            "*What is this about?*\nThe suggestion is hidden until you have chosen: your choice measures the model.",
            block_id=title_id,
        ),
        {
            "type": "actions",
            "block_id": buttons_id,
            "elements": [
                build_menu("triage_choose", labels, placeholder="Choose a label"),
                build_button("Hand off", "triage_handoff", value=value),
            ],
        },
    ]


def _render_title(card: Classification, look: CardLook) -> str:
    suggested = f"*{cut_escaped(card.label or '', 150)}*"
    confidence = describe_confidence(card.confidence, low=look.low_confidence)
    decision = look.decision
    if decision is None:
        if card.confidence < look.low_confidence:
            return f"Is this {suggested}? I am {confidence}."
        return f"Suggestion: {suggested} ({confidence})"
    who = decision.who
    chosen = f"*{cut_escaped(decision.label or '', 150)}*"
    if decision.kind is FeedbackKind.HANDOFF:
        return f":wave: {who} handed this off. The suggestion was {suggested} ({confidence})."
    if decision.kind is FeedbackKind.ACCEPT and not card.is_blind:
        return f":white_check_mark: {who} accepted {chosen}."
    if decision.label == card.label:
        return f":white_check_mark: {who} chose {chosen}, and so had the model ({confidence})."
    said = "; the model had said" if card.is_blind else " instead of"
    return f":pencil2: {who} chose {chosen}{said} {suggested} ({confidence})."


def _get_fields(label_set: LabelSet, name: str) -> Mapping[str, str]:
    label = label_set.get(name)
    if label is None:
        return {}
    fields = {"queue": label.queue or "", "priority": label.priority or "", "escalate": "true" if label.escalate else ""}
    return {key: value for key, value in fields.items() if value}


def _build_fields(fields: Mapping[str, str]) -> list[Block]:
    shown = [
        {
            "type": "mrkdwn",
            "text": f"*{cut_escaped(name.capitalize(), 100)}*\n{cut_escaped(_YES.get(value, value), MAX_FIELD - 200)}",
        }
        for name, value in list(fields.items())[:10]
        if value
    ]
    return [{"type": "section", "fields": shown}] if shown else []


def _build_macro(macro: str, *, value: str, is_expanded: bool) -> list[Block]:
    if not macro.strip():
        return []
    is_long = len(macro) > SHORT_MACRO or macro.count("\n") > 3
    head = build_section("*Suggested reply*")
    if is_long:
        head["accessory"] = build_button("Show less" if is_expanded else UNFOLD, "triage_unfold", value=value)
    if is_long and not is_expanded:
        macro = cut("\n".join(macro.splitlines()[:3]), SHORT_MACRO).rstrip("…") + "…"
    return [head, build_code(macro)]


def _render_notes(card: Classification) -> Sequence[str]:
    answered = "the base model" if card.adapter_digest == BASE else f"adapter `{card.adapter_digest[:8]}`"
    notes = (cut_escaped(card.reason, MAX_CONTEXT), cut_escaped(card.notice or "", 500), f"Answered by {answered}.")
    return [note for note in notes if note]


def _build_open_buttons(card: Classification, label_set: LabelSet, *, value: str) -> list[Block]:
    others = [c.label for c in card.candidates if c.label != card.label and c.label in label_set.names][:SHOWN_ALTERNATIVES]
    elements = [build_button("Accept", "triage_accept", value=value, style="primary")]
    if others:
        notes = {c.label: f" ({say_share(c.probability)})" for c in card.candidates}
        elements.append(build_menu("triage_pick", others, placeholder="Alternatives", notes=notes))
    return [
        *elements,
        build_button("Edit", "triage_edit", value=value),
        build_button("Override", "triage_override", value=value),
        build_button("Hand off", "triage_handoff", value=value),
    ]


def _build_decided_buttons(look: CardLook, value: str) -> list[Block]:
    seen = pack_seen(value, look.decision)
    undo = [build_button("Undo", "triage_undo", value=seen)] if look.can_undo else []
    return [*undo, build_button("Override", "triage_override", value=seen)]


def build_gone(place: Place) -> list[Block]:
    """Return what stays of a card whose message was deleted."""
    return [build_section("The message was deleted, so there is nothing left to decide.", block_id=get_title_id("ticket", place))]


def build_summary_card(summary: Summary | None, place: Place, *, look: CardLook, note: str = "") -> list[Block]:
    """Return the card of a summary: None while the thread is read; without an inference id while it is being written."""
    title_id = get_title_id("summary", place)
    if summary is None:
        return [build_section(note or "Reading the thread…", block_id=title_id)]
    if summary.inference_id is None and summary.notice:
        return [build_section(cut_escaped(summary.notice, MAX_FIELD), block_id=title_id)]
    title = "*Summary*" if not summary.is_excerpt else "*Summary*, in the thread's own words"
    blocks = [build_section(title, block_id=title_id), build_section(cut_escaped(summary.text or "…", MAX_SECTION))]
    if summary.inference_id is None:
        return [*blocks, build_context("Still writing…")]
    answered = "the base model" if summary.adapter_digest == BASE else f"adapter `{summary.adapter_digest[:8]}`"
    done = _render_summary_decision(look.decision)
    blocks.append(
        build_context(
            *(text for text in (done, note, cut_escaped(summary.notice or "", 500), f"Answered by {answered}.") if text)
        )
    )
    value = pack_seen(str(summary.inference_id), look.decision)
    elements = [build_button("Edit", "summary_edit", value=value)]
    if look.decision is None:
        elements.insert(0, build_button("Looks right", "summary_accept", value=value))
    elif look.can_undo:
        elements.append(build_button("Undo", "summary_undo", value=value))
    blocks.append({"type": "actions", "block_id": get_buttons_id("summary", place, summary.inference_id), "elements": elements})
    return blocks


def _render_summary_decision(decision: Decision | None) -> str:
    if decision is None:
        return ""
    return f"{'Edited' if decision.kind is FeedbackKind.EDIT else 'Accepted'} by {decision.who}."


def build_anyway(text: str, *, block_id: str, value: str, reply: str = "") -> list[Block]:
    """Return the answer to the second of two people: who was first, what they wrote, and a button to decide differently all the same."""
    button = build_button("Decide this way all the same", "triage_anyway", value=value)
    written = [build_code(reply)] if reply else []
    return [build_section(text), *written, {"type": "actions", "block_id": block_id, "elements": [button]}]
