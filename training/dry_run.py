"""The dry run: what a run would use now, what not and why, without training and without writing anything.

Builds the very dataset a run would build; what a run does beyond that is named, not guessed.
"""

from bot.settings import Settings
from bot.types import DryRun
from db.queries.review import list_settled_examples
from db.session import transaction
from db.types import ReviewKind, TaskKind
from training import source
from training.dataset import build_dataset
from training.questions import check_labels


def run_dry(settings: Settings, task: TaskKind) -> DryRun:
    """Return what a run would use."""
    training = settings.training
    db_engine = source.open_database(settings)
    try:
        labels = source.read_label_set(settings).names if task is TaskKind.CLASSIFICATION else ()
        dataset = build_dataset(lambda: source.stream_rows(db_engine, task), task, labels=labels, settings=training)
        not_checked = []
        if training.has_second_masking:
            not_checked.append("A run also masks every example once more and leaves out those in which it finds something new.")
        if task is TaskKind.CLASSIFICATION and training.noise_action == "review":
            not_checked.append(
                "A run also asks about labels that the other examples speak against, and trains on them as they are."
            )
        if training.noise_action == "leave_out":  # it decides what is trained on, so it belongs here
            with transaction(db_engine, is_read_only=True) as session:
                settled = frozenset(list_settled_examples(session, ReviewKind.LABEL_NOISE))
            dataset = check_labels(dataset, labels=labels, settings=training, settled=settled).dataset
    finally:
        db_engine.dispose()
    return dataset.report.to_dry_run(not_checked)


def render_lines(answer: DryRun) -> list[str]:
    """Return the lines that are printed where no table can be."""
    lines = [answer.message]
    if answer.n_negative:
        lines.append(f"handoffs to learn from: {answer.n_negative}")
    lines += [f"left out, {reason}: {count}" for reason, count in answer.left_out.items()]
    lines += [f"not in the label set, '{label}': {count}" for label, count in answer.unknown_labels.items()]
    lines += [
        f"label '{label}': {sum(parts.values())} ({', '.join(f'{count} {part}' for part, count in parts.items() if count)})"
        for label, parts in answer.balance.items()
    ]
    lines += [f"to review, {what}: {count}" for what, count in answer.to_review.items() if count]
    return lines + list(answer.not_checked if answer.n_seen else ())
