"""Many requests in one decoder: what shares a batch, who goes first, what is computed once, and that none of it changes an answer."""

import asyncio
import dataclasses
import time

import numpy as np
import pytest

from bot.engine.protocol import ChoiceSet, DeadlineError, GenerateRequest, Priority, ScoreRequest
from bot.engine.search import LabelSearch
from db.types import MaskedText, TaskKind
from tests.support.engine_cases import CHOICES, ask, make_text
from tests.support.tiny_decoder import make_tiny_decoder

WORDS = ("network", "access", "user", "laptop", "printer", "account", "order", "vpn", "invoice", "monitor")
MANY = tuple(f"{first} {second} {third}" for first in WORDS for second in WORDS for third in WORDS[:5])
FIVE_HUNDRED = ChoiceSet("500", MANY, MANY, "label: ", "\n->", tuple(f" {name}\n" for name in MANY))


@pytest.fixture
def evaluated(monkeypatch):
    """How many branches each finished search evaluated."""
    counts = []
    finish = LabelSearch.finish

    def counting(search):
        counts.append(search.n_evaluated)
        return finish(search)

    monkeypatch.setattr(LabelSearch, "finish", counting)
    return counts


@pytest.fixture
def submitted(monkeypatch, decoder):
    """Every job that reaches the decoder's thread."""
    jobs = []
    submit = decoder._answers.runtime.submit

    def counting(job):
        jobs.append(job)
        submit(job)

    monkeypatch.setattr(decoder._answers.runtime, "submit", counting)
    return jobs


async def score_all(engine, numbers, **changes):
    return [answer.probabilities for answer in await asyncio.gather(*(engine.score(ask(n, **changes)) for n in numbers))]


async def collect(engine, text, **changes):
    fields = {"key": "s", "prefix": "summary of the ticket: ", "suffix": "\nsummary:", "max_tokens": 24, "stop": ()} | changes
    request = GenerateRequest(TaskKind.SUMMARY, text=MaskedText(text), **fields)
    return "".join([chunk.text async for chunk in engine.generate(request)])


@pytest.mark.parametrize(("quantization", "tolerance"), [("F32", 1e-4), ("F16", 1e-3), ("Q8_0", 0.02)])
async def test_a_ticket_alone_and_in_any_batch_gets_the_same_probabilities(build, tmp_path, quantization, tolerance):
    engine = await build(make_tiny_decoder(tmp_path / "m.gguf", quantization=quantization), n_batch=256)
    await engine.warm(CHOICES)
    alone = [(await engine.score(ask(number))).probabilities for number in range(24)]
    for size in (2, 5, 24):
        for start in range(0, 24, size):
            numbers = list(range(start, min(start + size, 24)))
            for number, answer in zip(numbers, await score_all(engine, numbers), strict=True):
                np.testing.assert_allclose(answer, alone[number], atol=tolerance)
                assert answer.argmax() == alone[number].argmax()


async def test_five_hundred_labels_give_the_exact_top_and_a_distribution(build, decoder_path, evaluated):
    exact, quick = await build(decoder_path, label_top_k=0), await build(decoder_path)
    await quick.warm(FIVE_HUNDRED)
    evaluated.clear()
    for number in (1, 2, 3):
        full = (await exact.score(ask(number, choices=FIVE_HUNDRED))).probabilities
        fast = (await quick.score(ask(number, choices=FIVE_HUNDRED))).probabilities
        assert full.shape == fast.shape == (500,)
        assert full.sum() == pytest.approx(1.0, abs=1e-4)
        assert fast.sum() == pytest.approx(1.0, abs=1e-4)
        top = np.argsort(-full)[:3]
        np.testing.assert_allclose(fast[top], full[top], atol=0.01)
        assert set(np.argsort(-fast)[:3]) == set(top)
    assert len(evaluated) == 3 + 6  # the exact engine's null tickets, then both engines' tickets in turn
    assert sum(evaluated[4::2]) < 0.7 * sum(evaluated[3::2])


async def test_the_top_labels_equal_those_of_the_whole_tree(build, decoder_path, decoder):
    exact = await build(decoder_path, label_top_k=0)
    for number in range(20):
        full, fast = [(await engine.score(ask(number))).probabilities for engine in (exact, decoder)]
        top = np.argsort(-full)[:3]
        np.testing.assert_allclose(fast[top], full[top], atol=0.01)


