"""What is the generic webhook's alone: paths, words for states and actors, clicks, and asking for a suggestion."""

import json

import pytest

from bot.plugin_api import BusyError, FeedbackKind
from plugins.helpdesk.values import Author
from plugins.webhook.reading import Reader, ReadingError, follow
from plugins.webhook.settings import WebhookSettings
from tests.plugins.helpdesk.conformance import Harness, desk
from tests.plugins.webhook.webhook_double import SECRET, WebhookDouble

__all__ = ["desk"]
PLACE = "/plugins/webhook"


@pytest.fixture
def double():
    return WebhookDouble()


async def post(desk, path, body):
    content, headers = desk.double.sign(json.dumps(body).encode() if not isinstance(body, bytes) else body)
    answer = await desk.http.post(f"{PLACE}{path}", content=content, headers=headers)
    return answer.status_code, answer.json()


async def ask(desk, ticket_id, *, signed=None):
    path = f"{PLACE}/tickets/{ticket_id}"
    _, headers = desk.double.sign((signed or path).encode())
    answer = await desk.http.get(path, headers=headers)
    return answer.status_code, answer.json()


def build_reader(**settings):
    return Reader(WebhookSettings(secret=SECRET, **settings))


def test_paths_lead_through_objects_and_lists():
    body = {"a": {"b": [{"c": 1}, {"c": None}]}, "n": 0}
    paths = ("a.b.0.c", "a.b.1.c", "a.b.2.c", "a.b.x", "n", "n.m", "z")
    assert [follow(body, path) for path in paths] == [1, None, None, None, 0, None, None]


def test_json_of_any_shape_is_read_by_its_paths():
    reader = build_reader(
        paths={
            "ticket_id": "case.no",
            "text": "case.body",
            "label": "case.fields.0.value",
            "status": "case.phase",
            "actor_kind": "by",
        },
        statuses={"Erledigt": "solved"},
        actor_kinds={"Sachbearbeiter": "person"},
    )
    case = {"no": 17, "body": "Kaputt", "fields": [{"value": "Drucker"}], "phase": "erledigt"}
    message = reader.read({"case": case, "by": "sachbearbeiter", "extra": {"secret": "quokka"}})
    assert (message["ticket_id"], message["turns"], message["label"]) == ("17", [["customer", "Kaputt"]], "Drucker")
    assert (message["state"], message["author"]) == ("solved", "person")
    assert "quokka" not in str(message)


@pytest.mark.parametrize(
    ("kind", "author"),
    [
        ("agent", Author.PERSON),
        ("End-User", Author.CUSTOMER),
        ("import", Author.BULK),
        ("workflow", Author.RULE),
        ("", Author.RULE),
    ],
)
def test_who_is_not_known_to_be_a_person_is_taken_for_a_rule(kind, author):
    message = build_reader().read({"ticket": {"id": "1"}, "actor": {"kind": kind}})
    assert message["author"] == author.value


def test_messages_go_before_the_text_and_keep_their_speakers():
    messages = [
        {"from": "customer", "text": "Hi"},
        {"from": "Ana", "text": "Hello"},
        {"text": "Bye"},
        {"from": "x", "text": ""},
        "odd",
    ]
    message = build_reader().read({"ticket": {"id": "1", "text": "no", "messages": messages}})
    assert message["turns"] == [["customer", "Hi"], ["agent", "Hello"], ["customer", "Bye"]]


def test_a_change_without_a_state_or_label_leaves_both_as_they_are():
    message = build_reader().read({"ticket": {"id": "1"}})
    assert (message["state"], message["label"]) == (None, None)


@pytest.mark.parametrize("body", [{}, {"ticket": {"id": ""}}, {"ticket": {"id": {"x": 1}}}, {"ticket": []}])
def test_json_without_a_ticket_is_refused(body):
    with pytest.raises(ReadingError, match=r"ticket\.id"):
        build_reader().read(body)


@pytest.mark.parametrize(
    "wrong", [{"secret": "short"}, {"paths": {"colour": "x"}}, {"statuses": {"x": "gone"}}, {"actor_kinds": {"x": "robot"}}]
)
def test_settings_that_make_no_sense_are_refused_without_repeating_the_secret(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))) as caught:
        WebhookSettings(**({"secret": SECRET} | wrong))
    assert "short" not in str(caught.value)


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}"])
async def test_body_that_is_no_ticket_is_refused(desk, body):
    status, answer = await post(desk, "/webhook", body)
    assert (status, "error" in answer) == (400, True)


