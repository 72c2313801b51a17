"""The sidebar app in a real Chromium, inside a page that plays Zendesk's workspace, with Zendesk's own SDK."""

import json

import pytest

from bot.plugin_api import BusyError, FeedbackKind
from tests.plugins.console.console_helpers import CHROMIUM_ARGS, find_chromium
from tests.plugins.console.test_browser import AUDIT, CLEAN
from tests.plugins.zendesk.sidebar_browser import AGENT, HOST, TICKET, Desk, Sidebar, run, serve
from tests.plugins.zendesk.sidebar_helpers import APP_SECRET, OTHER_AGENT
from tests.plugins.zendesk.zaf_sdk import ADDRESS, load_sdk
from tests.plugins.zendesk.zendesk_double import LABEL_FIELD

pytestmark = pytest.mark.browser
LABEL_PATH = f"ticket.customField:custom_field_{LABEL_FIELD}"
FRAME = {"width": 340, "height": 900}


@pytest.fixture(scope="module")
def chromium():
    """One browser per module: while it lives its event loop is the thread's, and async tests could not run."""
    if not (HOST / "host.html").exists():
        pytest.skip("no ../shared/peers/zaf-host beside the checkout")
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium: install one (apt-get install chromium) or name it in UNDERSTUDY_CHROMIUM")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    load_sdk()
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=CHROMIUM_ARGS)
        yield browser
        browser.close()


@pytest.fixture
def desk(monkeypatch):
    monkeypatch.setenv("ZENDESK_APP_SECRET", APP_SECRET)
    desk = Desk()
    with serve(desk.build_app()) as address:
        desk.address = address
        yield desk


