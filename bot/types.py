"""Frozen values that pass between the parts of the bot: references, suggestions, feedback, label sets.

Knows nothing of models, SQL or plugins, and decides nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from db.queries.common import clean_text
from db.types import (
    AdapterStatus,
    FeedbackKind,
    ModelKind,
    ReviewKind,
    ReviewStatus,
    RunStatus,
    RunTrigger,
    TaskKind,
    TicketStatus,
)

BASE = "base"
"""Stands in place of an adapter digest where the bare base model answered."""


@dataclass(frozen=True)
class SourceRef:
    """Where a ticket lives: the plugin that brought it and that system's own id. Together they are unique.

    An id loses what no database can hold: NUL and halves of characters.
    """

    plugin: str
    external_id: str

    def __post_init__(self) -> None:
        """Clean the id."""
        if not self.external_id.isascii() or "\0" in self.external_id:
            object.__setattr__(self, "external_id", clean_text(self.external_id))


@dataclass(frozen=True)
class Turn:
    """One message of a conversation. `speaker` is a role ("customer", "agent") or a display name; it is masked like the text."""

    speaker: str
    text: str


@dataclass(frozen=True)
class Label:
    """One entry of a team's label set."""

    name: str
    description: str = ""
    macro: str | None = None
    queue: str | None = None
    priority: str | None = None
    escalate: bool = False


