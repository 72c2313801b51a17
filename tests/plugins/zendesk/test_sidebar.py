"""The sidebar app's routes: what they show, what a click does, and who is let in."""

import base64
import json
import logging

import pytest

from bot.plugin_api import BusyError, Feedback, FeedbackKind, SourceRef, TaskKind
from plugins.zendesk.sidebar_token import find_issuer, sign_token
from tests.plugins.helpdesk.conformance import Harness
from tests.plugins.zendesk.sidebar_helpers import APP_SECRET, OTHER_AGENT, App, build_claims
from tests.plugins.zendesk.zendesk_double import LABEL_FIELD, ZendeskDouble

PATHS = ["/card", "/decide", "/undo", "/summary", "/summary/decide", "/macro"]
TEXT = "The VPN does not connect since this morning."
LABEL_PATH = f"ticket.customField:custom_field_{LABEL_FIELD}"


@pytest.fixture
async def app(monkeypatch):
    monkeypatch.setenv("ZENDESK_APP_SECRET", APP_SECRET)
    harness = Harness(ZendeskDouble())
    await harness.plugin.desk.start()
    yield App(harness, await harness.suggest(text=TEXT))
    await harness.plugin.stop()
    await harness.http.aclose()


def tamper(token):
    header, claims, signature = token.split(".")
    content = json.loads(base64.urlsafe_b64decode(claims + "=="))
    content["ticket"] = "1"
    return ".".join([header, base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode(), signature])


def make_unsigned(token):
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none"}).encode()).rstrip(b"=").decode()
    return f"{header}.{token.split('.')[1]}."


class TestWhoIsLetIn:
    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer a.b.c", "Basic YTpi", "Bearer {{jwt.token}}"])
    async def test_unsigned_request_gets_nothing_of_the_ticket(self, app, caplog, path, authorization):
        app.bot.calls.clear()
        with caplog.at_level(logging.DEBUG):
            answer = await app.post(path, {"value": "my own words"}, authorization=authorization)
        assert (answer.status_code, answer.json()["error"]) == (401, "signature")
        assert app.bot.calls == []
        assert app.bot.feedback == []
        assert "VPN" not in answer.text
        assert "my own words" not in caplog.text

    @pytest.mark.parametrize(
        "claims",
        [
            {"iss": "another"},
            {"iss": None},
            {"exp": None},
            {"exp": True},
            {"exp": "soon"},
            {"exp": float("nan")},
            {"sub": None},
            {"sub": "9002 or 1"},
            {"ticket": None},
            {"ticket": "../1"},
            {"jti": None},
            {"jti": "short"},
            {"jti": "a/" * 20},
        ],
    )
    async def test_token_that_says_too_little_is_refused(self, app, claims):
        assert (await app.post("/card", **claims)).status_code == 401

    @pytest.mark.parametrize("seconds", [-61, 3600])
    async def test_token_that_expired_or_lives_too_long_is_refused(self, app, seconds):
        expires_at = int(app.double.clock.now().timestamp()) + seconds
        assert (await app.post("/card", exp=expires_at)).status_code == 401
        assert (await app.post("/card", exp=expires_at, nbf=expires_at)).status_code == 401

    async def test_token_of_the_future_is_refused(self, app):
        assert (await app.post("/card", nbf=int(app.double.clock.now().timestamp()) + 120)).status_code == 401

    async def test_token_counts_once(self, app):
        token = sign_token(build_claims(app.double.clock.now(), app.ticket_id), APP_SECRET)
        statuses = [(await app.post("/card", authorization=f"Bearer {token}")).status_code for _ in range(2)]
        assert statuses == [200, 401]

    async def test_used_token_stays_used_as_long_as_it_lives(self, app):
        token = sign_token(build_claims(app.double.clock.now(), app.ticket_id), APP_SECRET)
        await app.post("/card", authorization=f"Bearer {token}")
        app.double.clock.advance(119)  # a clock that runs behind may still take it for valid
        answer = await app.post("/card", authorization=f"Bearer {token}")
        assert "used before" in answer.json()["message"]

    @pytest.mark.parametrize("change", [tamper, make_unsigned, lambda token: token[:-2]])
    async def test_token_that_was_changed_is_refused(self, app, change):
        token = sign_token(build_claims(app.double.clock.now(), app.ticket_id), APP_SECRET)
        assert (await app.post("/card", authorization=f"Bearer {change(token)}")).status_code == 401

    async def test_token_of_another_secret_is_refused(self, app):
        assert (await app.post("/card", secret="x" * 40)).status_code == 401

    @pytest.mark.parametrize(("secret", "said"), [("", "set ZENDESK_APP_SECRET"), ("short", "too short")])
    async def test_without_a_proper_secret_here_nobody_is_let_in(self, monkeypatch, secret, said):
        monkeypatch.setenv("ZENDESK_APP_SECRET", secret)
        app = App(Harness(ZendeskDouble()), "7")
        answer = await app.post("/card", secret=secret)
        assert answer.status_code == 401
        assert said in answer.json()["message"]
        await app.harness.http.aclose()

    async def test_body_names_neither_ticket_nor_agent(self, app):
        answer = await app.post("/card", {"ticket": "1"})
        assert (answer.status_code, answer.json()["error"]) == (422, "refused")

    async def test_body_that_is_too_long_or_no_json_is_refused(self, app):
        answer = await app.post("/decide", {"inference_id": 1, "key": "k" * 8, "kind": "accept", "reason": "x" * 40_000})
        assert answer.status_code == 413
        token = sign_token(build_claims(app.double.clock.now(), app.ticket_id), APP_SECRET)
        headers = {"Authorization": f"Bearer {token}"}
        answer = await app.harness.http.post("/plugins/zendesk/app/card", content=b"{", headers=headers)
        assert answer.status_code == 400

    def test_issuer_is_the_subdomain(self):
        assert find_issuer("peer", "http://127.0.0.1:1") == "peer"
        assert find_issuer("", "https://example.zendesk.com") == "example"
        assert find_issuer("", "http://127.0.0.1:1") == ""


