"""The contract between the core and its plugins: the only module of ours that a plugin imports.

Text goes in raw and comes back unmasked for display; masking, storage, prompts and models stay behind the line.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from fastapi import APIRouter
from pydantic import BaseModel

from bot.plugin_events import Event, EventCounts, EventHandler, EventQueue, RetryLaterError, Store
from bot.privacy_api import (
    ColumnInfo,
    CorrectionInfo,
    CorrectionKind,
    CorrectionStatus,
    ErasureReport,
    Findings,
    FoundTicket,
    Privacy,
    Subject,
    TableInfo,
)
from bot.types import (
    BASE,
    AdapterInfo,
    Classification,
    Decision,
    DryRun,
    Feedback,
    FeedbackReceipt,
    ImportCounts,
    Label,
    LabelRate,
    LabelScore,
    LabelSet,
    Overview,
    PastTicket,
    ReviewInfo,
    ReviewSide,
    RunInfo,
    SimilarTicket,
    SourceRef,
    Summary,
    TicketDetail,
    TicketItem,
    Turn,
)
from db.queries.lineage import Trace
from db.queries.timeline import LivePeriod
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

__all__ = [
    "API_VERSION",
    "BASE",
    "AdapterInfo",
    "AdapterStatus",
    "Bot",
    "BotError",
    "BusyError",
    "Classification",
    "ColumnInfo",
    "ConflictError",
    "CorrectionInfo",
    "CorrectionKind",
    "CorrectionStatus",
    "Decision",
    "DryRun",
    "ErasureReport",
    "Event",
    "EventCounts",
    "EventHandler",
    "EventQueue",
    "Feedback",
    "FeedbackKind",
    "FeedbackReceipt",
    "Findings",
    "FoundTicket",
    "ImportCounts",
    "Inbox",
    "Label",
    "LabelRate",
    "LabelScore",
    "LabelSet",
    "LivePeriod",
    "Manager",
    "ModelKind",
    "NotFoundError",
    "Overview",
    "PastTicket",
    "Plugin",
    "PluginSpec",
    "Privacy",
    "RetryLaterError",
    "ReviewInfo",
    "ReviewKind",
    "ReviewSide",
    "ReviewStatus",
    "RunInfo",
    "RunStatus",
    "RunTrigger",
    "SimilarTicket",
    "SourceRef",
    "Store",
    "Subject",
    "Summary",
    "TableInfo",
    "TaskKind",
    "TicketDetail",
    "TicketItem",
    "TicketStatus",
    "Trace",
    "Turn",
]

API_VERSION = 1
S = TypeVar("S", bound=BaseModel)


class BotError(Exception):
    """A request the core refuses. The message is one sentence for the person who asked."""


class NotFoundError(BotError):
    """No such ticket, inference, adapter or run."""


class ConflictError(BotError):
    """The state does not allow it: a run is already going, an adapter of another base, a rejected adapter."""


class BusyError(BotError):
    """Too much is asked at once, or the answer would come too late. The same request may go well after `retry_after_s` seconds."""

    retry_after_s = 1


class Inbox(Protocol):
    """Reading tickets back, for plugins that show them."""

    async def list_tickets(
        self, *, status: TicketStatus | None = None, limit: int = 50, before_id: int | None = None
    ) -> Sequence[TicketItem]:
        """Return tickets, newest first; `before_id` pages on."""
        ...

    async def get_ticket(self, ticket_id: int) -> TicketDetail:
        """Return one ticket with its suggestion, summary, decision and history. Raises NotFoundError."""
        ...

    async def find_ticket(self, source: SourceRef) -> TicketDetail:
        """Return the ticket of that source, as `get_ticket` does. Raises NotFoundError."""
        ...

    async def get_overview(self) -> Overview:
        """Return the figures at the head of the console."""
        ...

    async def count_decisions(self, *, actor: str | None = None, days: int = 30) -> Mapping[FeedbackKind, int]:
        """Count what people (or one of them) did in the last `days` days, on labels and summaries; passive feedback is left out."""
        ...

    async def list_decisions(self, plugin: str, *, after_id: int, limit: int = 100) -> Sequence[Decision]:
        """Return decisions on that plugin's tickets that stand, oldest first, wherever they were taken: the ones after feedback `after_id`.

        One is told two seconds after it was taken, so that none with a smaller id comes later. For plugins that carry a click made elsewhere
        to the system that the ticket lives in.
        """
        ...

    async def get_newest_decision_id(self) -> int:
        """Return the id of the newest feedback of all, 0 where there is none: where a plugin begins to listen."""
        ...

    async def list_label_rates(self, *, days: int = 7) -> Sequence[LabelRate]:
        """Return how each label fared in the last `days` days, the most overridden first, compared with as many days before."""
        ...

    def get_label_set(self) -> LabelSet:
        """Return the label set in force."""
        ...


class Manager(Protocol):
    """What managers may do. Every call is audited under `actor`."""

    async def dry_run(self, task: TaskKind) -> DryRun:
        """Say what a run would use now, and what not."""
        ...

    async def start_run(self, task: TaskKind, *, actor: str, trigger: RunTrigger = RunTrigger.MANUAL) -> RunInfo:
        """Queue a training run. Raises ConflictError while one is going."""
        ...

    async def cancel_run(self, run_id: int, *, actor: str) -> RunInfo:
        """Ask a run to stop at its next step."""
        ...

    async def get_run(self, run_id: int) -> RunInfo:
        """Return one run. Raises NotFoundError."""
        ...

    async def list_runs(self, *, limit: int = 20) -> Sequence[RunInfo]:
        """Return runs, newest first."""
        ...

    def follow_run(self, run_id: int) -> AsyncIterator[RunInfo]:
        """Yield the run each time its progress changes, until it has ended."""
        ...

    async def list_adapters(self, *, task: TaskKind | None = None) -> Sequence[AdapterInfo]:
        """Return adapters, newest first, with what is live."""
        ...

    async def promote(self, digest: str, *, actor: str, reason: str) -> AdapterInfo:
        """Make a candidate or retired adapter the active one. `digest` may be shortened to 8 or more digits. Raises ConflictError.

        Where the policy asks for two people, the first one's call leaves it a candidate: look at `status`; `reason` says who is missing.
        """
        ...

    async def reject(self, digest: str, *, actor: str, reason: str) -> AdapterInfo:
        """Turn a candidate down for good; the run that waited for it ends as rejected. One person is enough. Raises ConflictError."""
        ...

    async def rollback(self, task: TaskKind, *, actor: str, reason: str) -> AdapterInfo | None:
        """Return to what was active before; None means the bare base model. Raises ConflictError where there is nothing to go back to."""
        ...

    async def get_timeline(self, *, task: TaskKind | None = None, at: datetime | None = None) -> Sequence[LivePeriod]:
        """Return what was live from when to when, trained on what, by whose leave, oldest first; with `at` only what was live then."""
        ...

    async def trace_ticket(self, ticket_id: int) -> Sequence[Trace]:
        """Return every training run that used an example of the ticket, and the adapter that came of it."""
        ...

    async def get_plot(self, run_id: int, name: str) -> bytes | None:
        """Return a plot of a run's release notes as PNG: "labels" (before and after), "loss", "confusion" or "reliability"; None without."""
        ...

    async def import_past(self, tickets: Sequence[PastTicket], *, plugin: str, actor: str) -> ImportCounts:
        """Learn from tickets decided before: mask them and store them as examples, each id of a plugin once. A batch is one transaction."""
        ...

    async def note_refusal(self, *, actor: str, what: str) -> None:
        """Write into the audit trail that somebody tried what they may not do. `what` is a verb of the plugin's own, never a person's words."""
        ...

    async def set_paused(self, *, is_paused: bool, actor: str) -> None:
        """Stop or resume suggestions. Tickets are still taken in while paused."""
        ...

    async def list_review(self, *, status: ReviewStatus | None = ReviewStatus.OPEN, limit: int = 50) -> Sequence[ReviewInfo]:
        """Return questions about examples, the most pressing first; `status=None` means all. Texts stay masked."""
        ...

    async def get_review(self, item_id: int) -> ReviewInfo:
        """Return one question. Raises NotFoundError."""
        ...

    async def resolve_review(
        self, item_id: int, *, label: str | None, actor: str, is_golden: bool = False, reason: str = ""
    ) -> ReviewInfo:
        """Settle a question with the right label, or with None, which withdraws its examples. Raises ConflictError where it is closed."""
        ...

    async def dismiss_review(self, item_id: int, *, actor: str, reason: str = "") -> ReviewInfo:
        """Close a question and leave its examples as they are. Raises ConflictError where it is closed."""
        ...


