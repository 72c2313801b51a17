"""Bounds, deadlines, cancellation and the end of an engine's life, on both kinds."""

import asyncio
import re

import numpy as np
import pytest

from bot.bundle import hash_file
from bot.engine.factory import build_engine
from bot.engine.protocol import DeadlineError, EngineError, GenerateRequest, Priority, QueueFullError
from bot.engine.settings import EngineSettings
from db.types import MaskedText, ModelKind, TaskKind
from tests.support.engine_cases import CHOICES, ask, both_kinds


@both_kinds
async def test_a_full_queue_refuses_and_takes_work_again_later(build, model_path):
    engine = await build(model_path, queue_limit=3)
    results = await asyncio.gather(*(engine.score(ask(number)) for number in range(10)), return_exceptions=True)
    assert [isinstance(result, QueueFullError) for result in results] == [False] * 3 + [True] * 7
    assert "try again" in str(results[-1])
    assert engine.n_pending == 0
    assert (await engine.score(ask(1))).probabilities.shape == (7,)


@both_kinds
async def test_a_passed_deadline_is_reported_and_frees_the_slot(engine):
    await engine.score(ask(1))
    with pytest.raises(DeadlineError, match="deadline of 0"):
        await engine.score(ask(2, deadline_s=0.0))
    late = [engine.score(ask(number, deadline_s=0.0, priority=Priority.BULK)) for number in range(20)]
    results = await asyncio.gather(*late, engine.score(ask(3)), return_exceptions=True)
    assert all(isinstance(result, DeadlineError) for result in results[:-1])
    assert results[-1].probabilities.sum() == pytest.approx(1.0, abs=1e-5)
    assert engine.n_pending == 0


async def test_a_deadline_covers_the_whole_text(decoder):
    request = GenerateRequest(TaskKind.SUMMARY, "k", "x", MaskedText("y"), "z", max_tokens=1000, stop=(), deadline_s=0.0)
    with pytest.raises(DeadlineError):
        async for _ in decoder.generate(request):
            pass
    await decoder.score(ask(1))
    assert decoder._answers.runtime.n_running == 0


@both_kinds
async def test_a_generous_deadline_changes_nothing(engine):
    plain, bounded = await engine.score(ask(1)), await engine.score(ask(1, deadline_s=600.0))
    np.testing.assert_allclose(plain.probabilities, bounded.probabilities, atol=0.01)


@both_kinds
async def test_cancelled_requests_leave_the_others_alone(engine):
    wanted = await engine.score(ask(1))
    tasks = [asyncio.create_task(engine.score(ask(1))) for _ in range(40)]
    await asyncio.sleep(0)
    for task in tasks[1::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results[1::2])
    for result in results[::2]:
        np.testing.assert_allclose(result.probabilities, wanted.probabilities, atol=0.01)
    assert engine.n_pending == 0


@both_kinds
async def test_stopping_fails_what_is_queued_with_one_clear_error(model_path):
    engine = build_engine(model_path, settings=EngineSettings(n_threads=1, n_ctx=2048, n_batch=128, n_seq_max=16))
    await engine.start()
    tasks = [asyncio.create_task(engine.score(ask(number))) for number in range(100)]
    await asyncio.sleep(0)
    await engine.stop()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    failed = [result for result in results if isinstance(result, BaseException)]
    assert failed
    assert all(isinstance(result, EngineError) and re.search("stopped|not running", str(result)) for result in failed)
    with pytest.raises(EngineError, match="not running"):
        await engine.score(ask(1))


async def test_stopping_ends_a_text_that_is_being_written(build, decoder_path):
    engine = await build(decoder_path)
    stream = engine.generate(GenerateRequest(TaskKind.SUMMARY, "k", "x", MaskedText("y"), "z", max_tokens=1500, stop=()))
    await anext(stream)
    await engine.stop()
    with pytest.raises(EngineError, match="stopped"):
        async for _ in stream:
            pass


@both_kinds
async def test_an_engine_can_be_started_again(build, model_path):
    engine = await build(model_path)
    first = await engine.score(ask(1))
    await engine.start()  # a second start changes nothing
    await engine.stop()
    await engine.stop()
    await engine.start()
    again = await engine.score(ask(1))
    np.testing.assert_allclose(first.probabilities, again.probabilities, atol=0.01)
    assert engine.get_loaded() == ()


@both_kinds
async def test_digest_and_kind_are_known_before_the_start(model_path, request):
    engine = build_engine(model_path, settings=EngineSettings())
    assert engine.base_digest == hash_file(model_path)
    assert engine.kind == ModelKind(request.node.callspec.params["model_path"].removesuffix("-beside"))
    with pytest.raises(EngineError, match="not running"):
        await engine.score(ask(1))


@both_kinds
async def test_warming_ahead_changes_no_answer(engine):
    await engine.warm(CHOICES)
    scores = await engine.score(ask(1))
    assert scores.probabilities.sum() == pytest.approx(1.0, abs=1e-5)


@both_kinds
async def test_a_failing_step_fails_its_requests_and_the_engine_goes_on(engine, monkeypatch, caplog):
    await engine.score(ask(1))
    runtime = engine._answers.runtime
    compute = runtime._compute

    def break_once(*arguments, **options):
        monkeypatch.setattr(runtime, "_compute", compute)
        raise RuntimeError("broken")

    monkeypatch.setattr(runtime, "_compute", break_once)
    with pytest.raises(EngineError, match="failed at a step"):
        await engine.score(ask(2))
    assert "a step of the engine failed" in caplog.text
    assert (await engine.score(ask(3))).probabilities.sum() == pytest.approx(1.0, abs=1e-5)


@both_kinds
async def test_a_request_that_cannot_be_taken_fails_alone(engine, monkeypatch, caplog):
    await engine.score(ask(1))
    submit = engine._answers.runtime.submit

    def break_once(*arguments, **options):
        monkeypatch.setattr(engine._answers.runtime, "submit", submit)
        raise MemoryError

    monkeypatch.setattr(engine._answers.runtime, "submit", break_once)
    with pytest.raises(EngineError, match="could not take the request"):
        await engine.score(ask(2))
    assert "could not take a request" in caplog.text
    assert (await engine.score(ask(3))).probabilities.sum() == pytest.approx(1.0, abs=1e-5)


@both_kinds
async def test_a_request_that_goes_on_after_the_stop_is_refused_not_left_waiting(engine):
    answers, adapter = engine._answers, engine._table.get("base")
    await engine.stop()
    with pytest.raises(EngineError, match="not running"):
        await answers.score(ask(1), adapter)
