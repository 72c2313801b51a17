"""Events of plugins on real databases: once, in order, again after failures, after a crash, by one of two processes."""

import asyncio
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta

import pytest
from sqlmodel import select

from bot import durable
from bot.durable import DurableQueue, DurableStore, build_holder, is_gone
from bot.plugin_events import RetryLaterError
from bot.sealing import Sealer
from db.queries import events
from db.session import transaction
from db.tables import PluginEvent, now
from db.types import EventStatus
from tests.support.events_worker import Database


@pytest.fixture
def sealer(tmp_path):
    return Sealer.open(tmp_path, [])


@pytest.fixture
def database(db_engine):
    return Database(db_engine)


@pytest.fixture
async def queue(database, sealer):
    built = DurableQueue(database, sealer, "plugin")
    yield built
    await built.stop()


def rows(db_engine):
    with transaction(db_engine, is_read_only=True) as session:
        return list(reversed(events.list_events(session, limit=100_000)))


async def count(queue, name, expected):
    """Wait until so many events stand there."""
    for _ in range(3000):
        if getattr(await queue.get_counts(), name) == expected:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{name} never became {expected}")


async def test_an_event_is_handled_once_though_it_comes_twice(queue):
    handled = []

    async def handle(event):
        handled.append((event.key, event.kind, event.payload, event.attempt))

    await queue.start(handle)
    assert await queue.put("a", "message", {"text": "hello"}) is True
    assert await queue.put("a", "message", {"text": "hello again"}) is False
    await queue.join()
    assert await queue.put("a", "message", {"text": "late"}) is False
    await queue.join()
    assert handled == [("a", "message", {"text": "hello"}, 1)]


async def test_two_puts_of_one_key_at_the_same_moment_are_one_event(queue):
    handled = []

    async def handle(event):
        handled.append(event.key)

    await queue.start(handle)
    answers = await asyncio.gather(*(queue.put("same", "message", {}) for _ in range(8)))
    await queue.join()
    assert sorted(answers) == [False] * 7 + [True]
    assert handled == ["same"]


async def test_what_an_event_says_is_encrypted_and_gone_once_it_is_handled(queue, db_engine):
    release = asyncio.Event()

    async def handle(_event):
        await release.wait()

    await queue.start(handle)
    await queue.put("a", "message", {"text": "maria@example.com"})
    (waiting,) = rows(db_engine)
    release.set()
    await queue.join()
    (done,) = rows(db_engine)
    assert b"maria" not in waiting.ciphertext
    assert waiting.ciphertext
    assert (done.status, done.ciphertext) == (EventStatus.DONE, b"")


async def test_events_of_a_group_keep_their_order_and_groups_do_not_wait_for_each_other(queue):
    order, slow = [], asyncio.Event()

    async def handle(event):
        if event.group == "slow" and event.payload["n"] == 0:
            await slow.wait()
        order.append((event.group, event.payload["n"]))
        if event.group == "quick" and event.payload["n"] == 4:
            slow.set()

    for n in range(5):
        for group in ("slow", "quick"):
            await queue.put(f"{group}{n}", "message", {"n": n}, group=group)
    await queue.start(handle, workers=3)
    await queue.join()
    assert [n for group, n in order if group == "quick"] == [0, 1, 2, 3, 4]
    assert [n for group, n in order if group == "slow"] == [0, 1, 2, 3, 4]
    assert order[:5] == [("quick", n) for n in range(5)]


async def test_a_failing_event_comes_back_and_is_given_up_after_its_tries(queue, db_engine, monkeypatch):
    monkeypatch.setattr(durable, "MAX_ATTEMPTS", 3)
    monkeypatch.setattr(durable, "LONGEST_PAUSE_S", 0.01)
    monkeypatch.setattr(durable, "POLL_S", 0.01)
    tries = []

    async def handle(event):
        tries.append(event.attempt)
        raise ValueError("the ticket said maria@example.com")

    await queue.start(handle)
    await queue.put("a", "message", {})
    await count(queue, "n_failed", 1)
    (row,) = rows(db_engine)
    assert tries == [1, 2, 3]
    assert (row.status, row.error) == (EventStatus.FAILED, "ValueError")
    with transaction(db_engine) as session:
        events.requeue_event(session, row.id, actor="ana")
    await count(queue, "n_failed", 1)
    assert tries[3:] == [1, 2, 3]


