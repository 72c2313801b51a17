import pytest

from bot.plugin_api import Classification, Label, LabelScore, LabelSet
from plugins.helpdesk.macros import MacroIndex
from plugins.helpdesk.notes import build_marker, find_marker, render_note
from plugins.helpdesk.policy import FieldMap, build_slug, decide, narrow_labels
from plugins.helpdesk.settings import HelpdeskSettings, WriteMode
from plugins.helpdesk.values import HelpdeskTicket, Macro, TicketState

LABELS = ("Refund", "Legal threat", "VPN")


def build_card(label="Refund", confidence=0.95, **more):
    values = {"fields": {"queue": "Payments", "priority": "high"}, "is_blind": False, "notice": None} | more
    return Classification(
        inference_id=7, ticket_id=1, label=label, confidence=confidence,
        candidates=(LabelScore("Refund", 0.95), LabelScore("VPN", 0.05)),
        macro=None, reason="Like others.", similar=(), adapter_digest="base", label_set_version="v", **values,
    )  # fmt: skip


def build_ticket(**fields):
    return HelpdeskTicket("1", TicketState.OPEN, fields=fields)


def run(card, ticket, *, ours="", **settings):
    values = {"queue_field": "group", "queue_values": {"Payments": "15"}, "priority_field": "priority"} | settings
    return decide(
        card,
        ticket,
        settings=HelpdeskSettings(**values),
        label_field="f",
        field_map=FieldMap(LABELS, {}, encode=build_slug),
        ours=ours,
    )


@pytest.mark.parametrize(
    ("mode", "confidence", "expected"),
    [
        ("suggest_only", 0.99, {}),
        ("preselect", 0.10, {"f": "refund"}),
        ("auto", 0.89, {}),
        ("auto", 0.90, {"f": "refund", "group": "15", "priority": "high"}),
    ],
)
def test_mode_and_threshold_say_what_is_written(mode, confidence, expected):
    assert run(build_card(confidence=confidence), build_ticket(), mode=mode).fields == expected


def test_single_labels_have_modes_and_thresholds_of_their_own():
    assert run(build_card(), build_ticket(), label_modes={"Refund": "suggest_only"}).fields == {}
    settings = {"mode": "auto", "label_thresholds": {"Refund": 0.97}}
    assert run(build_card(), build_ticket(), **settings).mode is WriteMode.SUGGEST_ONLY


def test_what_is_there_is_left_unless_it_is_ours():
    assert run(build_card(), build_ticket(f="vpn")).fields == {}
    assert run(build_card(), build_ticket(f="vpn"), ours="vpn").fields == {"f": "refund"}
    full = build_ticket(f="vpn", group="9", priority="low")
    assert run(build_card(), full, mode="auto").fields == {}


def test_unknown_queues_are_not_written_and_priorities_are_translated():
    card = build_card(fields={"queue": "Nowhere", "priority": "high"})
    decision = run(card, build_ticket(), mode="auto", priority_values={"high": "urgent"})
    assert decision.fields == {"f": "refund", "priority": "urgent"}


@pytest.mark.parametrize("card", [build_card(label=None), build_card(is_blind=True)])
def test_nothing_is_written_without_a_suggestion_or_on_a_blind_ticket(card):
    assert run(card, build_ticket(), mode="auto").fields == {}


def test_confidence_is_written_where_it_has_a_field():
    assert run(build_card(), build_ticket(), mode="suggest_only", confidence_field="c").fields == {"c": "0.95"}


def test_values_are_read_as_labels_by_value_name_and_slug():
    labels = FieldMap(LABELS, {"VPN": "network_vpn"}, encode=lambda label: f"understudy_{build_slug(label)}")
    assert labels.get_value("VPN") == "network_vpn"
    assert labels.get_value("Legal threat") == "understudy_legal_threat"
    spellings = ("network_vpn", "understudy_legal_threat", "LEGAL THREAT", "legal_threat", " refund ", "", "other")
    assert [labels.get_label(value) for value in spellings] == ["VPN", *["Legal threat"] * 3, "Refund", None, None]


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        ({"brand": "1"}, ("a", "b")),
        ({"form": "2"}, ("b", "c")),
        ({"brand": "1", "form": "2"}, ("b",)),
        ({"brand": "1", "form": "3"}, ("d",)),
        ({"brand": "9"}, ()),
    ],
)
def test_scopes_narrow_the_labels_together_and_the_last_decides_a_contradiction(scopes, expected):
    allowed = {"brand": {"1": ["a", "b"]}, "form": {"2": ["b", "c"], "3": ["d"]}}
    assert narrow_labels(scopes, allowed) == expected


@pytest.mark.parametrize(
    "wrong", [{"label_thresholds": {"a": 1.5}}, {"label_values": {"a": "x", "b": "x"}}, {"mode": "always"}, {"workers": 0}]
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        HelpdeskSettings(**wrong)


MACROS = [
    Macro("1", "Billing::Refund issued", "We have refunded the payment to your card."),
    Macro("2", "Network::VPN reset", "Please restart the VPN client."),
    Macro("3", "Say thanks", "Thank you for writing."),
]


def test_macro_of_the_label_goes_before_search():
    index = MacroIndex(MACROS)
    assert index.suggest(Label("VPN", macro="network vpn reset"), "refund my payment").macro_id == "2"
    assert index.suggest(Label("VPN", macro="Please restart the VPN client."), "refund my payment").macro_id == "2"


def test_macro_is_found_by_the_words_of_ticket_and_label():
    index = MacroIndex(MACROS)
    assert index.suggest(Label("Refund", "wants money back"), "Please send the payment back to my card").macro_id == "1"
    assert index.suggest(Label("Screen"), "It is dark and cold") is None
    assert MacroIndex([]).suggest(Label("Refund"), "refund") is None


def test_labels_of_a_macro_are_those_that_name_it_by_title_or_text():
    labels = (Label("A", macro="Say thanks"), Label("B", macro="please restart the vpn client"), Label("C"))
    index, label_set = MacroIndex(MACROS), LabelSet("s", "v", labels)
    assert [index.find_labels_of(name, label_set) for name in ("Say Thanks", "Network::VPN reset", "Nothing", "")] == [
        ("A",), ("B",), (), (),
    ]  # fmt: skip


def test_note_names_label_reason_and_macro_and_ends_with_its_marker():
    marker = build_marker("42", 7)
    note = render_note(build_card(), marker=marker, macro="Refund issued", is_label_written=True)
    assert note.splitlines()[0] == "Understudy suggests: Refund (95%)"
    assert "Why: Like others." in note
    assert "Otherwise: VPN (5%)" in note
    assert find_marker(note) == marker
    assert find_marker(note + "\n") == marker
    assert [find_marker(text) for text in ("", "Hello", f"{note}\nOn Monday somebody wrote")] == ["", "", ""]
