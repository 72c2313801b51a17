"""Cards and forms in every state stay within Block Kit, whatever the model or a person wrote."""

import itertools

import pytest

from bot.plugin_api import Classification, FeedbackKind, Label, LabelScore, LabelSet, Summary
from plugins.slack.cards import CardLook, Decision, build_anyway, build_card, build_gone, build_summary_card, render_fallback
from plugins.slack.modals import build_decision_view, build_summary_view
from plugins.slack.payloads import Place
from tests.plugins.slack import contracts
from tests.plugins.slack.block_lint import find_message_faults, find_view_faults

PLACE = Place("T0123456789", "C0123456789", "1700000000.000100", "1700000000.000050")
NASTY = "<!channel> & *bold* `code` <@U1> \n" * 400
SETS = {
    "usual": LabelSet(
        "x", "1", (Label("vpn", "d", macro="Restart.", queue="net", priority="high", escalate=True), Label("mail"))
    ),
    "one": LabelSet("x", "1", (Label("only"),)),
    "nasty": LabelSet(
        "x", "1", tuple(Label(f"{n} {NASTY[: n * 9]}", NASTY, macro=NASTY, queue=NASTY, priority=NASTY) for n in range(1, 30))
    ),
    "many": LabelSet("x", "1", tuple(Label(f"label {n}") for n in range(600))),
}
DECISIONS = [None] + [
    Decision(kind, "U1", label, 7, "k", 1.0) for kind, label in zip(FeedbackKind, ("", None, "mail", None), strict=True)
]


def build_classification(label_set, **changes):
    share = 1 / len(label_set.names)
    given = {
        "inference_id": 12,
        "ticket_id": 3,
        "label": label_set.names[0],
        "confidence": share,
        "candidates": tuple(LabelScore(name, share) for name in label_set.names),
        "macro": label_set.labels[0].macro,
        "fields": {"queue": label_set.labels[0].queue or "", "priority": label_set.labels[0].priority or ""},
        "reason": NASTY if label_set is SETS["nasty"] else "Near to a ticket about vpn.",
        "similar": (),
        "adapter_digest": "base",
        "label_set_version": "1",
        **changes,
    }
    return Classification(**given)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("decision", DECISIONS, ids=lambda d: "open" if d is None else d.kind.value)
def test_card_fits_block_kit_in_every_state(name, decision):
    label_set = SETS[name]
    for is_blind, can_undo, is_expanded, notice in itertools.product((False, True), (False, True), (False, True), (None, NASTY)):
        card = build_classification(label_set, is_blind=is_blind, notice=notice)
        look = CardLook(low_confidence=0.5, decision=decision, can_undo=can_undo, is_expanded=is_expanded)
        assert find_message_faults(build_card(card, PLACE, label_set, look=look)) == []
        assert 0 < len(render_fallback(card, look)) < 200


@pytest.mark.parametrize("notice", [None, "", NASTY])
def test_card_without_a_suggestion_fits_block_kit(notice):
    card = build_classification(SETS["one"], inference_id=None, label=None, notice=notice)
    assert find_message_faults(build_card(card, PLACE, SETS["one"], look=CardLook(0.5))) == []
    assert find_message_faults(build_gone(PLACE)) == []
    assert find_message_faults(build_anyway("x", block_id="anyway/1", value="x" * 2000)) == []


@pytest.mark.parametrize("text", ["", "One line.", NASTY])
@pytest.mark.parametrize("inference_id", [None, 5])
@pytest.mark.parametrize("decision", DECISIONS[:2])
def test_summary_fits_block_kit_in_every_state(text, inference_id, decision):
    for is_excerpt, notice in itertools.product((False, True), (None, NASTY)):
        summary = Summary(inference_id, 1, text, is_excerpt, "d" * 64, notice)
        look = CardLook(0.5, decision=decision, can_undo=True)
        assert (
            find_message_faults(build_summary_card(summary, PLACE, look=look, note="Only the first 3 messages were read.")) == []
        )
    assert find_message_faults(build_summary_card(None, PLACE, look=CardLook(0.5))) == []


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("kind", ["override", "edit", "handoff"])
def test_forms_fit_block_kit(name, kind):
    meta = {"ticket": PLACE.external_id, "channel": PLACE.channel, "thread_ts": PLACE.thread_ts, "inference": 1, "knows": 2}
    names = SETS[name].names
    for chosen, reply in itertools.product((None, names[-1], "no longer there"), ("", NASTY)):
        assert find_view_faults(build_decision_view(kind, names, meta=meta, chosen=chosen, reply=reply)) == []
    for text in ("", NASTY):
        assert find_view_faults(build_summary_view(text, meta=meta)) == []


BUTTON = {"type": "button", "text": {"type": "plain_text", "text": "Go"}, "action_id": "a", "value": "v"}
OPTION = {"text": {"type": "plain_text", "text": "x"}, "value": "x"}
MENU = {"type": "static_select", "action_id": "m", "placeholder": {"type": "plain_text", "text": "x"}, "options": [OPTION]}
TEXT = {"type": "section", "text": {"type": "mrkdwn", "text": "x"}}


@pytest.mark.parametrize(
    "blocks",
    [
        [{**TEXT, "block_id": "b"}, {**TEXT, "block_id": "b"}],
        [{"type": "actions", "elements": [BUTTON, BUTTON]}],
        [{"type": "actions", "elements": [{**MENU, "initial_option": {**OPTION, "value": "y"}}]}],
        [{"type": "actions", "elements": [{**MENU, "options": [OPTION, OPTION]}]}],
        [{"type": "actions", "elements": [{**MENU, "options": []}]}],
        [{"type": "section", "text": {"type": "mrkdwn", "text": " "}}],
        [{"type": "section"}],
        [{"type": "section", "text": {"type": "mrkdwn", "text": "x" * 3001}}],
        [{"type": "header", "text": {"type": "plain_text", "text": "x" * 151}}],
        [{"type": "actions", "elements": [{**BUTTON, "value": "x" * 2001}]}],
        [TEXT] * 51,
        [],
    ],
)
def test_lint_finds_what_slack_would_refuse(blocks):
    assert find_message_faults(blocks) != []


def test_lint_finds_a_form_without_a_submit():
    view = build_summary_view("x", meta={})
    del view["submit"]
    assert find_view_faults(view) != []


def test_lint_has_nothing_against_what_slacks_sdk_calls_valid():
    cases = contracts.load("block_kit/valid.json")["cases"]
    blocks = [case["json"] for case in cases if case["level"] == "block" and case["type"] != "input"]
    faults = {case["type"]: faults for case in blocks if (faults := find_message_faults([case]))}
    assert blocks
    assert faults == {}
