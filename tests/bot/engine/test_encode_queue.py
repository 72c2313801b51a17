"""Properties of the encoder's queue under loads that never end, without any model."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bot.engine.encode_queue import EncodeJob, EncodeQueue
from bot.engine.protocol import Priority
from bot.engine.scheduler import BULK_TURN, MIXED_TOKENS

BUDGET = 192


def make_job(*sizes, group="A", priority=Priority.INTERACTIVE, ends_at=None):
    return EncodeJob(["x"] * len(sizes), group, priority, on_done=print, on_error=print, ends_at=ends_at)


def add(queue, *sizes, **options):
    job = make_job(*sizes, **options)
    for index, size in enumerate(sizes):
        queue.add(job, index, np.zeros(size, np.int32))
    return job


def take(queue):
    return queue.take_batch(budget_tokens=BUDGET, max_items=32)


jobs = st.lists(
    st.tuples(st.lists(st.integers(1, 256), min_size=1, max_size=30), st.sampled_from("ABC"), st.sampled_from(Priority)),
    max_size=12,
)


@given(jobs)
def test_every_text_leaves_once_in_batches_of_one_group_within_the_budget(wanted):
    queue = EncodeQueue()
    added = [add(queue, *sizes, group=group, priority=priority) for sizes, group, priority in wanted]
    left = {(id(job), index) for job in added for index in range(len(job.texts))}
    assert len(queue) == len(left)
    while len(queue):
        batch = take(queue)
        assert len({waiting.job.group for waiting in batch}) == 1
        assert len(batch) == 1 or sum(len(waiting.tokens) for waiting in batch) <= BUDGET
        assert len(batch) <= 32
        taken = {(id(waiting.job), waiting.index) for waiting in batch}
        assert taken <= left
        left -= taken
    assert not left
    assert take(queue) == []


@given(st.sampled_from(Priority), st.sampled_from("AB"), st.integers(1, 256), st.integers(1, 4))
def test_a_text_is_served_under_a_steady_interactive_load(priority, group, size, n_others):
    queue = EncodeQueue()
    waiting = add(queue, size, group=group, priority=priority)
    for _ in range(4 * BULK_TURN):
        for _ in range(n_others):
            add(queue, 100, group="A")
        if any(taken.job is waiting for taken in take(queue)):
            return
    raise AssertionError("the text starved")


@given(st.lists(st.integers(1, 100), min_size=2, max_size=20))
def test_of_one_group_and_priority_the_oldest_always_runs(sizes):
    queue = EncodeQueue()
    order = [add(queue, size) for size in sizes]
    while len(queue):
        batch = take(queue)
        assert batch[0].job is order[0]
        order = [job for job in order if all(waiting.job is not job for waiting in batch)]


@given(st.integers(2, 5), st.integers(20, 60))
def test_busy_groups_are_never_more_than_one_turn_apart(n_groups, n_steps):
    queue = EncodeQueue()
    turns = dict.fromkeys("ABCDE"[:n_groups], 0)
    for _ in range(n_steps):
        for group in turns:
            add(queue, 100, group=group)
            add(queue, 100, group=group)
        turns[take(queue)[0].job.group] += 1
        assert max(turns.values()) - min(turns.values()) <= 1


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.lists(st.integers(1, 60), min_size=10, max_size=40))
def test_while_somebody_waits_bulk_work_takes_a_small_part_of_a_step(interactive, bulk):
    queue = EncodeQueue()
    add(queue, *bulk, priority=Priority.BULK)
    for size in interactive:
        add(queue, size)
    batch = take(queue)
    others = sum(len(waiting.tokens) for waiting in batch if waiting.job.priority == Priority.INTERACTIVE)
    assert others > 0
    assert len(batch) == 1 or sum(len(waiting.tokens) for waiting in batch) <= max(MIXED_TOKENS, others)


def test_nobody_waits_for_all_texts_of_a_long_job():
    queue = EncodeQueue()
    add(queue, *[30] * 200)
    late = add(queue, 30)
    assert any(waiting.job is late for waiting in take(queue))


def test_what_is_late_or_cancelled_leaves_uncomputed_and_the_rest_stays():
    queue = EncodeQueue()
    late, gone, stays = add(queue, 30, 30, ends_at=10.0), add(queue, 30), add(queue, 30, ends_at=20.0)
    assert queue.take_gone(9.9) == []
    gone.is_cancelled = True
    assert queue.take_gone(10.0) == [late, gone]
    assert [waiting.job for waiting in take(queue)] == [stays]
    assert len(queue) == 0