@dataclass(frozen=True)
class LabelSet:
    """A team's labels. `version` is the first 12 hex digits of the SHA-256 over the canonical content."""

    name: str
    version: str
    labels: tuple[Label, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Label names in file order."""
        return tuple(label.name for label in self.labels)

    def get(self, name: str) -> Label | None:
        """Return the label of that name, or None."""
        return next((label for label in self.labels if label.name == name), None)


@dataclass(frozen=True)
class LabelScore:
    """A label with its calibrated probability in [0, 1]."""

    label: str
    probability: float


@dataclass(frozen=True)
class SimilarTicket:
    """A past, decided ticket near this one. `similarity` is a cosine; `text` is unmasked for display where the viewer may see it."""

    ticket_id: int
    label: str
    similarity: float
    text: str


@dataclass(frozen=True)
class Classification:
    """The suggestion card of one ticket.

    `candidates` is sorted, best first, and sums to 1 over the whole label set unless cut to top-k. `is_blind` asks the plugin to hide
    the suggestion until the person has chosen. `label` is None where no suggestion is made; `notice` then says why in one sentence.
    `fields` are the values a helpdesk would write (queue, priority, escalate). Texts are unmasked: show them only in the ticket's place.
    `labels` are those that the choice was narrowed to; empty means all.
    """

    inference_id: int | None
    ticket_id: int
    label: str | None
    confidence: float
    candidates: tuple[LabelScore, ...]
    macro: str | None
    fields: Mapping[str, str]
    reason: str
    similar: tuple[SimilarTicket, ...]
    adapter_digest: str
    label_set_version: str
    is_blind: bool = False
    notice: str | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Summary:
    """A summary of one ticket. `is_excerpt` says that `text` consists of the ticket's own lines (extractive), not written text."""

    inference_id: int | None
    ticket_id: int
    text: str
    is_excerpt: bool
    adapter_digest: str
    notice: str | None = None


@dataclass(frozen=True)
class Feedback:
    """What a person did with one inference.

    `value` is the chosen label (override), the edited summary (edit), or None. `idempotency_key` names the click: the same key twice is
    one feedback. A later feedback of another key on the same ticket and task corrects the earlier one. `decision_ms` is the time between card
    and click where the plugin knows it.
    """

    inference_id: int
    kind: FeedbackKind
    actor: str
    idempotency_key: str
    value: str | None = None
    reason: str | None = None
    decision_ms: int | None = None
    is_passive: bool = False
    """Whether it is read from what a person did in the helpdesk (a field changed, a ticket solved); it weighs less than a click."""


@dataclass(frozen=True)
class FeedbackReceipt:
    """What became of a feedback: the row that counts, whether this call wrote it, and which earlier one it replaced."""

    feedback_id: int
    is_new: bool
    replaced_id: int | None
    example_id: int | None


@dataclass(frozen=True)
class Decision:
    """What somebody decided on a ticket and still stands, for the plugin that brought the ticket.

    `suggested` is the label (or summary) that was shown, `label` the one that the ticket has by this decision: None for a handoff and for
    summaries. `value` is an edited summary. Texts are unmasked for display. `idempotency_key` tells a plugin what it recorded itself.
    """

    feedback_id: int
    source: SourceRef
    task: TaskKind
    kind: FeedbackKind
    actor: str
    idempotency_key: str
    decided_at: datetime
    suggested: str | None = None
    label: str | None = None
    value: str | None = None
    reason: str | None = None
    is_passive: bool = False


@dataclass(frozen=True)
class TicketItem:
    """A line of the inbox, unmasked for display."""

    ticket_id: int
    source: SourceRef
    subject: str
    excerpt: str
    status: TicketStatus
    label: str | None
    confidence: float | None
    is_blind: bool
    created_at: datetime
    decided_by: str | None = None


@dataclass(frozen=True)
class TicketDetail:
    """Everything the ticket page shows, unmasked for display. `history` is oldest first: (time, actor, sentence)."""

    item: TicketItem
    turns: tuple[Turn, ...]
    classification: Classification | None
    summary: Summary | None
    decision: FeedbackKind | None
    decided_label: str | None
    summary_decision: FeedbackKind | None
    history: tuple[tuple[datetime, str, str], ...]


@dataclass(frozen=True)
class AdapterInfo:
    """One adapter for people: what it is, where it stands, since when and why."""

    digest: str
    task: TaskKind
    model_kind: ModelKind
    status: AdapterStatus
    label_set_version: str
    run_id: int | None
    created_at: datetime
    activated_at: datetime | None
    retired_at: datetime | None
    reason: str
    is_serving: bool
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RunInfo:
    """One training run for people. `fraction` is in [0, 1]; `message` is the line a progress bar shows; `verdict` are the gate's reasons."""

    run_id: int
    task: TaskKind
    status: RunStatus
    trigger: RunTrigger
    actor: str
    phase: str
    step: int
    total_steps: int
    fraction: float
    loss: float | None
    eta_s: float | None
    message: str
    created_at: datetime
    finished_at: datetime | None
    adapter_digest: str | None
    verdict: tuple[str, ...]
    before_after: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class DryRun:
    """What a training run would use now. `left_out` maps a reason to a count; `is_enough` says whether a run would start.

    `balance` maps a label to part (train, validation, test, golden) to count, `to_review` what is asked of people to a count.
    """

    n_train: int
    n_validation: int
    n_test: int
    n_golden: int
    per_label: Mapping[str, int]
    left_out: Mapping[str, int]
    is_enough: bool
    message: str
    n_seen: int = 0
    n_negative: int = 0
    balance: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    unknown_labels: Mapping[str, int] = field(default_factory=dict)
    to_review: Mapping[str, int] = field(default_factory=dict)
    not_checked: tuple[str, ...] = ()
    """What a run does besides that a dry run does not, such as the second masking."""


@dataclass(frozen=True)
class Overview:
    """Figures at the head of the console: counts of the last 30 days and what is live per task."""

    n_open: int
    n_decided: int
    n_accepted: int
    n_overridden: int
    n_edited: int
    n_handed_off: int
    n_examples: int
    override_rate: float | None
    is_paused: bool
    live: Mapping[TaskKind, str]
    timeline: tuple[tuple[datetime, float, str], ...]
    """Per 50 decisions, oldest first: (time of the last one, share accepted, adapter digest then live)."""


@dataclass(frozen=True)
class ReviewSide:
    """One side of a question: the label, who chose it ("model" for what the model says) and when, and the masked text it is about.

    `is_used` says whether the example still counts; without an example (`example_id` None) it is a ticket nobody has decided on.
    """

    label: str
    actor: str
    at: datetime
    text: str
    confidence: float | None = None
    example_id: int | None = None
    ticket_id: int | None = None
    is_used: bool = False


@dataclass(frozen=True)
class ReviewInfo:
    """A question about examples with all its sides. `resolution` is the label chosen, or "withdrawn"."""

    id: int
    kind: ReviewKind
    status: ReviewStatus
    task: TaskKind
    reason: str
    priority: float
    sides: tuple[ReviewSide, ...]
    run_id: int | None
    resolution: str | None
    resolved_by: str | None
    resolved_at: datetime | None
    created_at: datetime


@dataclass(frozen=True)
class PastTicket:
    """A ticket that was decided before, to learn from: the label a person gave it, what they wrote about it, or both.

    `group` ties a customer's tickets together; it is stored as a keyed hash. Texts are raw.
    """

    external_id: str
    subject: str = ""
    text: str = ""
    turns: tuple[Turn, ...] = ()
    label: str | None = None
    summary: str | None = None
    created_at: datetime | None = None
    group: str = ""


@dataclass(frozen=True)
class ImportCounts:
    """What became of past tickets. `n_unknown_label` have a label outside the set; `n_withheld` could not be masked."""

    n_imported: int
    n_known: int
    n_withheld: int
    n_unknown_label: int


@dataclass(frozen=True)
class LabelRate:
    """How one label fares: decisions on suggestions of it in the window, how many chose another, and how often it was suggested.

    `share` and `share_before` are its shares of all suggestions in the window and in the window before; None without any.
    """

    label: str
    n_decided: int
    n_overridden: int
    n_suggested: int
    share: float | None
    share_before: float | None
