"""The model card of an adapter: base and its licence, data, intended use, limits and figures, as one Markdown page.

Built from the run's rows and the licence note; holds no ticket text. The figures are the gate's own.
"""

from pathlib import Path
from typing import Any

from db.tables import LicenceNote, TrainingRun
from db.types import TaskKind
from training.notes import KNOWN_LIMITS, RunRecord, Section, render_markdown
from training.notes_training import get_trained_settings

_USES = {
    TaskKind.CLASSIFICATION: "suggest one label of the team's label set for a masked support ticket, for a person to accept or change",
    TaskKind.SUMMARY: "summarise a masked support ticket in a sentence or two, for a person to accept or edit",
}
OUT_OF_SCOPE = (
    "Other teams' tickets, other label sets and other languages than those it learned from: it was not measured on them.",
    "Decisions that nobody looks at, unless the coverage below says for which labels that goes well.",
    "Any judgement about a person; masked text is all it reads, and names are not in it.",
)
_FIGURES = (
    ("n_test", "test tickets"),
    ("base_accuracy", "accuracy of the bare model"),
    ("active_accuracy", "accuracy of what was live"),
    ("candidate_accuracy", "accuracy"),
    ("candidate_macro_f1", "macro F1"),
    ("candidate_ece", "calibration error"),
    ("unsafe_share", "share wrong at a confidence of 0.9 or more"),
    ("candidate_coverage_at_95", "share that could go out unseen with 95 % right"),
    ("candidate_wrong_escalations", "share escalated without need"),
    ("candidate_overlap", "overlap with people's summaries"),
    ("candidate_edit_distance", "words to change, as a share"),
    ("candidate_human_edit_distance", "words to change where people had edited"),
    ("candidate_faithful", "share of summaries without anything made up"),
    ("candidate_latency_p50_ms", "median latency in ms"),
)


def write_model_card(record: RunRecord, licence: LicenceNote | None, directory: Path) -> Path | None:
    """Write card.md beside the release notes and return its path; None for a run that made no adapter."""
    if record.run.adapter_digest is None:
        return None
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "card.md"
    path.write_text(render_markdown(build_model_card(record, licence)), encoding="utf-8")
    return path


def build_model_card(record: RunRecord, licence: LicenceNote | None) -> list[Section]:
    """Return the sections of the card."""
    run, counts = record.run, record.run.data_counts
    sections = [
        Section(f"Adapter {(run.adapter_digest or '')[:12]} ({run.task.value})", lines=_describe(record)),
        Section("Base model and its licence", lines=_describe_base(counts.get("base_digest", "unknown"), licence)),
        Section(
            "Intended use",
            lines=[f"To {_USES[run.task]}.", f"Label set {counts['label_set_version']}."][
                : 1 + bool(counts.get("label_set_version"))
            ],
        ),
        Section("Not for", lines=OUT_OF_SCOPE),
        Section("Data", lines=_describe_data(record)),
        Section("Figures", rows=_build_figures(record.report.numbers if record.report else {})),
        Section("Labels", rows=_build_coverage(record.report.numbers if record.report else {})),
        Section("Known limits", lines=KNOWN_LIMITS),
    ]
    return [section for section in sections if section.lines or len(section.rows) > 1]


def _describe(record: RunRecord) -> list[str]:
    run, report = record.run, record.report
    settings = get_trained_settings(run.data_counts)
    lines = [
        f"digest {run.adapter_digest}",
        f"LoRA of rank {settings.get('r')}, frozen weights held as {_describe_holding(run)}, seed {settings.get('seed')}, by run {run.id}",
    ]
    if report is not None:
        lines.append(
            f"the gate {'passed' if report.is_passed else 'refused'} it: {report.reasons[0] if report.reasons else 'no reason given'}"
        )
    people = [row.actor for row in record.decisions if row.action == "adapter.approve"]
    return [*lines, *([f"approved by {', '.join(dict.fromkeys(people))}"] if people else [])]


def _describe_holding(run: TrainingRun) -> str:
    """Return the mode and, where that leaves it open, what the base was held as."""
    mode, held = str(get_trained_settings(run.data_counts).get("mode")), run.data_counts.get("holding", {}).get("held_as")
    return mode if held in (None, mode) else f"{mode} ({held})"


def _describe_base(base_digest: str, licence: LicenceNote | None) -> list[str]:
    if licence is None:
        return [f"SHA-256 {base_digest}", "no licence note is recorded for it: `understudy models` shows how to add one"]
    approved = f"approved by {licence.approved_by}" if licence.approved_by else "nobody has approved it yet"
    lines = [
        f"{licence.model_name} ({licence.source}, revision {licence.revision or 'not recorded'}), SHA-256 {base_digest}",
        f"licence {licence.licence}, noted on {licence.noted_on}, {approved}",
    ]
    for text, name in (
        (licence.restrictions, "restrictions"),
        (licence.commercial_use, "commercial use"),
        (licence.hosted_use, "hosted use"),
        (licence.affiliate_use, "use by affiliates"),
    ):
        if text:
            lines.append(f"{name}: {text}")
    return [*lines, "the adapter holds changes to that model and none of its weights; its licence covers their use together"]


def _describe_data(record: RunRecord) -> list[str]:
    run, counts = record.run, record.run.data_counts
    return [
        f"{counts.get('n_train', 0)} examples to learn from, {counts.get('n_validation', 0)} to validate, {counts.get('n_test', 0)} to "
        f"judge, all masked, made of the team's own decisions and imports; digest {run.data_digest}",
        "what they are in detail is in dataset.md, which example went where is known to `understudy lineage`",
    ]


def _build_figures(numbers: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = [
        (text, f"{numbers[key]:.3f}".rstrip("0").rstrip("."))
        for key, text in _FIGURES
        if isinstance(numbers.get(key), int | float)
    ]
    return [("figure", "value"), *rows]


def _build_coverage(numbers: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = [
        (label, f"{row['support']:.0f}", f"{row['after_f1']:.3f}", f"{100 * row.get('after_coverage_at_95', 0.0):.0f} %")
        for label, row in sorted((numbers.get("per_label") or {}).items(), key=lambda entry: -entry[1]["support"])
    ]
    return [("label", "test tickets", "F1", "could go out unseen with 95 % right"), *rows]
