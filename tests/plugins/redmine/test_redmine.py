"""The conformance suite on Redmine, and what is its alone; tests/scenario/test_helpdesks.py has the real server."""

import pytest

from bot.plugin_api import FeedbackKind
from tests.plugins.helpdesk.conformance import Harness, HelpdeskConformance, desk
from tests.plugins.redmine.redmine_double import RedmineDouble

__all__ = ["desk"]


@pytest.fixture
def double():
    return RedmineDouble()


class TestRedmine(HelpdeskConformance):
    pass


async def test_private_notes_are_not_read_and_public_ones_keep_their_speakers(desk):
    ticket_id = desk.double.open_ticket("VPN down", "The VPN does not connect.")
    desk.double.say(ticket_id, "Which error?", by="person")
    desk.double._add(ticket_id, "person", notes="gossip", is_private=True)
    await desk.tell(ticket_id)
    [ticket] = desk.bot.tickets.values()
    assert [(turn.speaker, turn.text) for turn in ticket.turns] == [
        ("customer", "The VPN does not connect."),
        ("agent", "Which error?"),
    ]


async def test_author_is_a_support_agent_where_the_settings_say_so(double):
    harness = Harness(double, author_is_customer=False)
    await harness.plugin.desk.start()
    ticket_id = await harness.suggest()
    other = harness.get_other(ticket_id)
    double.choose(ticket_id, other, by="customer")
    await harness.tell(ticket_id)
    assert harness.get_feedback() == [(FeedbackKind.OVERRIDE, other)]
    await harness.plugin.stop()
    await harness.http.aclose()


async def test_more_changes_than_a_page_are_all_noticed(desk):
    tickets = [desk.double.open_ticket(f"VPN down {number}", "The VPN does not connect.") for number in range(250)]
    assert await desk.plugin.poller.look() == len(tickets)


def test_redmine_has_no_route(double):
    from bot.testing import FakeBot

    assert double.build(FakeBot(clock=double.clock)).router is None
