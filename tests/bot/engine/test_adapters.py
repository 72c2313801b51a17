"""Adapters on real llama.cpp: loading, proof, flips under load, refusals, unloading. Each test runs on both kinds of engine."""

import asyncio
import itertools
import json

import numpy as np
import pytest

from bot.bundle import PROBE_FILE, Calibration, write_json
from bot.engine.protocol import AdapterError, ChoiceSet, EngineError, GenerateRequest, RankRequest
from db.types import MaskedText, ModelKind, TaskKind
from tests.support.engine_cases import CHOICES, ask, both_kinds

TASK = TaskKind.CLASSIFICATION
TOLERANCE = 0.01


async def load(engine, bundle):
    return await engine.load(bundle.directory)


async def score_all(engine, count=8, **changes):
    answers = await asyncio.gather(*(engine.score(ask(number, **changes)) for number in range(count)))
    return np.array([answer.probabilities for answer in answers])


@both_kinds
async def test_swapping_a_then_b_then_a_gives_a_again(engine, bundles):
    first, second = [await load(engine, await bundles(seed)) for seed in (1, 2)]
    base = await score_all(engine)
    seen = {}
    for digest in (first, second, first, None, first):
        report = await engine.activate(TASK, digest)
        assert report.adapter_digest == engine.get_active(TASK) == (digest or "base")
        answers = await score_all(engine)
        np.testing.assert_allclose(answers, seen.setdefault(digest, answers), atol=TOLERANCE)
    np.testing.assert_allclose(seen[None], base, atol=TOLERANCE)
    assert np.abs(seen[first] - seen[second]).max() > 10 * TOLERANCE
    assert np.abs(seen[first] - base).max() > 10 * TOLERANCE


@both_kinds
async def test_every_answer_under_swaps_is_what_its_claimed_adapter_gives_alone(engine, bundles):
    digests = ["base", *[await load(engine, await bundles(seed)) for seed in (1, 2)]]
    alone = {digest: await score_all(engine, 20, adapter=digest) for digest in digests}
    answers = []
    is_over = False

    async def client(start):
        for number in range(start, start + 30):
            answer = await engine.score(ask(number % 20))
            answers.append((number % 20, answer))

    async def swap():
        for digest in itertools.cycle(digests[::-1]):
            if is_over:
                return
            await engine.activate(TASK, digest if digest != "base" else None)
            await asyncio.sleep(0.002)

    swapping = asyncio.create_task(swap())
    await asyncio.gather(*(client(start) for start in range(12)))
    is_over = True
    await swapping
    assert len(answers) == 360
    assert {answer.adapter_digest for _, answer in answers} == set(digests)
    for number, answer in answers:
        np.testing.assert_allclose(answer.probabilities, alone[answer.adapter_digest][number], atol=TOLERANCE)


@both_kinds
async def test_requests_pinned_to_different_adapters_run_side_by_side(engine, bundles):
    digests = [await load(engine, await bundles(seed)) for seed in (1, 2, 3)]
    alone = {digest: await score_all(engine, 10, adapter=digest) for digest in digests}
    requests = [(number, digest) for number in range(10) for digest in digests]
    answers = await asyncio.gather(*(engine.score(ask(number, adapter=digest)) for number, digest in requests))
    for (number, digest), answer in zip(requests, answers, strict=True):
        assert answer.adapter_digest == digest
        np.testing.assert_allclose(answer.probabilities, alone[digest][number], atol=TOLERANCE)


@both_kinds
async def test_loading_and_unloading_under_load_disturbs_no_answer(engine, bundles):
    base = await score_all(engine, 20)
    made = [await bundles(seed) for seed in range(4)]
    answers = []
    is_over = False

    async def client(start):
        for number in itertools.count(start):
            if is_over:
                return
            answers.append((number % 20, await engine.score(ask(number % 20))))

    clients = [asyncio.create_task(client(start)) for start in range(6)]
    for bundle in made:
        await engine.unload(await load(engine, bundle))
    is_over = True
    await asyncio.gather(*clients)
    assert len(answers) > len(clients)
    for number, answer in answers:
        np.testing.assert_allclose(answer.probabilities, base[number], atol=TOLERANCE)


@both_kinds
async def test_loading_twice_is_one_adapter_even_at_once(engine, bundles):
    bundle = await bundles(1)
    digests = await asyncio.gather(*(load(engine, bundle) for _ in range(3)))
    assert set(digests) == {bundle.digest}
    assert engine.get_loaded() == (bundle.digest,)


@both_kinds
async def test_the_report_names_both_adapters_and_times(engine, bundles):
    bundle = await bundles(1)
    await load(engine, bundle)
    report = await engine.activate(TASK, bundle.digest)
    assert (report.task, report.adapter_digest, report.previous_digest) == (TASK, bundle.digest, "base")
    assert report.load_ms > 0
    assert report.prove_ms > 0
    assert report.flip_ms >= 0
    back = await engine.activate(TASK, None)
    assert (back.adapter_digest, back.previous_digest) == ("base", bundle.digest)


@both_kinds
async def test_unloading_frees_the_weights_and_the_active_one_stays(engine, bundles):
    first, second = [await load(engine, await bundles(seed)) for seed in (1, 2)]
    await engine.activate(TASK, first)
    with pytest.raises(AdapterError, match="is active"):
        await engine.unload(first)
    with pytest.raises(AdapterError, match="base model cannot be unloaded"):
        await engine.unload("base")
    await engine.unload(second)
    assert engine.get_loaded() == (first,)
    assert engine._answers.runtime.groups == (first,)
    with pytest.raises(EngineError, match="is not loaded"):
        await engine.score(ask(1, adapter=second))
    assert (await engine.score(ask(1))).adapter_digest == first