class TestWhatIsShown:
    async def test_open_ticket_shows_its_card(self, app):
        view = await app.ask("/card")
        card = view["card"]
        assert (view["state"], card["label"]) == ("open", "Network and VPN")
        assert 0 < card["confidence"] <= 1
        assert {"name": "queue", "value": "Network"} in card["fields"]
        assert card["reason"]
        assert card["label"] not in [other["label"] for other in card["alternatives"]]
        assert view["macro"]["title"] == "Answers::Network and VPN"
        assert [label["name"] for label in view["labels"]] == list(app.bot.label_set.names)

    async def test_a_ticket_of_a_brand_with_labels_of_its_own_offers_those_alone(self, app):
        allowed = app.bot.label_set.names[:3]
        source = SourceRef("zendesk", app.ticket_id)
        await app.bot.classify("", source=source, labels=allowed)
        view = await app.ask("/card")
        assert [label["name"] for label in view["labels"]] == list(allowed)

    async def test_answers_are_not_kept_by_caches(self, app):
        assert (await app.post("/card")).headers["cache-control"] == "no-store"

    async def test_blind_ticket_shows_no_trace_of_the_suggestion(self, app):
        app.bot.is_blind = True
        app.ticket_id = await app.harness.suggest(subject="Printer", text="The printer is out of toner and the battery is dead.")
        view = await app.ask("/card")
        assert view["state"] == "blind"
        assert {"card", "macro", "decision"} & set(view) == set()
        assert app.harness.get_suggested(app.ticket_id) not in json.dumps({**view, "labels": []})

    async def test_blind_choice_reveals_the_suggestion(self, app):
        app.bot.is_blind = True
        app.ticket_id = await app.harness.suggest(subject="Printer", text="The printer is out of toner.")
        view = await app.click("/decide", kind="override", value="Billing")
        assert view["state"] == "decided"
        assert view["decision"]["was_blind"]
        assert view["card"]["label"] == app.harness.get_suggested(app.ticket_id)

    async def test_blind_suggestion_cannot_be_accepted_or_its_macro_applied_unseen(self, app):
        app.bot.is_blind = True
        app.ticket_id = await app.harness.suggest(subject="Printer", text="The printer is out of toner.")
        await app.click("/decide", kind="accept", status=422)
        await app.click("/macro", status=409)
        assert app.bot.feedback == []

    async def test_paused_is_told(self, app):
        app.bot.is_paused = True
        app.ticket_id = await app.harness.suggest(text="Another one.")
        view = await app.ask("/card")
        assert (view["state"], "paused" in view["notice"]) == ("paused", True)

    async def test_ticket_that_could_not_be_masked_says_so(self, app):
        app.bot.is_masking_broken = True
        app.ticket_id = await app.harness.suggest(text="Another one.")
        view = await app.ask("/card")
        assert (view["state"], "masked" in view["notice"]) == ("none", True)

    async def test_ticket_that_no_webhook_told_of_is_looked_at(self, app):
        app.ticket_id = app.double.open_ticket("Invoice", "The invoice shows a charge twice.")
        assert (await app.ask("/card"))["state"] == "waiting"
        await app.harness.settle()
        assert (await app.ask("/card"))["card"]["label"] == "Billing"
        assert app.double.get_notes(app.ticket_id) != []

    async def test_asking_again_and_again_makes_one_event(self, app):
        app.ticket_id = "123456"
        for _ in range(3):
            assert (await app.ask("/card"))["state"] == "waiting"
        assert len([event for event in app.harness.plugin.desk.queue.events if event.key.startswith("app:")]) == 1

    async def test_decision_of_somebody_else_is_told(self, app):
        await app.click("/decide", kind="accept", agent=OTHER_AGENT)
        decision = (await app.ask("/card"))["decision"]
        assert (decision["agent_id"], decision["is_own"], decision["can_undo"]) == (OTHER_AGENT, False, True)

    async def test_decision_taken_elsewhere_is_told_without_undo(self, app):
        given = Feedback((await app.ask("/card"))["inference_id"], FeedbackKind.ACCEPT, "first line", "console-1")
        await app.bot.record_feedback(given)
        decision = (await app.ask("/card"))["decision"]
        assert (decision["actor"], decision["agent_id"], decision["can_undo"]) == ("first line", None, False)
        await app.click("/undo", status=422)  # a click has more than a token: undo takes none
        assert (await app.post("/undo")).status_code == 409


