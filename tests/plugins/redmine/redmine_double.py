"""A Redmine in memory behind an httpx transport: its REST as far as the plugin uses it, in the shape a real one was seen to answer."""

import itertools
import json
import re

import httpx

from bot.testing import FakeClock
from plugins.redmine.app import build_plugin
from plugins.redmine.settings import RedmineSettings

FIELD = 1
_USERS = {"customer": 4, "person": 5, "ourselves": 6, "rule": 7, "bulk": 7}
_STATUSES = [("1", "New", False), ("3", "Resolved", False), ("5", "Closed", True)]


class RedmineDouble:
    name = "redmine"
    can_poll = True

    def __init__(self):
        self.clock = FakeClock()
        self.is_down = False
        self.limited_s = 0.0
        self.n_requests = 0
        self.issues: dict[str, dict] = {}
        self._loses_answer = False
        self._ids = itertools.count(1)

    def build(self, bot, **settings):
        values = {
            "url": "http://redmine", "api_key": "k", "project": "support", "label_field": str(FIELD), "rule_users": ["7"],
            "poll_interval_s": 0, "backfill_days": 0, "requests_per_minute": 5000,
        }  # fmt: skip
        transport = httpx.MockTransport(self._answer)
        return build_plugin(bot, RedmineSettings(**(values | settings)), clock=self.clock, transport=transport)

    def open_ticket(self, subject, text):
        number = next(self._ids)
        self.issues[str(number)] = {
            "id": number, "project": {"id": 1, "name": "Support"}, "tracker": {"id": 3, "name": "Support"},
            "status": {"id": 1, "name": "New", "is_closed": False}, "priority": {"id": 2, "name": "Normal"},
            "author": {"id": _USERS["customer"], "name": "Pat"}, "subject": subject, "description": text,
            "custom_fields": [{"id": FIELD, "name": "Triage category", "value": None}],
            "created_on": self._now(), "updated_on": self._now(), "journals": [],
        }  # fmt: skip
        return str(number)

    def say(self, ticket_id, text, *, by="customer"):
        self._add(ticket_id, by, notes=text)

    def choose(self, ticket_id, label, *, by="person"):
        before = self.get_label(ticket_id)
        self.issues[ticket_id]["custom_fields"][0]["value"] = label
        self._add(ticket_id, by, details=[{"property": "cf", "name": str(FIELD), "old_value": before, "new_value": label}])

    def apply_macro(self, ticket_id, label):
        raise NotImplementedError

    def solve(self, ticket_id, *, by="person"):
        self.issues[ticket_id]["status"] = {"id": 3, "name": "Resolved", "is_closed": False}
        self._add(ticket_id, by, details=[{"property": "attr", "name": "status_id", "old_value": "1", "new_value": "3"}])

    def delete(self, ticket_id):
        del self.issues[ticket_id]

    def get_label(self, ticket_id):
        return self.issues[ticket_id]["custom_fields"][0]["value"] or ""

    def get_notes(self, ticket_id):
        return [entry["notes"] for entry in self.issues[ticket_id]["journals"] if entry["private_notes"]]

    def lose_next_answer(self):
        self._loses_answer = True

    def count_untold(self, ticket_id):
        return 1

    def build_webhook(self, ticket_id, *, event=""):
        return None

    def _answer(self, request):
        self.n_requests += 1
        assert request.headers["x-redmine-api-key"] == "k"
        if self.is_down:
            raise httpx.ConnectError("connection refused", request=request)
        path, body = request.url.path, json.loads(request.content) if request.content else None
        if path == "/users/current.json":
            return httpx.Response(200, json={"user": {"id": _USERS["ourselves"], "login": "bot"}})
        if path == "/issue_statuses.json":
            statuses = [{"id": int(number), "name": name, "is_closed": closes} for number, name, closes in _STATUSES]
            return httpx.Response(200, json={"issue_statuses": statuses})
        if path == "/issues.json":
            return self._list(request.url.params)
        number = re.fullmatch(r"/issues/(\d+)\.json", path).group(1)
        if number not in self.issues:
            return httpx.Response(404)
        if request.method == "GET":
            return httpx.Response(200, json={"issue": self.issues[number]})
        return self._update(number, body["issue"], request)

    def _list(self, params):
        assert (params["project_id"], params["status_id"]) == ("support", "*")
        since, offset = params["updated_on"].removeprefix(">="), int(params["offset"])
        found = sorted((i for i in self.issues.values() if i["updated_on"] >= since), key=lambda issue: issue["updated_on"])
        page = [{name: value for name, value in issue.items() if name != "journals"} for issue in found[offset : offset + 100]]
        return httpx.Response(200, json={"issues": page, "total_count": len(found), "offset": offset, "limit": 100})

    def _update(self, number, wanted, request):
        for field in wanted.get("custom_fields", []):
            self.choose(number, field["value"], by="ourselves")
        if "notes" in wanted:  # a private note is a journal entry of its own
            self._add(number, "ourselves", notes=wanted["notes"], is_private=wanted["private_notes"])
        if self._loses_answer:
            self._loses_answer = False
            raise httpx.ReadTimeout("no answer", request=request)
        return httpx.Response(204)

    def _add(self, ticket_id, by, *, notes=None, details=(), is_private=False):
        entry = {"id": next(self._ids) + 1000, "user": {"id": _USERS[by], "name": by}, "notes": notes, "created_on": self._now()}
        self.issues[ticket_id]["journals"].append(entry | {"private_notes": is_private, "details": list(details)})
        self.issues[ticket_id]["updated_on"] = self._now()

    def _now(self):
        return self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
