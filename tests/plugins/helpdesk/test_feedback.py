"""A table of histories and what they say; the conformance suite tests the same through each helpdesk's API."""

from datetime import UTC, datetime, timedelta

import pytest

from plugins.helpdesk.feedback import Suggestion, read_signals
from plugins.helpdesk.values import Author, Change, TicketState

T0 = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
LABELS = {"vpn": "VPN", "refund": "Refund"}
MACROS = {"Reset VPN": ["VPN"], "Pay back": ["Refund"], "Thanks": ["VPN", "Refund"], "Bye": ["Refund", "Other"]}
CREATED = Change("0", T0 - timedelta(minutes=5), Author.CUSTOMER, state=TicketState.OPEN)
OURS = Change("1", T0 + timedelta(seconds=2), Author.OURSELVES, fields={"f": "vpn"}, marker="m")


def after(number, minutes=1, author=Author.PERSON, **more):
    return Change(str(number), T0 + timedelta(minutes=minutes), author, actor="7", **more)


def choose(number, value, minutes=1, author=Author.PERSON):
    return after(number, minutes, author, fields={"f": value})


def solve(number, minutes=5, author=Author.PERSON, **more):
    return after(number, minutes, author, state=TicketState.SOLVED, **more)


def read(*changes, value="vpn", is_blind=False, suggested_at=T0):
    suggestion = Suggestion("VPN", value, "m", suggested_at, is_blind)
    signals = read_signals(
        suggestion,
        changes,
        label_field="f",
        get_label=LABELS.get,
        get_macro_labels=lambda name: MACROS.get(name, []),
    )
    return [(signal.change_id, signal.kind.value, signal.label, signal.get_feedback_kind(suggestion).value) for signal in signals]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([], []),
        ([choose(2, "refund")], [("2", "field", "Refund", "override")]),
        ([choose(2, "vpn")], [("2", "field", "VPN", "accept")]),
        ([choose(2, "unknown"), solve(3)], []),
        ([choose(2, ""), solve(3)], []),
        ([solve(2)], [("2", "solved", "VPN", "accept")]),
        ([solve(2), after(3, 6, state=TicketState.CLOSED)], [("2", "solved", "VPN", "accept")]),
        (
            [solve(2), after(3, 6, state=TicketState.OPEN), choose(4, "refund", 7), solve(5, 8)],
            [("2", "solved", "VPN", "accept"), ("4", "field", "Refund", "override"), ("5", "solved", "Refund", "override")],
        ),
        ([solve(2, fields={"f": "refund"})], [("2", "field", "Refund", "override")]),
        ([choose(2, "refund", author=Author.RULE), solve(3)], []),
        ([choose(2, "refund", author=Author.BULK), solve(3)], []),
        ([choose(2, "refund", author=Author.CUSTOMER), solve(3)], []),
        ([solve(2, author=Author.RULE)], []),
        ([after(2, macro="Reset VPN")], [("2", "macro", "VPN", "accept")]),
        ([after(2, macro="Pay back")], [("2", "macro", "Refund", "override")]),
        ([after(2, macro="Thanks")], [("2", "macro", "VPN", "accept")]),
        ([after(2, macro="Bye")], []),
        ([after(2, macro="Unheard of")], []),
        ([after(2, macro="Pay back", fields={"f": "vpn"})], [("2", "field", "VPN", "accept")]),
        ([after(2, author=Author.RULE, macro="Pay back")], []),
    ],
)
def test_history_after_our_suggestion_is_read(changes, expected):
    assert read(CREATED, OURS, *changes) == expected


def test_what_a_person_chose_before_us_counts_when_the_ticket_is_solved():
    before = Change("x", T0 - timedelta(minutes=1), Author.PERSON, actor="7", fields={"f": "refund"})
    note = Change("1", T0, Author.OURSELVES, marker="m")
    assert read(CREATED, before, note, value="") == []
    assert read(CREATED, before, note, solve(2), value="") == [("2", "solved", "Refund", "override")]


def test_solved_without_a_value_of_ours_says_nothing():
    note = Change("1", T0, Author.OURSELVES, marker="m")
    assert read(CREATED, note, solve(2), value="") == []


def test_blind_choice_is_an_override_whatever_it_is_and_solving_says_nothing():
    assert read(CREATED, choose(2, "vpn"), value="", is_blind=True) == [("2", "field", "VPN", "override")]
    assert read(CREATED, solve(2), value="", is_blind=True) == []


def test_our_marker_counts_more_than_the_clocks():
    behind = T0 + timedelta(hours=1)  # our clock is an hour ahead of the helpdesk's
    assert read(CREATED, OURS, choose(2, "refund"), suggested_at=behind) == [("2", "field", "Refund", "override")]
