"""`make bench-swap`: thousands of requests while adapters are loaded, activated, rolled back and freed; writes `.bench/swap.json`.

Run as `python -m benches.swap [--quick] [--only encoder|decoder] [--threads N]`. Knows blocks, counts and keys; how an answer is checked
is in `benches.swap_load`. Blocks with and without swaps alternate, so that what else the machine does touches both alike.
"""

import argparse
import asyncio
import gc
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benches.adapters import make_bundle
from benches.models import SMALL, ensure_decoder, ensure_encoder
from benches.paths import ROOT, BenchError
from benches.report import describe_machine, print_table, write_json
from benches.swap_load import TASK, SwapLoad, build_reference
from benches.workload import load_labels, load_tickets
from bot.engine.engine import LlamaEngine
from bot.engine.factory import build_engine
from bot.engine.settings import EngineSettings
from db.types import MaskedText

CONCURRENCY: Final = 8
MAX_CHARACTERS: Final = 100
N_TEXTS: Final = 32
N_ADAPTERS: Final = 6
BLOCKS: Final = 10
"""Of each sort. An even number of pairs: the order within a pair alternates."""
WARM_BLOCKS: Final = 2
"""Memory is compared from here on: by then every buffer has been needed once."""
_STRENGTH: Final = {"encoder": 0.5, "decoder": 0.5}
_SHARPNESS: Final = 3.0
"""Of the decoder: its adapters' answers lie far apart, and rounding is not blown up as it would be with a sharper one."""


@dataclass(frozen=True)
class SwapSize:
    """How much one kind is asked: requests in blocks with swaps (and as many in blocks without), and swaps."""

    requests: int
    swaps: int


FULL: Final = {"encoder": SwapSize(10_000, 120), "decoder": SwapSize(6_000, 120)}
QUICK: Final = {"encoder": SwapSize(800, 40), "decoder": SwapSize(400, 40)}


async def bench_swap(kind: str, size: SwapSize, *, threads: int) -> dict[str, Any]:
    """Return one kind's figures; keys carry no kind yet."""
    base = await asyncio.to_thread(_ensure_base, kind)
    engine = build_engine(base, settings=EngineSettings(n_threads=threads))
    await engine.start()
    try:
        load = await _prepare(engine, base, kind)
        started = time.perf_counter()
        rss_bytes = await _run_blocks(load, size)
        figures = _collect(load, seconds=time.perf_counter() - started)
        return {**figures, "rss_growth_bytes": rss_bytes[1] - rss_bytes[0], "rss_bytes": rss_bytes[1]}
    finally:
        await engine.stop()


def _ensure_base(kind: str) -> Path:
    return ensure_encoder() if kind == "encoder" else ensure_decoder(SMALL, sharpness=_SHARPNESS)


async def _prepare(engine: LlamaEngine, base: Path, kind: str) -> SwapLoad:
    """Make, load and ask every adapter alone, then activate the first."""
    choices = load_labels().choices
    texts: list[MaskedText] = [text for text in load_tickets(2_000) if len(text) <= MAX_CHARACTERS][:N_TEXTS]
    bundles = {}
    for seed in range(N_ADAPTERS):
        bundle = await make_bundle(engine, base, choices, seed=100 + seed, strength=_STRENGTH[kind])
        bundles[await engine.load(bundle.directory)] = bundle.directory
    reference = await build_reference(engine, choices, texts, sorted(bundles))
    await engine.activate(TASK, min(bundles))
    return SwapLoad(engine, choices, texts=texts, reference=reference, bundles=bundles)


