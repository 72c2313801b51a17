"""Several processes on one database: whatever they do at once, each claim holds."""

import multiprocessing
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import pytest
from sqlmodel import select

from db.migrate import check_schema
from db.queries import adapters, examples, leases, runs, tickets
from db.session import build_db_engine, is_postgres, transaction
from db.tables import Activation, FeedbackRow, Ticket, TrainingRun
from db.types import AdapterStatus
from tests.support import db_workers
from tests.support.db_rows import CLASSIFICATION, add_adapter, add_inference, add_ticket

N_PROCESSES = 4


@pytest.fixture(scope="module")
def run_together():
    """A function that runs one call per argument list, each in a process of its own, all at the same moment."""
    with ProcessPoolExecutor(N_PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:

        def run(url, name, argument_lists):
            start_at = time.monotonic() + 0.1
            calls = [pool.submit(db_workers.call_at, start_at, url, name, *arguments) for arguments in argument_lists]
            return [call.result(timeout=60) for call in calls]

        yield run


def test_calls_run_in_processes_of_their_own(run_together, db_url):
    assert len(set(run_together(db_url, "get_pid", [()] * N_PROCESSES))) > 1


def test_same_click_from_all_processes_is_one_row_and_one_example(run_together, db_url, db_engine):
    with transaction(db_engine) as session:
        inference = add_inference(session)
    for attempt in range(3):
        results = run_together(db_url, "record_click", [(inference.id, f"click {attempt}")] * N_PROCESSES)
        assert sorted(is_new for _, is_new, _ in results) == [False] * (N_PROCESSES - 1) + [True]
        assert len({(feedback_id, example_id) for feedback_id, _, example_id in results}) == 1
    with transaction(db_engine) as session:
        assert len(session.exec(select(FeedbackRow)).all()) == 3
        assert examples.count_examples(session, CLASSIFICATION) == 1


def test_different_clicks_on_one_inference_at_once_leave_one_that_counts(run_together, db_url, db_engine):
    with transaction(db_engine) as session:
        inference = add_inference(session)
    results = run_together(db_url, "record_click", [(inference.id, f"click {number}") for number in range(N_PROCESSES)])
    assert all(is_new for _, is_new, _ in results)
    with transaction(db_engine) as session:
        counting = [row for row in session.exec(select(FeedbackRow)) if row.replaced_by_id is None]
        assert len(counting) == 1
        assert [row.feedback_id for row in examples.iterate_examples(session, CLASSIFICATION)] == [counting[0].id]


def test_clicks_on_different_inferences_of_one_ticket_at_once_leave_one_that_counts(run_together, db_url, db_engine):
    with transaction(db_engine) as session:
        ticket = add_ticket(session)
        ids = [add_inference(session, ticket).id for _ in range(N_PROCESSES)]
    run_together(db_url, "record_click", [(inference_id, f"click {inference_id}") for inference_id in ids])
    with transaction(db_engine) as session:
        counting = [row for row in session.exec(select(FeedbackRow)) if row.replaced_by_id is None]
        assert len(counting) == 1
        assert [row.feedback_id for row in examples.iterate_examples(session, CLASSIFICATION)] == [counting[0].id]


def test_same_ticket_from_all_processes_is_one_row(run_together, db_url, db_engine):
    ids = run_together(db_url, "upsert", [(f"text {number}",) for number in range(N_PROCESSES)])
    assert len(set(ids)) == 1
    with transaction(db_engine) as session:
        assert len(session.exec(select(Ticket)).all()) == 1


def test_one_process_queues_the_run_and_the_others_are_told_which(run_together, db_url, db_engine):
    results = run_together(db_url, "enqueue", [()] * N_PROCESSES)
    queued = [result for result in results if isinstance(result, int)]
    assert len(queued) == 1
    assert all(f"run {queued[0]} " in result for result in results if isinstance(result, str))
    with transaction(db_engine) as session:
        assert len(session.exec(select(TrainingRun)).all()) == 1


def test_lease_goes_to_exactly_one_process(run_together, db_url, db_engine):
    holders = [f"process {number}" for number in range(N_PROCESSES)]
    got = run_together(db_url, "take_lease", [(holder,) for holder in holders])
    assert sum(got) == 1
    with transaction(db_engine) as session:
        assert leases.get_holder(session, leases.TRAINING) == holders[got.index(True)]
        assert runs.get_running(session) is None


def test_activations_at_once_end_with_one_live_adapter_and_a_whole_history(run_together, db_url, db_engine):
    with transaction(db_engine) as session:
        digests = [add_adapter(session).digest for _ in range(N_PROCESSES)]
    assert run_together(db_url, "activate", [(digest,) for digest in digests]) == digests
    with transaction(db_engine) as session:
        live = adapters.list_adapters(session, status=AdapterStatus.ACTIVE)
        history = session.exec(select(Activation).order_by(Activation.id)).all()
    assert [adapter.digest for adapter in live] == [history[-1].adapter_digest]
    assert [row.previous_digest for row in history] == [None, *(row.adapter_digest for row in history[:-1])]


def test_upgrade_by_all_processes_at_once_succeeds_everywhere(run_together, empty_db_url):
    assert run_together(empty_db_url, "migrate", [()] * N_PROCESSES) == ["upgraded"] * N_PROCESSES
    engine = build_db_engine(empty_db_url)
    check_schema(engine)
    engine.dispose()


def test_writers_that_read_first_never_fail_on_each_other(run_together, db_url, db_engine):
    assert run_together(db_url, "write_many", [(number, 25) for number in range(N_PROCESSES)]) == [25] * N_PROCESSES
    with transaction(db_engine) as session:
        assert len(session.exec(select(Ticket.id)).all()) == 25 * N_PROCESSES


def test_killed_writer_leaves_nothing_half_done_and_blocks_nobody(db_url, db_engine):
    with transaction(db_engine) as session:
        first = add_ticket(session, plugin="p", external_id="1", text="before")
    command = "import sys; from tests.support.db_workers import write_and_hang; write_and_hang(sys.argv[1])"
    with subprocess.Popen([sys.executable, "-c", command, db_url], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == f"written {first.id}\n"
        writer.kill()
    with transaction(db_engine) as session:
        assert [ticket.text for ticket in tickets.list_tickets(session)] == ["before"]
        add_ticket(session, plugin="p", external_id="2", text="after")
        if not is_postgres(db_engine):
            assert session.connection().exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    with transaction(db_engine) as session:
        assert [ticket.text for ticket in tickets.list_tickets(session)] == ["after", "before"]
