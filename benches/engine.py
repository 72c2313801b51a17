"""`make bench-engine`: the engine against its peers; prints a table and writes `.bench/engine.json`.

Run as `python -m benches.engine [--quick] [--only encoder|decoder] [--threads N]`. Knows the order of sections and the bars; what is
measured is in `benches.encoder_bench` and `benches.decoder_bench`.
"""

import argparse
import asyncio
import sys
from collections.abc import Mapping
from typing import Any, Final

from benches.decoder_bench import bench_decoder
from benches.encoder_bench import bench_encoder
from benches.paths import ROOT, BenchError
from benches.report import describe_machine, print_table, write_json
from benches.settings import BenchSettings

SECTIONS: Final = {"encoder": bench_encoder, "decoder": bench_decoder}
_RATES: Final = {
    "encoder": (
        ("tickets/s, ours, 8 clients", "encoder_tickets_per_s"),
        ("tickets/s, llama-server", "encoder_tickets_per_s_llama_server"),
        ("tickets/s, sentence-transformers fp32", "encoder_sentence_transformers_tickets_per_s"),
        ("tickets/s, sentence-transformers bf16", "encoder_sentence_transformers_bf16_tickets_per_s"),
        ("tickets/s, llama_decode alone (limit)", "encoder_limit_tickets_per_s"),
        ("tickets/s, llama_decode alone, LoRA applied at run time", "encoder_limit_tickets_per_s_with_adapter"),
    ),
    "decoder": (
        ("labels: tickets/s, ours, 8 clients", "classification_tickets_per_s"),
        ("labels: tickets/s, ours, all labels alike", "classification_tickets_per_s_flat"),
        ("labels: tickets/s, llama-server, all labels in its grammar", "classification_tickets_per_s_llama_server"),
        ("labels: tickets/s, llama-server, told the label", "classification_tickets_per_s_llama_server_forced"),
        ("labels: tickets/s, llama-cpp-python's server", "classification_tickets_per_s_llama_cpp_python_server"),
        ("prefill: tokens/s, llama-bench (limit)", "prefill_tokens_per_s_llama_bench"),
        ("summaries: tokens/s, ours", "summary_tokens_per_s"),
        ("summaries: tokens/s, llama-server", "summary_tokens_per_s_llama_server"),
    ),
}
_BARS: Final = {
    "encoder": (
        ("ours / llama-server", "encoder_ratio_vs_llama_server", 1.2),
        ("ours / sentence-transformers fp32", "encoder_ratio_vs_sentence_transformers", 1.5),
        ("ours / limit", "encoder_limit_fraction", 0.9),
    ),
    "decoder": (
        ("labels: ours / llama-server", "ratio_vs_llama_server", 2.0),
        ("labels: ours / llama-cpp-python's server", "ratio_vs_llama_cpp_python_server", 5.0),
        ("labels: ours / prefill limit", "prefill_limit_fraction", 0.8),
        ("labels, one-line tickets: ours / llama-server", "ratio_vs_llama_server_short", 2.0),
        ("labels, one-line tickets: ours / llama-cpp-python's server", "ratio_vs_llama_cpp_python_server_short", 5.0),
        ("labels, one-line tickets: ours / prefill limit", "prefill_limit_fraction_short", 0.8),
        ("summaries: ours / llama-server", "summary_ratio_vs_llama_server", 1.0),
    ),
}


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benches.engine", description="Measures the engine against its peers.")
    parser.add_argument("--quick", action="store_true", help="small runs: right in direction, not fit to publish")
    parser.add_argument("--only", choices=sorted(SECTIONS), help="one section; the other's figures stay as they are in the file")
    parser.add_argument("--threads", type=int, default=2, help="threads that compute, on every side alike (default 2)")
    return parser.parse_args(arguments)


def build_rows(section: str, figures: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return a section's table: rates, then ratios with their bars, then latencies."""
    rows = [(title, f"{figures[key]:.2f}", "") for title, key in _RATES[section] if key in figures]
    for title, key, bar in _BARS[section]:
        if key in figures:
            verdict = "met" if figures[key] >= bar else "missed"
            rows.append((title, f"{figures[key]:.2f}", f">= {bar:g}: {verdict}"))
    prefix = "encoder" if section == "encoder" else "classification"
    for name in ("p50_ms", "p99_ms"):
        ours, theirs = figures.get(f"{prefix}_{name}", {}), figures.get(f"{prefix}_{name}_llama_server", {})
        for clients, value in ours.items():
            rows.append(
                (f"{name[:3]} of {clients} client(s), ms", f"{value:.0f}", f"llama-server {theirs.get(clients, 0.0):.0f}")
            )
    return rows


async def _run(arguments: argparse.Namespace) -> None:
    settings = BenchSettings.quick(threads=arguments.threads) if arguments.quick else BenchSettings(threads=arguments.threads)
    sections = [arguments.only] if arguments.only else list(SECTIONS)
    for section in sections:
        machine = describe_machine(threads=settings.threads)
        figures = await SECTIONS[section](settings)
        figures |= {f"{section}_machine": machine, f"{section}_is_quick": bool(arguments.quick)}
        path = write_json("engine", {**figures, "machine": machine}, keep=True)
        print_table(f"{section}, {settings.threads} threads, {machine['cpu_model']}", build_rows(section, figures))
    print(f"written: {path.relative_to(ROOT)}")  # noqa: T201


def main() -> None:
    """Measure, print and write; a peer that cannot be built ends it with one sentence and code 1."""
    arguments = parse_arguments(sys.argv[1:])
    try:
        asyncio.run(_run(arguments))
    except BenchError as error:
        print(f"bench-engine: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


if __name__ == "__main__":
    main()