async def test_an_outage_of_the_other_side_costs_no_tries(queue, monkeypatch):
    monkeypatch.setattr(durable, "MAX_ATTEMPTS", 2)
    monkeypatch.setattr(durable, "POLL_S", 0.01)
    tries = []

    async def handle(event):
        tries.append(event.attempt)
        if len(tries) <= 6:
            raise RetryLaterError("down", after_s=0.0)

    await queue.start(handle)
    await queue.put("a", "message", {})
    await count(queue, "n_done", 1)
    assert tries == [1] * 7


async def test_an_event_too_old_is_given_up(queue, db_engine, monkeypatch):
    monkeypatch.setattr(durable, "MAX_AGE", timedelta(seconds=-1))

    async def handle(_event):
        raise RetryLaterError("down", after_s=0.0)

    await queue.start(handle)
    await queue.put("a", "message", {})
    await count(queue, "n_failed", 1)
    assert rows(db_engine)[0].error == "RetryLaterError"


async def test_what_a_stop_interrupts_is_handled_after_the_next_start(database, sealer, monkeypatch):
    monkeypatch.setattr(durable, "STOP_S", 0.05)
    begun, handled = asyncio.Event(), []

    async def hang(_event):
        begun.set()
        await asyncio.Event().wait()

    async def handle(event):
        handled.append((event.key, event.attempt))

    first = DurableQueue(database, sealer, "plugin")
    await first.start(hang)
    await first.put("a", "message", {})
    await begun.wait()
    await first.stop()
    second = DurableQueue(database, sealer, "plugin")
    await second.start(handle)
    await second.join()
    await second.stop()
    assert handled == [("a", 1)]


async def test_two_processes_share_the_events_and_each_is_handled_by_one(database, sealer, monkeypatch):
    names = iter(("one/1/a", "two/1/b"))  # as on two machines
    monkeypatch.setattr(durable, "build_holder", lambda: next(names))
    handled = Counter()

    def handler(name):
        async def handle(event):
            await asyncio.sleep(0.001)
            handled[event.key] += 1
            handled[name] += 1

        return handle

    first, second = DurableQueue(database, sealer, "plugin"), DurableQueue(database, sealer, "plugin")
    for n in range(60):
        await first.put(f"event{n}", "message", {}, group=f"group{n % 7}")
    await asyncio.gather(first.start(handler("first")), second.start(handler("second")))
    await asyncio.gather(first.join(), second.join())
    await count(first, "n_done", 60)
    await asyncio.gather(first.stop(), second.stop())
    assert all(handled[f"event{n}"] == 1 for n in range(60))
    assert handled["first"] + handled["second"] == 60


def _start_worker(db_url, home, out, *, pause_s):
    command = [sys.executable, "-m", "tests.support.events_worker", db_url, str(home), str(out), str(pause_s)]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert worker.stdout.readline() == "started\n"
    return worker


def _wait_for_lines(out, n, *, worker):
    deadline = time.monotonic() + 60
    while not out.exists() or len(out.read_text().splitlines()) < n:
        assert worker.poll() is None, "the worker ended"
        assert time.monotonic() < deadline, "the worker does not come to it"
        time.sleep(0.02)


