"""`make bench-masking`: what the masker finds, how fast, how large; beside Presidio out of the box. Writes `.bench/masking.json`.

Run as `python -m benches.masking [--quick] [--only quality|speed]`. Knows the sections, the bars and the table.
"""

import argparse
import asyncio
import dataclasses
import os
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

from benches.masking_peer import PresidioPeer
from benches.masking_score import Find, flatten_score, pick_headline, score_set
from benches.masking_sets import DATA, REMARKS, build_hostile, load_dense_tickets, load_sets, load_tickets
from benches.masking_speed import bench_pool, describe_latency, find_slowest, time_each
from benches.paths import ROOT, BenchError
from benches.report import describe_machine, print_table, write_json
from bot.masking import Masker, MaskingError, MaskingSettings

SECTIONS: Final = ("quality", "speed")
KEYS: Final = (
    *("recall_PERSON", "precision_PERSON", "recall_structured", "precision_structured"),
    *("p50_ms_500_chars", "p95_ms_500_chars", "p99_ms_500_chars", "tickets_per_s"),
)
"""Keys that are always in the file of a full run."""

_TITLES: Final = {"quality": "Masking: recall / wholly masked / precision", "speed": "Masking: speed and memory"}
NAMES_SET: Final = "ewt_dev"
STRUCTURED_SET: Final = "presidio_synthetic"
_PACKAGES: Final = ("presidio-analyzer", "spacy", "numpy")
_N_TICKETS: Final = 600
_N_LONG: Final = 40
_PEER_HOSTILE: Final = ("(", "a.")
_MAX_BARS: Final = {
    "p50_ms_500_chars": ("one process, 500 characters, p50 ms", 25),
    "p95_ms_500_chars": ("one process, 500 characters, p95 ms", 40),
    "p99_ms_500_chars": ("one process, 500 characters, p99 ms", None),
    "cpu_ms_500_chars": ("the same, time on the processor, mean ms", None),
    "p50_ms_500_chars_dense": ("the same, full of personal data, p50 ms", 25),
    "p95_ms_500_chars_dense": ("the same, full of personal data, p95 ms", 40),
    "p95_ms_8000_chars": ("one process, 8,000 characters, p95 ms", 500),
    "p50_ms_500_chars_pool": ("through the pool, 500 characters, p50 ms", None),
    "p95_ms_500_chars_behind_long": ("the same behind a ticket of 200 kB, p95 ms", None),
    "long_ticket_s": ("that ticket of 200 kB, s", None),
    "worker_rss_mb": ("memory of a process, MB", 250),
    "worker_peak_rss_mb": ("memory of a process at most, MB", None),
    "worst_20_kb_s": ("slowest of the hostile inputs of 20 kB, s", 2),
}
_MIN_BARS: Final = {
    "tickets_per_s_one_process": ("tickets/s of 500 characters, one process", 40),
    "tickets_per_s": ("tickets/s of 500 characters, two processes on two cores", 80),
}
_QUALITY_BARS: Final = {
    "recall_PERSON_ewt_dev": 0.83,
    "precision_PERSON_ewt_dev": 0.75,
    "recall_LOCATION_ewt_dev": 0.80,
    "precision_LOCATION_ewt_dev": 0.75,
    "recall_PERSON_ewt_dev_mail": 0.82,
    "precision_PERSON_ewt_dev_mail": 0.85,
    "recall_PERSON_btc_dev": 0.62,
    "recall_PERSON_wnut17_dev": 0.52,
    **{f"fully_masked_{key}": bar for name in ("adversarial", "adversarial_unseen") for key, bar in (
        (f"all_{name}", 0.90), (f"structured_{name}", 0.95), (f"SECRET_{name}", 0.95), (f"PERSON_{name}", 0.80), (f"LOCATION_{name}", 0.80)
    )},
}  # fmt: skip


def bench_quality(*, is_quick: bool) -> dict[str, Any]:
    """Score the masker and the peer on every set that is there."""
    masker = Masker(MaskingSettings(chunk_timeout_ms=60_000))
    peer = PresidioPeer()
    figures: dict[str, Any] = {}
    for scored in load_sets():
        part = dataclasses.replace(scored, rows=scored.rows[:60]) if is_quick else scored
        figures |= flatten_score(scored.name, score_set(_wrap(masker), part))
        figures |= flatten_score(scored.name, score_set(peer.find, part), suffix="_presidio")
    return figures | pick_headline(figures, names=NAMES_SET, structured=STRUCTURED_SET)


def _wrap(masker: Masker) -> Find:
    def find(text: str) -> list[tuple[int, int, str]] | None:
        try:
            return [(span.start, span.end, span.type) for span in masker.mask(text).spans]
        except MaskingError:
            return None

    return find


def bench_speed(*, is_quick: bool) -> dict[str, Any]:
    """Time one process, the pool and the peer on the same tickets."""
    settings = MaskingSettings(chunk_timeout_ms=60_000)
    masker, peer = Masker(settings), PresidioPeer()
    n_tickets = 100 if is_quick else _N_TICKETS
    tickets, dense = load_tickets(count=n_tickets), load_dense_tickets(count=n_tickets)
    long = load_tickets(8000, count=10 if is_quick else _N_LONG)
    started = time.process_time()
    times = time_each(masker.mask, tickets)
    figures: dict[str, Any] = {"cpu_ms_500_chars": 1000 * (time.process_time() - started) / len(times)}
    figures |= describe_latency(times, "500_chars")
    figures["tickets_per_s_one_process"] = 1000 * len(times) / sum(times)
    times = time_each(peer.find, tickets)
    figures |= describe_latency(times, "500_chars", suffix="_presidio")
    figures["tickets_per_s_one_process_presidio"] = 1000 * len(times) / sum(times)
    figures |= describe_latency(time_each(masker.mask, long), "8000_chars")
    figures |= describe_latency(time_each(peer.find, long), "8000_chars", suffix="_presidio")
    if dense:
        figures |= describe_latency(time_each(masker.mask, dense), "500_chars_dense")
        figures |= describe_latency(time_each(peer.find, dense), "500_chars_dense", suffix="_presidio")
    hostile = build_hostile()
    figures |= find_slowest(masker.mask, dict(list(hostile.items())[:4]) if is_quick else hostile)
    if not is_quick:
        worst = find_slowest(peer.find, {unit: hostile[unit] for unit in _PEER_HOSTILE})
        figures |= {"worst_20_kb_s_presidio": worst["worst_20_kb_s"], "worst_20_kb_input_presidio": worst["worst_20_kb_input"]}
    return figures | asyncio.run(bench_pool(settings, tickets, long_text=" ".join(long)[:200_000]))


