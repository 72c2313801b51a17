"""A Request Tracker in memory behind an httpx transport: REST 2.0 as far as the plugin uses it, in the shape a real one was seen to answer."""

import itertools
import json
import re

import httpx

from bot.testing import FakeClock
from plugins.helpdesk.signing import sign_hex
from plugins.request_tracker.app import build_plugin
from plugins.request_tracker.settings import RequestTrackerSettings

SECRET = "rt-secret"
FIELDS = {"2": "Category", "3": "Confidence", "4": "Tags"}
_USERS = {"person": "agent", "customer": "pat@example.com", "rule": "RT_System", "bulk": "RT_System", "ourselves": "bot"}


class RequestTrackerDouble:
    name = "request_tracker"
    can_poll = True

    def __init__(self):
        self.clock = FakeClock()
        self.is_down = False
        self.limited_s = 0.0
        self.n_requests = 0
        self.tickets: dict[str, dict] = {}
        self.transactions: dict[str, list[dict]] = {}
        self.texts: dict[str, list[dict]] = {}
        self.refuses_values = False
        self._loses_answer = False
        self._ids = itertools.count(1)

    def build(self, bot, **settings):
        values = {
            "url": "http://rt", "token": "t", "user": "bot", "queues": ["Support"], "webhook_secret": SECRET,
            "label_field": "Category", "tag_field": "Tags", "poll_interval_s": 0, "backfill_days": 0, "requests_per_minute": 5000,
        }  # fmt: skip
        transport = httpx.MockTransport(self._answer)
        return build_plugin(bot, RequestTrackerSettings(**(values | settings)), clock=self.clock, transport=transport)

    def open_ticket(self, subject, text, *, queue="Support"):
        ticket_id = str(next(self._ids))
        self.tickets[ticket_id] = {
            "id": int(ticket_id), "EffectiveId": {"type": "ticket", "id": ticket_id}, "Subject": subject, "Status": "new",
            "Queue": {"type": "queue", "id": "3", "Name": queue}, "Owner": {"type": "user", "id": "Nobody"}, "Priority": "0",
            "Requestor": [{"type": "user", "id": _USERS["customer"]}], "Creator": {"type": "user", "id": _USERS["customer"]},
            "Created": self._now(), "LastUpdated": self._now(),
            "CustomFields": [{"id": number, "name": name, "type": "customfield", "values": []} for number, name in FIELDS.items()],
        }  # fmt: skip
        self.transactions[ticket_id], self.texts[ticket_id] = [], []
        self._add(ticket_id, "Create", "customer", text=text)
        return ticket_id

    def say(self, ticket_id, text, *, by="customer"):
        self._add(ticket_id, "Correspond", by, text=text)

    def choose(self, ticket_id, label, *, by="person"):
        self._set_field(ticket_id, "Category", [label], by)

    def apply_macro(self, ticket_id, label):
        raise NotImplementedError

    def solve(self, ticket_id, *, by="person"):
        self.tickets[ticket_id]["Status"] = "resolved"
        self._add(ticket_id, "Status", by, Field="Status", NewValue="resolved")

    def delete(self, ticket_id):
        self._add(ticket_id, "Status", "person", Field="Status", NewValue="deleted")
        self.tickets[ticket_id]["Status"] = "deleted"

    def get_label(self, ticket_id):
        return ",".join(self._get_field(ticket_id, "Category")["values"])

    def get_notes(self, ticket_id):
        comments = {item["id"] for item in self.transactions[ticket_id] if item["Type"] == "Comment"}
        return [item["Content"] for item in self.texts[ticket_id] if item["TransactionId"] in comments]

    def lose_next_answer(self):
        self._loses_answer = True

    def count_untold(self, ticket_id):
        return 1

    def build_webhook(self, ticket_id, *, event=""):
        """The scrip's post about the last transaction; `event` names one of its own that is told of in its place."""
        last = self.transactions[ticket_id][-1]
        number = int.from_bytes(event.encode()[-6:]) + 10**9 if event else int(last["id"])
        message = {"event": last["Type"], "transaction_id": number, "creator": "agent", "ticket": {"id": int(ticket_id)}}
        return self.sign(json.dumps(message).encode())

    def sign(self, body):
        timestamp = str(int(self.clock.now().timestamp()))
        return body, {"X-RT-Timestamp": timestamp, "X-RT-Signature": sign_hex(SECRET, f"{timestamp}.".encode() + body)}

    def _answer(self, request):
        self.n_requests += 1
        assert request.headers["authorization"] == "token t"
        if self.is_down:
            raise httpx.ConnectError("connection refused", request=request)
        if self.limited_s:
            seconds, self.limited_s = self.limited_s, 0.0
            return httpx.Response(429, headers={"Retry-After": str(int(seconds))})
        path, body = request.url.path.removeprefix("/REST/2.0"), json.loads(request.content) if request.content else None
        if path == "/tickets":
            return self._search(request.url.params)
        ticket_id, part = re.fullmatch(r"/ticket/(\d+)(?:/(\w+))?", path).groups()
        if ticket_id not in self.tickets:
            return httpx.Response(404, json={"message": "Not Found"})
        if request.method == "GET":
            return self._show(ticket_id, part)
        if request.method == "PUT":
            return self._update(ticket_id, body)
        self._add(ticket_id, "Comment", "ourselves", text=body["Content"])
        if self._loses_answer:
            self._loses_answer = False
            raise httpx.ReadTimeout("no answer", request=request)
        return httpx.Response(201, json=["Comments added"])

    def _show(self, ticket_id, part):
        if part is None:
            return httpx.Response(200, json=self.tickets[ticket_id])
        items = self.transactions[ticket_id] if part == "history" else self.texts[ticket_id]
        return httpx.Response(200, json={"items": items[::-1], "count": len(items), "page": 1, "pages": None, "total": None})

    def _update(self, ticket_id, body):
        for name, value in body.get("CustomFields", {}).items():
            if self.refuses_values and name == "Category":
                return httpx.Response(200, json=["Invalid value for custom field"])
            self._set_field(ticket_id, name, value if isinstance(value, list) else [value], "ourselves")
        return httpx.Response(200, json=["Category changed"])

    def _search(self, params):
        since = re.search(r"LastUpdated >= '([^']+)'", params["query"]).group(1).replace(" ", "T") + "Z"
        status = re.search(r"Status = '(\w+)'", params["query"])
        assert "Queue = 'Support'" in params["query"]
        found = [
            {"type": "ticket", "id": ticket_id, "LastUpdated": ticket["LastUpdated"]}
            for ticket_id, ticket in self.tickets.items()
            if ticket["LastUpdated"] >= since
            and ticket["Status"] != "deleted"
            and (not status or ticket["Status"] == status.group(1))
        ]
        found.sort(key=lambda item: item["LastUpdated"])
        return httpx.Response(200, json={"items": found, "count": len(found), "page": 1, "pages": 1, "total": len(found)})

    def _get_field(self, ticket_id, name):
        return next(field for field in self.tickets[ticket_id]["CustomFields"] if field["name"] == name)

    def _set_field(self, ticket_id, name, values, by):
        field = self._get_field(ticket_id, name)
        for value in values:
            if value not in field["values"]:
                self._add(ticket_id, "CustomField", by, Field=field["id"], NewValue=value)
        field["values"] = values

    def _add(self, ticket_id, kind, by, *, text="", **more):
        number = str(next(self._ids))
        item = {"id": number, "type": "transaction", "Type": kind, "Created": self._now(), "Field": "", "NewValue": ""} | more
        self.transactions[ticket_id].append(item | {"Creator": {"type": "user", "id": _USERS[by]}})
        if text:
            attachment = {
                "id": number,
                "type": "attachment",
                "ContentType": "text/plain",
                "TransactionId": number,
                "Content": text,
            }
            self.texts[ticket_id].append(attachment)
        self.tickets[ticket_id]["LastUpdated"] = self._now()

    def _now(self):
        return self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
