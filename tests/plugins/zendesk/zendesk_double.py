"""A Zendesk in memory, as far as the plugin uses it, behind an httpx transport; answers have the shape of the recorded ones.

`check` is called with every request, so that a test can hold requests against the vendor's document.
"""

import itertools
import json
import re
from datetime import datetime

import httpx

from bot.testing import FakeClock
from bot.testing_samples import LABELS
from plugins.zendesk.app import build_plugin, encode_option
from plugins.zendesk.client import LABEL_FIELD_TITLE
from plugins.zendesk.settings import ZendeskSettings
from plugins.zendesk.webhook import sign

SECRET = "a-signing-secret"
OWN_ID, AGENT_ID, REQUESTER_ID = 9001, 9002, 9003
LABEL_FIELD = 360001
MACROS = ("Network::VPN reset", "Access::Reset password")
_VIAS = {"rule": "rule", "bulk": "batch", "person": "web", "customer": "web", "ourselves": "api"}
_AUTHORS = {"rule": -1, "bulk": AGENT_ID, "person": AGENT_ID, "customer": REQUESTER_ID, "ourselves": OWN_ID}


class ZendeskDouble:
    name = "zendesk"
    can_poll = True

    def __init__(self, check=None) -> None:
        self.clock = FakeClock()
        self.is_down = False
        self.limited_s = 0.0
        self.requests: list[tuple[str, str, object]] = []
        self.tickets: dict[str, dict] = {}
        self.comments: dict[str, list[dict]] = {}
        self.audits: dict[str, list[dict]] = {}
        self.webhooks: list[dict] = []
        self.triggers: list[dict] = []
        self.fields: list[dict] = [
            {"id": LABEL_FIELD, "type": "tagger", "title": LABEL_FIELD_TITLE, "active": True, "custom_field_options": []}
        ]
        self.macros = [{"id": n, "title": title, "active": True, "actions": []} for n, title in enumerate(MACROS, 1)]
        self.labels = LABELS.names
        self._check = check
        self.own_id = OWN_ID
        self.routes = {"show": self._show_ticket, "audits": self._list_audits}  # a test may step in between
        self._loses_answer = False
        self._ids = itertools.count(5000)

    @property
    def n_requests(self):
        return len(self.requests)

    def build(self, bot, **settings):
        self.macros += [
            {
                "id": 100 + n,
                "title": f"Answers::{label.name}",
                "active": True,
                "actions": [{"field": "comment_value", "value": label.macro}],
            }
            for n, label in enumerate(bot.inbox.get_label_set().labels)
            if label.macro
        ]
        values = {"subdomain": "peer", "email": "bot@example.com", "api_token": "t", "webhook_secret": SECRET}
        values |= {"poll_interval_s": 0, "backfill_days": 0}
        return build_plugin(bot, ZendeskSettings(**(values | settings)), clock=self.clock, transport=self.transport())

    def transport(self):
        return httpx.MockTransport(self._answer)

    # What people and rules do in the helpdesk.

    def open_ticket(self, subject, text, **more):
        ticket_id = str(next(self._ids))
        self.tickets[ticket_id] = {
            "id": int(ticket_id), "external_id": None, "via": {"channel": "web", "source": {"from": {}, "to": {}, "rel": None}},
            "created_at": self._now(), "updated_at": self._now(), "type": None, "subject": subject, "description": text,
            "priority": None, "status": "new", "requester_id": REQUESTER_ID, "submitter_id": REQUESTER_ID, "assignee_id": None,
            "group_id": None, "tags": [], "custom_fields": [{"id": LABEL_FIELD, "value": None}], "brand_id": 11,
            "ticket_form_id": 22, "satisfaction_rating": None,
        } | more  # fmt: skip
        self.comments[ticket_id], self.audits[ticket_id] = [], []
        events = [self._add_comment(ticket_id, text, REQUESTER_ID, is_public=True)]
        events += [{"id": next(self._ids), "type": "Create", "field_name": "status", "value": "new"}]
        self._add_audit(ticket_id, events, "customer")
        return ticket_id

    def say(self, ticket_id, text, *, by="customer"):
        self._add_audit(ticket_id, [self._add_comment(ticket_id, text, _AUTHORS[by], is_public=True)], by)

    def choose(self, ticket_id, label, *, by="person"):
        self._add_audit(ticket_id, [self._set_field(ticket_id, LABEL_FIELD, encode_option(label))], by)

    def apply_macro(self, ticket_id, label):
        title = next(macro["title"] for macro in self.macros if macro["title"].endswith(label.name))
        event = {"id": next(self._ids), "type": "AgentMacroReference", "macro_id": "101", "macro_title": title}
        self._add_audit(ticket_id, [event], "person")

    def solve(self, ticket_id, *, by="person"):
        self._add_audit(ticket_id, [self._set(ticket_id, "status", "solved")], by)

    def delete(self, ticket_id):
        self._touch(ticket_id)
        self.tickets[ticket_id]["status"] = "deleted"

    def get_label(self, ticket_id):
        value = self._get_field(ticket_id, LABEL_FIELD) or ""
        return next((name for name in self.labels if encode_option(name) == value), value)

    def get_notes(self, ticket_id):
        return [comment["body"] for comment in self.comments[ticket_id] if not comment["public"]]

    def lose_next_answer(self):
        self._loses_answer = True

    def count_untold(self, ticket_id):
        return 1  # one webhook for however many changes: it only says where to look

    def build_webhook(self, ticket_id, *, event="", kind="ticket.custom_field_changed"):
        ticket = self.tickets[ticket_id]
        message = {
            "account_id": 1, "zendesk_event_version": "2022-11-06", "id": f"{ticket_id}-{event or ticket['updated_at']}",
            "type": f"zen:event-type:{kind}", "subject": f"zen:ticket:{ticket_id}", "time": self._now(), "event": {},
            "detail": {"id": ticket_id, "actor_id": str(AGENT_ID), "subject": ticket["subject"], "description": ticket["description"]},
        }  # fmt: skip
        return self.sign(json.dumps(message).encode())

    def sign(self, body):
        timestamp = self._now()
        signature = sign(SECRET, timestamp, body)
        headers = {"X-Zendesk-Webhook-Signature": signature, "X-Zendesk-Webhook-Signature-Timestamp": timestamp}
        return body, headers | {"Content-Type": "application/json"}

    # The API.

    def _answer(self, request):
        body = json.loads(request.content) if request.content else None
        self.requests.append((request.method, request.url.path, body))
        if self._check is not None:
            self._check(request, body)
        if self.is_down:
            raise httpx.ConnectError("connection refused", request=request)
        if self.limited_s:
            seconds, self.limited_s = self.limited_s, 0.0
            return httpx.Response(429, json={"error": "APIRateLimitExceeded"}, headers={"Retry-After": str(int(seconds))})
        for method, pattern, answer in _ROUTES:
            found = re.fullmatch(pattern, request.url.path)
            if method == request.method and found:
                response = answer(self, body, request.url.params, *found.groups())
                if self._loses_answer and method == "PUT":
                    self._loses_answer = False
                    raise httpx.ReadTimeout("no answer", request=request)
                return response
        return httpx.Response(404, json={"error": "RecordNotFound", "description": "Not found"})

    def _show_ticket(self, _body, _params, ticket_id):
        ticket = self.tickets.get(ticket_id)
        if ticket is None or ticket["status"] == "deleted":
            return httpx.Response(404, json={"error": "RecordNotFound", "description": "Not found"})
        return httpx.Response(200, json={"ticket": ticket})

    def _update_ticket(self, body, _params, ticket_id):
        ticket, wanted = self.tickets[ticket_id], body["ticket"]
        if wanted.get("safe_update") and wanted["updated_stamp"] < ticket["updated_at"]:
            return httpx.Response(409, json={"error": "UpdateConflict", "description": "Safe Update prevented the update"})
        events = [self._set(ticket_id, name, wanted[name]) for name in ("priority", "group_id", "tags") if name in wanted]
        events += [self._set_field(ticket_id, field["id"], field["value"]) for field in wanted.get("custom_fields", [])]
        if "comment" in wanted:
            comment = wanted["comment"]
            events.append(self._add_comment(ticket_id, comment["body"], OWN_ID, is_public=comment["public"]))
        self._add_audit(ticket_id, events, "ourselves", metadata=wanted.get("metadata"))
        return httpx.Response(200, json={"ticket": ticket, "audit": self.audits[ticket_id][-1]})

    def _list_comments(self, _body, _params, ticket_id):
        return httpx.Response(200, json={"comments": self.comments[ticket_id], "meta": {"has_more": False}})

    def _list_audits(self, _body, params, ticket_id):
        start = int(params.get("page[after]", 0))
        audits = self.audits[ticket_id]
        page = audits[start : start + 2]  # small pages, so that every history is read over several
        meta = {"has_more": start + 2 < len(audits), "after_cursor": str(start + 2)}
        return httpx.Response(200, json={"audits": page, "meta": meta})

    def _export(self, _body, params):
        since = int(params.get("start_time") or params["cursor"])
        stamped = [(datetime.fromisoformat(ticket["updated_at"]).timestamp(), ticket) for ticket in self.tickets.values()]
        stamped.sort(key=lambda item: (item[0], item[1]["id"]))
        found = [{**ticket, "generated_timestamp": int(at)} for at, ticket in stamped if at >= since]
        after = str(int(self.clock.now().timestamp()))
        return httpx.Response(200, json={"tickets": found, "after_cursor": after, "end_of_stream": True})

    def _list(self, key):
        return httpx.Response(
            200, json={key: getattr(self, key if key != "ticket_fields" else "fields"), "meta": {"has_more": False}}
        )

    def _create(self, key, body):
        [(name, value)] = body.items()
        made = {"id": f"W{next(self._ids)}" if name == "webhook" else next(self._ids), "active": True, **value}
        if name == "ticket_field":
            options = [{"id": next(self._ids), **option} for option in value.get("custom_field_options", [])]
            made |= {"custom_field_options": options} if options else {}
        getattr(self, key).append(made)
        return httpx.Response(201, json={name: made})

    def _change(self, key, body, item_id):
        [(name, value)] = body.items()
        item = next(item for item in getattr(self, key) if str(item["id"]) == item_id)
        item.update(value)
        return httpx.Response(200, json={name: item})

    def _add_comment(self, ticket_id, text, author, *, is_public):
        comment = {
            "id": next(self._ids), "type": "Comment", "author_id": author, "body": text, "html_body": f"<p>{text}</p>",
            "plain_body": text, "public": is_public, "attachments": [], "created_at": self._now(),
        }  # fmt: skip
        self.comments[ticket_id].append(comment)
        return comment

    def _add_audit(self, ticket_id, events, by, metadata=None):
        self._touch(ticket_id)
        via = {"channel": _VIAS[by], "source": {"from": {}, "to": {}, "rel": "trigger" if by == "rule" else None}}
        self.audits[ticket_id].append(
            {
                "id": next(self._ids),
                "ticket_id": int(ticket_id),
                "created_at": self._now(),
                "author_id": self.own_id if by == "ourselves" else _AUTHORS[by],
                "metadata": {"system": {}, "custom": metadata or {}},
                "events": events,
                "via": via,
            }
        )

    def _set(self, ticket_id, name, value):
        before = self.tickets[ticket_id][name]
        self.tickets[ticket_id][name] = value
        return {"id": next(self._ids), "type": "Change", "field_name": name, "value": value, "previous_value": before}

    def _set_field(self, ticket_id, field_id, value):
        before = self._get_field(ticket_id, field_id)
        field = next(field for field in self.tickets[ticket_id]["custom_fields"] if field["id"] == field_id)
        field["value"] = value
        return {"id": next(self._ids), "type": "Change", "field_name": str(field_id), "value": value, "previous_value": before}

    def _get_field(self, ticket_id, field_id):
        return next(field["value"] for field in self.tickets[ticket_id]["custom_fields"] if field["id"] == field_id)

    def _touch(self, ticket_id):
        self.tickets[ticket_id]["updated_at"] = self._now()

    def _now(self):
        return self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")


