"""Commands of the review queue and the golden set: review list, show, resolve, dismiss, flag, collect; golden list, add, remove.

They work on the database alone. Texts are shown masked, as they are stored.
"""

from typing import TYPE_CHECKING

import typer

from bot.cli.common import get_actor, mask_reason, open_session, read_settings
from bot.cli.output import console, print_json, print_table
from bot.errors import UserError
from db.types import ReviewKind, ReviewStatus, TaskKind

if TYPE_CHECKING:
    from bot.types import ReviewInfo

app = typer.Typer(no_args_is_help=True)
golden = typer.Typer(no_args_is_help=True)

JSON_OPTION = typer.Option(False, "--json", help="Print JSON.")
REASON_OPTION = typer.Option("", "--reason", help="Why; masked, and kept in the audit trail.")
ITEM_ARGUMENT = typer.Argument(help="Number of the question, as `review list` shows it.")
LIMIT_OPTION = typer.Option(50, "--limit", min=1, max=10_000, help="How many.")
EXAMPLES_ARGUMENT = typer.Argument(help="Numbers of examples.")
_CUT = 80


def register(main: typer.Typer) -> None:
    """Add both groups of commands."""
    main.add_typer(app, name="review", help="Questions about examples: list, show, resolve, dismiss, flag, collect.")
    main.add_typer(golden, name="golden", help="The golden set, which judges and is never trained on: list, add, remove.")


