"""The console in a real Chromium: mouse, keyboard, live progress, without scripts, and at a glance for everybody.

`open_page` fails a test whose pages logged an error; a breach of the content security policy is one.
"""

import re
from pathlib import Path

import pytest

from bot.plugin_api import BASE, FeedbackKind, RunStatus, TaskKind
from plugins.console.pages import HERE

pytestmark = pytest.mark.browser
PAGES = [
    "/",
    "/?show=all",
    "/tickets/14",
    "/tickets/10",
    "/tickets/8",
    "/tickets/3",
    "/tickets/new",
    "/adapters",
    "/training",
    "/training/runs/2",
]
PAGES += ["/adapters/rollback/classification", "/review", "/review/1", "/privacy", "/privacy/people", "/privacy/map"]


def test_accept_by_mouse(open_page, live_bot):
    page = open_page("/")
    page.get_by_role("link", name="Locked out after changing my phone").click()
    page.get_by_role("button", name="Accept", exact=True).click()
    page.get_by_text("Accepted. Thank you").wait_for()
    assert page.get_by_role("heading", name="Account access").is_visible()
    assert "done=" not in page.url
    assert [f.kind for f in live_bot.feedback] == [FeedbackKind.ACCEPT]
    assert live_bot.feedback[0].decision_ms is not None


def test_inbox_and_override_by_keyboard_alone(open_page, live_bot):
    page = open_page("/")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.textContent.trim()") == "Wi-Fi in the meeting room"
    page.keyboard.press("Enter")
    page.wait_for_url("**/tickets/13")
    page.keyboard.press("o")
    page.keyboard.type("phish")
    assert page.locator(".panel[open] .option:visible").count() == 1
    page.keyboard.press("Enter")  # takes the label that is left
    page.keyboard.press("Tab")
    page.keyboard.type("it was a message")
    page.keyboard.press("Enter")
    page.get_by_text("Label saved").wait_for()
    given = live_bot.feedback[0]
    assert (given.kind, given.value, given.reason) == (FeedbackKind.OVERRIDE, "Security incident", "it was a message")


def test_accept_by_key_and_keys_can_be_turned_off(open_page, live_bot):
    page = open_page("/tickets/14")
    page.get_by_label("Keyboard shortcuts").uncheck()
    page.locator("main").focus()
    page.keyboard.press("a")
    page.reload()
    page.keyboard.press("a")
    assert live_bot.feedback == []
    page.get_by_label("Keyboard shortcuts").check()
    page.locator("main").focus()
    page.keyboard.press("a")
    page.get_by_text("Accepted. Thank you").wait_for()
    assert len(live_bot.feedback) == 1


def test_keys_do_nothing_while_typing(open_page, live_bot):
    page = open_page("/tickets/14")
    page.keyboard.press("h")
    page.keyboard.type("aohe")
    assert page.locator("#handoff-why").input_value() == "aohe"
    page.keyboard.press("Escape")
    assert page.locator("#handoff-why").is_hidden()
    assert live_bot.feedback == []


def test_alternative_is_an_override_in_one_click(open_page, live_bot):
    page = open_page("/tickets/11")
    page.locator(".alternative").first.click()
    page.get_by_text("Label saved").wait_for()
    assert live_bot.feedback[0].kind is FeedbackKind.OVERRIDE


def test_hand_off_with_a_reason(open_page, live_bot):
    page = open_page("/tickets/12")
    page.locator("summary", has_text="Hand off").click()
    page.get_by_label("Why").locator("visible=true").fill("needs a phone call")
    page.get_by_role("button", name="Hand off to a person").locator("visible=true").click()
    page.get_by_role("heading", name="Handed off").wait_for()
    assert (live_bot.feedback[0].kind, live_bot.feedback[0].reason) == (FeedbackKind.HANDOFF, "needs a phone call")


def test_edit_summary_and_change_the_decision(open_page, live_bot):
    page = open_page("/tickets/14")
    page.keyboard.press("e")
    page.get_by_role("textbox", name="Summary").fill("Second factor on an old phone; needs a reset today.")
    page.get_by_role("button", name="Save summary").click()
    page.get_by_text("Summary saved.").wait_for()
    page.get_by_role("button", name="Accept", exact=True).click()
    page.get_by_text("Accepted. Thank you").wait_for()
    page.locator("summary", has_text="Change decision").click()
    page.get_by_role("radio", name=re.compile("^Hardware")).check()
    page.get_by_role("button", name="Save this label").click()
    page.get_by_text("Label saved").wait_for()
    assert [f.kind for f in live_bot.feedback] == [FeedbackKind.EDIT, FeedbackKind.ACCEPT, FeedbackKind.OVERRIDE]