async def test_suggestion_is_given_to_those_who_ask_with_a_signature(desk):
    ticket_id = await desk.suggest()
    status, shown = await ask(desk, ticket_id)
    assert (status, shown["label"], shown["decision"]) == (200, desk.get_suggested(ticket_id), None)
    assert (await ask(desk, "nobody"))[0] == 404
    assert (await ask(desk, ticket_id, signed=f"{PLACE}/tickets/other"))[0] == 401


async def test_blind_suggestion_is_not_given_away(desk):
    desk.bot.is_blind = True
    ticket_id = await desk.suggest()
    _, shown = await ask(desk, ticket_id)
    assert (shown["is_blind"], "label" in shown, "candidates" in shown) == (True, False, False)


async def test_without_a_callback_suggestions_wait_to_be_asked_for(double):
    harness = Harness(double, callback_url="")
    await harness.plugin.desk.start()
    ticket_id = await harness.suggest()
    assert double.n_requests == 0
    assert (await ask(harness, ticket_id))[1]["label"] == harness.get_suggested(ticket_id)
    await harness.plugin.stop()
    await harness.http.aclose()


async def test_click_counts_once_and_is_not_passive(desk):
    ticket_id = await desk.suggest()
    other = desk.get_other(ticket_id)
    click = {"ticket_id": ticket_id, "kind": "override", "value": other, "actor": "ana", "key": "click-1"}
    answers = [(await post(desk, "/feedback", click))[1]["status"] for _ in range(2)]
    assert answers == ["recorded", "known"]
    [feedback] = desk.bot.feedback
    assert (feedback.kind, feedback.value, feedback.is_passive) == (FeedbackKind.OVERRIDE, other, False)


async def test_solving_does_not_replace_a_click(desk):
    ticket_id = await desk.suggest()
    click = {"ticket_id": ticket_id, "kind": "override", "value": desk.get_other(ticket_id), "actor": "ana", "key": "click-1"}
    await post(desk, "/feedback", click)
    desk.double.solve(ticket_id)
    await desk.tell(ticket_id)
    assert [feedback.kind for feedback in desk.bot.feedback] == [FeedbackKind.OVERRIDE]


async def test_summary_is_decided_on_too(desk):
    ticket_id = await desk.suggest()
    edit = {"ticket_id": ticket_id, "kind": "edit", "task": "summary", "value": "VPN down.", "actor": "ana", "key": "click-1"}
    assert (await post(desk, "/feedback", edit))[0] == 200
    assert desk.bot.feedback[0].value == "VPN down."


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"ticket_id": "nobody"}, 404),
        ({"kind": "shrug"}, 422),
        ({"actor": ""}, 422),
        ({"colour": "red"}, 422),
        ({"value": "no such label"}, 409),
    ],
)
async def test_decision_that_makes_no_sense_is_refused_with_a_sentence(desk, change, status):
    ticket_id = await desk.suggest()
    click = {"ticket_id": ticket_id, "kind": "override", "value": desk.get_other(ticket_id), "actor": "ana", "key": "click-1"}
    found, answer = await post(desk, "/feedback", click | change)
    assert (found, bool(answer["error"])) == (status, True)
    assert desk.bot.feedback == []


async def test_busy_bot_asks_to_come_again(desk):
    ticket_id = await desk.suggest()
    desk.bot.fail_with = BusyError("later")
    content, headers = desk.double.sign(
        json.dumps({"ticket_id": ticket_id, "kind": "accept", "actor": "ana", "key": "click-1"}).encode()
    )
    answer = await desk.http.post(f"{PLACE}/feedback", content=content, headers=headers)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_late_event_tells_how_the_ticket_was_and_changes_nothing(desk):
    ticket_id = await desk.suggest()
    label = desk.double.get_label(ticket_id)
    late = {
        "event_id": "late", "at": "2020-01-01T00:00:00Z", "actor": {"id": "7", "kind": "person"},
        "ticket": {"id": ticket_id, "subject": "Old", "text": "Old words", "status": "solved", "label": "x"},
    }  # fmt: skip
    assert (await post(desk, "/webhook", late))[1] == {"status": "stored"}
    await desk.settle()
    kept = await desk.plugin.desk.client.fetch_ticket(ticket_id)
    assert (kept.state.value, kept.fields["label"]) == ("open", label)
    assert len(desk.double.get_notes(ticket_id)) == 1