class TestDecisions:
    async def test_accept_is_recorded_and_fills_the_form(self, app):
        view = await app.click("/decide", kind="accept", decision_ms=1500)
        given = app.bot.feedback[-1]
        assert (given.kind, given.actor, given.decision_ms, given.is_passive) == (
            FeedbackKind.ACCEPT,
            "zendesk:9002",
            1500,
            False,
        )
        assert view["state"] == "decided"
        assert view["decision"]["is_own"]
        assert view["writes"] == [{"path": LABEL_PATH, "value": "understudy_network_and_vpn", "only_if_empty": False}]

    async def test_override_carries_label_and_reason(self, app):
        view = await app.click("/decide", kind="override", value="Hardware", reason="  the dock  ")
        given = app.bot.feedback[-1]
        assert (given.kind, given.value, given.reason) == (FeedbackKind.OVERRIDE, "Hardware", "the dock")
        assert view["decision"]["label"] == "Hardware"
        assert view["writes"][0]["value"] == "understudy_hardware"

    async def test_choosing_the_suggested_label_is_an_accept(self, app):
        await app.click("/decide", kind="override", value="Network and VPN")
        assert app.bot.feedback[-1].kind is FeedbackKind.ACCEPT

    async def test_handoff_writes_nothing_into_the_form(self, app):
        view = await app.click("/decide", kind="handoff", reason="needs a call")
        assert (view["decision"]["kind"], view["decision"]["label"], view["writes"]) == ("handoff", None, [])

    async def test_same_click_twice_is_one_feedback(self, app):
        click = {"kind": "accept", "inference_id": (await app.ask("/card"))["inference_id"], "key": "one-click"}
        for _ in range(2):
            await app.click("/decide", **click)
        assert len(app.bot.feedback) == 1

    async def test_priority_is_filled_in_where_the_settings_name_its_field(self, monkeypatch):
        monkeypatch.setenv("ZENDESK_APP_SECRET", APP_SECRET)
        harness = Harness(ZendeskDouble(), priority_field="priority", priority_values={"normal": "low"})
        await harness.plugin.desk.start()
        app = App(harness, await harness.suggest())
        view = await app.click("/decide", kind="accept")
        assert {"path": "ticket.priority", "value": "low", "only_if_empty": True} in view["writes"]
        await harness.plugin.stop()
        await harness.http.aclose()

    async def test_decision_counts_even_while_zendesk_does_not_tell_the_field(self, monkeypatch):
        monkeypatch.setenv("ZENDESK_APP_SECRET", APP_SECRET)
        double = ZendeskDouble()
        app = App(Harness(double), "7")
        await app.bot.classify(TEXT, source=SourceRef("zendesk", "7"))
        double.is_down = True
        view = await app.click("/decide", kind="accept")
        assert (view["writes"], len(app.bot.feedback)) == ([], 1)
        await app.harness.http.aclose()

    async def test_click_on_an_old_card_is_refused(self, app):
        old = (await app.ask("/card"))["inference_id"]
        app.double.say(app.ticket_id, "By now the invoice shows a charge twice as well: a refund, please, for the subscription.")
        await app.harness.tell(app.ticket_id)
        answer = await app.click("/decide", kind="accept", inference_id=old, status=409)
        assert answer["error"] == "conflict"
        assert app.bot.feedback == []

    async def test_click_cannot_reach_another_ticket(self, app):
        other = await app.harness.suggest(subject="Invoice", text="The invoice shows a charge twice.")
        theirs = (await App(app.harness, other).ask("/card"))["inference_id"]
        await app.click("/decide", kind="accept", inference_id=theirs, status=409)
        assert app.bot.feedback == []

    async def test_label_outside_the_set_is_refused(self, app):
        await app.click("/decide", kind="override", value="No such label", status=422)

    async def test_busy_says_when_to_ask_again(self, app):
        shown = (await app.ask("/card"))["inference_id"]
        app.bot.fail_with = BusyError("too much at once")
        answer = await app.click("/decide", kind="accept", inference_id=shown, status=503)
        assert (answer["error"], answer["retry_after_s"]) == ("busy", 1)

    async def test_undo_opens_the_ticket_again(self, app):
        await app.click("/decide", kind="accept")
        view = await app.ask("/undo", agent=OTHER_AGENT)
        assert (view["state"], app.bot.withdrawn) == ("open", [1])
        assert (await app.post("/undo")).status_code == 409

    async def test_undo_of_a_decision_that_was_replaced_is_refused(self, app):
        view = await app.click("/decide", kind="accept")
        await app.bot.record_feedback(
            Feedback(view["inference_id"], FeedbackKind.OVERRIDE, "first line", "console-1", value="Hardware")
        )
        assert (await app.post("/undo")).status_code == 409
        assert app.bot.withdrawn == []

    async def test_what_the_form_then_saves_is_not_counted_a_second_time(self, app):
        await app.click("/decide", kind="override", value="Hardware")
        app.double.choose(app.ticket_id, "Hardware")
        await app.harness.tell(app.ticket_id)
        assert [given.is_passive for given in app.bot.feedback] == [False]