@app.command("list")
def list_questions(
    kind: ReviewKind | None = typer.Option(None, "--kind", help="Only questions of this kind."),  # noqa: B008
    status: ReviewStatus = typer.Option(ReviewStatus.OPEN, "--status", help="open, resolved or dismissed."),  # noqa: B008
    limit: int = LIMIT_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """List questions, the most pressing first."""
    from bot.review import list_review

    with open_session(read_settings(), is_read_only=True) as session:
        items = list_review(session, status=status, kind=kind, limit=limit)
    if as_json:
        print_json(items)
        return
    if not items:
        console.print(f"No {status.value} questions.")
        return
    rows = [(item.id, item.kind.value, _join_labels(item), _cut(item.sides[0].text if item.sides else "")) for item in items]
    print_table(f"Questions, {status.value}", ("id", "kind", "labels", "text"), rows)


def _join_labels(item: "ReviewInfo") -> str:
    return " / ".join(dict.fromkeys(side.label for side in item.sides))


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _CUT else line[: _CUT - 1] + "…"


@app.command()
def show(item_id: int = ITEM_ARGUMENT, as_json: bool = JSON_OPTION) -> None:
    """Show a question with both sides: the text, the label, who chose it and when."""
    from bot.review import get_review

    with open_session(read_settings(), is_read_only=True) as session:
        item = get_review(session, item_id)
    if as_json:
        print_json(item)
        return
    console.print(f"Question {item.id}: {item.kind.value}, {item.status.value}, {item.task.value}", style="bold", highlight=False)
    if item.reason:
        console.print(f"Why: {item.reason}", highlight=False)
    if item.resolved_by:
        console.print(f"{item.status.value} by {item.resolved_by}: {item.resolution or 'left as it is'}", highlight=False)
    shown = ""
    for side in item.sides:
        sure = f", {side.confidence:.0%} sure" if side.confidence is not None else ""
        used = f", example {side.example_id}{'' if side.is_used else ' (withdrawn)'}" if side.example_id else ""
        console.print(f"\n{side.label}: {side.actor}, {side.at:%Y-%m-%d %H:%M} UTC{sure}{used}", style="bold", highlight=False)
        if side.text and side.text != shown:
            console.print(side.text, highlight=False)
            shown = side.text


@app.command()
def resolve(
    item_id: int = ITEM_ARGUMENT,
    *,
    label: str | None = typer.Option(None, "--label", help="The right label: examples with another one are replaced."),
    is_withdrawn: bool = typer.Option(False, "--withdraw", help="Take all its examples out of training instead."),
    is_golden: bool = typer.Option(False, "--golden", help="Approve what is right for the golden set."),
    reason: str = REASON_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """Settle a question: say which label is right, or withdraw the examples."""
    from bot.app import load_labels
    from bot.review import resolve_review

    if (label is None) != is_withdrawn:
        raise UserError("say either which label is right (--label NAME) or --withdraw")
    settings = read_settings()
    masked = mask_reason(settings, reason)
    with open_session(settings) as session:
        answer = resolve_review(
            session,
            item_id,
            label=label,
            label_set=load_labels(settings),
            actor=get_actor(),
            is_golden=is_golden,
            reason=masked,
        )
        found = {
            "id": item_id,
            "resolution": answer.item.resolution,
            "kept": answer.kept,
            "withdrawn": answer.withdrawn,
            "added": answer.added,
            "golden": answer.golden,
        }
    print_json(found) if as_json else console.print(
        f"Question {item_id} is settled: {len(answer.kept)} kept, {len(answer.withdrawn)} withdrawn, {len(answer.added)} added"
        + (f", {len(answer.golden)} golden." if is_golden else "."),
        highlight=False,
    )


@app.command()
def dismiss(item_id: int = ITEM_ARGUMENT, reason: str = REASON_OPTION, as_json: bool = JSON_OPTION) -> None:
    """Close a question and leave its examples as they are."""
    from db.queries import review

    settings = read_settings()
    masked = mask_reason(settings, reason)
    with open_session(settings) as session:
        review.dismiss(session, item_id, actor=get_actor(), reason=masked)
    found = {"id": item_id, "status": ReviewStatus.DISMISSED.value}
    print_json(found) if as_json else console.print(f"Question {item_id} is dismissed.", highlight=False)


@app.command()
def flag(
    example_id: int = typer.Argument(help="Number of the example, as `understudy export` shows it."),
    reason: str = REASON_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """Ask for an example to be looked at."""
    from db.queries import review
    from db.queries.common import row_id

    settings = read_settings()
    masked = mask_reason(settings, reason)
    with open_session(settings) as session:
        item_id = row_id(review.flag(session, example_id=example_id, actor=get_actor(), reason=masked))
    print_json({"id": item_id}) if as_json else console.print(
        f"Question {item_id} asks about example {example_id}.", highlight=False
    )


@app.command()
def collect(limit: int = LIMIT_OPTION, as_json: bool = JSON_OPTION) -> None:
    """Ask now about unsure answers that nobody has decided on; a training run does the same."""
    from bot.app import load_labels
    from db.queries.review import collect_low_confidence

    settings = read_settings()
    version = load_labels(settings).version
    with open_session(settings) as session:
        count = collect_low_confidence(session, below=settings.training.review_below, label_set_version=version, limit=limit)
    print_json({"asked": count}) if as_json else console.print(f"{count} new questions.", highlight=False)


@golden.command("list")
def list_golden_examples(
    task: TaskKind = typer.Option(TaskKind.CLASSIFICATION, "--task", help="Which task."),  # noqa: B008
    limit: int = LIMIT_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """List golden examples, newest first."""
    from db.queries.examples import count_examples
    from db.queries.golden import list_golden
    from db.types import Split

    with open_session(read_settings(), is_read_only=True) as session:
        rows = [(row.id, row.target, row.text) for row in list_golden(session, task, limit=limit)]
        total = count_examples(session, task, split=Split.GOLDEN)
    if as_json:
        print_json(
            {"total": total, "examples": [{"id": number, "target": target, "text": text} for number, target, text in rows]}
        )
        return
    print_table(
        f"Golden set: {total} examples",
        ("id", "target", "text"),
        [(number, _cut(target), _cut(text)) for number, target, text in rows],
    )


@golden.command()
def add(example_ids: list[int] = EXAMPLES_ARGUMENT, as_json: bool = JSON_OPTION) -> None:
    """Approve examples for the golden set; none is added where one of them cannot judge."""
    from db.queries.golden import add_golden

    with open_session(read_settings()) as session:
        for example_id in example_ids:
            add_golden(session, example_id, actor=get_actor())
    print_json({"golden": example_ids}) if as_json else console.print(f"{len(example_ids)} examples are golden.", highlight=False)


@golden.command()
def remove(example_ids: list[int] = EXAMPLES_ARGUMENT, as_json: bool = JSON_OPTION) -> None:
    """Take examples out of the golden set; they go on judging as ordinary test examples."""
    from db.queries.golden import remove_golden

    with open_session(read_settings()) as session:
        for example_id in example_ids:
            remove_golden(session, example_id, actor=get_actor())
    print_json({"removed": example_ids}) if as_json else console.print(
        f"{len(example_ids)} examples are no longer golden.", highlight=False
    )
