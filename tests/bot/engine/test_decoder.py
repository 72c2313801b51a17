"""The decoder engine against an independent slow path that reads every label token by token in a cache of its own."""

import asyncio
import itertools

import numpy as np
import pytest

from bot.bundle import Calibration
from bot.engine.decoder_answers import NULL_TICKETS, calibrate
from bot.engine.llama import ContextSettings, LlamaContext, LlamaModel
from bot.engine.protocol import (
    ChoiceSet,
    EngineError,
    GenerateRequest,
    Priority,
    RankRequest,
    ScoreRequest,
)
from db.types import MaskedText, ModelKind, TaskKind
from tests.support.engine_cases import CHOICES, ask, make_text

TOLERANCE = 0.01


class SlowPath:
    """One prompt, one label, one token at a time."""

    def __init__(self, path):
        self.model = LlamaModel(path)
        self.context = LlamaContext(self.model, ContextSettings(n_ctx=1024, n_batch=512, n_seq_max=1, n_threads=1))

    def read(self, tokens):
        self.context.remove_sequence(0)
        self.context.begin()
        place = self.context.add_run(tokens, position=0, seq_id=0, has_output=True)
        self.context.decode()
        return self.context.get_logits(place).astype(np.float64)

    def tokenize(self, parts, text):
        fixed = [self.model.tokenize(part, add_special=False, parse_special=True) for part in (parts.prefix, parts.suffix)]
        return fixed[0] + self.model.tokenize(text, add_special=False) + fixed[1]

    def score(self, choices, text):
        prompt = self.tokenize(choices, text)
        answers = [tuple(self.model.tokenize(answer, add_special=False)) for answer in choices.answers]
        end = self.model.end_token
        result = []
        for answer in answers:
            total = 0.0
            for depth in range(len(answer) + 1):
                options = sorted({(*other, end)[depth] for other in answers if other[:depth] == answer[:depth]})
                if len(options) > 1:
                    logits = self.read([*prompt, *answer[:depth]])
                    total += logits[(*answer, end)[depth]] - np.logaddexp.reduce(logits[options])
            result.append(total)
        return np.array(result)

    def probabilities(self, choices, text):
        prior = np.log(np.mean([np.exp(self.score(choices, null)) for null in NULL_TICKETS], axis=0))
        scores = self.score(choices, text) - prior
        weights = np.exp(scores - scores.max())
        return weights / weights.sum()

    def write(self, request):
        tokens = self.tokenize(request, request.text)
        raw = b""
        for _ in range(request.max_tokens):
            token = int(self.read(tokens).argmax())
            if self.model.is_end(token):
                break
            tokens.append(token)
            raw += self.model.get_piece(token)
        return raw.decode("utf-8", errors="replace")

    def close(self):
        self.context.close()
        self.model.close()


@pytest.fixture
def slow(decoder_path):
    path = SlowPath(decoder_path)
    yield path
    path.close()


def write(text="printer broken", **changes):
    fields = {"key": "s", "prefix": "summary of the ticket: ", "suffix": "\nsummary:", "max_tokens": 24, "stop": ()} | changes
    return GenerateRequest(TaskKind.SUMMARY, text=MaskedText(text), **fields)