def _get(pattern, answer):
    return ("GET", pattern, answer)


_API = "/api/v2"
_ROUTES = [
    _get(rf"{_API}/tickets/(\d+)\.json", lambda self, *rest: self.routes["show"](*rest)),
    ("PUT", rf"{_API}/tickets/(\d+)\.json", ZendeskDouble._update_ticket),
    _get(rf"{_API}/tickets/(\d+)/comments\.json", ZendeskDouble._list_comments),
    _get(rf"{_API}/tickets/(\d+)/audits\.json", lambda self, *rest: self.routes["audits"](*rest)),
    _get(rf"{_API}/incremental/tickets/cursor\.json", ZendeskDouble._export),
    _get(rf"{_API}/macros/active\.json", lambda self, *_: self._list("macros")),
    _get(rf"{_API}/ticket_fields\.json", lambda self, *_: self._list("ticket_fields")),
    ("POST", rf"{_API}/ticket_fields\.json", lambda self, body, _: self._create("fields", body)),
    ("PUT", rf"{_API}/ticket_fields/(\d+)\.json", lambda self, body, _, key: self._change("fields", body, key)),
    _get(rf"{_API}/webhooks", lambda self, *_: self._list("webhooks")),
    ("POST", rf"{_API}/webhooks", lambda self, body, _: self._create("webhooks", body)),
    ("PATCH", rf"{_API}/webhooks/(\w+)", lambda self, body, _, key: self._change("webhooks", body, key)),
    _get(
        rf"{_API}/webhooks/(\w+)/signing_secret",
        lambda *_: httpx.Response(200, json={"signing_secret": {"secret": SECRET, "algorithm": "SHA256"}}),
    ),
    _get(rf"{_API}/triggers\.json", lambda self, *_: self._list("triggers")),
    ("POST", rf"{_API}/triggers\.json", lambda self, body, _: self._create("triggers", body)),
    ("PUT", rf"{_API}/triggers/(\d+)\.json", lambda self, body, _, key: self._change("triggers", body, key)),
    _get(rf"{_API}/users/me\.json", lambda self, *_: httpx.Response(200, json={"user": {"id": self.own_id, "role": "admin"}})),
]
