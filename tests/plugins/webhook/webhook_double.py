"""A helpdesk of nobody's make that pushes JSON and takes signed callbacks, dropping repetitions by their key."""

import itertools
import json

import httpx

from bot.testing import FakeClock
from plugins.helpdesk.signing import sign_hex
from plugins.webhook.app import build_plugin
from plugins.webhook.settings import WebhookSettings

SECRET = "a-secret-of-enough-characters"
URL = "https://helpdesk.example/hook"


class WebhookDouble:
    name = "webhook"
    can_poll = False

    def __init__(self):
        self.clock = FakeClock()
        self.is_down = False
        self.limited_s = 0.0
        self.n_requests = 0
        self.tickets: dict[str, dict] = {}
        self.callbacks: dict[str, dict] = {}
        self._loses_answer = False
        self._ids = itertools.count(1)
        self._untold: dict[str, list[dict]] = {}
        self._last: dict[str, dict] = {}

    def build(self, bot, **settings):
        values = {"secret": SECRET, "callback_url": URL}
        transport = httpx.MockTransport(self._answer)
        return build_plugin(bot, WebhookSettings(**(values | settings)), clock=self.clock, transport=transport)

    def open_ticket(self, subject, text):
        ticket_id = f"T{next(self._ids)}"
        self.tickets[ticket_id] = {
            "id": ticket_id, "subject": subject, "status": "open", "label": "",
            "messages": [{"from": "customer", "text": text}],
        }  # fmt: skip
        self._push(ticket_id, "customer")
        return ticket_id

    def say(self, ticket_id, text, *, by="customer"):
        self.tickets[ticket_id]["messages"].append({"from": "customer" if by == "customer" else "agent", "text": text})
        self._push(ticket_id, by)

    def choose(self, ticket_id, label, *, by="person"):
        self.tickets[ticket_id]["label"] = label
        self._push(ticket_id, by)

    def apply_macro(self, ticket_id, label):
        self._push(ticket_id, "person", macro=label.macro)

    def solve(self, ticket_id, *, by="person"):
        self.tickets[ticket_id]["status"] = "solved"
        self._push(ticket_id, by)

    def delete(self, ticket_id):
        self.tickets[ticket_id]["status"] = "deleted"
        self._push(ticket_id, "person")

    def get_label(self, ticket_id):
        return self.tickets[ticket_id]["label"]

    def get_notes(self, ticket_id):
        return [posted["note"] for posted in self.callbacks.values() if posted["ticket_id"] == ticket_id and posted["note"]]

    def lose_next_answer(self):
        self._loses_answer = True

    def count_untold(self, ticket_id):
        return max(1, len(self._untold[ticket_id]))

    def build_webhook(self, ticket_id, *, event=""):
        """The oldest change that was not told of, or the last one again."""
        untold = self._untold[ticket_id]
        if untold:
            self._last[ticket_id] = untold.pop(0)
        message = self._last[ticket_id]
        return self.sign(json.dumps(message | ({"event_id": f"{ticket_id}-{event}"} if event else {})).encode())

    def sign(self, content):
        timestamp = str(int(self.clock.now().timestamp()))
        signature = sign_hex(SECRET, f"{timestamp}.".encode() + content)
        return content, {"X-Understudy-Timestamp": timestamp, "X-Understudy-Signature": signature}

    def _push(self, ticket_id, by, **more):
        kind = "rule" if by == "ourselves" else by
        message = {
            "event_id": f"e{next(self._ids)}", "at": self.clock.now().isoformat(),
            "actor": {"id": "7", "kind": kind}, "ticket": json.loads(json.dumps(self.tickets[ticket_id])),
        } | more  # fmt: skip
        self._untold.setdefault(ticket_id, []).append(message)

    def _answer(self, request):
        self.n_requests += 1
        if self.is_down:
            raise httpx.ConnectError("connection refused", request=request)
        if self.limited_s:
            seconds, self.limited_s = self.limited_s, 0.0
            return httpx.Response(429, headers={"Retry-After": str(int(seconds))})
        timestamp = request.headers["x-understudy-timestamp"]
        assert request.headers["x-understudy-signature"] == sign_hex(SECRET, f"{timestamp}.".encode() + request.content)
        posted, key = json.loads(request.content), request.headers["idempotency-key"]
        assert str(request.url) == URL
        if key not in self.callbacks:
            self.callbacks[key] = posted
            self.tickets[posted["ticket_id"]]["label"] = posted["fields"].get("label") or self.get_label(posted["ticket_id"])
        if self._loses_answer:
            self._loses_answer = False
            raise httpx.ReadTimeout("no answer", request=request)
        return httpx.Response(200, text="thank you")