class TestSummaryAndMacro:
    async def test_summary_is_made_shown_and_edited(self, app):
        made = (await app.ask("/summary"))["summary"]
        assert made["text"]
        shown = await app.click(
            "/summary/decide", kind="edit", value="VPN down since the morning.", inference_id=made["inference_id"]
        )
        assert (shown["summary"]["text"], shown["summary"]["decision"]) == ("VPN down since the morning.", "edit")
        assert app.bot.feedback[-1].kind is FeedbackKind.EDIT
        assert app.bot._inferences[made["inference_id"]][1] is TaskKind.SUMMARY

    async def test_summary_that_was_replaced_cannot_be_decided_on(self, app):
        old = (await app.ask("/summary"))["summary"]["inference_id"]
        await app.ask("/summary")
        await app.click("/summary/decide", kind="accept", inference_id=old, status=409)

    async def test_summary_of_an_unknown_ticket_is_refused(self, app):
        app.ticket_id = "123456"
        assert (await app.post("/summary")).status_code == 404

    async def test_macro_of_the_helpdesk_is_named_by_its_number(self, app):
        view = await app.click("/macro")
        number = next(str(macro["id"]) for macro in app.double.macros if macro["title"] == "Answers::Network and VPN")
        assert view["apply"] == {"macro_id": number, "text": ""}
        given = app.bot.feedback[-1]
        assert (given.kind, given.is_passive, view["state"]) == (FeedbackKind.ACCEPT, True, "decided")
        assert view["writes"][0]["path"] == LABEL_PATH

    async def test_macro_that_zendesk_does_not_have_comes_as_text(self, app):
        await app.click("/decide", kind="override", value="Billing")
        app.double.macros.clear()
        view = await app.click("/macro")
        assert view["apply"] == {"macro_id": "", "text": app.bot.label_set.get("Billing").macro}
        assert [given.kind for given in app.bot.feedback] == [FeedbackKind.OVERRIDE]

    async def test_label_without_a_macro_has_none_to_apply(self, app):
        await app.click("/decide", kind="override", value="Hardware")
        await app.click("/macro", status=404)

    async def test_macro_while_zendesk_is_down_can_be_tried_again(self, app):
        shown = (await app.ask("/card"))["inference_id"]
        app.double.is_down = True
        answer = await app.click("/macro", inference_id=shown, status=503)
        assert (answer["error"], app.bot.feedback) == ("busy", [])
