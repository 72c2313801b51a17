"""What people decide on cards: accept, override, edit, hand off, undo; each click one feedback, the first of two people first.

Knows nothing of how a suggestion or a summary comes to be.
"""

import logging
from dataclasses import replace

from bot.plugin_api import BotError, Classification, ConflictError, Event, Feedback, FeedbackKind, NotFoundError, TicketDetail
from plugins.slack import summaries, triage
from plugins.slack.cards import Decision, build_anyway, build_code, build_section
from plugins.slack.clicks import Click, get_actor, pack_click, read_click, read_form_click, read_packed_click, unpack_place
from plugins.slack.client import SlackRefusedError
from plugins.slack.desk import Desk
from plugins.slack.modals import find_label, read_input
from plugins.slack.payloads import Asker, Place, get_str, read_action, read_metadata
from plugins.slack.records import Record
from plugins.slack.text import escape

_DONE = {
    FeedbackKind.ACCEPT: "accepted",
    FeedbackKind.OVERRIDE: "chosen",
    FeedbackKind.EDIT: "edited",
    FeedbackKind.HANDOFF: "handed off",
}
logger = logging.getLogger(__name__)
ELSEWHERE = -1
"""Known in place of a feedback's id by who was told that somebody had decided outside of Slack."""


async def on_accept(desk: Desk, event: Event) -> None:
    """Accept a suggestion or a summary."""
    click = read_click(event, FeedbackKind.ACCEPT)
    if click is not None:
        await decide(desk, click)


async def on_choose(desk: Desk, event: Event) -> None:
    """Record the choice on a card whose suggestion is hidden."""
    click = read_click(event, FeedbackKind.OVERRIDE)
    value = get_str(read_action(event.payload), "selected_option", "value")
    if click is not None:
        await decide(desk, replace(click, label=_need_label(desk, value)))


async def on_form(desk: Desk, event: Event) -> None:
    """Record what a form for a ticket says: another label, a hand-off, an edited reply."""
    body, meta = event.payload, read_metadata(event.payload)
    click = read_form_click(event, prefix="ticket")
    kind = str(meta.get("kind", ""))
    if kind == "handoff":
        await decide(desk, replace(click, kind=FeedbackKind.HANDOFF))
        return
    label = _need_label(desk, read_input(body, "label"))
    reply = read_input(body, "reply")
    is_recorded = await decide(desk, replace(click, kind=FeedbackKind.OVERRIDE, label=label, text=reply or None))
    if is_recorded and reply:
        title = build_section(f"*Reply*, edited by <@{click.actor}>:", block_id=f"reply/{get_str(body, 'view', 'id')}")
        await desk.show(str(title["block_id"]), click.place, text="An edited reply", blocks=[title, build_code(reply)])


async def on_summary_form(desk: Desk, event: Event) -> None:
    """Record an edited summary."""
    text = read_input(event.payload, "text")
    await decide(desk, replace(read_form_click(event, prefix="summary"), kind=FeedbackKind.EDIT, text=text))


def _need_label(desk: Desk, value: str) -> str:
    label = find_label(value, desk.bot.inbox.get_label_set())
    if label is None:
        raise BotError("That label is no longer in the label set; ask for a new suggestion with the shortcut Triage.")
    return label


async def on_anyway(desk: Desk, event: Event) -> None:
    """Record the decision of the second of two people, who now knows of the first."""
    await decide(desk, read_packed_click(event))


async def decide(desk: Desk, click: Click) -> bool:
    """Record a decision once and show it; say whether it counts. Without knowing of another person's, it does not replace it."""
    known = await desk.records.get(click.prefix, click.place)
    record = known or Record(inference_id=click.inference_id, shown_at=click.at)
    previous = record.decision
    if previous is not None and previous.key != click.key:
        if _is_repetition(click, previous):
            return False
        if previous.actor != click.actor and click.knows != previous.feedback_id:
            await _tell_second(desk, click, f"{previous.who} was first: {_describe(previous)}", knows=previous.feedback_id)
            return False
    detail = await desk.bot.inbox.find_ticket(click.place.source)
    try:
        click = _fit(click, detail)
    except ConflictError:
        await _show(desk, click)
        raise
    if previous is None and _is_decided_elsewhere(click, detail):
        await _tell_second(desk, click, f"{detail.item.decided_by} has decided this in another place", knows=ELSEWHERE)
        return False
    feedback_id = await _record(desk, click, shown_at=record.shown_at)
    decision = Decision(click.kind, click.actor, click.label, feedback_id, click.key, click.at)
    if (
        previous is not None and previous.actor != click.actor and not previous.is_elsewhere
    ):  # before it is kept, for after that a later try knows of nobody else
        first = Asker(click.place.team, previous.actor, click.place.channel, click.place.thread_ts, "")
        await desk.tell(first, f"<@{click.actor}> has decided differently from you: {_describe(decision)}")
    await desk.records.change(click.prefix, click.place, record, decision=decision, is_expanded=False)
    await _show(desk, click)
    if desk.settings.undo_minutes:
        payload = {"prefix": click.prefix, "ticket": click.place.external_id, "thread_ts": click.place.thread_ts}
        key = f"close/{click.prefix}/{feedback_id}"
        # Of no group: a thread's events wait for those before them, and this one waits for minutes.
        await desk.queue.put(key, "later:close_undo", payload, delay_s=desk.settings.undo_minutes * 60 + 1)
    return True


def _is_repetition(click: Click, previous: Decision) -> bool:
    """Whether a person only says again what they have just said: a double click."""
    if click.actor != previous.actor or click.kind is not previous.kind or click.text is not None:
        return False
    return click.kind is not FeedbackKind.OVERRIDE or click.label == previous.label