async def test_a_killed_process_loses_no_event_and_repeats_only_what_it_was_handling(
    db_url, db_engine, database, sealer, tmp_path
):
    out, n_events = tmp_path / "effects.txt", 400
    queue = DurableQueue(database, sealer, "plugin")
    for n in range(n_events):
        await queue.put(f"key{n}", "message", {"n": n}, group=f"g{n % 10}")
        if n % 5 == 0:
            assert await queue.put(f"key{n}", "message", {"n": n}, group=f"g{n % 10}") is False
    worker = await asyncio.to_thread(_start_worker, db_url, tmp_path, out, pause_s=0.002)
    try:
        await asyncio.to_thread(_wait_for_lines, out, 100, worker=worker)
    finally:
        worker.kill()
        worker.wait()
        worker.stdout.close()
    worker = await asyncio.to_thread(_start_worker, db_url, tmp_path, out, pause_s=0)
    try:
        await asyncio.to_thread(_wait_for_lines, out, n_events, worker=worker)
        await count(queue, "n_done", n_events)
    finally:
        worker.kill()
        worker.wait()
        worker.stdout.close()
    lines = [line.split() for line in out.read_text().splitlines()]
    counts = Counter(key for _, _, key in lines)
    assert set(counts) == {f"key{n}" for n in range(n_events)}
    assert sum(counts.values()) - n_events <= 4  # the four that were being handled when it was killed
    for group in range(10):
        numbers = [int(n) for g, n, _ in lines if g == f"g{group}"]
        assert numbers == sorted(numbers)


def test_a_holder_is_gone_when_its_process_is_and_not_before():
    own = build_holder()
    host, pid, _ = own.split("/")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert is_gone(f"{host}/{ended.pid}/x", own)
    assert is_gone(f"{host}/{pid}/another-life", own)
    assert not is_gone(own, own)
    assert not is_gone(f"{host}/1/x", own)
    assert not is_gone(f"elsewhere/{ended.pid}/x", own)


async def test_a_value_is_kept_encrypted_until_it_expires(database, db_engine, sealer):
    store, other = DurableStore(database, sealer, "plugin"), DurableStore(database, sealer, "other")
    await store.put("card/1", {"inference": 7})
    await store.put("card/2", {"inference": 8}, expires_in_s=-1)
    await store.put("Card/3", {"inference": 9})
    assert await store.get("card/1") == {"inference": 7}
    assert await store.get("card/2") is None
    assert await store.get_all("card/") == {"card/1": {"inference": 7}}
    assert await other.get("card/1") is None
    assert await store.delete("card/1") is True
    assert await store.delete("card/1") is False


async def test_of_two_that_add_a_value_one_wins_and_an_expired_one_does_not_count(database, sealer):
    store = DurableStore(database, sealer, "plugin")
    assert await store.add("digest", {"by": "a"}) is True
    assert await store.add("digest", {"by": "b"}) is False
    assert await store.get("digest") == {"by": "a"}
    await store.put("digest", {"by": "a"}, expires_in_s=-1)
    assert await store.add("digest", {"by": "b"}) is True


async def test_an_event_that_no_key_opens_is_given_up_and_kept(database, db_engine, sealer, tmp_path):
    other_home = tmp_path / "other"
    other_home.mkdir()
    foreign = DurableQueue(database, Sealer.open(other_home, []), "plugin")
    await foreign.put("a", "message", {})
    queue, handled = DurableQueue(database, sealer, "plugin"), []
    await queue.start(handled.append)
    await count(queue, "n_failed", 1)
    await queue.stop()
    (row,) = rows(db_engine)
    assert (row.error, handled) == ("SealError", [])
    assert row.ciphertext


def test_handled_events_are_purged_by_age_and_waiting_ones_never(db_engine):
    with transaction(db_engine) as session:
        for key, finished_at in (("old", now() - timedelta(days=9)), ("new", now()), ("waiting", None)):
            events.add_event(session, events.NewEvent(key=key, kind="k", ciphertext=b"x"), plugin="p")
            row = session.exec(select(PluginEvent).where(PluginEvent.key == key)).one()
            row.finished_at = finished_at
    with transaction(db_engine) as session:
        assert events.purge_events(session, before=now() - timedelta(days=7)) == 1
    assert sorted(row.key for row in rows(db_engine)) == ["new", "waiting"]