@both_kinds
async def test_unloading_waits_for_the_last_request(engine, bundles):
    digest = await load(engine, await bundles(1))
    alone = await score_all(engine, 30, adapter=digest)
    running = [asyncio.create_task(engine.score(ask(number, adapter=digest))) for number in range(30)]
    await asyncio.sleep(0)
    await engine.unload(digest)
    assert all(task.done() for task in running)
    for number, task in enumerate(running):
        np.testing.assert_allclose(task.result().probabilities, alone[number], atol=TOLERANCE)


@both_kinds
async def test_an_adapter_can_be_loaded_again_after_it_was_unloaded(engine, bundles):
    bundle = await bundles(1)
    digest = await load(engine, bundle)
    first = await score_all(engine, adapter=digest)
    await engine.unload(digest)
    await load(engine, await bundles(2))  # may take the freed adapter's address
    assert await load(engine, bundle) == digest
    np.testing.assert_allclose(await score_all(engine, adapter=digest), first, atol=TOLERANCE)


@both_kinds
async def test_a_summary_adapter_leaves_classification_alone(engine, bundles):
    before = await score_all(engine)
    digest = await load(engine, await bundles(1, task=TaskKind.SUMMARY, probe_texts=("my printer\nis broken\nplease help",)))
    await engine.activate(TaskKind.SUMMARY, digest)
    np.testing.assert_allclose(await score_all(engine), before, atol=TOLERANCE)


@pytest.mark.parametrize("model_path", ["encoder"], indirect=True)
async def test_a_turn_head_ranks_with_its_own_weights(engine, bundles):
    request = RankRequest(
        TaskKind.SUMMARY, tuple(map(MaskedText, ("hello", "printer is out of toner", "thanks"))), (True, True, False)
    )
    before = await engine.rank(request)
    digest = await load(engine, await bundles(1, task=TaskKind.SUMMARY, probe_texts=("my printer\nis broken\nplease help",)))
    await engine.activate(TaskKind.SUMMARY, digest)
    after = await engine.rank(request)
    assert (before.adapter_digest, after.adapter_digest) == ("base", digest)
    assert np.abs(before.scores - after.scores).max() > TOLERANCE


@pytest.mark.parametrize("model_path", ["decoder"], indirect=True)
async def test_a_text_that_is_being_written_ends_on_the_adapter_it_began_with(engine, bundles):
    request = GenerateRequest(
        TaskKind.SUMMARY, "s", "summary: ", MaskedText("my printer is broken"), "\n->", max_tokens=200, stop=()
    )
    first, second = [await load(engine, await bundles(seed, task=TaskKind.SUMMARY)) for seed in (1, 2)]
    await engine.activate(TaskKind.SUMMARY, first)
    alone = "".join([chunk.text async for chunk in engine.generate(request)])
    stream = engine.generate(request)
    chunks = [await anext(stream)]
    flip = asyncio.create_task(engine.activate(TaskKind.SUMMARY, second))
    await asyncio.sleep(0)
    assert engine.get_active(TaskKind.SUMMARY) == second
    chunks += [chunk async for chunk in stream]
    report = await flip
    assert {chunk.adapter_digest for chunk in chunks} == {first}
    assert "".join(chunk.text for chunk in chunks) == alone
    assert report.drain_ms > 0
    other = [chunk async for chunk in engine.generate(request)]
    assert {chunk.adapter_digest for chunk in other} == {second}


@pytest.mark.parametrize("model_path", ["decoder"], indirect=True)
async def test_the_bundles_calibration_decides_how_much_prior_is_taken_out(engine, bundles):
    plain = await load(engine, await bundles(1, calibration=Calibration(prior_weight=0.0)))
    flat = await load(engine, await bundles(1, calibration=Calibration(prior_weight=0.0, temperature=1000.0)))
    corrected = await load(engine, await bundles(1, calibration=Calibration(prior_weight=1.0)))
    answers = {digest: (await engine.score(ask(3, adapter=digest))).probabilities for digest in (plain, flat, corrected)}
    assert np.abs(answers[plain] - answers[corrected]).max() > 0.02
    np.testing.assert_allclose(answers[flat], 1 / len(CHOICES.names), atol=0.01)


@both_kinds
async def test_a_new_adapter_is_warm_for_label_sets_in_use(engine, bundles):
    await engine.score(ask(1))
    other = ChoiceSet("other", ("Yes", "No"), ("yes", "no"), "urgent? ", "\n", (" yes", " no"))
    await engine.score(ask(1, choices=other))
    digest = await load(engine, await bundles(1))
    answers = engine._answers
    if engine.kind == ModelKind.ENCODER:
        assert (digest, other) in answers._zero_shot  # the head knows CHOICES, but not these labels
    else:
        assert {choices for group, choices in answers._priors if group == digest} == {CHOICES, other}


@both_kinds
async def test_a_probe_that_is_measured_here_repeats_itself(engine, bundles, tmp_path):
    bundle = await bundles(1)
    again = await engine.build_probe(bundle.directory, bundle.manifest, texts=bundle.probe.texts)
    np.testing.assert_allclose(again.expected, bundle.probe.expected, atol=1e-3)
    np.testing.assert_allclose(again.base, bundle.probe.base, atol=1e-3)
    assert engine.get_loaded() == ()
    write_json(tmp_path / PROBE_FILE, again)
    assert json.loads((tmp_path / PROBE_FILE).read_text())["texts"] == list(bundle.probe.texts)
