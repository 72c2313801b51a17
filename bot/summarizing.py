"""Summaries for plugins: the ticket's units go to the engine, what comes back is written down and shown, at once or as it grows.

Knows no plugin and no llama.cpp. Masked text stays masked but for display.
"""

import re
import time
from collections.abc import AsyncGenerator, Sequence

from sqlmodel import Session

from bot.asking import Summarized, stream_summary
from bot.core import Core
from bot.intake import TakenIn
from bot.masking import PlaceholderMap, render
from bot.tasks.summary import SUMMARY_PROMPT_VERSION, Unit, cut_units
from bot.types import Summary
from db.queries import inferences
from db.queries.common import row_id
from db.tables import Inference
from db.types import TaskKind

TRUNCATED_NOTICE = "Long ticket: its middle was left out."
# A placeholder that is still being written must not be shown as it stands; none is longer than this.
_OPEN_PLACEHOLDER = re.compile(r"(?:<|&lt;|\\<)[^>\n]{0,40}$")


async def grow_summary(core: Core, taken: TakenIn) -> AsyncGenerator[Summary, None]:
    """Yield the summary of a ticket as it grows, unmasked for display; the last one is stored and has its id. Raises BotError, BusyError."""
    started = time.perf_counter()
    units, is_cut = cut_units(taken.text or taken.subject, taken.turns)
    made: Summarized | None = None
    async for made in stream_summary(core, units):
        if not made.is_last:
            yield Summary(
                inference_id=None,
                ticket_id=taken.ticket_id,
                text=render(_OPEN_PLACEHOLDER.sub("", made.text), taken.mapping),
                is_excerpt=made.is_excerpt,
                adapter_digest=made.adapter_digest,
            )
    if made is None:
        message = "the engine ended without an answer"
        raise RuntimeError(message)
    latency_ms = (time.perf_counter() - started) * 1e3
    last = made
    row = await core.in_db(
        lambda session: _record(session, core, taken, units=units, made=last, is_cut=is_cut, latency_ms=latency_ms)
    )
    yield build_summary(row, taken.mapping)


def _record(
    session: Session, core: Core, taken: TakenIn, *, units: Sequence[Unit], made: Summarized, is_cut: bool, latency_ms: float
) -> Inference:
    engine = core.engines[TaskKind.SUMMARY]
    return inferences.record_inference(
        session,
        ticket_id=taken.ticket_id,
        task=TaskKind.SUMMARY,
        model_kind=engine.kind,
        base_digest=engine.base_digest,
        adapter_digest=made.adapter_digest,
        prompt_version=SUMMARY_PROMPT_VERSION,
        output={"text": made.text, "units": [unit.text for unit in units], "is_excerpt": made.is_excerpt},
        is_truncated=is_cut or made.is_truncated,
        latency_ms=latency_ms,
    )


def build_summary(row: Inference, mapping: PlaceholderMap) -> Summary:
    """Rebuild the summary of a stored inference, unmasked as far as the map goes."""
    return Summary(
        inference_id=row_id(row),
        ticket_id=row.ticket_id,
        text=render(str(row.output.get("text", "")), mapping),
        is_excerpt=bool(row.output.get("is_excerpt", False)),
        adapter_digest=row.adapter_digest,
        notice=TRUNCATED_NOTICE if row.is_truncated else None,
    )
