"""The owner thread under a runtime that hangs or dies: it is reported, and nobody waits for ever."""

import asyncio
import threading

import pytest

from bot.engine.protocol import EngineError
from bot.engine.worker import Worker, settle


class FakeRuntime:
    """Has work once `has_work` is told so; a step blocks until `release` is set."""

    def __init__(self):
        self.release = threading.Event()
        self.entered = threading.Event()
        self.is_busy = False
        self.failed = []

    def open(self):
        pass

    def has_work(self):
        return self.is_busy

    def step(self):
        self.entered.set()
        self.release.wait(30)
        self.is_busy = False

    def fail_all(self, error):
        self.failed.append(error)

    def close(self):
        pass


@pytest.fixture
def runtime():
    return FakeRuntime()


@pytest.fixture
async def worker(runtime):
    worker = Worker(name="test")
    await worker.start(runtime)
    yield worker
    runtime.release.set()
    await worker.stop()


async def hang(worker, runtime):
    def begin():
        runtime.is_busy = True

    worker.post(begin, on_error=print)
    await asyncio.to_thread(runtime.entered.wait, 30)


async def test_a_step_that_hangs_shows_as_a_growing_stall_and_ends_with_it(worker, runtime):
    assert worker.stalled_s == 0.0
    await hang(worker, runtime)
    first = worker.stalled_s
    await asyncio.sleep(0.02)
    assert worker.stalled_s > first >= 0.0
    runtime.release.set()
    await worker.call(lambda: None)
    async with asyncio.timeout(20):
        while worker.stalled_s:  # noqa: ASYNC110  the thread's state has no event
            await asyncio.sleep(0.001)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # its death is the test's doing
async def test_a_thread_that_died_takes_no_work_and_its_callers_hear_of_it(worker, runtime):
    def die():
        raise SystemExit

    worker._inbox.put(die)
    async with asyncio.timeout(20):
        while worker.is_running:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert runtime.failed
    assert worker.stalled_s == 0.0
    with pytest.raises(EngineError, match="not running"):
        worker.post(lambda: None, on_error=print)
    with pytest.raises(EngineError, match="not running"):
        await worker.call(lambda: None)


async def test_results_of_one_step_wake_the_loop_once(worker, monkeypatch):
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(10)]
    woken = []
    call = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *args, **options: woken.append(args) or call(*args, **options))
    gate = threading.Event()
    worker.post(lambda: gate.wait(30), on_error=print)
    for number, future in enumerate(futures):
        worker.post(lambda future=future, number=number: worker.emit(settle, future, number), on_error=print)
    gate.set()
    assert await asyncio.gather(*futures) == list(range(10))
    assert len(woken) == 1


async def test_a_stop_does_not_wait_for_ever_for_a_stuck_step(worker, runtime, monkeypatch, caplog):
    monkeypatch.setattr("bot.engine.worker.STOP_S", 0.02)
    await hang(worker, runtime)
    await worker.stop()
    assert not worker.is_running
    assert "stuck in a step" in caplog.text
