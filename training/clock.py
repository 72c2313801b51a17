"""When a schedule strikes and which hours are quiet: crontab lines and hours of the day in a team's time zone.

Pure; knows neither the database nor what is started.
"""

import re
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from bot.training_settings import TrainingSettings, parse_hours

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_PART = re.compile(r"(\*|\d+)(?:-(\d+))?(?:/(\d+))?")


def build_cron(line: str, time_zone: str) -> Any:
    """Return APScheduler's trigger for a crontab line. Its weekdays begin on Monday, a crontab's on Sunday: they are rewritten as names.

    Raises ValueError for a line that is none.
    """
    from apscheduler.triggers.cron import CronTrigger

    *fields, weekday = line.split()
    return CronTrigger.from_crontab(" ".join([*fields, name_weekdays(weekday)]), timezone=ZoneInfo(time_zone))


def name_weekdays(text: str) -> str:
    """Return a crontab's weekday field with names for numbers (0 and 7 are Sunday); names and `*` stay. Raises ValueError."""
    if text == "*" or not any(letter.isdigit() for letter in text):
        return text
    days: list[int] = []
    for part in text.split(","):
        found = _PART.fullmatch(part)
        if found is None:
            message = f"'{part}' is no weekday of a crontab line: use 0 (Sunday) to 6, or sun to sat"
            raise ValueError(message)
        first, last, step = found.groups()
        begin = 0 if first == "*" else int(first)
        end = int(last) if last else (6 if first == "*" or step else begin)
        if not 0 <= begin <= end <= 7:
            message = f"'{part}' is no weekday of a crontab line: use 0 (Sunday) to 6, or sun to sat"
            raise ValueError(message)
        days += range(begin, end + 1, int(step or 1) or 1)
    return ",".join(dict.fromkeys(_DAYS[day % 7] for day in days))


def find_due(line: str, time_zone: str, *, after: datetime, until: datetime) -> datetime | None:
    """Return the first time after `after` and not after `until` at which the line strikes, or None. Missed times count once that way."""
    struck: datetime | None = build_cron(line, time_zone).get_next_fire_time(None, after + timedelta(microseconds=1))
    return struck if struck is not None and struck <= until else None


def may_start(settings: TrainingSettings, at: datetime) -> bool:
    """Say whether a run that nobody pressed for may start now. Hours may run over midnight; their end does not belong to them."""
    if not settings.quiet_hours:
        return True
    begin, end = parse_hours(settings.quiet_hours)
    local = at.astimezone(ZoneInfo(settings.time_zone)).time()
    is_inside = begin <= local < end if begin < end else local >= begin or local < end
    return is_inside is (settings.quiet_hours_rule == "runs_only")