@pytest.fixture
def sidebar(chromium, desk):
    """A page; at its end none may have logged an error (a breach of the content security policy is one)."""
    errors = []
    context = chromium.new_context(viewport=FRAME)
    context.route(ADDRESS, lambda route: route.fulfill(body=load_sdk(), content_type="text/javascript"))
    page = context.new_page()
    page.set_default_timeout(10_000)
    page.on("console", lambda message: errors.append(message.text) if is_fault(message) else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield Sidebar(page, desk)
    context.close()
    assert errors == []


def is_fault(message):
    """What the host itself is told about its frame is not the app's fault."""
    return message.type in {"error", "warning"} and "can escape its sandboxing" not in message.text


@pytest.fixture
def card(sidebar, desk):
    desk.take_in()
    return sidebar.start()


def get_feedback(desk):
    return [(given.kind, given.value, given.reason) for given in desk.bot.feedback]


def test_card_shows_label_confidence_fields_reason_and_alternatives(card, desk):
    shown = desk.bot.tickets[1].classification
    card.see("Billing")
    assert card.frame.get_by_text("Very likely").is_visible()
    assert card.frame.get_by_text(f"{shown.confidence:.0%}", exact=True).is_visible()
    assert card.frame.locator("dl.fields").inner_text().split() == "Queue Finance Priority Normal Escalate No".split()
    assert card.frame.get_by_text(shown.reason).is_visible()
    assert card.frame.locator(".other").count() == 3


def test_accept_by_mouse_fills_the_form(card, desk):
    card.click("Accept")
    card.see("Accepted by you")
    assert get_feedback(desk) == [(FeedbackKind.ACCEPT, None, None)]
    assert (desk.bot.feedback[0].actor, desk.bot.feedback[0].decision_ms is not None) == (f"zendesk:{AGENT}", True)
    assert card.get(LABEL_PATH) == "understudy_billing"


def test_override_with_a_reason_by_keyboard_alone(card, desk):
    card.frame.locator("body").press("Tab")
    card.page.keyboard.press("Tab")
    assert card.evaluate("document.activeElement.textContent") == "Override"
    card.page.keyboard.press("Enter")
    assert card.evaluate("document.activeElement.tagName") == "SELECT"
    card.page.keyboard.type("Hard")
    card.page.keyboard.press("Tab")
    card.page.keyboard.type("it was the dock")
    card.page.keyboard.press("Tab")
    card.page.keyboard.press("Enter")
    card.see("Label chosen by you")
    assert get_feedback(desk) == [(FeedbackKind.OVERRIDE, "Hardware", "it was the dock")]
    assert card.get(LABEL_PATH) == "understudy_hardware"
    assert card.evaluate("document.activeElement.id") == "card-title"


def test_escape_closes_the_form_and_returns_to_its_button(card, desk):
    card.click("Override")
    card.page.keyboard.press("Escape")
    assert card.evaluate("document.activeElement.textContent") == "Override"
    assert desk.bot.feedback == []


def test_override_without_a_label_says_what_is_missing(card, desk):
    card.click("Override")
    card.click("Save label")
    card.see("Choose a label first.")
    assert card.evaluate("document.activeElement.getAttribute('aria-invalid')") == "true"
    assert desk.bot.feedback == []


def test_alternative_is_an_override_in_one_click(card, desk):
    card.frame.locator(".other").first.click()
    card.see("Label chosen by you")
    assert desk.bot.feedback[0].kind is FeedbackKind.OVERRIDE


def test_hand_off_with_a_reason_leaves_the_form_alone(card, desk):
    card.click("Hand off")
    card.frame.get_by_label("Why").fill("needs a phone call")
    card.click("Hand off to a person")
    card.see("Handed off to a person by you")
    assert get_feedback(desk) == [(FeedbackKind.HANDOFF, None, "needs a phone call")]
    assert card.get(LABEL_PATH) is None


def test_undo_opens_the_ticket_and_puts_the_form_back(sidebar, desk):
    desk.take_in()
    sidebar.start(ticket={LABEL_PATH: "understudy_other"})
    sidebar.click("Accept")
    sidebar.see("Accepted by you")
    assert sidebar.get(LABEL_PATH) == "understudy_billing"
    sidebar.click("Undo")
    sidebar.see("Suggested label")
    assert (sidebar.get(LABEL_PATH), desk.bot.withdrawn) == ("understudy_other", [1])


def test_changing_a_decision_keeps_the_last_word(card, desk):
    card.click("Accept")
    card.click("Change")
    card.frame.get_by_label("Label", exact=True).select_option("Hardware")
    card.click("Save label")
    card.see("Suggested was Billing")
    assert [given.kind for given in desk.bot.feedback] == [FeedbackKind.ACCEPT, FeedbackKind.OVERRIDE]


def test_double_click_is_one_feedback(card, desk):
    card.frame.get_by_role("button", name="Accept", exact=True).dblclick()
    card.see("Accepted by you")
    assert len(desk.bot.feedback) == 1


def test_summary_is_made_and_edited(card, desk):
    card.click("Summarise")
    card.see("Excerpt")
    card.click("Edit")
    text = card.frame.get_by_role("textbox", name="Summary")
    assert "yearly subscription" in text.input_value()
    text.fill("Charged twice; wants the second charge back.")
    card.click("Save summary")
    card.see("Edited")
    assert get_feedback(desk) == [(FeedbackKind.EDIT, "Charged twice; wants the second charge back.", None)]
    assert card.frame.get_by_role("status").inner_text() == "Summary saved."


def test_summary_is_accepted(card, desk):
    card.click("Summarise")
    card.click("Looks right")
    card.frame.get_by_role("button", name="Looks right").wait_for(state="detached")
    assert [given.kind for given in desk.bot.feedback] == [FeedbackKind.ACCEPT]


def test_macro_of_zendesk_is_applied_to_the_form_and_counts_as_weak_accept(card, desk):
    number = next(str(macro["id"]) for macro in desk.double.macros if macro["title"] == "Answers::Billing")
    body = "I have checked the invoice. Agent One"
    changes = {"priority": "high", "tags": "refund billing", "comment": {"body": "..."}, "fields": {"id": 55, "value": "eu"}}
    desk.api[f"/api/v2/macros/{number}/apply.json"] = {"result": {"ticket": changes}}
    after = {"priority": "high", "status": "open", "tags": ["refund", "billing"], "comment": {"body": body, "public": False}}
    desk.api[f"/api/v2/tickets/{TICKET}/macros/{number}/apply.json"] = {"result": {"ticket": after}}
    card.set("ticket.tags", ["billing"])
    card.set("ticket.status", "pending")
    card.click("Apply macro")
    card.see("Accepted by you")
    card.frame.get_by_role("status").get_by_text("Macro applied").wait_for()
    assert (card.get("ticket.priority"), card.get("ticket.status")) == ("high", "pending")  # the macro does not touch the status
    assert card.get("ticket.customField:custom_field_55") == "eu"
    assert card.get("ticket.tags") == ["billing", "refund"]
    assert (card.get("comment.text"), card.get("comment.type")) == (body, "internalNote")
    assert card.get(LABEL_PATH) == "understudy_billing"
    assert [(given.kind, given.is_passive) for given in desk.bot.feedback] == [(FeedbackKind.ACCEPT, True)]


def test_macro_that_zendesk_refuses_says_so(card, desk):
    card.click("Apply macro")
    card.frame.get_by_role("alert").get_by_text("The macro could not be applied here.").wait_for()
    assert card.get("comment.text") == ""


def test_macro_that_is_a_text_goes_into_the_reply(sidebar, desk):
    desk.double.macros.clear()
    desk.take_in()
    sidebar.start()
    sidebar.click("Apply macro")
    sidebar.frame.get_by_role("status").get_by_text("Macro applied").wait_for()
    assert sidebar.get("comment.text").startswith("I have checked the invoice you named.")


def test_blind_ticket_reveals_the_suggestion_after_the_choice(sidebar, desk):
    desk.bot.is_blind = True
    desk.take_in()
    sidebar.start()
    sidebar.see("Your choice first")
    assert sidebar.frame.get_by_text("likely").count() == 0
    assert not any("Finance" in json.dumps(entry) for entry in sidebar.page.evaluate("window.zaf.log"))
    sidebar.frame.get_by_label("Label", exact=True).select_option("Hardware")
    sidebar.click("Choose and reveal")
    sidebar.see("Suggested, unseen by you: Billing")
    assert desk.bot.feedback[0].value == "Hardware"


def test_looking_away_keeps_a_half_made_blind_choice(sidebar, desk):
    desk.bot.is_blind = True
    desk.take_in()
    sidebar.start()
    sidebar.frame.get_by_label("Label", exact=True).select_option("Hardware")
    n_asked = len(desk.asked)
    sidebar.page.evaluate("window.zaf.fire('app.activated', {})")
    while len(desk.asked) == n_asked:
        sidebar.page.wait_for_timeout(20)
    sidebar.page.wait_for_timeout(200)
    assert sidebar.frame.get_by_label("Label", exact=True).input_value() == "Hardware"


def test_paused_and_resumed(sidebar, desk):
    desk.bot.is_paused = True
    desk.take_in()
    sidebar.start()
    sidebar.see("Suggestions are paused")
    desk.bot.is_paused = False
    desk.take_in()
    sidebar.click("Try again")
    sidebar.see("Suggested label")


def test_no_suggestion_says_why(sidebar, desk):
    desk.bot.is_masking_broken = True
    desk.take_in()
    sidebar.start()
    sidebar.see("No suggestion")
    sidebar.see("could not be masked")


def test_ticket_the_bot_has_not_seen_is_taken_in_while_the_app_waits(sidebar, desk):
    ticket_id = desk.double.open_ticket("Invoice", "The invoice shows a charge twice.")
    sidebar.start(ticket={"ticket.id": int(ticket_id)})
    sidebar.see("Suggested label")
    assert ("classify", ticket_id) in desk.bot.calls


def test_busy_click_can_be_tried_again_and_counts_once(card, desk):
    desk.bot.fail_with = BusyError("too much at once")
    card.click("Accept")
    card.frame.get_by_role("alert").get_by_text("The model is busy").wait_for()
    card.click("Try again")
    card.see("Accepted by you")
    keys = {json.loads(asked["data"])["key"] for asked in desk.asked if asked["url"].endswith("/decide")}
    assert (len(keys), len(desk.bot.feedback)) == (1, 1)


def test_bot_that_is_down_is_told_and_found_again(sidebar, desk):
    desk.take_in()
    desk.is_down = True
    sidebar.start()
    sidebar.frame.get_by_role("alert").get_by_text("Understudy cannot be reached").wait_for()
    desk.is_down = False
    sidebar.click("Try again")
    sidebar.see("Suggested label")


def test_wrong_secret_is_refused_and_shows_nothing_of_the_ticket(sidebar, desk):
    desk.take_in()
    desk.secret = "another-secret-than-the-bot-was-given-000000"
    sidebar.start()
    sidebar.frame.get_by_role("alert").get_by_text("The request was refused").wait_for()
    assert "Billing" not in sidebar.frame.locator("main").inner_text()


def test_secret_never_reaches_the_page(card):
    assert APP_SECRET not in json.dumps(card.page.evaluate("window.zaf.log"))
    assert APP_SECRET not in card.evaluate("document.documentElement.outerHTML")


def test_decision_of_a_colleague_is_named_and_can_be_undone(sidebar, desk):
    shown = desk.take_in()
    sidebar.start()
    key = {"inference_id": shown.inference_id, "key": "colleague-1", "kind": "accept"}
    claims = {"iss": "peer", "sub": OTHER_AGENT, "ticket": str(TICKET), "jti": "c" * 32}
    wish = {"algorithm": "HS256", "secret_key": "{{setting.shared_secret}}", "expiry": 60, "claims": claims}
    options = {"type": "POST", "data": json.dumps(key), "secure": True, "cors": False, "autoRetry": False, "jwt": wish}
    desk.proxy(
        options | {"url": f"{desk.address}/plugins/zendesk/app/decide", "headers": {"Authorization": "Bearer {{jwt.token}}"}}
    )
    sidebar.page.evaluate("window.zaf.fire('app.activated', {})")
    sidebar.see("Accepted by Agent Two")
    sidebar.click("Undo")
    sidebar.see("Suggested label")
    assert desk.bot.withdrawn == [1]


def test_card_that_was_overtaken_is_loaded_anew(card, desk):
    desk.take_in(text="The VPN does not connect.", subject="VPN")
    card.click("Accept")
    card.see("This has changed meanwhile")
    card.click("Try again")
    card.see("Network and VPN")
    assert desk.bot.feedback == []


def test_markup_stays_text(sidebar, desk):
    label = desk.bot.label_set.labels[0].name
    desk.bot.answer = (label, 0.4)
    desk.take_in()
    detail = desk.bot.tickets[1]
    object.__setattr__(detail.classification, "reason", "<img src=x onerror=alert(1)> & <b>bold</b>")
    sidebar.start()
    sidebar.see("<img src=x onerror=alert(1)> & <b>bold</b>")
    assert sidebar.frame.locator("main img, main b").count() == 0
    assert sidebar.frame.get_by_text("Unsure").is_visible()


def test_app_without_an_address_says_what_to_do(sidebar):
    sidebar.start(has_address=False)
    sidebar.see("The app is not set up")


def test_app_outside_zendesk_says_so(sidebar, desk):
    sidebar.page.goto(f"{desk.address}/app/iframe.html")
    sidebar.page.get_by_text("Open this app in Zendesk").wait_for()


def test_german_agent_reads_german(sidebar, desk):
    desk.take_in()
    sidebar.start(ticket={"currentUser": {"id": AGENT, "name": "Agent One", "locale": "de"}})
    sidebar.see("Vorgeschlagene Kategorie")
    assert sidebar.evaluate("document.documentElement.lang") == "de"


def show_open(sidebar, desk):
    desk.take_in()
    run(desk.bot.summarize("", source=desk.bot.tickets[1].item.source))
    sidebar.start()


def show_override(sidebar, desk):
    show_open(sidebar, desk)
    sidebar.click("Override")


def show_decided(sidebar, desk):
    show_open(sidebar, desk)
    sidebar.click("Accept")
    sidebar.see("Accepted by you")


def show_blind(sidebar, desk):
    desk.bot.is_blind = True
    show_open(sidebar, desk)


def show_edit(sidebar, desk):
    show_open(sidebar, desk)
    sidebar.click("Edit")


def show_down(sidebar, desk):
    desk.is_down = True
    sidebar.start()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("show", [show_open, show_override, show_decided, show_blind, show_edit, show_down])
def test_every_state_is_labelled_and_fits_a_narrow_sidebar(sidebar, desk, show, scheme):
    show(sidebar, desk)
    sidebar.page.evaluate("(scheme) => window.zaf.fire('colorScheme.changed', scheme)", scheme)
    sidebar.page.evaluate("document.getElementById('app').style.width = '270px'")
    sidebar.page.wait_for_timeout(50)
    assert sidebar.evaluate("document.documentElement.dataset.scheme") == scheme
    assert sidebar.evaluate(AUDIT) == CLEAN


def test_frame_is_as_high_as_the_app(card):
    height = card.evaluate("document.documentElement.offsetHeight")
    card.page.wait_for_function("(height) => document.getElementById('app').style.height === `${height}px`", arg=height)
