"""How fast and how large: latency of one process, throughput and memory of the pool, the slowest hostile input.

Knows clocks and processes; nothing of what is found.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bot.masking import MaskerPool, MaskingError, MaskingSettings

N_CORES = 2


def time_each(mask: Callable[[str], object], texts: Sequence[str]) -> list[float]:
    """Return milliseconds per text, one after another; a text that is withheld counts like the others."""
    times = []
    for text in texts:
        started = time.perf_counter()
        with suppress(MaskingError):
            mask(text)
        times.append((time.perf_counter() - started) * 1000)
    return times


def describe_latency(times: Sequence[float], name: str, *, suffix: str = "") -> dict[str, float]:
    """Return p50, p95 and p99 in ms under `p50_ms_<name>` and so on."""
    cuts = statistics.quantiles(times, n=100)
    return {f"p{share}_ms_{name}{suffix}": cuts[share - 1] for share in (50, 95, 99)}


def find_slowest(mask: Callable[[str], object], hostile: dict[str, str]) -> dict[str, Any]:
    """Return the slowest of the hostile inputs in seconds, what it is made of, and how many were withheld instead of masked."""
    slowest, unit, n_withheld = 0.0, "", 0
    for made_of, text in hostile.items():
        started = time.perf_counter()
        try:
            mask(text)
        except MaskingError:
            n_withheld += 1
        took = time.perf_counter() - started
        if took > slowest:
            slowest, unit = took, made_of
    return {"worst_20_kb_s": slowest, "worst_20_kb_input": unit, "n_hostile": len(hostile), "n_hostile_withheld": n_withheld}


@contextmanager
def _on_cores(count: int) -> Iterator[int]:
    """Hold this process and those it starts on that many cores, where the system can."""
    if not hasattr(os, "sched_getaffinity"):
        yield min(count, os.cpu_count() or 1)
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(before)[:count]))
    try:
        yield len(os.sched_getaffinity(0))
    finally:
        os.sched_setaffinity(0, before)


async def bench_pool(settings: MaskingSettings, tickets: Sequence[str], *, long_text: str) -> dict[str, Any]:
    """Throughput on two cores, memory per process, latency through the pool, and short tickets' latency behind a long one."""
    figures: dict[str, Any] = {}
    with _on_cores(N_CORES) as n_cores:
        pool = MaskerPool(settings.model_copy(update={"workers": N_CORES, "max_waiting": len(tickets) + 16}))
        started = time.perf_counter()
        await pool.start()
        try:
            figures["pool_start_s"] = time.perf_counter() - started
            figures["n_cores_pool"] = n_cores
            times = [await _time_one(pool, text) for text in tickets[:200]]
            figures |= describe_latency(times, "500_chars_pool")
            started = time.perf_counter()
            await asyncio.gather(*(_time_one(pool, text) for text in tickets))
            figures["tickets_per_s"] = len(tickets) / (time.perf_counter() - started)
            behind = asyncio.create_task(_time_one(pool, long_text))
            times = [await _time_one(pool, text) for text in tickets[:100]]
            figures |= describe_latency(times, "500_chars_behind_long")
            figures["long_ticket_s"] = await behind / 1000
            figures |= _describe_memory(pool.pids)
        finally:
            await pool.stop()
    return figures


async def _time_one(pool: MaskerPool, text: str) -> float:
    started = time.perf_counter()
    with suppress(MaskingError):
        await pool.mask_async(text)
    return (time.perf_counter() - started) * 1000


def _describe_memory(pids: Sequence[int]) -> dict[str, float]:
    """Memory of the processes in MB, at present and at most; empty where the system does not tell."""
    rows = [_read_status(pid) for pid in pids]
    if not rows or not all(rows):
        return {}
    return {
        "worker_rss_mb": max(row["VmRSS"] for row in rows),
        "worker_peak_rss_mb": max(row["VmHWM"] for row in rows),
    }


def _read_status(pid: int) -> dict[str, float]:
    path = Path(f"/proc/{pid}/status")
    if not path.exists():
        return {}
    pairs = (line.partition(":") for line in path.read_text().splitlines())
    return {key: int(value.split()[0]) * 1024 / 1e6 for key, _, value in pairs if key in {"VmRSS", "VmHWM"}}
