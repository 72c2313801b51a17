"""Set-up through the API: ticket fields, webhook and trigger. First a plan of what is missing or different, then its steps.

Run again it finds what it made by title or address and changes only what differs. Prints nothing.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from plugins.helpdesk.http import JsonApi
from plugins.zendesk.app import encode_option
from plugins.zendesk.client import API, CONFIDENCE_FIELD_TITLE, LABEL_FIELD_TITLE, list_all

WEBHOOK_NAME = "Understudy"
TRIGGER_TITLE = "Understudy: tell of new and changed tickets"
WEBHOOK_PATH = "/plugins/zendesk/webhook"
_BODY = json.dumps(
    {"type": "understudy.ticket_changed", "ticket_id": "{{ticket.id}}", "updated_at": "{{ticket.updated_at_with_timestamp}}"}
)
_CONDITIONS = {
    "all": [{"field": "status", "operator": "less_than", "value": "closed"}],
    "any": [
        {"field": "update_type", "operator": "is", "value": "Create"},
        {"field": "update_type", "operator": "is", "value": "Change"},
    ],
}
Json = Mapping[str, Any]


@dataclass
class Step:
    """One thing to do: a sentence for the person, and the request that does it."""

    sentence: str
    run: Callable[[], Awaitable[None]]


@dataclass
class Account:
    """What is there already. `webhook_id` is filled in where the webhook is made on the way."""

    fields: Sequence[Json]
    webhooks: Sequence[Json]
    triggers: Sequence[Json]
    webhook_id: str = ""
    steps: list[Step] = field(default_factory=list)


class SetUp:
    """Brings an account into shape for these labels and this public address of the bot."""

    def __init__(self, api: JsonApi, *, public_url: str, labels: Sequence[str]) -> None:
        self._api, self._labels = api, labels
        self._endpoint = public_url.rstrip("/") + WEBHOOK_PATH

    async def plan(self) -> Account:
        """Look at the account and return what is to be done; nothing is changed."""
        account = Account(
            fields=await list_all(self._api, f"{API}/ticket_fields.json", "ticket_fields"),
            webhooks=await list_all(self._api, f"{API}/webhooks", "webhooks"),
            triggers=await list_all(self._api, f"{API}/triggers.json", "triggers"),
        )
        self._plan_label_field(account)
        self._plan_confidence_field(account)
        self._plan_webhook(account)
        self._plan_trigger(account)
        return account

    async def fetch_secret(self, account: Account) -> str:
        """Return the webhook's signing secret, which the bot needs as ZENDESK_WEBHOOK_SECRET."""
        answer = await self._api.get(f"{API}/webhooks/{account.webhook_id}/signing_secret")
        return str((answer.get("signing_secret") or {}).get("secret", ""))

    def _plan_label_field(self, account: Account) -> None:
        wanted = [{"name": label, "value": encode_option(label)} for label in self._labels]
        found = _find(account.fields, "title", LABEL_FIELD_TITLE)
        if found is None:
            body = {"type": "tagger", "title": LABEL_FIELD_TITLE, "custom_field_options": wanted}
            sentence = f"create the drop-down field '{LABEL_FIELD_TITLE}' with {len(wanted)} options"
            account.steps.append(Step(sentence, self._send("POST", "ticket_fields.json", {"ticket_field": body})))
            return
        present = list(found.get("custom_field_options") or [])
        known = {str(option.get("value")) for option in present}
        missing = [option for option in wanted if option["value"] not in known]
        if missing:  # options that are not sent are deleted, with their values in all tickets
            kept = [{name: option[name] for name in ("id", "name", "value") if name in option} for option in present]
            body = {"custom_field_options": [*kept, *missing]}
            sentence = f"add {len(missing)} options to the field '{LABEL_FIELD_TITLE}': {', '.join(o['name'] for o in missing)}"
            account.steps.append(Step(sentence, self._send("PUT", f"ticket_fields/{found['id']}.json", {"ticket_field": body})))

    def _plan_confidence_field(self, account: Account) -> None:
        if _find(account.fields, "title", CONFIDENCE_FIELD_TITLE) is None:
            body = {"type": "decimal", "title": CONFIDENCE_FIELD_TITLE}
            sentence = f"create the number field '{CONFIDENCE_FIELD_TITLE}'"
            account.steps.append(Step(sentence, self._send("POST", "ticket_fields.json", {"ticket_field": body})))

    def _plan_webhook(self, account: Account) -> None:
        found = _find(account.webhooks, "name", WEBHOOK_NAME)
        wanted = {"endpoint": self._endpoint, "http_method": "POST", "request_format": "json", "status": "active"}
        if found is None:
            body = {"name": WEBHOOK_NAME, "subscriptions": ["conditional_ticket_events"], **wanted}
            account.steps.append(
                Step(f"create the webhook '{WEBHOOK_NAME}' to {self._endpoint}", self._make_webhook(account, body))
            )
            return
        account.webhook_id = str(found["id"])
        different = {name: value for name, value in wanted.items() if found.get(name) != value}
        if different:
            sentence = (
                f"change {', '.join(sorted(different))} of the webhook '{WEBHOOK_NAME}', which then posts to {self._endpoint}"
            )
            account.steps.append(Step(sentence, self._send("PATCH", f"webhooks/{found['id']}", {"webhook": different})))

    def _plan_trigger(self, account: Account) -> None:
        found = _find(account.triggers, "title", TRIGGER_TITLE)
        if found is None:
            account.steps.append(
                Step(f"create the trigger '{TRIGGER_TITLE}'", self._put_trigger(account, "POST", "triggers.json"))
            )
            return
        is_same = (
            found.get("active") is not False and account.webhook_id and found.get("actions") == _build_actions(account.webhook_id)
        )
        if not is_same:
            path = f"triggers/{found['id']}.json"
            account.steps.append(Step(f"change the trigger '{TRIGGER_TITLE}'", self._put_trigger(account, "PUT", path)))

    def _send(self, method: str, path: str, body: Json) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            await self._api.send(method, f"{API}/{path}", body=body)

        return run

    def _make_webhook(self, account: Account, body: Json) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            answer = await self._api.send("POST", f"{API}/webhooks", body={"webhook": body}) or {}
            account.webhook_id = str((answer.get("webhook") or {}).get("id", ""))

        return run

    def _put_trigger(self, account: Account, method: str, path: str) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            trigger = {
                "title": TRIGGER_TITLE,
                "active": True,
                "conditions": _CONDITIONS,
                "actions": _build_actions(account.webhook_id),
            }
            await self._api.send(method, f"{API}/{path}", body={"trigger": trigger})

        return run


def _build_actions(webhook_id: str) -> list[Json]:
    return [{"field": "notification_webhook", "value": [webhook_id, _BODY]}]


def _find(items: Sequence[Json], key: str, value: str) -> Json | None:
    return next((item for item in items if item.get(key) == value), None)
