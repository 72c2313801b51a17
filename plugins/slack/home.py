"""App Home: a person's numbers, what is live, the review queue; for managers its masked texts, how labels fare, and the means to settle questions.

Shows masked text alone, and that to managers only. Knows nothing of tickets' channels.
"""

from collections.abc import Mapping, Sequence

from bot.plugin_api import BotError, Event, FeedbackKind, LabelRate, LabelSet, Overview, ReviewInfo, ReviewKind, ReviewStatus
from plugins.slack.cards import build_button, build_context, build_section
from plugins.slack.clicks import get_actor
from plugins.slack.client import SlackRefusedError
from plugins.slack.desk import Desk
from plugins.slack.modals import Block, build_menu, build_plain, find_label
from plugins.slack.payloads import get_dict, get_str, read_action, read_asker, read_team, read_user
from plugins.slack.permissions import is_manager, require_manager
from plugins.slack.reports import build_confirm, render_status
from plugins.slack.text import cut_escaped

DAYS = 30
RATE_DAYS = 7
SHOWN_QUESTIONS = 8
SHOWN_RATES = 10
KIND_WORDS: Mapping[ReviewKind, str] = {
    ReviewKind.CONTRADICTION: "The same text was decided differently",
    ReviewKind.REVIEWER_DISAGREEMENT: "Two people disagree",
    ReviewKind.LABEL_NOISE: "Other examples speak against this label",
    ReviewKind.LOW_CONFIDENCE: "The model is not sure",
    ReviewKind.FLAGGED: "Somebody asked for another look",
}


async def on_opened(desk: Desk, event: Event) -> None:
    """Show a person their home tab."""
    if get_str(event.payload, "event", "tab") in {"home", ""}:
        await publish(desk, read_team(event.payload), read_user(event.payload))


async def publish(desk: Desk, team: str, user: str) -> None:
    """Build and show the home tab of a person. Raises SlackRefusedError, RetryLaterError."""
    can_manage = await is_manager(desk, team, user)
    inbox, manager = desk.bot.inbox, desk.bot.manager
    blocks = build_numbers(await inbox.count_decisions(actor=get_actor(user), days=DAYS))
    blocks += build_live(await inbox.get_overview())
    if can_manage:
        blocks += build_rates(await inbox.list_label_rates(days=RATE_DAYS))
    questions = await manager.list_review(status=ReviewStatus.OPEN)
    blocks += build_queue(questions, inbox.get_label_set(), can_manage=can_manage)
    view = {"type": "home", "callback_id": "home", "blocks": blocks}
    try:
        await desk.client.call("views.publish", team=team, user_id=user, view=view)
    except SlackRefusedError as error:
        if error.code not in {"not_enabled", "hash_conflict"}:  # no home tab in the app; or a newer one is shown already
            raise


def build_numbers(counts: Mapping[FeedbackKind, int]) -> list[Block]:
    """Return what a person did in the last days."""
    words = {
        FeedbackKind.ACCEPT: "accepted",
        FeedbackKind.EDIT: "edited",
        FeedbackKind.OVERRIDE: "overridden",
        FeedbackKind.HANDOFF: "handed off",
    }
    fields = [{"type": "mrkdwn", "text": f"*{counts.get(kind, 0)}*\n{word}"} for kind, word in words.items()]
    return [_build_header("Your last 30 days"), {"type": "section", "fields": fields}]


def build_live(overview: Overview) -> list[Block]:
    """Return what is live."""
    return [_build_header("What is live"), build_section(render_status(overview, None)[:3000])]


def build_rates(rates: Sequence[LabelRate]) -> list[Block]:
    """Return how labels fare: how often they are overridden, and how their share moves."""
    shown = [rate for rate in rates if rate.n_decided or rate.n_suggested][:SHOWN_RATES]
    lines = [_render_rate(rate) for rate in shown] or ["Nothing was decided in the last seven days."]
    return [_build_header("Labels in the last 7 days"), build_section("\n".join(lines)[:3000])]


