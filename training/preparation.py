"""The first stage of a run: its dataset, the questions it raises for people, its card, and what the database keeps of them.

Knows where examples come from and go; trains nothing.
"""

import shutil
from collections.abc import Callable, Mapping

from bot.bundle import hash_file
from db.queries import runs
from db.queries.provenance import count_provenance
from db.queries.review import list_settled_examples
from db.session import retry_transaction
from db.types import MaskedText, ReviewKind, TaskKind
from training import source
from training.card import build_card, write_card
from training.dataset import Dataset, build_dataset
from training.erased import record_assignments
from training.questions import ask_questions, check_labels
from training.records import record_lineage
from training.run import Run
from training.trainers import get_prompt_version

_CHECKS_PER_REPORT = 20


class NothingToTrainOnError(Exception):
    """The dataset is too small. The message says what is missing."""


def prepare_run(job: Run) -> Dataset:
    """Build the dataset, the same as before where the run is taken up again, and write its splits back.

    Raises NothingToTrainOnError.
    """
    settings = job.settings.training
    job.progress.report("preparing", 0, 1, message="reading examples")
    run = retry_transaction(job.db_engine, lambda session: runs.get_run(session, job.run_id))
    newest_id = run.data_counts.get("newest_id")
    job.base_path = source.resolve_base(job.settings, job.task)
    job.label_set = source.read_label_set(job.settings) if job.task is TaskKind.CLASSIFICATION else None
    dataset = build_dataset(
        lambda: source.stream_rows(job.db_engine, job.task, up_to_id=newest_id),
        job.task,
        labels=job.label_set.names if job.label_set else (),
        settings=settings,
        check=_build_counting_checker(job) if settings.has_second_masking else None,
    )
    dataset, questions = _review(job, dataset)
    versions = {
        "base_digest": hash_file(job.base_path),
        "label_set_version": job.label_set.version if job.label_set else "",
        "prompt_version": get_prompt_version(job.task),
    }
    _write_card(job, dataset, versions=versions, questions=questions)
    counts = {
        **dataset.report.to_counts(),
        **versions,
        "n_questions": questions,
        "settings": settings.model_dump(mode="json"),
    }
    if run.data_digest != dataset.digest:
        shutil.rmtree(job.work_dir, ignore_errors=True)  # checkpoints of other data must not be gone on with
    job.write(
        lambda session: runs.update_progress(
            session, job.run_id, data_digest=dataset.digest, data_counts=counts, message=dataset.report.message
        )
    )
    if not dataset.report.is_enough:
        raise NothingToTrainOnError(dataset.report.message)
    record_assignments(dataset.assignments, write=job.write)
    record_lineage(dataset, job.run_id, write=job.write)
    return dataset


def _review(job: Run, dataset: Dataset) -> tuple[Dataset, dict[str, int]]:
    """Look for wrong labels, ask people about what is doubtful, and return what is trained on with counts of new questions."""
    labels = job.label_set.names if job.label_set else ()
    settled = retry_transaction(job.db_engine, lambda session: list_settled_examples(session, ReviewKind.LABEL_NOISE))
    checked = check_labels(
        dataset,
        labels=labels,
        settings=job.settings.training,
        settled=frozenset(settled),
        on_step=lambda done, total: job.progress.report("preparing", done, total, message="looking for wrong labels"),
    )
    questions = ask_questions(
        job.db_engine,
        checked,
        labels=labels,
        label_set_version=job.label_set.version if job.label_set else "",
        settings=job.settings.training,
        run_id=job.run_id,
    )
    return checked.dataset, questions


def _write_card(job: Run, dataset: Dataset, *, versions: Mapping[str, str], questions: Mapping[str, int]) -> None:
    ids = [item.id for items in (dataset.train, dataset.validation, dataset.test) for item in items]
    sources, kinds = retry_transaction(job.db_engine, lambda session: count_provenance(session, ids))
    card = build_card(
        dataset,
        run_id=job.run_id,
        settings=job.settings.training,
        versions=versions,
        sources=sources,
        kinds=kinds,
        questions=questions,
    )
    write_card(card, job.directory)


def _build_counting_checker(job: Run) -> Callable[[MaskedText], bool]:
    job.progress.report("preparing", 0, 1, message="loading the masker")
    check = source.build_checker(job.settings)
    n_checked = 0

    def count(text: MaskedText) -> bool:
        nonlocal n_checked
        n_checked += 1
        if n_checked % _CHECKS_PER_REPORT == 0:
            job.progress.report("preparing", 0, 1, message=f"masking once more: {n_checked} texts checked")
        return check(text)

    return count