async def _run_blocks(load: SwapLoad, size: SwapSize) -> tuple[int, int]:
    """Run the blocks in the order ABBA; return resident memory after the first ones and at the end."""
    await load.run_block(size.requests // BLOCKS // 2, concurrency=CONCURRENCY, swaps=0)
    load.tally.without.clear()
    before = 0
    for pair in range(BLOCKS):
        if pair == WARM_BLOCKS:
            before = read_rss_bytes()
        for has_swaps in (pair % 2 == 0, pair % 2 == 1):
            swaps = size.swaps // BLOCKS if has_swaps else 0
            await load.run_block(size.requests // BLOCKS, concurrency=CONCURRENCY, swaps=swaps)
    return before, read_rss_bytes()


def read_rss_bytes() -> int:
    """Return this process's resident memory."""
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise BenchError("/proc/self/status names no VmRSS; the swap bench needs Linux")


def _collect(load: SwapLoad, *, seconds: float) -> dict[str, Any]:
    tally = load.tally
    with_swaps, without = (float(np.percentile(values, 99)) for values in (tally.with_swaps, tally.without))
    distances = load.distances
    return {
        "requests": tally.n_requests + len(tally.rollbacks_ms),
        "requests_with_swaps": len(tally.with_swaps) + len(tally.rollbacks_ms),
        "swaps": tally.n_swaps,
        "fresh_loads": tally.n_fresh,
        "failed": tally.n_failed,
        "wrong_adapter": tally.n_wrong,
        "p50_ms_with_swaps": float(np.percentile(tally.with_swaps, 50)),
        "p50_ms_without": float(np.percentile(tally.without, 50)),
        "p99_ms_with_swaps": with_swaps,
        "p99_ms_without": without,
        "p99_ratio": with_swaps / without,
        "rollback_ms": max(tally.rollbacks_ms),
        "rollback_ms_median": float(np.median(tally.rollbacks_ms)),
        "load_ms_median": float(np.median(tally.loads_ms)),
        "largest_deviation_with_swaps": tally.deviation_with_swaps,
        "largest_deviation_without": tally.deviation_without,
        "adapter_distance_median": float(np.median(distances)),
        "adapter_distance_p1": float(np.percentile(distances, 1)),
        "requests_per_s": tally.n_requests / seconds,
        "first_error": tally.errors[0] if tally.errors else "",
    }


def combine(figures: dict[str, Any], kinds: list[str]) -> dict[str, Any]:
    """Return the totals over both kinds: counts added up, times and ratios at their worst."""
    added = ("requests", "requests_with_swaps", "swaps", "fresh_loads", "failed", "wrong_adapter")
    worst = ("p99_ms_with_swaps", "p99_ms_without", "p99_ratio", "rollback_ms", "rss_growth_bytes")
    totals: dict[str, Any] = {key: sum(figures[f"{kind}_{key}"] for kind in kinds) for key in added}
    return totals | {key: max(figures[f"{kind}_{key}"] for kind in kinds) for key in worst}


def build_rows(figures: dict[str, Any], kind: str) -> list[tuple[str, str, str]]:
    """Return one kind's table."""

    def get(key: str) -> Any:
        return figures[f"{kind}_{key}"]

    return [
        ("requests (with swaps)", f"{get('requests')} ({get('requests_with_swaps')})", ""),
        ("swaps (from disk)", f"{get('swaps')} ({get('fresh_loads')})", ">= 100"),
        ("failed", str(get("failed")), "0"),
        ("wrong adapter", str(get("wrong_adapter")), "0"),
        ("p99 with swaps / without, ms", f"{get('p99_ms_with_swaps'):.1f} / {get('p99_ms_without'):.1f}", ""),
        ("ratio of p99", f"{get('p99_ratio'):.3f}", "<= 1.10"),
        ("slowest rollback, ms", f"{get('rollback_ms'):.0f}", "< 1000"),
        ("memory growth, MiB", f"{get('rss_growth_bytes') / 2**20:.1f}", "flat"),
        (
            "largest deviation from the adapter alone, with swaps / without",
            f"{get('largest_deviation_with_swaps'):.4f} / {get('largest_deviation_without'):.4f}",
            "<= 0.06",
        ),
        ("distance between adapters, median", f"{get('adapter_distance_median'):.3f}", "what the check tells apart"),
    ]


async def _run(arguments: argparse.Namespace) -> None:
    sizes = QUICK if arguments.quick else FULL
    kinds = [arguments.only] if arguments.only else list(sizes)
    figures: dict[str, Any] = {"machine": describe_machine(threads=arguments.threads), "is_quick": bool(arguments.quick)}
    for kind in kinds:
        found = await bench_swap(kind, sizes[kind], threads=arguments.threads)
        figures |= {f"{kind}_{key}": value for key, value in found.items()}
        print_table(f"swap, {kind}, {CONCURRENCY} clients, {arguments.threads} threads", build_rows(figures, kind))
    totals = {} if arguments.only else combine(figures, kinds)
    path = write_json("swap", {**figures, **totals}, keep=bool(arguments.only))
    print(f"written: {path.relative_to(ROOT)}")  # noqa: T201


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="benches.swap", description="Measures what swapping adapters costs the requests.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the requests: right in direction, not fit to publish")
    parser.add_argument("--only", choices=sorted(FULL), help="one kind of model")
    parser.add_argument("--threads", type=int, default=2, help="threads that compute (default 2)")
    try:
        asyncio.run(_run(parser.parse_args(sys.argv[1:])))
    except BenchError as error:
        print(f"bench-swap: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


if __name__ == "__main__":
    main()
