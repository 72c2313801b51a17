"""Values in words: confidence, times, durations, states, numbers.

Pure functions for the templates; knows nothing of requests or HTML.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

from bot.plugin_api import (
    BASE,
    AdapterStatus,
    CorrectionKind,
    CorrectionStatus,
    FeedbackKind,
    ReviewKind,
    ReviewStatus,
    RunStatus,
    TaskKind,
    TicketStatus,
)

TASKS: Mapping[TaskKind, str] = {TaskKind.CLASSIFICATION: "Classification", TaskKind.SUMMARY: "Summary"}
TICKET_STATES: Mapping[TicketStatus, str] = {
    TicketStatus.OPEN: "Open",
    TicketStatus.DECIDED: "Decided",
    TicketStatus.HANDED_OFF: "Handed off",
    TicketStatus.WITHHELD: "Withheld",
}
# state -> (words, tone of the badge)
ADAPTER_STATES: Mapping[AdapterStatus, tuple[str, str]] = {
    AdapterStatus.CANDIDATE: ("Candidate", "info"),
    AdapterStatus.SHADOW: ("Shadow", "info"),
    AdapterStatus.ACTIVE: ("Live", "good"),
    AdapterStatus.RETIRED: ("Retired", "plain"),
    AdapterStatus.REJECTED: ("Rejected", "bad"),
}
RUN_STATES: Mapping[RunStatus, tuple[str, str]] = {
    RunStatus.QUEUED: ("Queued", "info"),
    RunStatus.PREPARING: ("Preparing", "info"),
    RunStatus.TRAINING: ("Training", "info"),
    RunStatus.EVALUATING: ("Evaluating", "info"),
    RunStatus.AWAITING_APPROVAL: ("Awaiting approval", "warn"),
    RunStatus.PROMOTED: ("Promoted", "good"),
    RunStatus.REJECTED: ("Rejected", "bad"),
    RunStatus.FAILED: ("Failed", "bad"),
    RunStatus.CANCELLED: ("Cancelled", "plain"),
}
REVIEW_KINDS: Mapping[ReviewKind, str] = {
    ReviewKind.CONTRADICTION: "The same text, decided differently",
    ReviewKind.REVIEWER_DISAGREEMENT: "Two people, two labels",
    ReviewKind.LABEL_NOISE: "Other examples speak against the label",
    ReviewKind.LOW_CONFIDENCE: "The model is unsure",
    ReviewKind.FLAGGED: "Somebody asked to look at it",
}
REVIEW_STATES: Mapping[ReviewStatus, tuple[str, str]] = {
    ReviewStatus.OPEN: ("Open", "info"),
    ReviewStatus.RESOLVED: ("Settled", "good"),
    ReviewStatus.DISMISSED: ("Dismissed", "plain"),
}
CORRECTION_KINDS: Mapping[CorrectionKind, str] = {
    CorrectionKind.MASK: "Should have been masked",
    CorrectionKind.KEEP: "Is not personal",
}
CORRECTION_STATES: Mapping[CorrectionStatus, tuple[str, str]] = {
    CorrectionStatus.OPEN: ("Open", "info"),
    CorrectionStatus.APPROVED: ("Approved", "good"),
    CorrectionStatus.REJECTED: ("Rejected", "plain"),
}
FOUND_BY: Mapping[str, str] = {
    "vault": "a value in the vault",
    "text": "a text that is not masked",
    "customer": "the customer of an import",
    "reference": "its id",
    "asked": "its number or id",
}
RUNNING = frozenset({RunStatus.QUEUED, RunStatus.PREPARING, RunStatus.TRAINING, RunStatus.EVALUATING})
DECISIONS: Mapping[FeedbackKind, str] = {
    FeedbackKind.ACCEPT: "accepted",
    FeedbackKind.OVERRIDE: "overridden",
    FeedbackKind.EDIT: "edited",
    FeedbackKind.HANDOFF: "handed off",
}
_CONFIDENCE = ((0.9, "very likely"), (0.7, "likely"), (0.5, "plausible"), (0.3, "unsure"))
_SHARES = ("accuracy", "f1", "recall", "precision", "rate", "share", "ece", "kept", "agreement", "coverage", "rouge", "overlap")
_SMALL_WORDS = {
    "ece": "Calibration error (ECE)",
    "f1": "F1",
    "macro_f1": "Macro F1",
    "rouge_l": "ROUGE-L",
    "n_test": "Test tickets",
}


def say_confidence(probability: float) -> str:
    """Return a probability in words."""
    return next((words for bound, words in _CONFIDENCE if probability >= bound), "a guess")


def say_percent(value: float) -> str:
    """Return a share as whole percent; a share just below 1 never reads as certain."""
    return "99%" if 0.99 <= value < 1.0 else f"{value:.0%}"


def say_ago(at: datetime, now: datetime) -> str:
    """Return how long ago `at` was, in one short phrase."""
    seconds = (now - at).total_seconds()
    for size, unit in ((86400 * 365, "y"), (86400 * 30, "mo"), (86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "just now"


def say_date(at: datetime) -> str:
    """Return a time for people, in UTC."""
    return f"{at.day} {at:%b %Y, %H:%M} UTC"


def say_duration(seconds: float) -> str:
    """Return a duration in its two largest units."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def say_digest(digest: str) -> str:
    """Return a digest as people read it."""
    return "base model" if digest == BASE else digest[:12]


def say_metric_name(name: str) -> str:
    """Return the name of a metric as a heading."""
    return _SMALL_WORDS.get(name) or name.replace("_", " ").replace(".", ": ").strip().capitalize()


def is_share(name: str, value: float) -> bool:
    """Whether a metric is a share of one, which reads best as percent."""
    return 0.0 <= value <= 1.0 and any(part in name.lower() for part in _SHARES)


def say_metric(name: str, value: float) -> str:
    """Return a metric's value."""
    if name.startswith("gain"):
        return f"{100 * value:+.1f} points"
    if is_share(name, value):
        return f"{value:.1%}"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}"


def pair_metrics(numbers: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """Return (metric, before, after) for each number of the candidate that what was live has too: the active adapter, else the base."""
    pairs: list[tuple[str, float, float]] = []
    for key, after in numbers.items():
        name = key.removeprefix("candidate_")
        before = numbers.get(f"active_{name}", numbers.get(f"base_{name}"))
        if name != key and before is not None:
            pairs.append((name, before, after))
    return pairs


def choose_metrics(metrics: Mapping[str, float], limit: int = 3) -> list[tuple[str, float]]:
    """Return the few metrics that fit into a line: shares first, in the order given."""
    items: Iterable[tuple[str, float]] = sorted(metrics.items(), key=lambda item: not is_share(*item))
    return list(items)[:limit]