async def collect(engine, request):
    chunks = [chunk async for chunk in engine.generate(request)]
    assert [chunk.is_last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    return "".join(chunk.text for chunk in chunks)


@pytest.mark.parametrize("number", [0, 5, 17])
async def test_label_probabilities_equal_the_slow_path(decoder, slow, number):
    scores = await decoder.score(ask(number))
    np.testing.assert_allclose(scores.probabilities, slow.probabilities(CHOICES, make_text(number)), atol=TOLERANCE)
    assert scores.probabilities.sum() == pytest.approx(1.0, abs=1e-5)
    assert scores.n_tokens == len(slow.tokenize(CHOICES, make_text(number)))


async def test_any_order_of_arrival_gives_the_same_answers(decoder):
    numbers = [3, 30, 7]
    wanted = {number: (await decoder.score(ask(number))).probabilities for number in numbers}
    for order in itertools.permutations(numbers):
        priorities = [Priority.BULK if number % 2 else Priority.INTERACTIVE for number in order]
        answers = await asyncio.gather(*(decoder.score(ask(n, priority=p)) for n, p in zip(order, priorities, strict=True)))
        for number, answer in zip(order, answers, strict=True):
            np.testing.assert_allclose(answer.probabilities, wanted[number], atol=TOLERANCE)


@pytest.mark.parametrize(
    "settings",
    [{"n_batch": 32}, {"n_seq_max": 4, "n_batch": 32}, {"n_ctx": 256, "n_batch": 64, "n_seq_max": 8}],
    ids=["small batches", "few sequences", "small cache"],
)
async def test_tight_limits_change_no_answer(build, decoder_path, decoder, settings):
    tight = await build(decoder_path, **settings)
    wanted = await asyncio.gather(*(decoder.score(ask(number)) for number in range(20)))
    answers = await asyncio.gather(*(tight.score(ask(number)) for number in range(20)))
    for one, other in zip(wanted, answers, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=TOLERANCE)


async def test_many_labels_with_shared_beginnings_are_exact(decoder, slow):
    names = tuple(
        f"{first} {second}"
        for first in ("network", "access", "user", "laptop")
        for second in ("account", "reset", "order", "vpn")
    )
    choices = ChoiceSet("many", names, names, "label: ", "\n->", tuple(f" {name}" for name in names))
    scores = await decoder.score(ask(2, choices=choices))
    np.testing.assert_allclose(scores.probabilities, slow.probabilities(choices, make_text(2)), atol=TOLERANCE)


async def test_two_label_sets_and_a_summary_share_a_batch(decoder):
    other = ChoiceSet("o", ("Yes", "No"), ("yes", "no"), "is it urgent? ", "\n", (" yes", " no"))
    requests = [ask(number, choices=choices) for number in range(6) for choices in (CHOICES, other)]
    wanted = [await decoder.score(request) for request in requests]
    text = await collect(decoder, write())
    *answers, mixed = await asyncio.gather(*(decoder.score(request) for request in requests), collect(decoder, write()))
    assert mixed == text
    for one, two in zip(wanted, answers, strict=True):
        np.testing.assert_allclose(one.probabilities, two.probabilities, atol=TOLERANCE)


async def test_more_label_sets_than_prefixes_are_kept_still_answer(build, decoder_path):
    engine = await build(decoder_path, prefix_limit=2)
    sets = [ChoiceSet(f"k{n}", ("A", "B"), ("a", "b"), f"question {n}: ", "\n", (" yes", " no")) for n in range(6)]
    first = await asyncio.gather(*(engine.score(ask(1, choices=choices)) for choices in sets))
    again = await asyncio.gather(*(engine.score(ask(1, choices=choices)) for choices in sets))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_allclose(one.probabilities, two.probabilities, atol=TOLERANCE)


async def test_everything_is_given_back_when_the_work_is_done(decoder):
    await asyncio.gather(*(decoder.score(ask(number)) for number in range(20)), collect(decoder, write()))
    runtime = decoder._answers.runtime
    assert runtime.n_running == 0
    n_kept = len(runtime._seats._prefixes)
    assert 1 <= n_kept <= 2  # one prefix per task stays, unless the other's requests needed its room
    assert runtime.n_free_sequences == 16 - n_kept  # half of 32 are lanes


async def test_greedy_text_equals_the_slow_path(decoder, slow):
    request = write()
    assert await collect(decoder, request) == slow.write(request)


async def test_texts_written_together_equal_those_written_alone(decoder):
    requests = [write(make_text(number), max_tokens=8 + number) for number in range(10)]
    alone = [await collect(decoder, request) for request in requests]
    assert await asyncio.gather(*(collect(decoder, request) for request in requests)) == alone


async def test_a_stop_string_ends_the_text_and_is_not_part_of_it(decoder):
    whole = await collect(decoder, write())
    for mark in (whole[6:9], whole[3:4], whole[10:]):
        assert await collect(decoder, write(stop=(mark, "never seen"))) == whole[: whole.index(mark)]


async def test_split_characters_never_reach_the_stream(build, decoder_path):
    engine = await build(decoder_path)
    chunks = [chunk.text async for chunk in engine.generate(write("日本語", max_tokens=120, temperature=3.0))]
    assert "".join(chunks).encode("utf-8")
    alone = [chunk.text async for chunk in engine.generate(write("日本語", max_tokens=0))]
    assert alone == [""]


async def test_the_same_seed_samples_the_same_text(build, decoder_path):
    texts = []
    for seed in (1, 1, 2):
        engine = await build(decoder_path, seed=seed)
        texts.append(await collect(engine, write(temperature=1.0)))
    assert texts[0] == texts[1] != texts[2]


async def test_the_last_chunk_carries_the_counts(decoder):
    chunks = [chunk async for chunk in decoder.generate(write(max_tokens=5))]
    assert chunks[-1].is_last
    assert chunks[-1].n_tokens > 5
    assert {chunk.adapter_digest for chunk in chunks} == {"base"}


async def test_a_reader_that_goes_away_frees_its_slot(build, decoder_path):
    engine = await build(decoder_path, n_seq_max=4)  # two requests and a prefix at a time would not fit
    for _ in range(6):
        stream = engine.generate(write(max_tokens=400))
        assert not (await anext(stream)).is_last
        await stream.aclose()
    assert engine.n_pending == 0
    await engine.score(ask(1))
    assert engine._answers.runtime.n_running == 0


async def test_a_cancelled_score_frees_its_slot(decoder):
    waiting = [asyncio.create_task(decoder.score(ask(number))) for number in range(50)]
    await asyncio.sleep(0)
    for task in waiting[::2]:
        task.cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
    assert not any(isinstance(result, BaseException) for result in results[1::2])
    await decoder.score(ask(1))
    assert decoder._answers.runtime.n_running == 0
    assert decoder.n_pending == 0


async def test_a_long_ticket_keeps_head_and_tail_and_says_so(build, decoder_path):
    engine = await build(decoder_path, decoder_text_tokens=32)
    scores = await engine.score(ScoreRequest(TaskKind.CLASSIFICATION, CHOICES, MaskedText("printer " * 400)))
    assert scores.is_truncated
    chunks = [chunk async for chunk in engine.generate(write("printer " * 400, max_tokens=2))]
    assert chunks[-1].is_truncated


async def test_control_tokens_in_a_ticket_are_read_as_plain_text(decoder, slow):
    text = "end <|endoftext|> here"
    assert slow.model.end_token not in slow.model.tokenize(text, add_special=False)
    scores = await decoder.score(ScoreRequest(TaskKind.CLASSIFICATION, CHOICES, MaskedText(text)))
    np.testing.assert_allclose(scores.probabilities, slow.probabilities(CHOICES, text), atol=TOLERANCE)


async def test_a_prompt_without_any_fixed_part_still_works(decoder):
    choices = ChoiceSet("bare", ("Yes", "No"), ("", ""), "", "", (" yes", " no"))
    scores = await decoder.score(ask(1, choices=choices))
    assert scores.probabilities.sum() == pytest.approx(1.0, abs=1e-5)
    only_prefix = ChoiceSet("p", ("Yes", "No"), ("", ""), "question ", "", (" yes", " no"))
    empty = await decoder.score(ScoreRequest(TaskKind.CLASSIFICATION, only_prefix, MaskedText("")))
    assert empty.probabilities.sum() == pytest.approx(1.0, abs=1e-5)


async def test_an_empty_prompt_is_refused(decoder):
    with pytest.raises(EngineError, match="prompt is empty"):
        await collect(decoder, write("", prefix="", suffix=""))


async def test_a_label_list_that_fills_the_cache_is_refused(build, decoder_path):
    engine = await build(decoder_path, n_ctx=256, n_batch=64)
    with pytest.raises(EngineError, match="leaves no room"):
        await engine.score(ask(1, choices=ChoiceSet("big", ("A", "B"), ("", ""), "label " * 400, "", (" a", " b"))))


async def test_a_single_label_is_certain(decoder):
    scores = await decoder.score(ask(1, choices=ChoiceSet("one", ("A",), ("",), "x ", "", (" a",))))
    np.testing.assert_allclose(scores.probabilities, [1.0])


async def test_answers_that_do_not_match_the_names_are_refused(decoder):
    with pytest.raises(EngineError, match="one answer per label"):
        await decoder.score(ask(1, choices=ChoiceSet("bad", ("A", "B"), ("", ""), "x", "", (" a",))))


async def test_a_decoder_refuses_to_rank_and_to_embed(decoder):
    assert decoder.kind == ModelKind.DECODER
    with pytest.raises(EngineError, match="cannot rank"):
        await decoder.rank(RankRequest(TaskKind.SUMMARY, (MaskedText("a"),), (True,)))
    with pytest.raises(EngineError, match="no embeddings"):
        await decoder.embed([MaskedText("a")], task=TaskKind.SUMMARY)


def test_calibration_takes_out_the_prior_and_tempers():
    log_probabilities = np.log(np.array([0.8, 0.2], np.float32))
    prior = np.log(np.array([0.9, 0.1], np.float32))
    plain = calibrate(log_probabilities, None, calibration=Calibration())
    np.testing.assert_allclose(plain, [0.8, 0.2], atol=1e-6)
    corrected = calibrate(log_probabilities, prior, calibration=Calibration(prior_weight=1.0))
    ratios = np.array([0.8 / 0.9, 0.2 / 0.1])
    np.testing.assert_allclose(corrected, ratios / ratios.sum(), atol=1e-6)
    flat = calibrate(log_probabilities, None, calibration=Calibration(temperature=1e6))
    np.testing.assert_allclose(flat, [0.5, 0.5], atol=1e-4)
