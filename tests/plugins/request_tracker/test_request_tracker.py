"""The conformance suite on Request Tracker, and what is its alone; tests/scenario/test_helpdesks.py has the real server."""

import json

import pytest

from plugins.helpdesk.client import HelpdeskError
from plugins.request_tracker.settings import RequestTrackerSettings
from tests.plugins.helpdesk.conformance import Harness, HelpdeskConformance, desk
from tests.plugins.request_tracker.rt_double import RequestTrackerDouble

__all__ = ["desk"]


@pytest.fixture
def double():
    return RequestTrackerDouble()


class TestRequestTracker(HelpdeskConformance):
    pass


async def test_tag_is_added_to_those_that_are_there(desk):
    ticket_id = desk.double.open_ticket("VPN down", "The VPN does not connect.")
    desk.double._set_field(ticket_id, "Tags", ["vip"], "person")
    await desk.tell(ticket_id)
    assert desk.double._get_field(ticket_id, "Tags")["values"] == ["vip", "understudy_suggested"]


async def test_value_refused_with_status_200_is_an_error_that_names_the_field(double):
    harness = Harness(double)
    await harness.plugin.desk.start()
    double.refuses_values = True
    ticket_id = double.open_ticket("VPN down", "The VPN does not connect.")
    await harness.post(*double.build_webhook(ticket_id))
    await harness.plugin.desk.queue.join()
    await harness.plugin.desk.outbox.queue.join()
    [error] = harness.plugin.desk.outbox.queue.errors
    assert isinstance(error, HelpdeskError)
    assert "Category" in str(error)
    assert double.get_notes(ticket_id) == []
    for _ in range(4):
        double.clock.advance(60)
        await harness.plugin.desk.outbox.queue.join()
    assert len(double.get_notes(ticket_id)) == 1, "the note comes without the value"
    assert double.get_label(ticket_id) == ""
    await harness.plugin.stop()
    await harness.http.aclose()


async def test_other_queues_and_merged_tickets_are_left_alone(desk):
    other = desk.double.open_ticket("VPN down", "The VPN does not connect.", queue="Billing")
    merged = desk.double.open_ticket("VPN down", "The VPN does not connect.")
    desk.double.tickets[merged]["EffectiveId"] = {"type": "ticket", "id": "1"}
    for ticket_id in (other, merged):
        await desk.tell(ticket_id)
    assert desk.bot.calls == []


async def test_comments_are_not_read_and_answers_are_a_support_agents(desk):
    ticket_id = desk.double.open_ticket("VPN down", "The VPN does not connect.")
    desk.double.say(ticket_id, "Which error?", by="person")
    desk.double._add(ticket_id, "Comment", "person", text="gossip")
    await desk.tell(ticket_id)
    [ticket] = desk.bot.tickets.values()
    assert [(turn.speaker, turn.text) for turn in ticket.turns] == [
        ("customer", "The VPN does not connect."),
        ("agent", "Which error?"),
    ]


async def test_second_change_within_the_same_second_is_seen_by_polling(desk):
    ticket_id = desk.double.open_ticket("VPN down", "The VPN does not connect.")
    await desk.plugin.poller.look()
    await desk.settle()
    desk.double.choose(ticket_id, desk.get_other(ticket_id))  # the clock stands still
    desk.double.clock.advance(60)
    await desk.plugin.poller.look()
    await desk.settle()
    assert len(desk.get_feedback()) == 1


@pytest.mark.parametrize(
    "message",
    [
        {"event": "Status", "transaction_id": 7, "creator": "bot", "ticket": {"id": 1}},
        {"event": "Status", "transaction_id": "x", "creator": "agent", "ticket": {"id": 1}},
        {"event": "Status", "transaction_id": 7, "creator": "agent", "ticket": {"id": "1/../2"}},
        {"event": "Status", "transaction_id": 7},
    ],
)
async def test_webhook_of_our_own_change_or_without_a_ticket_is_left(desk, message):
    assert await desk.post(*desk.double.sign(json.dumps(message).encode())) == 200
    assert desk.plugin.desk.queue.events == ()


def test_queue_names_that_would_leave_their_quotes_are_refused():
    with pytest.raises(ValueError, match="queues"):
        RequestTrackerSettings(url="http://rt", token="t", user="bot", queues=["x' OR Id > 0 OR Queue = 'y"])
