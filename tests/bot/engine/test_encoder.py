"""The encoder engine: batching, truncation, zero-shot, heads and label sets that changed."""

import asyncio
import itertools
from dataclasses import replace

import numpy as np
import pytest

from bot.bundle import Calibration
from bot.engine.encoder_answers import merge_labels
from bot.engine.head import EncoderHead
from bot.engine.protocol import ChoiceSet, EngineError, GenerateRequest, Priority, RankRequest, ScoreRequest
from db.types import MaskedText, ModelKind, TaskKind
from tests.support.engine_cases import CHOICES, ask, make_text
from tests.support.tiny_decoder import make_bundle, make_manifest

TOLERANCE = 5e-3


async def test_batched_answers_equal_those_given_alone(encoder):
    alone = [await encoder.score(ask(number)) for number in range(40)]
    together = await asyncio.gather(*(encoder.score(ask(number)) for number in range(40)))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.embedding, other.embedding, atol=TOLERANCE)
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=TOLERANCE)
        assert one.n_tokens == other.n_tokens


async def test_any_order_of_arrival_gives_the_same_answers(encoder):
    numbers = [3, 30, 7, 21]
    wanted = {number: (await encoder.score(ask(number))).probabilities for number in numbers}
    for order in itertools.permutations(numbers):
        priorities = [Priority.BULK if number % 2 else Priority.INTERACTIVE for number in order]
        answers = await asyncio.gather(*(encoder.score(ask(n, priority=p)) for n, p in zip(order, priorities, strict=True)))
        for number, answer in zip(order, answers, strict=True):
            np.testing.assert_allclose(answer.probabilities, wanted[number], atol=TOLERANCE)


async def test_embeddings_have_unit_norm_and_one_row_per_text(encoder):
    texts = [MaskedText(make_text(number)) for number in range(150)]
    embeddings = await encoder.embed(texts, task=TaskKind.CLASSIFICATION)
    assert embeddings.shape == (150, 64)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, atol=1e-5)
    score = await encoder.score(ask(77))
    np.testing.assert_allclose(score.embedding, embeddings[77], atol=TOLERANCE)


async def test_no_texts_give_no_rows(encoder):
    assert (await encoder.embed([], task=TaskKind.CLASSIFICATION)).shape == (0, 64)


async def test_the_base_scores_by_the_label_descriptions(encoder):
    scores = await encoder.score(ask(5))
    labels = await encoder.embed([MaskedText(text) for text in CHOICES.descriptions], task=TaskKind.CLASSIFICATION)
    expected = np.exp(EncoderHead.zero_shot(labels, CHOICES.names).log_probabilities(scores.embedding[None], ["x"]))[0]
    np.testing.assert_allclose(scores.probabilities, expected, atol=TOLERANCE)
    assert scores.probabilities.sum() == pytest.approx(1.0, abs=1e-5)
    assert scores.adapter_digest == "base"


async def test_a_long_text_keeps_head_and_tail_and_says_so(build, encoder_path):
    encoder = await build(encoder_path, text_tokens=32)
    long = MaskedText("printer " * 500 + "password")
    scores = await encoder.score(ScoreRequest(TaskKind.CLASSIFICATION, CHOICES, long))
    assert scores.is_truncated
    assert scores.n_tokens == 32
    assert not (await encoder.score(ask(0))).is_truncated
    other_end = MaskedText("printer " * 500 + "toner")
    embeddings = await encoder.embed([long, other_end], task=TaskKind.CLASSIFICATION)
    assert not np.allclose(embeddings[0], embeddings[1], atol=0.01)


async def test_a_text_never_exceeds_the_models_own_length(build, encoder_path):
    encoder = await build(encoder_path, text_tokens=4096)
    scores = await encoder.score(ScoreRequest(TaskKind.CLASSIFICATION, CHOICES, MaskedText("toner " * 1000)))
    assert scores.n_tokens == 128


async def test_an_empty_text_still_gets_a_distribution(encoder):
    scores = await encoder.score(ScoreRequest(TaskKind.CLASSIFICATION, CHOICES, MaskedText("")))
    assert scores.probabilities.sum() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("budget", [16, 48, 96, 200])
async def test_any_batch_size_works_and_agrees(build, encoder_path, budget):
    encoder = await build(encoder_path, encoder_batch_tokens=budget, text_tokens=40)
    answers = await asyncio.gather(*(encoder.score(ask(number)) for number in range(30)))
    alone = await encoder.score(ask(29))
    np.testing.assert_allclose(answers[29].probabilities, alone.probabilities, atol=TOLERANCE)


async def test_ranking_gives_one_score_per_unit(encoder):
    units = tuple(MaskedText(make_text(number)) for number in range(9))
    ranking = await encoder.rank(RankRequest(TaskKind.SUMMARY, units, (True, False, True) * 3))
    assert ranking.scores.shape == (9,)
    assert ranking.scores.dtype == np.float32
    assert len(set(ranking.scores.tolist())) > 1
    assert (await encoder.rank(RankRequest(TaskKind.SUMMARY, (), ()))).scores.shape == (0,)