async def test_the_label_prior_is_computed_once_per_label_set(decoder, submitted):
    await asyncio.gather(*(decoder.score(ask(number)) for number in range(6)))
    assert len(submitted) == 6 + 3
    assert sum(job.top_k == 0 for job in submitted) == 3
    await decoder.score(ask(7))
    assert len(submitted) == 10
    await decoder.score(ask(7, choices=FIVE_HUNDRED))
    assert len(submitted) == 14


async def test_a_long_prompt_does_not_hold_up_a_short_one(build, decoder_path):
    engine = await build(decoder_path, n_batch=256, decoder_text_tokens=1024)
    await engine.warm(CHOICES)
    done = []

    async def run(name, text):
        await engine.score(ScoreRequest(TaskKind.CLASSIFICATION, CHOICES, MaskedText(text)))
        done.append(name)

    long = asyncio.create_task(run("long", "printer " * 900))
    await asyncio.sleep(0)
    await asyncio.gather(*(run("short", make_text(number)) for number in range(3)), long)
    assert done == ["short"] * 3 + ["long"]


async def test_interactive_requests_go_before_bulk_ones_and_bulk_ones_still_end(build, decoder_path):
    engine = await build(decoder_path, n_seq_max=8)
    await engine.warm(CHOICES)
    done = []

    async def run(number, priority):
        await engine.score(ask(number, priority=priority))
        done.append(priority)

    bulk = [run(number, Priority.BULK) for number in range(24)]
    await asyncio.gather(*bulk, *(run(number, Priority.INTERACTIVE) for number in range(24, 48)))
    ranks = {priority: np.mean([rank for rank, other in enumerate(done) if other == priority]) for priority in Priority}
    assert ranks[Priority.INTERACTIVE] < ranks[Priority.BULK]
    assert Priority.BULK in done[:24]


@pytest.mark.parametrize("model_path", ["decoder"], indirect=True)
async def test_interleaved_adapters_write_and_score_what_each_gives_alone(engine, bundles):
    digests = ["base", *[await engine.load((await bundles(seed)).directory) for seed in (1, 2)]]
    texts = {digest: [await collect(engine, make_text(n), adapter=digest) for n in range(5)] for digest in digests}
    scores = {digest: [(await engine.score(ask(n, adapter=digest))).probabilities for n in range(5)] for digest in digests}
    assert len({tuple(written) for written in texts.values()}) == 3
    pairs = [(n, digest) for n in range(5) for digest in digests]
    mixed = await asyncio.gather(
        *(collect(engine, make_text(n), adapter=digest) for n, digest in pairs),
        *(engine.score(ask(n, adapter=digest)) for n, digest in pairs),
    )
    for (n, digest), text, answer in zip(pairs, mixed[: len(pairs)], mixed[len(pairs) :], strict=True):
        assert text == texts[digest][n]
        assert answer.adapter_digest == digest
        np.testing.assert_allclose(answer.probabilities, scores[digest][n], atol=0.01)


async def test_a_cancelled_text_frees_its_sequence_for_the_next_step(build, decoder_path):
    engine = await build(decoder_path, n_seq_max=6)
    stream = engine.generate(GenerateRequest(TaskKind.SUMMARY, "s", "p: ", MaskedText("printer"), "\n", max_tokens=1500, stop=()))
    await anext(stream)
    await stream.aclose()
    await engine.score(ask(1))
    runtime = engine._answers.runtime
    assert runtime.n_running == 0
    assert runtime.count_waiting(Priority.INTERACTIVE) == 0


@pytest.mark.parametrize("model_path", ["decoder"], indirect=True)
async def test_an_adapter_freed_while_its_label_prior_is_computed_takes_nobody_else_along(engine, bundles, monkeypatch):
    bundle = (await bundles(1)).directory
    digest = await engine.load(bundle)
    runtime = engine._answers.runtime
    step = runtime.step

    def step_slowly():
        time.sleep(0.03)
        step()

    monkeypatch.setattr(runtime, "step", step_slowly)
    unwarmed = dataclasses.replace(CHOICES, key="other", prefix=f"Sort this into a queue. {CHOICES.prefix}")
    with pytest.raises(DeadlineError):
        await engine.score(ask(3, choices=unwarmed, adapter=digest, deadline_s=0.05))
    await engine.unload(digest)
    assert (await engine.score(ask(3, choices=unwarmed))).adapter_digest == "base"
    assert {slot.group for slot in [*runtime._seats.running, *runtime._seats.waiting]} <= {"base"}
    await engine.load(bundle)
    again = await engine.score(ask(3, choices=unwarmed, adapter=digest))
    assert np.abs(again.probabilities - (await engine.score(ask(3, choices=unwarmed))).probabilities).max() > 1e-3
