"""Masking in processes of its own: same answers, nobody waits for a long text, and whatever happens to a process costs one text."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bot.masking import MaskerPool, MaskingBusyError, MaskingError, MaskingSettings, PlaceholderMap, restore
from bot.masking.process import MaskingProcess, ProcessLostError, build_environment, get_limit_s
from bot.masking.waiting import Job, Waiting
from bot.masking.wire import Channel
from bot.masking.worker import answer_job

PATIENT = {"chunk_timeout_ms": 60_000}  # a busy machine must not fail a test
LINE = "Hi, the export of ann.lee@example.com failed again and again.\n"
BULKY = LINE * 1000  # 60 kB: a second or more
LONG = LINE * 80  # more than chunk_chars, so not for every process
WAIT_S = 120.0


def wait_until(condition):
    """Poll until the condition holds; the limit only ends a test that would never end."""
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "it never came to pass"
        time.sleep(0.02)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except FileNotFoundError:
        return False


@contextlib.asynccontextmanager
async def started(**settings):
    pool = MaskerPool(MaskingSettings(**{**PATIENT, **settings}))
    await pool.start()
    try:
        yield pool
    finally:
        await pool.stop()


@pytest.fixture(scope="module")
def pool():
    pool = MaskerPool(MaskingSettings(workers=2, **PATIENT))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNDERSTUDY_VAULT_KEY", "not-for-others")
        asyncio.run(pool.start())
    yield pool
    asyncio.run(pool.stop())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hi Sarah,\ncall +44 20 7946 0958 or ann@example.com. Thanks, Tom Miller",
        "print <PERSON_1> and &lt;EMAIL_ADDRESS_2&gt; 😀 e\u0301 ann@example.com",
    ],
    ids=["empty", "plain", "placeholders"],
)
async def test_pool_answers_as_the_masker_in_this_process_does(pool, masker, text):
    here, there = PlaceholderMap(), PlaceholderMap()
    there_masked = await pool.mask_async(text, there)
    assert there_masked == masker.mask(text, here)
    assert there == here
    assert restore(there_masked) == text


async def test_text_that_is_no_text_is_withheld_as_in_this_process(pool, masker):
    broken = "two lone halves \ud83d\ude00 then bob@example.com"
    with pytest.raises(MaskingError) as here:
        masker.mask(broken)
    with pytest.raises(MaskingError) as there:
        await pool.mask_async(broken)
    assert str(there.value) == str(here.value)


def test_messages_keep_every_character_as_it_is():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        text = "two halves \ud83d\ude00, one \U0001f600, \x00 and \u2028"
        Channel(theirs).send({"text": text})
        assert Channel(ours).receive(timeout_s=WAIT_S) == {"text": text}


def test_blocking_call_answers_too(pool):
    assert pool.mask("mail ann@example.com").text == "mail <EMAIL_ADDRESS_1>"


async def test_texts_of_one_ticket_asked_at_once_are_numbered_in_the_order_they_came(pool):
    mapping = PlaceholderMap()
    texts = [f"mail user{number}@example.com and user0@example.com" for number in range(8)]
    masked = await asyncio.gather(*(pool.mask_async(text, mapping) for text in texts))
    assert [m.surfaces[0][0] for m in masked] == [f"<EMAIL_ADDRESS_{number}>" for number in range(1, 9)]
    assert {m.surfaces[1][0] for m in masked} == {"<EMAIL_ADDRESS_1>"}
    assert len(mapping.entries) == 8


async def test_short_tickets_pass_a_long_one_that_came_first(pool):
    done = []

    async def mask(name, text):
        await pool.mask_async(text)
        done.append(name)

    await asyncio.gather(
        mask("long", BULKY), mask("long too", LONG), *(mask(n, f"user{n}@example.com writes") for n in range(12))
    )
    assert done == [*range(12), "long", "long too"]


async def test_text_over_the_limit_is_refused_before_it_is_sent():
    pool = MaskerPool(MaskingSettings(max_chars=10))
    with pytest.raises(MaskingError, match="11 characters and max_chars is 10"):
        await pool.mask_async("x" * 11)


async def test_process_that_dies_in_mid_text_withholds_that_text_alone():
    async with started(workers=2) as pool:
        lost = pool.submit(BULKY)
        wait_until(lost.running)
        others = [pool.submit(f"user{n}@example.com writes") for n in range(4)]
        os.kill(pool.pids[0], signal.SIGKILL)
        with pytest.raises(MaskingError, match="process ended while it worked") as caught:
            await asyncio.wrap_future(lost)
        assert caught.value.__context__ is None
        assert [(await asyncio.wrap_future(other)).text for other in others] == ["<EMAIL_ADDRESS_1> writes"] * 4
        wait_until(lambda: len(pool.pids) == 2)
        # Only the process that was started again takes long texts.
        assert (await pool.mask_async(LONG)).text.count("<EMAIL_ADDRESS_1>") == 80


async def test_process_that_died_idle_costs_no_text():
    async with started(workers=1) as pool:
        pid = pool.pids[0]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_running(pid))
        assert (await pool.mask_async("ann@example.com writes")).text == "<EMAIL_ADDRESS_1> writes"


def test_process_that_hangs_is_ended_and_its_text_withheld(monkeypatch):
    monkeypatch.setattr("bot.masking.process._GRACE_S", 0.1)
    process = MaskingProcess(MaskingSettings(chunk_timeout_ms=100))
    try:
        process.wait_ready()
        os.kill(process.pid, signal.SIGSTOP)
        mapping = PlaceholderMap()
        with pytest.raises(ProcessLostError, match="longer than chunk_timeout_ms") as caught:
            process.mask("mail ann@example.com", mapping)
        assert "ann" not in str(caught.value)
        assert caught.value.__context__ is None
        assert mapping.entries == {}
        assert not is_running(process.pid)
    finally:
        process.close()


async def test_process_is_replaced_after_its_share_without_losing_a_text():
    async with started(workers=1, recycle_after=2) as pool:
        first = pool.pids[0]
        n_masked = 0
        while pool.pids[0] == first and n_masked < 5000:
            assert (await pool.mask_async("ann@example.com")).text == "<EMAIL_ADDRESS_1>"
            n_masked += 1
        assert n_masked >= 2
        assert pool.pids[0] != first
        wait_until(lambda: not is_running(first))


async def test_stopping_withholds_what_waits_and_leaves_no_process():
    pool = MaskerPool(MaskingSettings(workers=2, **PATIENT))
    await pool.start()
    pids = pool.pids
    running, waiting = pool.submit("ann@example.com"), pool.submit(BULKY)
    blocked = [pool.submit(BULKY) for _ in range(3)]
    assert running.result().text == "<EMAIL_ADDRESS_1>"
    wait_until(waiting.running)
    await pool.stop()
    for job in blocked:
        with pytest.raises(MaskingError, match="stopped"):
            job.result()
    assert waiting.done()
    assert len(pids) == 2
    assert not any(is_running(pid) for pid in pids)
    with pytest.raises(MaskingError, match="stopped"):
        await pool.mask_async("ann@example.com")


async def test_model_that_cannot_be_loaded_is_one_clear_error_and_leaves_no_thread(tmp_path):
    before = set(threading.enumerate())
    with pytest.raises(MaskingError, match="cannot load the name model"):
        async with started(workers=2, model_dir=tmp_path):
            pass
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name == "masking-seat"]


async def test_texts_are_withheld_while_no_process_can_be_started(tmp_path):
    pool = MaskerPool(MaskingSettings(workers=1))
    pool._seats[0].trouble = "out of memory"
    assert pool.find_trouble() == "no masking process can be started: out of memory"
    with pytest.raises(MaskingError, match="out of memory: the text is withheld"):
        await pool.mask_async("ann@example.com")


async def test_more_texts_than_may_wait_are_refused_as_busy():
    class OwnBusyError(Exception):
        pass

    own = MaskerPool(MaskingSettings(max_waiting=1))
    mapped = MaskerPool(MaskingSettings(max_waiting=1), build_busy_error=OwnBusyError)
    for pool, error in ((own, MaskingBusyError), (mapped, OwnBusyError)):
        pool.submit("first")
        with pytest.raises(error, match="1 texts wait to be masked already; try again in a moment"):
            await pool.mask_async("second")


def test_caller_that_may_block_waits_for_room_instead():
    waiting = Waiting(1)
    waiting.put(Job("a", PlaceholderMap(), is_long=False), waits=True)
    second = Job("b", PlaceholderMap(), is_long=False)
    thread = threading.Thread(target=waiting.put, args=(second,), kwargs={"waits": True})
    thread.start()
    assert waiting.take(takes_long=False, timeout_s=WAIT_S).text == "a"
    thread.join(WAIT_S)
    assert waiting.take(takes_long=False, timeout_s=WAIT_S) is second


def test_line_keeps_a_tickets_order_and_long_texts_for_those_that_take_them():
    waiting = Waiting(10)
    ticket, other = PlaceholderMap(), PlaceholderMap()
    long, after, free = Job("L", ticket, is_long=True), Job("s", ticket, is_long=False), Job("o", other, is_long=False)
    for job in (long, after, free):
        waiting.put(job, waits=False)
    assert waiting.take(takes_long=False, timeout_s=0) is free  # `after` belongs to the ticket of the long text before it
    assert waiting.take(takes_long=False, timeout_s=0) is None
    assert waiting.take(takes_long=True, timeout_s=0) is long
    assert waiting.take(takes_long=True, timeout_s=0) is None
    waiting.finish(long)
    assert waiting.take(takes_long=False, timeout_s=0) is after


async def test_caller_that_went_away_costs_no_work(pool):
    asked = asyncio.create_task(pool.mask_async(BULKY))
    behind = asyncio.create_task(pool.mask_async(BULKY))
    await asyncio.sleep(0)
    behind.cancel()
    with pytest.raises(asyncio.CancelledError):
        await behind
    await asked
    assert (await pool.mask_async("ann@example.com")).text == "<EMAIL_ADDRESS_1>"
    assert len(pool._waiting) == 0


ORPHANS = """
import asyncio
from bot.masking import MaskerPool, MaskingSettings
async def main():
    pool = MaskerPool(MaskingSettings(workers=2, chunk_timeout_ms=60000))
    await pool.start()
    busy = pool.submit("Hi, the export of ann.lee@example.com failed again.\\n" * 20000)
    while not busy.running():
        await asyncio.sleep(0.01)
    print(*pool.pids, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def test_processes_end_when_the_bot_is_killed_even_in_mid_text():
    with subprocess.Popen([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, text=True) as bot:
        pids = [int(pid) for pid in bot.stdout.readline().split()]
        assert len(pids) == 2
        assert all(is_running(pid) for pid in pids)
        bot.kill()
    wait_until(lambda: not any(is_running(pid) for pid in pids))


def test_process_holds_no_secret_and_can_leave_no_text_behind(pool):
    proc = Path(f"/proc/{pool.pids[0]}")
    environment = (proc / "environ").read_bytes()
    assert b"OMP_NUM_THREADS=1" in environment
    assert b"not-for-others" not in environment
    assert [(proc / "fd" / number).readlink() for number in "012"] == [Path("/dev/null")] * 3
    core = next(line for line in (proc / "limits").read_text().splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]


def test_environment_keeps_what_is_not_ours(monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_HOME", "x")
    monkeypatch.setenv("LANG", "C.UTF-8")
    assert "UNDERSTUDY_HOME" not in build_environment()
    assert build_environment()["LANG"] == "C.UTF-8"


def test_longer_texts_have_more_time():
    settings = MaskingSettings(chunk_timeout_ms=2000, chunk_chars=4000)
    assert get_limit_s(100, settings) < get_limit_s(20_000, settings) < get_limit_s(200_000, settings)


def test_withheld_text_comes_back_as_a_sentence_without_its_numbers():
    class Refusing:
        def mask(self, text, mapping):
            mapping.expect("PERSON", "Ann Lee")
            raise MaskingError("withheld")

    assert answer_job(Refusing(), {"text": "Ann Lee", "map": []}) == {"error": "withheld"}


def test_message_that_stops_half_way_is_an_end_and_a_slow_one_a_time_out():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"\x00\x00\x00\x09{")
        with pytest.raises(TimeoutError):
            Channel(ours).receive(timeout_s=0.05)
    ours, theirs = socket.socketpair()
    with ours:
        theirs.sendall(b"\x00\x00\x00\x09{")
        theirs.close()
        with pytest.raises(EOFError):
            Channel(ours).receive()
