"""Release notes of a run: what it learned from, how, what the gate said and who let it go live; as Markdown, HTML and plots.

Reads the database's rows of the run and writes files beside its log. Holds no ticket text: counts, digests and label names alone.
"""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlmodel import Session

from db.queries import gate, runs
from db.queries.audit import list_audit
from db.tables import Audit, GateReport, TrainingRun
from training.contest import BASELINE_NAMES
from training.notes_training import build_trials, describe_passes, describe_preference, describe_sweep, describe_validation
from training.plots import plot_confusion, plot_labels, plot_loss, plot_reliability

KNOWN_LIMITS = (
    "Test tickets come from the same team and months as those it learned from; a new product or season may fare worse.",
    "Labels are what people chose, slips included; the accuracy counts agreement with them.",
    "Labels with few test tickets were not compared on their own.",
    "Confidence was calibrated on this run's validation tickets and drifts as tickets change.",
)


@dataclass(frozen=True)
class RunRecord:
    """The rows that release notes are made of. `decisions` are audit rows on the run and its adapter, oldest first."""

    run: TrainingRun
    report: GateReport | None
    decisions: tuple[Audit, ...]


def read_record(session: Session, run_id: int) -> RunRecord:
    """Read a run. Raises RowNotFoundError."""
    run = runs.get_run(session, run_id)
    found = list(list_audit(session, subject_type="run", subject_id=run_id))
    if run.adapter_digest is not None:
        found += list_audit(session, subject_type="adapter", subject_id=run.adapter_digest)
    ordered = tuple(sorted(found, key=lambda row: row.id or 0))
    return RunRecord(run=run, report=gate.get_gate_report(session, run_id=run_id), decisions=ordered)