def build_rows(section: str, figures: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return a section's table; the remark holds the bar and Presidio's figure."""
    if section == "quality":
        return [row for name in REMARKS for row in _build_set_rows(name, figures)]
    rows = []
    for bars, is_met in ((_MAX_BARS, _is_at_most), (_MIN_BARS, _is_at_least)):
        sign = "<=" if is_met is _is_at_most else ">="
        for key, (title, bar) in bars.items():
            if key in figures:
                verdict = "" if bar is None else f"{sign} {bar}: {'met' if is_met(figures[key], bar) else 'missed'}"
                rows.append((title, f"{figures[key]:.3g}", _join(verdict, figures.get(f"{key}_presidio"))))
    return rows


def _is_at_most(value: float, bar: float) -> bool:
    return value <= bar


def _is_at_least(value: float, bar: float) -> bool:
    return value >= bar


def _join(verdict: str, peer: float | None) -> str:
    return "; ".join(part for part in (verdict, "" if peer is None else f"Presidio {peer:.3g}") if part)


def _build_set_rows(name: str, figures: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """One row per type of a set: recall, share wholly masked and precision, then bars and Presidio's three."""
    entities = [key[2 : -len(name) - 1] for key in figures if key.startswith("n_") and key.endswith(f"_{name}")]
    rows = []
    for entity in (e for e in entities if f"recall_{e}_{name}" in figures):
        triples = []
        for suffix in ("", "_presidio"):
            values = [figures.get(f"{key}_{entity}_{name}{suffix}") for key in ("recall", "fully_masked", "precision")]
            triples.append(" / ".join("-" if value is None else f"{value:.2f}" for value in values))
        verdicts = [
            f"{key.replace('_', ' ')} >= {bar}: {'met' if figures[full] >= bar else 'missed'}"
            for key in ("recall", "fully_masked", "precision")
            if (bar := _QUALITY_BARS.get(full := f"{key}_{entity}_{name}")) is not None
        ]
        what = f"{name}, {entity} ({figures[f'n_{entity}_{name}']})"
        rows.append((what, triples[0], "; ".join([*verdicts, f"Presidio {triples[1]}"])))
    if f"n_benign_rows_{name}" in figures and name.startswith("adversarial"):
        touched, peer = (figures[f"benign_rows_touched_{name}{suffix}"] for suffix in ("", "_presidio"))
        rows.append(
            (f"{name}, rows without any, touched", f"{touched} of {figures[f'n_benign_rows_{name}']}", f"Presidio {peer}")
        )
    return rows


def build_figures(figures: Mapping[str, Any]) -> str:
    """Return the tables in Markdown, for the page. Raises BenchError where a run was a quick one, is missing, or scored no shared set."""
    from benches.publish import build_section  # it knows every bench; none of them needs it to measure

    for section in SECTIONS:
        if figures.get(f"{section}_is_quick", True):
            raise BenchError(
                f"bench-masking, {section} was a quick run or was not made; make it in full before its figures are published"
            )
    missing = [key for key in KEYS if key not in figures]
    if missing:
        raise BenchError(f"bench-masking has no {', '.join(missing)}: run it where ../shared/data lies beside the checkout")
    return "\n".join(
        build_section(_TITLES[section], figures[f"{section}_machine"], build_rows(section, figures)) for section in SECTIONS
    )


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benches.masking", description="Measures the masker beside Presidio out of the box.")
    parser.add_argument("--quick", action="store_true", help="small runs: right in direction, not fit to publish")
    parser.add_argument("--only", choices=SECTIONS, help="one section; the other's figures stay as they are in the file")
    return parser.parse_args(arguments)


def main() -> None:
    """Measure, print and write. Without the shared data the own sets and the speed are measured, and the page says so."""
    arguments = parse_arguments(sys.argv[1:])
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # as in a masking process
    try:
        for section in [arguments.only] if arguments.only else SECTIONS:
            machine = describe_machine(threads=1) | {"versions": {name: version(name) for name in _PACKAGES}}
            work = bench_quality if section == "quality" else bench_speed
            figures = work(is_quick=arguments.quick)
            figures |= {f"{section}_machine": machine, f"{section}_is_quick": bool(arguments.quick)}
            path = write_json("masking", {**figures, "machine": machine}, keep=bool(arguments.only) or section != SECTIONS[0])
            title = "recall / wholly masked / precision" if section == "quality" else f"speed, {machine['cpu_model']}"
            print_table(title, build_rows(section, figures))
    except BenchError as error:
        print(f"bench-masking: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    if not DATA.is_dir():
        print("the sets of ../shared/data are not beside this checkout: only the project's own were scored")  # noqa: T201
    print(f"written: {path.relative_to(ROOT)}")  # noqa: T201


if __name__ == "__main__":
    main()