def _fit(click: Click, detail: TicketDetail) -> Click:
    """Give a click the label it stands for; the label that was suggested is an accept. Raises ConflictError for an overtaken card."""
    if click.prefix == "summary":
        if detail.summary is None or detail.summary.inference_id != click.inference_id:
            raise ConflictError("There is a newer summary of this thread; look at it and decide again.")
        return click
    card = detail.classification
    if card is None or card.inference_id != click.inference_id:
        raise ConflictError("There is a newer suggestion for this message; look at the card and decide again.")
    return _fit_label(click, card)


def _fit_label(click: Click, card: Classification) -> Click:
    if click.kind is FeedbackKind.HANDOFF:
        return replace(click, label=None)
    if click.kind is FeedbackKind.OVERRIDE and click.label == card.label and not card.is_blind:
        return replace(click, kind=FeedbackKind.ACCEPT)
    return replace(click, label=card.label) if click.kind is FeedbackKind.ACCEPT else click


async def _record(desk: Desk, click: Click, *, shown_at: float) -> int:
    value = {FeedbackKind.OVERRIDE: click.label, FeedbackKind.EDIT: click.text}.get(click.kind)
    receipt = await desk.bot.record_feedback(
        Feedback(
            inference_id=click.inference_id,
            kind=click.kind,
            actor=get_actor(click.actor),
            idempotency_key=click.key,
            value=value,
            reason=click.why,
            decision_ms=max(0, round((click.at - shown_at) * 1000)) if click.at > shown_at else None,
        )
    )
    return receipt.feedback_id


async def _show(desk: Desk, click: Click) -> None:
    """Show the decision; where the card cannot be changed any more, say that it counts all the same."""
    try:
        await refresh(desk, click.prefix, click.place, shown=click.text or click.shown)
    except SlackRefusedError as error:
        await desk.tell(click.asker, f"Your decision is recorded, but the card could not be changed. {error}")


async def refresh(desk: Desk, prefix: str, place: Place, *, shown: str | None = None, may_post: bool = True) -> None:
    """Show a card as it stands now; of a summary, with the text that is shown where it is known."""
    if prefix == "summary":
        await summaries.refresh(desk, place, shown=shown, may_post=may_post)
    else:
        await triage.refresh(desk, place, may_post=may_post)


def _describe(decision: Decision) -> str:
    label = f" *{escape(decision.label)}*" if decision.label else ""
    return f"{_DONE[decision.kind]}{label}."


def _is_decided_elsewhere(click: Click, detail: TicketDetail) -> bool:
    """Whether somebody decided the ticket in the console, say, and the person who clicks cannot know."""
    if click.prefix != "ticket" or detail.decision is None or click.knows == ELSEWHERE:
        return False
    return detail.item.decided_by != get_actor(click.actor)  # their own: this very click, cut short by a crash


async def _tell_second(desk: Desk, click: Click, said: str, *, knows: int) -> None:
    who = f"{said.rstrip('.')}. Yours has not been recorded."
    if click.prefix == "summary":
        text = f"{who} To change it all the same, click *Edit* on the card again."
        blocks = [build_section(text)] + ([build_code(click.text)] if click.text else [])
    else:
        text = who if not click.text else f"{who} Your reply, for copying:"
        value = pack_click(click, knows=knows)
        blocks = build_anyway(text, block_id=f"anyway/{click.place.external_id}", value=value, reply=click.text or "")
    await desk.tell(click.asker, text, blocks=blocks)


async def on_undo(desk: Desk, event: Event) -> None:
    """Take a decision back, for a while, by the person who made it."""
    click = read_click(event, FeedbackKind.ACCEPT)
    record = None if click is None else await desk.records.get(click.prefix, click.place)
    if click is None:
        return
    if record is None:  # kept for some months
        await desk.tell(click.asker, f"The time for undoing this has passed; {_say_otherwise(click.prefix)}")
        return
    decision = record.decision
    if decision is None:
        await _show(desk, click)
        return
    if decision.actor != click.actor or decision.is_elsewhere:
        await desk.tell(click.asker, f"Only {decision.who} can undo this; {_say_otherwise(click.prefix)}")
        return
    if click.at > decision.at + desk.settings.undo_minutes * 60:
        await desk.tell(click.asker, f"The time for undoing this has passed; {_say_otherwise(click.prefix)}")
        return
    try:
        await desk.bot.withdraw_feedback(decision.feedback_id, actor=get_actor(click.actor))
    except (ConflictError, NotFoundError) as error:
        await desk.tell(click.asker, f"This could not be undone: {error}.")
        return
    await desk.records.change(click.prefix, click.place, record, decision=None)
    await _show(desk, click)


def _say_otherwise(prefix: str) -> str:
    return f"to decide differently, click *{'Edit' if prefix == 'summary' else 'Override'}*."


async def on_close_undo(desk: Desk, event: Event) -> None:
    """Take the Undo button off a card when its time has passed."""
    place = unpack_place(str(event.payload["ticket"]), str(event.payload["thread_ts"]))
    prefix = str(event.payload["prefix"])
    record, shown = await desk.records.get(prefix, place), None
    # In no group, so somebody may decide while the card is being changed: then it is shown once more, as it is by then.
    while record is not None and record.decision != shown:
        shown = record.decision
        try:
            await refresh(desk, prefix, place, may_post=False)
        except SlackRefusedError as error:  # a card that is gone, or cannot be changed any more, needs no button taken off
            logger.info("the Undo button of a card stays: %s", error.code)
            return
        record = await desk.records.get(prefix, place)