def test_double_click_is_one_feedback(open_page, live_bot):
    page = open_page("/tickets/14")
    page.get_by_role("button", name="Accept", exact=True).dblclick()
    page.get_by_role("heading", name="Account access").wait_for()
    assert len(live_bot.feedback) == 1


def test_blind_ticket_reveals_the_suggestion_after_the_choice(open_page, live_bot):
    page = open_page("/tickets/10")
    assert page.get_by_text("Very likely").count() + page.get_by_text("Answered by").count() == 0
    page.get_by_role("radio", name=re.compile("^Hardware")).check()
    page.get_by_role("button", name="Choose and reveal").click()
    page.get_by_text("What was suggested, unseen").wait_for()
    assert live_bot.feedback[0].value == "Hardware"


def test_retrain_shows_live_progress_up_to_the_verdict(open_page, live_bot):
    page = open_page("/training")
    page.get_by_role("button", name="Retrain classification").click()
    page.locator("[data-message]", has_text="Training, step").wait_for()
    assert page.locator("[data-progress] progress").evaluate("(bar) => bar.value") > 10
    page.get_by_role("heading", name="Verdict").wait_for()
    assert page.get_by_text("Accuracy rose from 82.3 % to 87.2 %").is_visible()
    assert live_bot.manager.runs[3].status is RunStatus.PROMOTED
    page.get_by_role("link", name="Adapters").click()
    page.get_by_role("heading", name="Adapters", exact=True).wait_for()
    assert page.get_by_text(live_bot.manager.live(TaskKind.CLASSIFICATION)[:12]).first.is_visible()


def test_cancel_while_running(open_page, live_bot):
    live_bot.manager.run_s = 100_000.0
    page = open_page("/training")
    page.get_by_role("button", name="Retrain summary").click()
    page.get_by_role("button", name="Cancel run").click()
    page.get_by_text("The run was asked to stop.").wait_for()
    assert live_bot.manager.runs[3].status is RunStatus.CANCELLED


def test_promote_and_roll_back(open_page, live_bot):
    first = live_bot.manager.live(TaskKind.CLASSIFICATION)
    page = open_page("/adapters")
    page.get_by_role("row", name=re.compile("Candidate")).get_by_role("link", name=re.compile("Promote")).click()
    page.get_by_label("Why").fill("reviewed with the team")
    page.get_by_role("button", name="Promote").click()
    page.get_by_text("The adapter is live.").wait_for()
    assert live_bot.manager.live(TaskKind.CLASSIFICATION) not in {first, BASE}
    page.get_by_role("link", name="Roll back").first.click()
    page.get_by_label("Why").fill("complaints")
    page.get_by_role("button", name="Roll back").click()
    page.get_by_text("Rolled back.").wait_for()
    assert live_bot.manager.live(TaskKind.CLASSIFICATION) == first


def test_pause_shows_on_every_page_until_resumed(open_page, live_bot):
    page = open_page("/training")
    page.get_by_role("button", name="Pause suggestions").click()
    page.get_by_role("link", name="Inbox").click()
    page.get_by_text("Tickets are still taken in.").wait_for()
    page.get_by_role("link", name="Resume on the training page").click()
    page.get_by_role("button", name="Resume suggestions").click()
    page.get_by_role("button", name="Pause suggestions").wait_for()
    assert not live_bot.is_paused


def test_new_ticket_with_markup_stays_text(open_page):
    page = open_page("/tickets/new")
    page.get_by_label("Subject").fill("<img src=x onerror=alert(1)>")
    page.get_by_label("Text").fill("<script>document.title='owned'</script> my laptop dock is dead")
    page.get_by_role("button", name="Suggest a label").click()
    page.get_by_role("heading", name="<img src=x onerror=alert(1)>").wait_for()
    assert "owned" not in page.title()
    assert page.locator("main img").count() == 0


