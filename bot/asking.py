"""Asks the engines on behalf of the service: requests with their deadlines, answers of either kind of model in one shape.

Masked text goes in and comes out. Knows no ticket, no database and no plugin; an engine's error becomes one sentence for a person.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bot.core import Core
from bot.engine.protocol import (
    DeadlineError,
    Engine,
    EngineError,
    GenerateRequest,
    QueueFullError,
    RankRequest,
    ScoreRequest,
    Scores,
)
from bot.plugin_api import BotError, BusyError
from bot.tasks.summary import Unit, build_excerpt, build_summary_prompt, parse_summary
from db.types import MaskedText, ModelKind, TaskKind


@dataclass(frozen=True)
class Summarized:
    """What an engine made of a ticket's units. `is_truncated` says that it did not read all of them, `is_last` that it is whole."""

    text: MaskedText
    adapter_digest: str
    is_excerpt: bool
    is_truncated: bool
    is_last: bool = True


async def ask_scores(core: Core, text: MaskedText) -> Scores:
    """Return the distribution over the label set in force. Raises BotError, BusyError."""
    request = ScoreRequest(
        task=TaskKind.CLASSIFICATION, choices=core.choices, text=text, deadline_s=core.settings.engine.deadline_s
    )
    with _explain("no suggestion"):
        return await core.engines[TaskKind.CLASSIFICATION].score(request)


async def stream_summary(core: Core, units: Sequence[Unit]) -> AsyncIterator[Summarized]:
    """Yield the most telling units of a ticket, or a text about them as it is written; the last one is whole. Raises BotError, BusyError."""
    engine = core.engines[TaskKind.SUMMARY]
    with _explain("no summary"):
        if engine.kind is ModelKind.ENCODER:
            yield await _pick(engine, units, deadline_s=core.settings.engine.deadline_s)
            return
        async for made in _write(engine, units, deadline_s=core.settings.engine.text_deadline_s):
            yield made


async def _pick(engine: Engine, units: Sequence[Unit], *, deadline_s: float) -> Summarized:
    request = RankRequest(
        task=TaskKind.SUMMARY,
        units=tuple(unit.text for unit in units),
        is_customer=tuple(unit.is_customer for unit in units),
        deadline_s=deadline_s,
    )
    ranking = await engine.rank(request)
    text = build_excerpt(units, ranking.scores)
    return Summarized(text, ranking.adapter_digest, is_excerpt=True, is_truncated=ranking.is_truncated)


async def _write(engine: Engine, units: Sequence[Unit], *, deadline_s: float) -> AsyncIterator[Summarized]:
    prompt = build_summary_prompt(units)
    text, digest, is_truncated = "", engine.get_active(TaskKind.SUMMARY), False
    request = GenerateRequest(
        task=TaskKind.SUMMARY,
        key=prompt.key,
        prefix=prompt.prefix,
        text=prompt.text,
        suffix=prompt.suffix,
        deadline_s=deadline_s,
    )
    async for chunk in engine.generate(request):
        text += chunk.text
        digest = chunk.adapter_digest
        is_truncated |= chunk.is_truncated
        if not chunk.is_last:
            yield Summarized(parse_summary(text), digest, is_excerpt=False, is_truncated=is_truncated, is_last=False)
    yield Summarized(parse_summary(text), digest, is_excerpt=False, is_truncated=is_truncated)


@contextmanager
def _explain(what: str) -> Iterator[None]:
    """Turn an engine's error into one for the person who asked."""
    try:
        yield
    except (QueueFullError, DeadlineError) as error:
        raise BusyError(f"{what}: {error}") from error
    except EngineError as error:
        raise BotError(f"{what}: {error}") from error
