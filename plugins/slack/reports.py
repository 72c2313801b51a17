"""Words and blocks about runs and adapters: the dry run, the progress bar, the verdict, what is live. Pure functions.

Knows nothing of requests; every text is escaped and cut here. No words of tickets come through here.
"""

from collections.abc import Mapping, Sequence

from bot.plugin_api import BASE, AdapterInfo, AdapterStatus, DryRun, LivePeriod, Overview, RunInfo, RunStatus, TaskKind
from plugins.slack.cards import build_button, build_code, build_context, build_section
from plugins.slack.modals import Block, build_plain
from plugins.slack.text import cut, cut_escaped

BAR_CELLS = 20
SHOWN_LABELS = 40
SHOWN_ADAPTERS = 10
SHORT_DIGEST = 12
MAX_TEXT = 2500
RUNNING = frozenset({RunStatus.QUEUED, RunStatus.PREPARING, RunStatus.TRAINING, RunStatus.EVALUATING})
TASK_WORDS: Mapping[TaskKind, str] = {TaskKind.CLASSIFICATION: "labels", TaskKind.SUMMARY: "summaries"}
_STATUS_WORDS: Mapping[RunStatus, str] = {
    RunStatus.QUEUED: "waits for its turn",
    RunStatus.PREPARING: "collects examples",
    RunStatus.TRAINING: "trains",
    RunStatus.EVALUATING: "is compared with what is live",
    RunStatus.AWAITING_APPROVAL: "waits for approval",
    RunStatus.PROMOTED: "is live",
    RunStatus.REJECTED: "was rejected",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "was cancelled",
}


def say_digest(digest: str | None) -> str:
    """Return an adapter's short name."""
    return "the base model" if digest in (None, BASE) else f"adapter {str(digest)[:SHORT_DIGEST]}"


def say_status(status: RunStatus) -> str:
    """Return what a run does or what became of it, after its name."""
    return _STATUS_WORDS[status]


def build_confirm(title: str, text: str, yes: str, *, is_danger: bool = False) -> Block:
    """Return the question that Slack asks before a click counts."""
    confirm: Block = {
        "title": build_plain(title),
        "text": build_plain(cut(text, 300)),
        "confirm": build_plain(yes),
        "deny": build_plain("Cancel"),
    }
    return {**confirm, "style": "danger"} if is_danger else confirm


def build_dry_run(dry: DryRun) -> list[Block]:
    """Return what a run would use, what not and why, and how the labels fare."""
    blocks = [build_section(f"*{cut_escaped(dry.message, MAX_TEXT)}*")]
    used = f"{dry.n_train} to learn from, {dry.n_validation} to tune, {dry.n_test} to judge, {dry.n_golden} golden"
    blocks.append(build_section(f"*Would be used:* {used}"))
    if dry.left_out:
        lines = [f"• {count} × {cut_escaped(reason, 150)}" for reason, count in list(dry.left_out.items())[:15]]
        blocks.append(build_section(cut("*Left out:*\n" + "\n".join(lines), MAX_TEXT)))
    unknown = {f"{label} (not in the label set)": count for label, count in dry.unknown_labels.items()}
    if rows := _order({**dry.per_label, **unknown}):
        blocks += [build_section("*Examples per label:*"), build_code(_table(rows, total=len(dry.per_label) + len(unknown)))]
    if dry.to_review:
        asked = ", ".join(f"{count} × {cut_escaped(kind, 60)}" for kind, count in list(dry.to_review.items())[:10])
        blocks.append(build_context(f"Would be asked of people: {asked}"))
    return blocks


def _order(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(label, str(count)) for label, count in ordered[:SHOWN_LABELS]]


def _table(rows: Sequence[tuple[str, str]], *, total: int) -> str:
    width = min(34, max(len(label) for label, _ in rows))
    lines = [f"{cut(label, width):<{width}}  {value:>7}" for label, value in rows]
    return "\n".join([*lines, *([f"… and {total - len(rows)} more"] if total > len(rows) else [])])


def render_bar(fraction: float) -> str:
    """Return a progress bar of text."""
    n_full = round(BAR_CELLS * min(1.0, max(0.0, fraction)))
    return f"{'█' * n_full}{'░' * (BAR_CELLS - n_full)} {fraction:.0%}"


def render_run(run: RunInfo) -> str:
    """Return one line about a run, for notifications."""
    return f"Training run {run.run_id} for {TASK_WORDS[run.task]} {_STATUS_WORDS[run.status]}"


