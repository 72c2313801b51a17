"""The weekly digest: where repair pays most, what was collected, how good the model is, what it saved. Once a week however many processes run.

The scheduler only puts it into the durable queue, under the week's name. Counts and names of labels alone, no words of tickets.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger

from bot.plugin_api import AdapterInfo, AdapterStatus, Event, FeedbackKind, LabelRate
from plugins.slack.cards import build_context, build_section
from plugins.slack.desk import Desk
from plugins.slack.manager_settings import DAYS, ManagerSettings
from plugins.slack.modals import Block, build_plain
from plugins.slack.payloads import Place
from plugins.slack.reports import TASK_WORDS, say_digest, say_number
from plugins.slack.text import cut_escaped

logger = logging.getLogger(__name__)
WEEK_DAYS = 7
MIN_DECISIONS = 3
CATCH_UP = timedelta(hours=24)
KEEP_S = 60 * 86400.0


class WeeklyDigest:
    """Puts the digest into the queue when it is due; after an outage of up to a day it is made up for."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._scheduler: AsyncIOScheduler | None = None

    async def start(self) -> None:
        """Begin to watch the clock; without a channel nothing happens."""
        settings = self._desk.settings
        if settings.digest_channel is None:
            return
        day, hour, minute = read_time(settings.digest_at)
        zone = ZoneInfo(settings.timezone)
        self._scheduler = AsyncIOScheduler(timezone=zone)
        trigger = CronTrigger(day_of_week=day, hour=hour, minute=minute, timezone=zone)
        self._scheduler.add_job(self.put_due, trigger, misfire_grace_time=3600, coalesce=True)
        self._scheduler.start()
        await self.put_due()

    async def stop(self) -> None:
        """Watch no more."""
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
            self._scheduler = None

    async def put_due(self) -> bool:
        """Store this week's digest for posting if its time came within the last day; False where it is not due or known already."""
        now = datetime.fromtimestamp(self._desk.clock(), UTC)
        due = find_last_due(self._desk.settings, now)
        if now - due > CATCH_UP:
            return False
        week = name_week(due)
        return await self._desk.queue.put(f"digest/{week}", "later:digest", {"week": week}, group="digest")


def read_time(at: str) -> tuple[str, int, int]:
    """Return day, hour and minute of a time such as "mon 09:00"."""
    day, _, clock = at.partition(" ")
    hour, _, minute = clock.partition(":")
    return day, int(hour), int(minute)


def find_last_due(settings: ManagerSettings, now: datetime) -> datetime:
    """Return when the digest was due last, in its own time zone."""
    day, hour, minute = read_time(settings.digest_at)
    local = now.astimezone(ZoneInfo(settings.timezone))
    back = (local.weekday() - DAYS.index(day)) % WEEK_DAYS
    due = (local - timedelta(days=back)).replace(hour=hour, minute=minute, second=0, microsecond=0)
    return due if due <= local else due - timedelta(days=WEEK_DAYS)


def name_week(due: datetime) -> str:
    """Return the week's name, such as 2026-W47."""
    year, week, _ = due.isocalendar()
    return f"{year}-W{week:02d}"


async def on_digest(desk: Desk, event: Event) -> None:
    """Post a week's digest."""
    team, _, channel = (desk.settings.digest_channel or "").rpartition("/")
    week = str(event.payload.get("week", ""))
    if not channel:
        return
    inbox = desk.bot.inbox
    overview = await inbox.get_overview()
    previous = await _find_earlier_count(desk, week)
    blocks = build_digest(
        week,
        await inbox.list_label_rates(days=WEEK_DAYS),
        counts=await inbox.count_decisions(days=WEEK_DAYS),
        n_examples=overview.n_examples,
        n_new=None if previous is None else max(0, overview.n_examples - previous),
        adapters=[one for one in await desk.bot.manager.list_adapters() if one.status is AdapterStatus.ACTIVE],
        minutes=desk.settings.minutes_per_accepted,
    )
    await desk.show(f"digest/{week}", Place(team, channel, "", ""), text=f"Understudy, week {week}", blocks=blocks)
    await desk.store.put(f"digest-count/{week}", {"n_examples": overview.n_examples}, expires_in_s=KEEP_S)


async def _find_earlier_count(desk: Desk, week: str) -> int | None:
    """Return how many examples there were at the digest before, if that was the week before."""
    known = {key.removeprefix("digest-count/"): value for key, value in (await desk.store.get_all("digest-count/")).items()}
    before = name_week(datetime.strptime(f"{week}-1", "%G-W%V-%u").replace(tzinfo=UTC) - timedelta(days=WEEK_DAYS))
    return int(known[before]["n_examples"]) if before in known else None


def find_repair_target(rates: Sequence[LabelRate]) -> LabelRate | None:
    """Return the label overridden most often of those with a few decisions; None where nothing was overridden."""
    known = [rate for rate in rates if rate.n_decided >= MIN_DECISIONS and rate.n_overridden]
    return max(known, key=lambda rate: (rate.n_overridden / rate.n_decided, rate.n_overridden), default=None)


def build_digest(
    week: str,
    rates: Sequence[LabelRate],
    *,
    counts: Mapping[FeedbackKind, int],
    n_examples: int,
    n_new: int | None,
    adapters: Sequence[AdapterInfo],
    minutes: float,
) -> list[Block]:
    """Return the digest. `n_new` is None where the week before is not known; `minutes` are saved by one accepted suggestion."""
    n_accepted, n_decided = counts.get(FeedbackKind.ACCEPT, 0), sum(counts.values())
    new = "" if n_new is None else f" ({n_new} more than a week ago)"
    quality = (
        f"{n_accepted / n_decided:.0%} of {n_decided} decisions accepted the suggestion" if n_decided else "nothing was decided"
    )
    lines = [
        f"*Repair first:* {_render_target(find_repair_target(rates))}",
        f"*Examples collected:* {n_examples}{new}",
        f"*Model quality:* {quality}.",
        *(f"• {TASK_WORDS[one.task].capitalize()}: {say_digest(one.digest)}{_render_metrics(one)}" for one in adapters[:4]),
        f"*Time saved:* about {_say_minutes(n_accepted * minutes)}, an estimate: {n_accepted} accepted × {minutes:g} min each.",
    ]
    header: Block = {"type": "header", "text": build_plain(f"Understudy, week {week}"), "block_id": f"digest/{week}"}
    return [header, build_section("\n".join(lines)[:3000]), build_context("Counts of the last seven days; no words of tickets.")]


def _render_target(rate: LabelRate | None) -> str:
    if rate is None:
        return "nothing; no label was overridden noticeably."
    share = rate.n_overridden / rate.n_decided
    label = cut_escaped(rate.label, 100)
    return f"*{label}*, overridden in {rate.n_overridden} of {rate.n_decided} decisions ({share:.0%}). Look at its description and examples."


def _render_metrics(adapter: AdapterInfo) -> str:
    numbers = ", ".join(f"{name.replace('_', ' ')} {say_number(value)}" for name, value in list(adapter.metrics.items())[:3])
    return f" ({cut_escaped(numbers, 200)} when it was judged)" if numbers else ""


def _say_minutes(minutes: float) -> str:
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
