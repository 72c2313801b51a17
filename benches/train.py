"""`make bench-train`: how long a retrain takes, our trainers against the standard ones, and what training costs who is served meanwhile.

Run as `python -m benches.train [--quick] [--only live|encoder|latency|decoder|agreement] [--threads N]`; writes `.bench/train.json`. Knows
the order of sections and the bars; what is measured is in `benches.train_live`, `benches.train_sides` and `benches.agreement`.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping
from typing import Any, Final

from benches.paths import ROOT, BenchError
from benches.report import describe_machine, print_table, write_json
from benches.train_live import LiveSize, bench_latency, bench_live
from benches.train_sides import SidesSize, bench_decoder, bench_encoder, get_peer_versions

SECTIONS: Final = ("live", "encoder", "latency", "decoder", "agreement")
KEYS: Final = (
    "trigger_to_live_s",
    "peak_rss_bytes",
    "encoder_examples_per_s",
    "encoder_examples_per_s_peer",
    "decoder_tokens_per_s",
    "decoder_tokens_per_s_trl",
    "served_agreement_nf4_q8",
    "served_agreement_nf4_q4",
    "served_agreement_faithful_q8",
    "served_agreement_faithful_q4",
    "serving_p99_ratio",
)
"""What `.bench/train.json` holds at least, once every section was measured."""
_MIB: Final = 2**20
_RATES: Final = {
    "live": (),
    "encoder": (
        ("examples/s, ours", "encoder_examples_per_s"),
        ("examples/s, sentence-transformers", "encoder_examples_per_s_peer"),
        ("examples/s, sentence-transformers, by length", "encoder_examples_per_s_peer_by_length"),
    ),
    "latency": (
        ("p50 while training, ms", "serving_p50_ms_while_training"),
        ("p50 without, ms", "serving_p50_ms_without"),
        ("p99 while training, ms", "serving_p99_ms_while_training"),
        ("p99 without, ms", "serving_p99_ms_without"),
        ("failed", "serving_failed"),
    ),
    "decoder": (
        ("tokens/s, ours", "decoder_tokens_per_s"),
        ("tokens/s, TRL", "decoder_tokens_per_s_trl"),
    ),
    "agreement": (
        ("equal answers, NF4, Q8_0", "served_agreement_nf4_q8"),
        ("equal answers, NF4, Q4_K_M", "served_agreement_nf4_q4"),
        ("equal answers, NF4, encoder in Q8_0", "served_agreement_encoder_nf4"),
        *(
            (f"right answers, {side}, {title}, {kind}", f"{side}_accuracy_{name}")
            for mode, title in (("nf4", "NF4"), ("faithful", "faithful"))
            for kind, name in (("Q8_0", f"{mode}_q8"), ("Q4_K_M", f"{mode}_q4"), ("encoder", f"encoder_{mode}"))
            for side in ("trained", "served")
        ),
    ),
}
_AT_LEAST: Final = {
    "encoder": (
        ("ours / sentence-transformers", "encoder_ratio_vs_peer", 1.0),
        ("ours / sentence-transformers, by length", "encoder_ratio_vs_peer_by_length", 1.0),
    ),
    "decoder": (("ours / TRL", "decoder_ratio_vs_trl", 1.0),),
    "agreement": (
        ("equal answers, faithful, Q8_0", "served_agreement_faithful_q8", 0.98),
        ("equal answers, faithful, Q4_K_M", "served_agreement_faithful_q4", 0.98),
        ("equal answers, faithful, encoder in Q8_0", "served_agreement_encoder_faithful", 0.98),
    ),
}
_AT_MOST: Final = {
    "live": (("trigger to live, s", "trigger_to_live_s", 180.0),),
    "latency": (("p99 while training / without", "serving_p99_ratio", 1.5),),
}
_MEMORY: Final = {
    "live": (("peak memory of the training process, MiB", "peak_rss_bytes"),),
    "encoder": (
        ("peak memory, ours, MiB", "encoder_peak_rss_bytes"),
        ("peak memory, sentence-transformers, MiB", "encoder_peak_rss_bytes_peer"),
    ),
    "decoder": (
        ("peak memory, ours, MiB", "decoder_peak_rss_bytes"),
        ("peak memory, TRL, MiB", "decoder_peak_rss_bytes_trl"),
    ),
}


_PHASES: Final = {"live": ("phases_s", "s"), "latency": ("serving_p99_ms_by_phase", "p99 in ms")}


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benches.train", description="Measures training, and what it costs who is served.")
    parser.add_argument("--quick", action="store_true", help="small runs: right in direction, not fit to publish")
    parser.add_argument("--only", choices=SECTIONS, help="one section; the others' figures stay as they are in the file")
    parser.add_argument("--threads", type=int, default=2, help="threads that compute, on every side alike (default 2)")
    return parser.parse_args(arguments)


def build_rows(section: str, figures: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return a section's table: rates or times, ratios with their bars, memory, and the seconds of each phase."""
    digits = 3 if section == "agreement" else 2
    rows = [(title, f"{figures[key]:.{digits}f}", "") for title, key in _RATES[section] if key in figures]
    for bars, sign in ((_AT_LEAST, ">="), (_AT_MOST, "<=")):
        for title, key, bar in bars.get(section, ()):
            if key in figures:
                is_met = figures[key] >= bar if sign == ">=" else figures[key] <= bar
                rows.append((title, f"{figures[key]:.{digits}f}", f"{sign} {bar:g}: {'met' if is_met else 'missed'}"))
    rows += [(title, f"{figures[key] / _MIB:.0f}", "") for title, key in _MEMORY.get(section, ()) if key in figures]
    key, unit = _PHASES.get(section, ("", ""))
    phases: Mapping[str, float] = figures.get(key, {})
    return [*rows, *((f"  {name}, {unit}", f"{value:.1f}", "") for name, value in phases.items())]


