"""Plots and the readable page of the demo: `python -m training.demo_plots REPORT.json FOLDER`. Knows nothing of how the figures came to be.

Lives with training because matplotlib does.
"""

import html
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c2733 }
table { border-collapse: collapse; margin: 1rem 0 } th, td { text-align: left; padding: .35rem 1rem .35rem 0; border-bottom: 1px solid #dbe2e8 }
img { max-width: 100% } h2 { margin-top: 2.5rem }
"""


def draw_all(report_path: Path, out_dir: Path) -> None:
    """Write accuracy.png, labels.png and report.html into `out_dir`."""
    report = json.loads(report_path.read_text(encoding="utf-8"))
    _draw_accuracy(report, out_dir / "accuracy.png")
    _draw_labels(report, out_dir / "labels.png")
    (out_dir / "report.html").write_text(render_page(report), encoding="utf-8")


def get_baselines(report: Mapping[str, Any]) -> list[str]:
    """Names of the baselines the report compares with, in its order."""
    names = [key.removeprefix("gain_over_").removesuffix("_ci95") for key in report if key.startswith("gain_over_")]
    return [name for name in names if name != "before"]


def _draw_accuracy(report: Mapping[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    names = ["bare model", *get_baselines(report), "adapter"]
    keys = ["before", *get_baselines(report), "after"]
    values = [100 * report[f"accuracy_{key}"] for key in keys]
    figure = Figure(figsize=(8, 0.6 + 0.5 * len(names)), layout="constrained")
    axes = figure.subplots()
    colours = ["#9aa7b3", *["#c3ccd4"] * (len(names) - 2), "#1f73b7"]
    bars = axes.barh(names[::-1], values[::-1], color=colours[::-1])
    axes.bar_label(bars, fmt="%.1f", padding=4)
    axes.set_xlim(0, 100)
    axes.set_xlabel(f"accuracy on {report['n_unseen']} unseen tickets, %")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def _draw_labels(report: Mapping[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    labels = sorted(report["per_label"], key=lambda name: report["per_label"][name]["n"])
    figure = Figure(figsize=(8, 0.8 + 0.55 * len(labels)), layout="constrained")
    axes = figure.subplots()
    places = range(len(labels))
    before = [100 * report["per_label"][name]["recall_before"] for name in labels]
    after = [100 * report["per_label"][name]["recall_after"] for name in labels]
    axes.barh([place - 0.2 for place in places], before, height=0.38, color="#9aa7b3", label="bare model")
    axes.barh([place + 0.2 for place in places], after, height=0.38, color="#1f73b7", label="after retraining")
    axes.set_yticks(list(places), [f"{name} ({report['per_label'][name]['n']})" for name in labels])
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the label's unseen tickets that were recognised, %")
    axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def _render_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<th scope=col>{html.escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def render_page(report: Mapping[str, Any]) -> str:
    """Return the readable report: one page, no scripts, images beside it."""
    r = report
    rows = [
        ("accuracy", f"{r['accuracy_before']:.1%}", f"{r['accuracy_after']:.1%}"),
        ("macro-F1", f"{r['macro_f1_before']:.3f}", f"{r['macro_f1_after']:.3f}"),
        ("override rate", f"{r['override_rate_before']:.1%}", f"{r['override_rate_after']:.1%}"),
        ("calibration error (ECE)", f"{r['ece_before']:.3f}", f"{r['ece_after']:.3f}"),
        (
            "latency p50 / p99, 8 clients",
            f"{r['p50_ms_before']} / {r['p99_ms_before']} ms",
            f"{r['p50_ms_after']} / {r['p99_ms_after']} ms",
        ),
    ]
    gains = [
        (
            name,
            f"{r[f'accuracy_{name}']:.1%}",
            "{:+.1f} to {:+.1f} points".format(*(100 * bound for bound in r[f"gain_over_{name}_ci95"])),
        )
        for name in get_baselines(r)
    ]
    swap = [
        ("requests while swapping", str(r["requests_during_swap"])),
        ("failed", str(r["failed_during_swap"])),
        ("answered by a wrong or mixed adapter", str(r["wrong_adapter_during_swap"])),
        ("rollback, request to serving", f"{r['rollback_ms']} ms"),
    ]
    gate = "".join(f"<li>{html.escape(reason)}</li>" for reason in r["gate_reasons"])
    seconds = _render_table(("step", "seconds"), [(name, str(value)) for name, value in r["seconds"].items()])
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Understudy demo</title>"
        f"<style>{STYLE}</style><h1>Understudy: one turn of the loop</h1>"
        f"<p>{r['n_stream']} tickets were worked through, {r['n_train']} examples trained on, {r['n_unseen']} unseen tickets judged.</p>"
        f"{_render_table(('on unseen tickets', 'bare model', 'after retraining'), rows)}"
        "<img src=accuracy.png alt='Accuracy of the bare model, the baselines and the adapter; the table below has the figures'>"
        f"<h2>Against other ways to use the same examples</h2>{_render_table(('baseline', 'accuracy', 'gain, 95 % interval'), gains)}"
        "<h2>Per label</h2><img src=labels.png alt='Recognised share per label before and after retraining'>"
        f"<h2>Gate</h2><ul>{gate}</ul><h2>Swap under live requests</h2>{_render_table(('', ''), swap)}"
        f"<h2>What each step took</h2>{seconds}</html>"
    )


if __name__ == "__main__":
    draw_all(Path(sys.argv[1]), Path(sys.argv[2]))