def write_notes(record: RunRecord, directory: Path) -> Path:
    """Write notes.md, notes.html and the plots, and return the path of notes.md. Existing ones are replaced."""
    directory.mkdir(parents=True, exist_ok=True)
    numbers = record.report.numbers if record.report else {}
    plots = [
        plot_loss(record.run.curves, directory / "loss.png"),
        plot_labels(numbers.get("per_label") or {}, directory / "labels.png"),
        plot_confusion(numbers.get("confusion") or [], numbers.get("label_names") or [], directory / "confusion.png"),
        plot_reliability(numbers.get("reliability") or {}, directory / "reliability.png"),
    ]
    sections = build_sections(record, [plot for plot in plots if plot is not None])
    path = directory / "notes.md"
    path.write_text(render_markdown(sections), encoding="utf-8")
    (directory / "notes.html").write_text(render_html(sections), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Section:
    """A heading with what stands under it: lines (a list), rows (a table, header first) or an image."""

    title: str
    lines: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    image: str | None = None


def build_sections(record: RunRecord, plots: Sequence[Path]) -> list[Section]:
    """Arrange what is known of a run; parts that a run never reached are left out."""
    run, report = record.run, record.report
    sections = [
        Section(f"Training run {run.id} ({run.task.value})", lines=_describe_run(run)),
        Section("Data", lines=_describe_data(run)),
        Section(
            "Settings",
            rows=[
                ("setting", "value"),
                *((key, json.dumps(value)) for key, value in sorted(run.data_counts.get("settings", {}).items())),
            ],
        ),
        Section("Sweep", lines=describe_sweep(run.data_counts), rows=build_trials(run.data_counts)),
        Section("Learning from edits", lines=describe_preference(run.data_counts)),
        Section("Validation", lines=[*describe_passes(run.data_counts), *describe_validation(run.data_counts)]),
    ]
    if report is not None:
        verdict = "passed" if report.is_passed else "refused"
        sections.append(Section(f"The gate: {verdict}", lines=list(report.reasons)))
        sections.append(Section("Before and after", rows=_build_contenders(report.numbers)))
        per_label = report.numbers.get("per_label")
        if per_label:
            sections.append(Section("Per label", rows=_build_labels(per_label)))
    sections += [Section(plot.stem.capitalize(), image=plot.name) for plot in plots]
    sections.append(Section("Known limits", lines=KNOWN_LIMITS))
    rows = [(f"{row.at:%Y-%m-%d %H:%M:%S}", row.actor, row.action, str(row.detail.get("reason", ""))) for row in record.decisions]
    sections.append(Section("Who did what", rows=[("time (UTC)", "who", "what", "reason"), *rows]))
    return [section for section in sections if section.lines or section.image or len(section.rows) > 1]


def _describe_run(run: TrainingRun) -> list[str]:
    adapter = f"adapter {run.adapter_digest}" if run.adapter_digest else "no adapter"
    lines = [
        f"status: {run.status.value}; {adapter}",
        f"asked for by {run.actor} ({run.trigger.value})",
        run.error or run.message,
    ]
    if run.started_at and run.finished_at:
        seconds = (run.finished_at - run.started_at).total_seconds()
        lines.append(f"started {run.started_at:%Y-%m-%d %H:%M:%S} UTC, took {seconds:.0f} s, attempt {run.attempts}")
    return [line for line in lines if line]


def _describe_data(run: TrainingRun) -> list[str]:
    counts = run.data_counts
    if not counts:
        return []
    lines = [
        f"{counts.get('n_train', 0)} examples to learn from, {counts.get('n_validation', 0)} to validate, "
        f"{counts.get('n_test', 0)} to judge ({counts.get('n_golden', 0)} of them golden), of {counts.get('n_seen', 0)} seen",
        f"data digest {run.data_digest}",
    ]
    for key, text in (("base_digest", "base model"), ("label_set_version", "label set"), ("prompt_version", "prompt")):
        if counts.get(key):
            lines.append(f"{text}: {counts[key]}")
    lines += [f"left out, {reason}: {count}" for reason, count in counts.get("left_out", {}).items()]
    lines += [f"label '{label}': {count}" for label, count in counts.get("per_label", {}).items()]
    return lines


def _build_contenders(numbers: Mapping[str, Any]) -> list[tuple[str, ...]]:
    names = {"base": "the bare model", "active": "the live adapter", "candidate": "the candidate", **BASELINE_NAMES}
    columns = ("accuracy", "macro_f1", "ece", "latency_p50_ms", "overlap", "edit_distance", "human_edit_distance", "faithful")
    used = [column for column in columns if any(f"{name}_{column}" in numbers for name in names)]
    rows = [("answered by", *used)]
    for name, text in names.items():
        values = [numbers.get(f"{name}_{column}") for column in used]
        if any(value is not None for value in values):
            rows.append((text, *("" if value is None else f"{value:.3f}" for value in values)))
    return rows


_LABEL_COLUMNS = ("before_f1", "after_f1", "before_recall", "after_recall", "before_coverage_at_95", "after_coverage_at_95")


def _build_labels(per_label: Mapping[str, Mapping[str, float]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        (
            "label",
            "test tickets",
            "F1 before",
            "F1 after",
            "recall before",
            "recall after",
            "unseen at 95 % before",
            "unseen at 95 % after",
        )
    ]
    for label, row in sorted(per_label.items(), key=lambda entry: -entry[1]["support"]):
        cells = [f"{row[key]:.3f}" if key in row else "" for key in _LABEL_COLUMNS]
        rows.append((label, f"{row['support']:.0f}", *cells))
    return rows


def render_markdown(sections: Sequence[Section]) -> str:
    """Render sections as Markdown, the first as the title."""
    parts = []
    for place, section in enumerate(sections):
        parts.append(f"{'#' if place == 0 else '##'} {section.title}\n")
        if section.lines:
            parts.append("\n".join(f"- {line}" for line in section.lines) + "\n")
        if section.rows:
            header, *rows = [[cell.replace("|", "\\|") for cell in row] for row in section.rows]
            table = [header, ["---"] * len(header), *rows]
            parts.append("\n".join(f"| {' | '.join(row)} |" for row in table) + "\n")
        if section.image:
            parts.append(f"![{section.title}]({section.image})\n")
    return "\n".join(parts)


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}"
    "table{border-collapse:collapse}td,th{border-bottom:1px solid #ccc;padding:.25rem .75rem;text-align:left}img{max-width:100%}"
)


def render_html(sections: Sequence[Section]) -> str:
    """Render sections as one HTML page without scripts; all text is escaped."""
    parts = []
    for place, section in enumerate(sections):
        level = 1 if place == 0 else 2
        parts.append(f"<h{level}>{html.escape(section.title)}</h{level}>")
        if section.lines:
            parts.append("<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in section.lines) + "</ul>")
        if section.rows:
            header, *rows = section.rows
            head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
            body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
            parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
        if section.image:
            parts.append(f'<img src="{html.escape(section.image)}" alt="{html.escape(section.title)}">')
    title = html.escape(sections[0].title) if sections else "Training run"
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</html>\n"
    )