def measure(section: str, *, is_quick: bool, threads: int) -> dict[str, Any]:
    """Return one section's figures. Raises BenchError."""
    live = LiveSize(examples=250, quiet_s=15.0) if is_quick else LiveSize()
    sides = SidesSize(encoder_examples=200, decoder_examples=32, rounds=1) if is_quick else SidesSize()
    if section == "live":
        return asyncio.run(bench_live(live, threads=threads))
    if section == "latency":
        return asyncio.run(bench_latency(live, threads=threads))
    if section == "agreement":
        return _measure_agreement(is_quick=is_quick, threads=threads)
    bench = bench_encoder if section == "encoder" else bench_decoder
    return {**bench(sides, threads=threads), "peer_versions": get_peer_versions()}


def _measure_agreement(*, is_quick: bool, threads: int) -> dict[str, Any]:
    # Read when torch is loaded, which no other section does in this process: threads that spin would take the cores from each other.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from benches.agreement import AgreementSize, bench_agreement
    from benches.agreement_encoder import bench_encoder_agreement

    size = AgreementSize(learnt=100, asked=100, epochs=1, base_epochs=1) if is_quick else AgreementSize()
    encoder = bench_encoder_agreement(learnt=size.learnt, asked=size.asked, epochs=size.epochs, threads=threads)
    return {**bench_agreement(size, threads=threads), **encoder}


def _run(arguments: argparse.Namespace) -> list[str]:
    """Measure section by section, print and write each; return the sections that could not be measured, with the reason."""
    failed = []
    sections = [arguments.only] if arguments.only else SECTIONS
    for section in sections:
        machine = describe_machine(threads=arguments.threads)
        try:
            figures = measure(section, is_quick=arguments.quick, threads=arguments.threads)
        except BenchError as error:
            failed.append(f"{section}: {error}")
            continue
        figures |= {f"{section}_machine": machine, f"{section}_is_quick": bool(arguments.quick)}
        path = write_json("train", {**figures, "machine": machine}, keep=True)
        print_table(f"{section}, {arguments.threads} threads, {machine['cpu_model']}", build_rows(section, figures))
        print(f"written: {path.relative_to(ROOT)}")  # noqa: T201
    return failed


def main() -> None:
    """Measure, print and write; a section that cannot be measured is one sentence, and code 1 in the end."""
    failed = _run(parse_arguments(sys.argv[1:]))
    for reason in failed:
        print(f"bench-train: {reason}", file=sys.stderr)  # noqa: T201
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
