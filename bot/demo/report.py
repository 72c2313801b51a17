"""The demo's report: figures under documented keys (docs/demo.md), a table on the screen, a readable page.

Pure but for printing. Accuracy before and after is measured on the same unseen tickets.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bot.cli.output import console, print_table
from bot.demo.agents import Tally
from bot.tasks import measures
from bot.types import RunInfo
from db.types import FeedbackKind


def _measure(prefix: str, scored: Mapping[str, Any], gold: np.ndarray[Any, Any]) -> dict[str, float]:
    probabilities = scored["probabilities"]
    predicted = probabilities.argmax(axis=1)
    return {
        f"accuracy_{prefix}": round(float((predicted == gold).mean()), 4),
        f"macro_f1_{prefix}": round(measures.compute_macro_f1(gold, predicted), 4),
        f"ece_{prefix}": round(measures.compute_ece(probabilities.max(axis=1), predicted == gold), 4),
        f"override_rate_{prefix}": round(float((predicted != gold).mean()), 4),
        f"p50_ms_{prefix}": round(float(np.percentile(scored["latency_ms"], 50)), 2),
        f"p99_ms_{prefix}": round(float(np.percentile(scored["latency_ms"], 99)), 2),
    }


def build_report(
    *,
    stream: Tally,
    summaries: Tally,
    masking: Mapping[str, Any],
    run: RunInfo,
    summary_run: RunInfo,
    swap: Mapping[str, Any],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    baselines: Mapping[str, Any],
    gold: Sequence[str],
    names: Sequence[str],
    timings: Mapping[str, float],
) -> dict[str, Any]:
    """Put all figures together. Intervals are 95 % paired bootstrap intervals of the difference in accuracy on the unseen tickets."""
    truth = np.array([names.index(label) for label in gold])
    is_right = after["probabilities"].argmax(axis=1) == truth
    was_right = before["probabilities"].argmax(axis=1) == truth
    figures: dict[str, Any] = {
        "n_stream": stream.n_tickets,
        "n_unseen": len(gold),
        "n_labels": len(names),
        **_measure("before", before, truth),
        **_measure("after", after, truth),
        "gain_over_before_ci95": _get_interval(was_right, is_right),
    }
    for name, found in baselines["baselines"].items():
        predicted = np.array([names.index(label) for label in found["predictions"]])
        figures[f"accuracy_{name}"] = round(float((predicted == truth).mean()), 4)
        figures[f"gain_over_{name}_ci95"] = _get_interval(predicted == truth, is_right)
    figures |= {
        "n_train": baselines["n_train"],
        "adapter_digest": run.adapter_digest,
        "gate_reasons": list(run.verdict),
        "override_rate_stream": round(stream.override_rate, 4),
        "accuracy_stream": round(stream.n_right / stream.n_tickets, 4),
        "feedback": {kind.value: stream.actions[kind] + summaries.actions[kind] for kind in FeedbackKind},
        "summary_run_status": summary_run.status.value,
        "summary_gate_reasons": list(summary_run.verdict),
        **{f"summary_{key}": value for key, value in summary_run.before_after.items()},
        "masking": dict(masking),
        **swap,
        "seconds": dict(timings),
        "seconds_total": round(sum(timings.values()), 1),
        "per_label": _measure_labels(truth, names, was_right, is_right),
    }
    return figures


def _measure_labels(
    truth: np.ndarray[Any, Any], names: Sequence[str], was_right: np.ndarray[Any, Any], is_right: np.ndarray[Any, Any]
) -> dict[str, Any]:
    found = {}
    for index, name in enumerate(names):
        rows = truth == index
        if rows.any():
            found[name] = {
                "n": int(rows.sum()),
                "recall_before": round(float(was_right[rows].mean()), 4),
                "recall_after": round(float(is_right[rows].mean()), 4),
            }
    return found


def _get_interval(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> list[float]:
    _, low, high = measures.compute_paired_interval(before, after, confidence=0.95, seed=0)
    return [round(low, 4), round(high, 4)]


def _say_interval(value: Sequence[float]) -> str:
    return f"[{value[0] * 100:+.1f}, {value[1] * 100:+.1f}] points"


def print_report(report: Mapping[str, Any], home: Path) -> None:
    """Print the tables and say where the rest lies."""
    rows: list[Sequence[object]] = [
        ("accuracy on unseen tickets", f"{report['accuracy_before']:.1%}", f"{report['accuracy_after']:.1%}"),
        ("macro-F1", f"{report['macro_f1_before']:.3f}", f"{report['macro_f1_after']:.3f}"),
        ("override rate", f"{report['override_rate_before']:.1%}", f"{report['override_rate_after']:.1%}"),
        ("calibration error (ECE)", f"{report['ece_before']:.3f}", f"{report['ece_after']:.3f}"),
        ("latency p50, 8 clients", f"{report['p50_ms_before']:.1f} ms", f"{report['p50_ms_after']:.1f} ms"),
        ("latency p99, 8 clients", f"{report['p99_ms_before']:.1f} ms", f"{report['p99_ms_after']:.1f} ms"),
    ]
    title = f"{report['n_unseen']} unseen tickets; trained on {report['n_train']} examples"
    print_table(title, ("", "bare model", "after retraining"), rows)
    names = [key.removeprefix("gain_over_").removesuffix("_ci95") for key in report if key.startswith("gain_over_")]
    rows = [(n, f"{report[f'accuracy_{n}']:.1%}", _say_interval(report[f"gain_over_{n}_ci95"])) for n in names]
    print_table(
        "The adapter against what else the same examples give", ("baseline", "accuracy", "adapter's gain, 95 % interval"), rows
    )
    rows = [
        ("requests while swapping", report["requests_during_swap"]),
        ("failed", report["failed_during_swap"]),
        ("answered by a wrong or mixed adapter", report["wrong_adapter_during_swap"]),
        ("rollback, request to serving", f"{report['rollback_ms']:.0f} ms"),
        (
            "planted personal values found in the database",
            f"{report['masking']['found_in_database']} of {report['masking']['planted_values']}",
        ),
    ]
    print_table("Swap under live requests, and masking", ("", ""), rows)
    print_table("Time", ("step", "seconds"), list(report["seconds"].items()))
    console.print(f"Report: {home / 'report.html'}   figures: {home / 'report.json'}   plots: {home}/*.png", highlight=False)