def test_macro_is_copied(open_page, chromium):
    page = open_page("/tickets/14")
    page.get_by_text("Suggested reply").click()
    page.evaluate("navigator.clipboard.writeText = (text) => { window.copied = text; return Promise.resolve(); }")
    page.get_by_role("button", name="Copy").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("window.copied").startswith("Thank you for writing in.")


def test_everything_works_without_scripts(open_page, live_bot):
    page = open_page("/tickets/14", java_script_enabled=False)
    page.locator("summary", has_text="Override").click()
    assert (
        page.get_by_label("Find a label").locator("visible=true").count() == 0
    )  # comforts that need scripts are not there at all
    page.get_by_role("button", name="Accept", exact=True).click()
    page.get_by_text("Accepted. Thank you").wait_for()
    page.locator("summary", has_text="Change decision").click()
    page.get_by_role("radio", name=re.compile("^Hardware")).check()
    page.get_by_role("button", name="Save this label").click()
    page.get_by_text("Label saved").wait_for()
    page.get_by_role("link", name="Training").click()
    page.get_by_role("button", name="Retrain classification").click()
    page.get_by_text("Training run queued.").wait_for()
    live_bot.clock.advance(1000)  # the page reloads itself every three seconds
    page.get_by_role("heading", name="Verdict").wait_for()
    assert [f.kind for f in live_bot.feedback] == [FeedbackKind.ACCEPT, FeedbackKind.OVERRIDE]


AUDIT = """() => {
  const named = (e) => (e.labels && e.labels.length) || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby')
    || e.textContent.trim() || e.title;
  const say = (e) => e.outerHTML.slice(0, 120);
  const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
  return {
    unlabelled: [...document.querySelectorAll('input:not([type=hidden]), textarea, select')].filter((e) => !(e.labels && e.labels.length)).map(say),
    unnamed: [...document.querySelectorAll('a, button, summary')].filter((e) => !named(e)).map(say),
    pictures: [...document.querySelectorAll('svg:not(svg svg)')].filter((e) => e.getAttribute('aria-hidden') !== 'true'
      && !(e.getAttribute('role') === 'img' && e.getAttribute('aria-label'))).map(say),
    repeated: ids.filter((id, n) => ids.indexOf(id) !== n),
    dangling: [...document.querySelectorAll('[aria-labelledby]')].filter((e) => !document.getElementById(e.getAttribute('aria-labelledby'))).map(say),
    landmarks: [document.querySelectorAll('main').length, document.querySelectorAll('h1').length, document.documentElement.lang],
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  };
}"""
CLEAN = {
    "unlabelled": [],
    "unnamed": [],
    "pictures": [],
    "repeated": [],
    "dangling": [],
    "landmarks": [1, 1, "en"],
    "overflow": 0,
}


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("width", [400, 1280])
def test_every_page_is_labelled_and_fits_its_width(open_page, path, width):
    page = open_page(path)
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate(AUDIT) == CLEAN


def test_skip_link_comes_first_and_leads_to_the_content(open_page):
    page = open_page("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def compute_luminance(colour):
    channels = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def compute_contrast(one, other):
    light, dark = sorted((compute_luminance(one), compute_luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


TEXT_PAIRS = [("text", "bg"), ("text", "surface"), ("text", "sunken"), ("muted", "bg"), ("muted", "surface"), ("muted", "sunken")]
TEXT_PAIRS += [("link", "surface"), ("link", "bg"), ("on-accent", "accent"), ("accent", "accent-soft"), ("text", "good-soft")]
TEXT_PAIRS += [(tone, f"{tone}-soft") for tone in ("good", "warn", "bad", "info")]
SHAPE_PAIRS = [("line-strong", "surface"), ("accent", "surface"), ("focus", "surface"), ("focus", "bg"), ("warn", "surface")]


def read_tokens(scheme):
    css = (Path(HERE) / "static" / "console.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", css, flags=re.DOTALL)[:2]
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", light if scheme == "light" else dark))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("pairs", "least"), [(TEXT_PAIRS, 4.5), (SHAPE_PAIRS, 3.0)])
def test_colours_have_enough_contrast(scheme, pairs, least):
    tokens = read_tokens(scheme)
    contrasts = {pair: round(compute_contrast(tokens[pair[0]], tokens[pair[1]]), 2) for pair in pairs}
    assert {pair: value for pair, value in contrasts.items() if value < least} == {}