def _render_rate(rate: LabelRate) -> str:
    share = (
        f"{rate.n_overridden / rate.n_decided:.0%} overridden ({rate.n_overridden} of {rate.n_decided})" if rate.n_decided else ""
    )
    drift = ""
    if rate.share is not None:
        before = "new" if rate.share_before is None else f"{100 * (rate.share - rate.share_before):+.0f} points"
        drift = f"suggested for {rate.share:.0%} of tickets ({before})"
    return f"• *{cut_escaped(rate.label, 100)}*: {', '.join(part for part in (share, drift) if part) or 'no decision yet'}"


def build_queue(questions: Sequence[ReviewInfo], label_set: LabelSet, *, can_manage: bool) -> list[Block]:
    """Return the open questions, for managers with the means to settle them."""
    blocks: list[Block] = [{"type": "divider"}, _build_header("To review")]
    if not questions:
        return [*blocks, build_section("Nothing is open. :tada:")]
    for question in questions[:SHOWN_QUESTIONS]:
        blocks += _build_question(question, label_set, can_manage=can_manage)
    more = len(questions) - SHOWN_QUESTIONS
    notes = [f"and {more} more" if more > 0 else "", "" if can_manage else "Managers settle these."]
    return [*blocks, build_context(*notes)] if any(notes) else blocks


def _build_question(question: ReviewInfo, label_set: LabelSet, *, can_manage: bool) -> list[Block]:
    sides = " or ".join(f"*{cut_escaped(side.label, 100)}*{_say_side(side.confidence)}" for side in question.sides[:4])
    text = f"{KIND_WORDS[question.kind]}: {sides or 'no side is left'}"
    if not can_manage:
        return [build_section(text)]
    if question.sides:
        text += f"\n>{cut_escaped(' '.join(question.sides[0].text.split()), 300)}"
    dismiss = build_button("Leave as it is", "home_dismiss", value=str(question.id))
    withdraw = build_button("Use neither", "home_withdraw", value=str(question.id), style="danger")
    withdraw["confirm"] = build_confirm("Use neither?", "The examples of this question teach nothing then.", "Use neither")
    menu = build_menu("home_resolve", label_set.names, placeholder="Right is…")
    actions = {"type": "actions", "block_id": f"review/{question.id}", "elements": [menu, withdraw, dismiss]}
    return [build_section(text), actions]


def _say_side(confidence: float | None) -> str:
    return "" if confidence is None else f" ({confidence:.0%})"


def _build_header(text: str) -> Block:
    return {"type": "header", "text": build_plain(text)}


async def on_resolve(desk: Desk, event: Event) -> None:
    """Settle a question with the label chosen."""
    value = get_str(read_action(event.payload), "selected_option", "value")
    label = find_label(value, desk.bot.inbox.get_label_set())
    if label is None:
        raise BotError("That label is no longer in the label set; open the home tab again.")
    await _settle(desk, event, label=label)


async def on_withdraw(desk: Desk, event: Event) -> None:
    """Settle a question by using neither side."""
    await _settle(desk, event, label=None)


async def on_dismiss(desk: Desk, event: Event) -> None:
    """Close a question and leave its examples as they are."""
    await _settle(desk, event, label=None, is_dismissed=True)


async def _settle(desk: Desk, event: Event, *, label: str | None, is_dismissed: bool = False) -> None:
    asker, action = read_asker(event.payload), read_action(event.payload)
    actor = await require_manager(desk, asker, "settle questions")
    item = get_str(action, "block_id").removeprefix("review/")
    if not item.isdigit():
        raise BotError("This question is no longer known; open the home tab again.")
    question = await desk.bot.manager.get_review(int(item))
    is_done = await desk.has_begun(event) and question.resolved_by == actor  # by an earlier try of this click
    await desk.begin(event)
    try:
        if is_dismissed and not is_done:
            await desk.bot.manager.dismiss_review(int(item), actor=actor)
        elif not is_done:
            await desk.bot.manager.resolve_review(int(item), label=label, actor=actor)
    finally:
        if get_dict(event.payload, "view").get("type") == "home":
            await publish(desk, asker.team, asker.user)  # also where somebody else was first: what is open has changed
