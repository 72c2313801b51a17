"""The embedded default encoder, as written at set-up, on the real engine."""

import asyncio
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from bot.engine.protocol import ChoiceSet, ScoreRequest
from bot.models.default import ensure_default_model
from db.types import MaskedText, TaskKind
from tests.support.tiny_decoder import make_lora

DESCRIPTIONS = {
    "Network": "the internet, wifi or VPN connection does not work",
    "Password": "reset a password or unlock an account",
    "Printer": "a printer is jammed or out of toner",
    "Purchase": "order or buy a new laptop or software licence",
}
NAMES = tuple(DESCRIPTIONS)
CHOICES = ChoiceSet("d", NAMES, tuple(DESCRIPTIONS.values()), "", "", NAMES)
TICKETS = {
    "Since this morning I cannot get online, the wireless keeps dropping.": "Network",
    "I am locked out and forgot my login credentials": "Password",
    "Paper got stuck and the pages come out blank": "Printer",
    "Please buy a licence of the drawing tool for our new designer": "Purchase",
}
SHARED = Path(__file__).parents[4] / "shared" / "data" / "classification" / "it_tickets.jsonl.gz"


@pytest.fixture(scope="module")
def default_path(tmp_path_factory):
    return ensure_default_model(tmp_path_factory.mktemp("home"))


def request(text, **changes):
    return ScoreRequest(TaskKind.CLASSIFICATION, CHOICES, MaskedText(text), **changes)


async def test_plain_tickets_find_their_label_without_any_example(build, default_path):
    engine = await build(default_path)
    answers = await asyncio.gather(*(engine.score(request(text)) for text in TICKETS))
    assert [NAMES[int(answer.probabilities.argmax())] for answer in answers] == list(TICKETS.values())


async def test_real_tickets_score_the_same_in_a_crowd_and_alone(build, default_path):
    if not SHARED.exists():
        pytest.skip(f"no IT tickets at {SHARED}")
    with gzip.open(SHARED, "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line, _ in zip(file, range(48), strict=False)]
    engine = await build(default_path, n_threads=2)
    together = await asyncio.gather(*(engine.score(request(text)) for text in texts))
    alone = [await engine.score(request(text)) for text in texts]
    assert min(float(one.embedding @ other.embedding) for one, other in zip(alone, together, strict=True)) > 0.9999
    off = [float(np.abs(one.probabilities - other.probabilities).max()) for one, other in zip(alone, together, strict=True)]
    assert max(off) < 0.006  # the batch moves the last bit of a sum; 8-bit rounding of the layers after it makes that much of it
    assert float(np.mean(off)) < 0.0006


async def test_lora_weights_apply_to_the_default_model(build, default_path, tmp_path):
    engine = await build(default_path)
    base = await engine.embed([MaskedText(text) for text in TICKETS], task=TaskKind.CLASSIFICATION)
    await engine._answers.attach("lora", make_lora(tmp_path / "lora.gguf", default_path, strength=0.05))
    with_lora = await engine._answers._embed(list(TICKETS), "lora", priority=1)
    similarity = (base * with_lora.embeddings).sum(axis=1)
    assert (similarity < 0.9999).all()
    await engine._answers.detach("lora")
    again = await engine.embed([MaskedText(text) for text in TICKETS], task=TaskKind.CLASSIFICATION)
    np.testing.assert_allclose(base, again, atol=1e-5)
