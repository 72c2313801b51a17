"""Swaps under hard conditions: long drains, bulk work, an adapter asked for again while it leaves, memory over a hundred swaps."""

import asyncio
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bot.engine.protocol import EngineError, GenerateRequest, Priority
from db.types import MaskedText, TaskKind
from tests.support.engine_cases import ask, both_kinds, make_text

TASK = TaskKind.CLASSIFICATION
TOLERANCE = 0.01
LONG = GenerateRequest(TaskKind.SUMMARY, "s", "summary: ", MaskedText("my printer"), "\n->", max_tokens=400, stop=())
encoders = pytest.mark.parametrize("model_path", ["encoder"], indirect=True)
decoders = pytest.mark.parametrize("model_path", ["decoder"], indirect=True)


def get_rss_mib():
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


@pytest.fixture
async def engine(build, model_path):
    return await build(model_path, drain_s=0.05)


@encoders
async def test_bulk_work_holds_up_no_flip_and_ends_on_one_adapter(engine, bundles):
    digest = await engine.load((await bundles(1)).directory)
    texts = [MaskedText(make_text(number)) for number in range(400)]
    alone = await engine.embed(texts, task=TASK)
    bulk = asyncio.create_task(engine.embed(texts, task=TASK))
    await asyncio.sleep(0.02)
    await engine.activate(TASK, digest)
    assert not bulk.done()
    assert (await engine.score(ask(1))).adapter_digest == digest
    np.testing.assert_allclose(await bulk, alone, atol=TOLERANCE)


@encoders
async def test_bulk_work_ends_early_once_its_adapter_is_unloaded(engine, bundles):
    digest = await engine.load((await bundles(1)).directory)
    texts = [MaskedText(make_text(number)) for number in range(2000)]
    bulk = asyncio.create_task(engine.embed(texts, task=TASK, adapter=digest))
    await asyncio.sleep(0.02)
    await engine.unload(digest)
    with pytest.raises(EngineError, match="not loaded"):
        await bulk


@decoders
async def test_a_drain_has_a_bound_and_the_long_request_still_ends_on_its_adapter(engine, bundles):
    first, second = [await engine.load((await bundles(seed, task=TaskKind.SUMMARY)).directory) for seed in (1, 2)]
    await engine.activate(TaskKind.SUMMARY, first)
    stream = engine.generate(LONG)
    await anext(stream)  # nobody reads on: the request stays open
    await engine.activate(TaskKind.SUMMARY, second)
    assert engine.get_active(TaskKind.SUMMARY) == second
    await engine.unload(first)  # returns though the request goes on
    assert engine.get_loaded() == (second,)
    assert first in engine._answers.runtime.groups
    assert {chunk.adapter_digest async for chunk in stream} == {first}
    async with asyncio.timeout(20):
        while first in engine._answers.runtime.groups:  # noqa: ASYNC110  the owner thread's state has no event
            await asyncio.sleep(0.005)


@decoders
async def test_an_adapter_asked_for_again_while_it_leaves_is_kept(engine, bundles):
    bundle = await bundles(1, task=TaskKind.SUMMARY)
    digest = await engine.load(bundle.directory)
    await engine.activate(TaskKind.SUMMARY, digest)
    stream = engine.generate(LONG)
    await anext(stream)
    await engine.activate(TaskKind.SUMMARY, None)
    await engine.unload(digest)
    assert engine.get_loaded() == ()
    assert await engine.load(bundle.directory) == digest
    await stream.aclose()
    await asyncio.sleep(0.05)
    assert engine.get_loaded() == (digest,)
    assert digest in engine._answers.runtime.groups


@both_kinds
async def test_a_drain_of_one_task_lets_others_load_and_flip(engine, bundles):
    first, second = [await engine.load((await bundles(seed)).directory) for seed in (1, 2)]
    await engine.activate(TASK, first)
    running = [asyncio.create_task(engine.score(ask(number))) for number in range(30)]
    await asyncio.sleep(0)
    flips = await asyncio.gather(engine.activate(TASK, second), engine.activate(TASK, None), engine.activate(TASK, first))
    assert [report.previous_digest for report in flips] == [first, second, "base"]
    assert {answer.adapter_digest for answer in await asyncio.gather(*running)} == {first}


@both_kinds
async def test_a_hundred_swaps_leave_the_memory_where_it_was(engine, bundles):
    made = [await bundles(seed) for seed in (1, 2)]
    previous, warm = None, 0.0
    for number in range(130):
        digest = await engine.load(made[number % 2].directory)
        await engine.activate(TASK, digest)
        assert (await engine.score(ask(number % 5))).adapter_digest == digest
        if previous is not None:
            await engine.unload(previous)
        previous = digest
        warm = get_rss_mib() if number == 30 else warm
    assert engine.get_loaded() == (previous,)
    assert get_rss_mib() - warm < 12


@encoders
async def test_two_tasks_with_their_own_adapters_are_served_in_turn_and_by_their_own_weights(engine, bundles):
    label, other = [await engine.load((await bundles(seed)).directory) for seed in (1, 2)]
    texts = range(60)
    alone = {digest: [(await engine.score(ask(n, adapter=digest))).probabilities for n in texts] for digest in (label, other)}
    done = []

    async def score(number, digest):
        answer = await engine.score(ask(number, adapter=digest))
        done.append(digest)
        assert answer.adapter_digest == digest
        np.testing.assert_allclose(answer.probabilities, alone[digest][number], atol=TOLERANCE)

    first = [score(number, label) for number in texts]
    second = [score(number, other) for number in texts]
    await asyncio.gather(*first, *second)  # all of one come before all of the other
    half = Counter(itertools.islice(done, 60))
    assert min(half[label], half[other]) >= 15


@both_kinds
async def test_a_bulk_request_does_not_count_as_one_to_wait_for(engine, bundles):
    digest = await engine.load((await bundles(1)).directory)
    bulk = [asyncio.create_task(engine.score(ask(number, priority=Priority.BULK))) for number in range(40)]
    await asyncio.sleep(0)
    previous, leases = engine._table.flip(TASK, digest)
    assert (previous, leases) == ("base", ())
    assert {answer.adapter_digest for answer in await asyncio.gather(*bulk)} == {"base"}


@both_kinds
async def test_metrics_tell_forward_from_back(engine, bundles):
    families = engine._metrics._families
    digest = await engine.load((await bundles(1)).directory)
    await engine.activate(TASK, digest)
    await engine.activate(TASK, digest)  # no change, no swap
    await engine.activate(TASK, None)
    counts = {s.labels["direction"]: s.value for s in families.swaps.collect()[0].samples if s.name.endswith("_total")}
    assert counts == {"forward": 1, "rollback": 1}
    phases = {s.labels["phase"]: s.value for s in families.swap_s.collect()[0].samples if s.name.endswith("_count")}
    assert phases == {"load": 1, "prove": 1, "flip": 3, "drain": 3, "rollback": 1}
