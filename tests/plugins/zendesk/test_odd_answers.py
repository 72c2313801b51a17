"""Odd answers of the API, twice in a row on each route, then a proper one: nothing is lost, nothing is written twice, no text is logged."""

import json
import logging

import httpx
import pytest

from plugins.helpdesk.client import HelpdeskError
from tests.plugins.helpdesk.conformance import Harness
from tests.plugins.zendesk.test_zendesk import stop
from tests.plugins.zendesk.zendesk_double import ZendeskDouble

ROUTES = {
    "ticket": ("GET", "/tickets/5000.json"),
    "comments": ("GET", "/comments.json"),
    "audits": ("GET", "/audits.json"),
    "macros": ("GET", "/macros/active.json"),
    "fields": ("GET", "/ticket_fields.json"),
    "me": ("GET", "/users/me.json"),
    "write": ("PUT", "/tickets/5000.json"),
}
PAUSES = ("7", "0", "-1", "inf", "-inf", "nan", "1e30", "604800", "soon", "", "Fri, 31 Dec 9999 23:59:59 GMT")
ANSWERS = {
    **{f"429 after {pause or 'nothing'}": (429, {"retry-after": pause}, b"{}") for pause in PAUSES},
    "429": (429, {}, b"{}"),
    "a maintenance page": (503, {"content-type": "text/html"}, b"<html>quokka</html>"),
    "a maintenance page with 200": (200, {"content-type": "text/html"}, b"<html>quokka</html>"),
    "a redirection": (302, {"location": "https://elsewhere.example/login"}, b""),
    "401": (401, {}, json.dumps({"error": "Couldn't authenticate you"}).encode()),
    "408": (408, {}, b""),
    "500": (500, {}, b"quokka"),
    "what cannot be unpacked": (200, {"content-encoding": "gzip"}, b"quokka"),
    "too deep": (200, {}, b"[" * 100_000),
}
NO_OBJECT = {"null": b"null", "a list": b"[]", "a text": b'"quokka"', "nothing": b""}
SHOWN = (*ROUTES,)[:-1]


class Faulty:
    """A harness whose helpdesk answers a route oddly for a while."""

    def __init__(self, route):
        self.double = ZendeskDouble()
        self.method, self.path = ROUTES[route]
        self.answers = []
        usual = self.double._answer
        self.double._answer = lambda request: self._choose(request) or usual(request)
        self.harness = Harness(self.double)

    def _choose(self, request):
        if self.answers and request.method == self.method and request.url.path.endswith(self.path):
            status, headers, content = self.answers.pop()
            return httpx.Response(status, headers=headers, stream=httpx.ByteStream(content), request=request)
        return None

    async def tell(self, ticket_id, event):
        """Send a webhook and let three hours pass: a pause is an hour at most, and there are two of them."""
        assert await self.harness.post(*self.double.build_webhook(ticket_id, event=event)) == 200
        for _ in range(36):
            await self.harness.settle()  # no answer may cost a try
            self.double.clock.advance(300)

    async def live_through(self, answer):
        """A ticket is opened and later corrected, each time while the helpdesk answers oddly."""
        await self.harness.plugin.desk.start()
        ticket_id = self.double.open_ticket("VPN down", "The quokka does not connect.")
        self.answers = [answer] * 2
        await self.tell(ticket_id, "made")
        suggested = self.double.get_label(ticket_id)
        other = next(name for name in self.double.labels if name != suggested)
        self.double.choose(ticket_id, other)
        self.answers = [answer] * 2
        await self.tell(ticket_id, "chosen")
        await stop(self.harness)
        return suggested, len(self.double.get_notes(ticket_id)), len(self.harness.bot.feedback)


def build_cases():
    cases = [(route, name, answer) for route in ROUTES for name, answer in ANSWERS.items()]
    cases += [(route, name, (200, {}, content)) for route in SHOWN for name, content in NO_OBJECT.items()]
    cases.append(("ticket", "no ticket", (200, {}, b'{"ticket": null}')))
    return [pytest.param(route, answer, id=f"{route} answers {name}") for route, name, answer in cases]


@pytest.mark.parametrize(("route", "answer"), build_cases())
async def test_odd_answer_is_waited_out(route, answer, caplog):
    caplog.set_level(logging.DEBUG)
    suggested, n_notes, n_feedback = await Faulty(route).live_through(answer)
    assert suggested
    assert (n_notes, n_feedback) == (1, 1)
    assert "quokka" not in caplog.text


async def test_credentials_that_are_refused_for_an_hour_lose_nothing_and_are_told_once_a_minute(caplog):
    faulty = Faulty("ticket")
    await faulty.harness.plugin.desk.start()
    tickets = [faulty.double.open_ticket(f"VPN {number}", "It does not connect.") for number in range(5)]
    show = faulty.double.routes["show"]
    faulty.double.routes["show"] = lambda *_: httpx.Response(401, json={"error": "Couldn't authenticate you"})
    for ticket_id in tickets:
        assert await faulty.harness.post(*faulty.double.build_webhook(ticket_id)) == 200
    before = faulty.double.n_requests
    await faulty.harness.wait(3600)
    assert faulty.double.n_requests - before <= 61, "one request a minute looks whether it is mended"
    assert 0 < caplog.text.count("check the credentials") <= 61
    faulty.double.routes["show"] = show
    await faulty.harness.wait(600)
    assert [len(faulty.double.get_notes(ticket_id)) for ticket_id in tickets] == [1] * 5
    await stop(faulty.harness)


async def test_ticket_that_closes_while_it_is_written_is_left():
    faulty = Faulty("write")
    await faulty.harness.plugin.desk.start()
    ticket_id = faulty.double.open_ticket("VPN down", "It does not connect.")
    details = {"status": [{"description": "Status: closed prevents ticket update"}]}

    def refuse(request):
        if request.method != "PUT":
            return None
        faulty.double.tickets[ticket_id]["status"] = "closed"
        return httpx.Response(422, json={"error": "RecordInvalid", "details": details})

    faulty._choose = refuse
    assert await faulty.harness.post(*faulty.double.build_webhook(ticket_id)) == 200
    queues = (faulty.harness.plugin.desk.queue, faulty.harness.plugin.desk.outbox.queue)
    for _ in range(10):
        for queue in queues:
            await queue.join()
        faulty.double.clock.advance(60)
    assert [type(error) for error in queues[1].errors] == [HelpdeskError]
    assert [(await queue.get_counts()).n_failed for queue in queues] == [0, 0]
    assert faulty.double.get_notes(ticket_id) == []
    await stop(faulty.harness)


async def test_what_stands_at_the_end_of_the_longest_history_counts():
    double = ZendeskDouble()

    def page(_body, params, ticket_id):
        start = int(params.get("page[after]", 0))
        found = double.audits[ticket_id][start : start + 100]
        more = start + 100 < len(double.audits[ticket_id])
        return httpx.Response(200, json={"audits": found, "meta": {"has_more": more, "after_cursor": str(start + 100)}})

    double.routes["audits"] = page
    harness = Harness(double)
    await harness.plugin.desk.start()
    ticket_id = double.open_ticket("VPN down", "It does not connect.")
    for _ in range(4990):
        double._add_audit(ticket_id, [], "rule")
    double.lose_next_answer()
    await harness.tell(ticket_id)
    await harness.wait(600)
    assert len(double.get_notes(ticket_id)) == 1, "the marker of the update whose answer was lost is found"
    double.choose(ticket_id, harness.get_other(ticket_id))
    await harness.tell(ticket_id, event="chosen")
    assert len(harness.get_feedback()) == 1
    await stop(harness)