class Bot(Protocol):
    """What the core gives a plugin."""

    @property
    def inbox(self) -> Inbox:
        """Reading side."""
        ...

    @property
    def manager(self) -> Manager:
        """Training and adapters."""
        ...

    @property
    def privacy(self) -> Privacy:
        """People's data: corrections of masking, export, erasure, the data map."""
        ...

    async def classify(
        self, text: str, *, source: SourceRef, subject: str = "", turns: Sequence[Turn] = (), labels: Sequence[str] = ()
    ) -> Classification:
        """Take a ticket in (or again) and suggest a label. `text` is the ticket's first message where no turns are given.

        `labels` narrows the choice to some of the set's labels, such as those of one channel or brand; empty means all. With no text, turns or
        subject the stored ticket of that source is asked about: never send a stored text back, it is masked.
        """
        ...

    async def summarize(self, text: str, *, source: SourceRef, subject: str = "", turns: Sequence[Turn] = ()) -> Summary:
        """Summarise a ticket. With an empty `text` and no turns the stored ticket of that source is used."""
        ...

    def stream_summary(
        self, text: str, *, source: SourceRef, subject: str = "", turns: Sequence[Turn] = ()
    ) -> AsyncIterator[Summary]:
        """As `summarize`, but yield the summary as it grows; only the last one has an `inference_id` (or a notice)."""
        ...

    async def record_feedback(self, feedback: Feedback) -> FeedbackReceipt:
        """Record what a person did. Raises NotFoundError for an unknown inference and BotError for a label outside the set."""
        ...

    async def withdraw_feedback(self, feedback_id: int, *, actor: str) -> None:
        """Take a feedback back: it teaches nothing and the ticket is open again. Raises NotFoundError; ConflictError where another replaced it."""
        ...

    def open_queue(self, name: str) -> EventQueue:
        """Return a durable queue; `name` is the plugin's, or the plugin's with a suffix such as "zendesk.outbox"."""
        ...

    def open_store(self, name: str) -> Store:
        """Return a store of small encrypted values; `name` as for `open_queue`."""
        ...


class Plugin(Protocol):
    """One integration, from inbound event to write-back."""

    @property
    def router(self) -> APIRouter | None:
        """Routes mounted at /plugins/<name>."""
        ...

    async def start(self) -> None:
        """Open connections. An exception marks this plugin failed; the others run."""
        ...

    async def stop(self) -> None:
        """Close connections, within the host's time limit."""
        ...


@dataclass(frozen=True)
class PluginSpec(Generic[S]):
    """What an entry point of group `bot.plugins` names. Importing it loads no SDK and opens no socket."""

    name: str  # one word for folder, settings section, entry point and logger
    settings_type: type[S]
    create: Callable[[Bot, S], Plugin]
    api_version: int = API_VERSION