async def test_a_ranking_with_a_mark_missing_is_refused(encoder):
    with pytest.raises(EngineError, match="2 units but 1 marks"):
        await encoder.rank(RankRequest(TaskKind.SUMMARY, (MaskedText("a"), MaskedText("b")), (True,)))


async def test_an_encoder_refuses_to_write(encoder):
    assert encoder.kind == ModelKind.ENCODER
    with pytest.raises(EngineError, match="cannot write"):
        async for _ in encoder.generate(GenerateRequest(TaskKind.SUMMARY, "k", "", MaskedText("x"), "")):
            pass


async def test_no_labels_are_refused(encoder):
    with pytest.raises(EngineError, match="no label"):
        await encoder.score(ask(1, choices=ChoiceSet("none", (), (), "", "", ())))


def make_head(labels, seed=3, n_embd=64):
    rng = np.random.default_rng(seed)
    head = EncoderHead.zero_shot(rng.normal(0, 0.5, (len(labels), n_embd)).astype(np.float32), labels)
    return replace(head, calibration=Calibration())  # what the bundle on disk says


async def load_head_bundle(encoder, path, folder, *, labels, seed=1):
    folder.mkdir(parents=True)
    make_head(labels).save(folder)
    manifest = make_manifest(engine=encoder, task=TaskKind.CLASSIFICATION, labels=labels)
    bundle = await make_bundle(folder, engine=encoder, manifest=manifest, base=path, seed=seed)
    digest = await encoder.load(bundle.directory)
    await encoder.activate(TaskKind.CLASSIFICATION, digest)
    return digest


async def test_a_loaded_head_answers_with_its_own_weights(encoder, encoder_path, tmp_path):
    digest = await load_head_bundle(encoder, encoder_path, tmp_path / "work", labels=CHOICES.names)
    scores = await encoder.score(ask(4))
    expected = np.exp(make_head(CHOICES.names).log_probabilities(scores.embedding[None], ["x"]))[0]
    np.testing.assert_allclose(scores.probabilities, expected, atol=1e-4)
    assert scores.adapter_digest == digest


async def test_a_head_without_lora_uses_the_bases_embeddings(encoder, encoder_path, tmp_path):
    before = await encoder.score(ask(4))
    await load_head_bundle(encoder, encoder_path, tmp_path / "work", labels=CHOICES.names, seed=None)
    after = await encoder.score(ask(4))
    np.testing.assert_allclose(before.embedding, after.embedding, atol=1e-6)
    assert not np.allclose(before.probabilities, after.probabilities, atol=0.01)


async def test_a_reordered_label_set_maps_by_name(encoder, encoder_path, tmp_path):
    await load_head_bundle(encoder, encoder_path, tmp_path / "work", labels=CHOICES.names[::-1])
    forward = await encoder.score(ask(4))
    backward = ChoiceSet("r", CHOICES.names[::-1], CHOICES.descriptions[::-1], "", "", CHOICES.answers[::-1])
    reversed_scores = await encoder.score(ask(4, choices=backward))
    np.testing.assert_allclose(forward.probabilities, reversed_scores.probabilities[::-1], atol=TOLERANCE)


async def test_labels_unknown_to_the_head_are_still_scored(encoder, encoder_path, tmp_path):
    await load_head_bundle(encoder, encoder_path, tmp_path / "work", labels=(*CHOICES.names[:4], "Gone"))
    scores = await encoder.score(ask(4))
    assert scores.probabilities.shape == (7,)
    assert scores.probabilities.sum() == pytest.approx(1.0, abs=1e-5)
    assert (scores.probabilities[4:] > 0).all()
    head = np.exp(make_head((*CHOICES.names[:4], "Gone")).log_probabilities(scores.embedding[None], ["x"]))[0]
    known = scores.probabilities[:4] / scores.probabilities[:4].sum()
    np.testing.assert_allclose(known, head[:4] / head[:4].sum(), atol=TOLERANCE)


def test_merging_keeps_the_zero_shot_share_of_unknown_labels():
    known = np.array([[0.6, 0.2, 0.2]], np.float32)
    zero_shot = np.array([[0.25, 0.5, 0.25]], np.float32)
    merged = merge_labels(known, ("a", "b", "gone"), names=("b", "new", "a"), zero_shot=zero_shot)
    np.testing.assert_allclose(merged, [[0.125, 0.5, 0.375]], atol=1e-6)


def test_merging_with_nothing_in_common_leaves_the_zero_shot_distribution():
    zero_shot = np.array([[0.3, 0.7]], np.float32)
    merged = merge_labels(np.array([[1.0]], np.float32), ("gone",), names=("x", "y"), zero_shot=zero_shot)
    np.testing.assert_allclose(merged, zero_shot, atol=1e-6)


def test_merging_drops_labels_no_longer_asked_for():
    merged = merge_labels(np.array([[0.5, 0.25, 0.25]], np.float32), ("a", "b", "c"), names=("c", "b"), zero_shot=None)
    np.testing.assert_allclose(merged, [[0.5, 0.5]], atol=1e-6)