def build_run(run: RunInfo, *, notes: Sequence[str] = ()) -> list[Block]:
    """Return the message of a run as it stands; `notes` are mrkdwn lines about who decided what on it."""
    blocks = [build_section(f"*{render_run(run)}*\n{cut_escaped(run.message, 500)}", block_id=f"run/{run.run_id}")]
    if run.status in RUNNING:
        facts = [
            f"step {run.step} of {run.total_steps}" if run.step else "",
            f"loss {run.loss:.3f}" if run.loss is not None else "",
        ]
        facts.append(f"about {_say_time(run.eta_s)} to go" if run.eta_s is not None else "")
        blocks.append(build_section(f"`{render_bar(run.fraction)}`"))
        blocks += [build_context(", ".join(fact for fact in facts if fact))] if any(facts) else []
        return blocks
    if run.verdict:
        blocks.append(build_section(cut("\n".join(f"• {cut_escaped(line, 400)}" for line in run.verdict), MAX_TEXT)))
    if rows := pair_metrics(run.before_after):
        table = "\n".join([f"{'':<22}{'before':>9}{'after':>9}", *(f"{cut(n, 22):<22}{b:>9}{a:>9}" for n, b, a in rows)])
        blocks.append(build_code(table))
    if notes:
        blocks.append(build_context(*notes[-10:]))
    if run.status is RunStatus.AWAITING_APPROVAL and run.adapter_digest:
        blocks.append(_build_approval(run))
    blocks.append(build_context(f"{say_digest(run.adapter_digest)}, asked for by {_say_actor(run.actor)}"))
    return blocks


def _build_approval(run: RunInfo) -> Block:
    promote = build_button("Promote", "run_promote", value=str(run.run_id), style="primary")
    reject = build_button("Reject", "run_reject", value=str(run.run_id), style="danger")
    name = say_digest(run.adapter_digest)
    promote["confirm"] = build_confirm("Promote?", f"From then on {name} answers.", "Promote")
    reject["confirm"] = build_confirm("Reject?", f"What is live stays; {name} does not answer.", "Reject", is_danger=True)
    return {"type": "actions", "block_id": f"run-do/{run.run_id}", "elements": [promote, reject]}


def _say_actor(actor: str) -> str:
    prefix, _, user = actor.partition(":")
    return f"<@{user}>" if prefix == "slack" and user.isalnum() else cut_escaped(actor or "nobody", 100)


def _say_time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def pair_metrics(numbers: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """Return (metric, before, after) for what is known of the candidate and of what was live: the adapter, else the base."""
    rows = []
    for key, after in numbers.items():
        name = key.removeprefix("candidate_")
        before = numbers.get(f"active_{name}", numbers.get(f"base_{name}"))
        if name != key and before is not None:
            rows.append((name.replace("_", " "), say_number(before), say_number(after)))
    return rows[:20]


def say_number(value: float) -> str:
    """Return a metric's value: shares in percent."""
    return f"{value:.1%}" if 0.0 <= value <= 1.0 else f"{value:,.3g}"


def render_status(overview: Overview, running: RunInfo | None) -> str:
    """Return what is live and how it goes, as mrkdwn."""
    lines = ["Suggestions are *paused*; `/resume` starts them again." if overview.is_paused else "Suggestions are *on*."]
    lines += [f"{TASK_WORDS[task].capitalize()}: {say_digest(digest)}" for task, digest in overview.live.items()]
    n_done = f"{overview.n_accepted} accepted, {overview.n_overridden} overridden, {overview.n_edited} edited"
    lines.append(f"Last 30 days: {n_done}, {overview.n_handed_off} handed off; {_say_open(overview.n_open)}.")
    lines.append(f"Examples: {overview.n_examples}")
    if running is not None:
        lines.append(f"{render_run(running)}: `{render_bar(running.fraction)}`")
    return "\n".join(lines)


def _say_open(n_open: int) -> str:
    return "1 ticket is open" if n_open == 1 else f"{n_open} tickets are open"


def render_adapters(adapters: Sequence[AdapterInfo]) -> str:
    """Return adapters with what is live, as mrkdwn."""
    if not adapters:
        return "There are no adapters yet: the base model answers. `/retrain` makes the first one."
    lines = []
    for adapter in adapters[:SHOWN_ADAPTERS]:
        mark = ":large_green_circle:" if adapter.status is AdapterStatus.ACTIVE else ":white_circle:"
        numbers = ", ".join(f"{name.replace('_', ' ')} {say_number(value)}" for name, value in list(adapter.metrics.items())[:3])
        line = f"{mark} `{adapter.digest[:SHORT_DIGEST]}` {TASK_WORDS[adapter.task]}, {adapter.status.value}"
        lines.append(line + f", {adapter.created_at:%Y-%m-%d}" + (f" ({cut_escaped(numbers, 120)})" if numbers else ""))
    more = len(adapters) - SHOWN_ADAPTERS
    return "\n".join([*lines, *([f"… and {more} older ones"] if more > 0 else [])])


def find_previous(periods: Sequence[LivePeriod]) -> str | None:
    """Return what a roll back returns to; None is the base model. Each roll back takes one off what was live."""
    stack: list[str | None] = []
    for period in periods:
        if period.is_rollback and len(stack) > 1:
            stack.pop()
        else:
            stack.append(period.digest)
    return stack[-2] if len(stack) > 1 else None
