"""The swap bench's own proof: a wrong answer is found by content, failures are counted, and swaps happen while requests run."""

import asyncio

import numpy as np
import pytest

from benches.swap_load import TOLERANCE, Reference, SwapLoad, _Pace
from bot.engine.protocol import ChoiceSet, EngineError, Scores
from db.types import MaskedText

CHOICES = ChoiceSet("key", ("a", "b"), ("a", "b"), "", "", (" a", " b"))
ALONE = {"one": np.array([[0.9, 0.1]], np.float32), "two": np.array([[0.2, 0.8]], np.float32)}


@pytest.mark.parametrize(
    ("digest", "given", "is_wrong"),
    [
        ("one", [0.9, 0.1], False),
        ("one", [0.9 - 0.5 * TOLERANCE, 0.1 + 0.5 * TOLERANCE], False),
        ("one", [0.9 - 2 * TOLERANCE, 0.1 + 2 * TOLERANCE], True),
        ("one", [0.2, 0.8], True),
        ("three", [0.9, 0.1], True),
    ],
)
def test_an_answer_is_judged_by_its_content(digest, given, is_wrong):
    assert Reference(ALONE).is_wrong(digest, 0, np.array(given, np.float32)) is is_wrong


def test_an_answer_nearer_to_another_adapter_is_wrong_even_within_the_tolerance():
    near = Reference({"one": np.array([[0.50, 0.50]], np.float32), "two": np.array([[0.54, 0.46]], np.float32)})

    assert near.is_wrong("one", 0, np.array([0.53, 0.47], np.float32))
    assert not near.is_wrong("one", 0, np.array([0.505, 0.495], np.float32))


def test_distances_are_of_every_pair_and_text():
    assert Reference(ALONE).distances() == [pytest.approx(0.7)]


class FakeEngine:
    """Answers like the active adapter; `lie` makes it claim the other one, `fail` refuses."""

    def __init__(self, *, lie=False, fail=False):
        self.active = "one"
        self.loaded = {"one", "two"}
        self.calls = []
        self._lie = lie
        self._fail = fail

    async def score(self, request):
        if self._fail:
            raise EngineError("the queue is full")
        active = self.active
        await asyncio.sleep(0.001)  # answers take time, so that swaps fall between them
        other = "two" if active == "one" else "one"
        return Scores(ALONE[active][0], other if self._lie else active, None, is_truncated=False, n_tokens=3)

    def get_active(self, task):
        return self.active

    async def activate(self, task, digest):
        assert digest in self.loaded
        self.calls.append("activate")
        self.active = digest

    async def load(self, bundle):
        self.calls.append("load")
        self.loaded.add(str(bundle))

    async def unload(self, digest):
        assert digest != self.active
        self.calls.append("unload")
        self.loaded.discard(digest)


def build_load(engine):
    bundles = {"one": "one", "two": "two"}
    return SwapLoad(engine, CHOICES, texts=[MaskedText("help")], reference=Reference(ALONE), bundles=bundles)


async def test_swaps_load_free_and_roll_back_while_requests_run():
    engine = FakeEngine()
    load = build_load(engine)

    await load.run_block(80, concurrency=4, swaps=8)

    tally = load.tally
    assert (tally.n_wrong, tally.n_failed, len(tally.with_swaps), len(tally.without)) == (0, 0, 80, 0)
    assert (tally.n_swaps, tally.n_fresh, len(tally.rollbacks_ms)) == (8, 2, 2)
    assert engine.calls.count("unload") == engine.calls.count("load") == 2


async def test_an_answer_under_another_adapters_name_is_counted_as_wrong():
    load = build_load(FakeEngine(lie=True))

    await load.run_block(10, concurrency=2, swaps=0)

    assert load.tally.n_wrong == 10


async def test_a_refused_request_is_counted_as_failed_with_its_reason():
    load = build_load(FakeEngine(fail=True))

    await load.run_block(6, concurrency=2, swaps=0)

    assert (load.tally.n_failed, load.tally.n_requests) == (6, 6)
    assert load.tally.errors[0] == "the queue is full"


async def test_swaps_that_fall_due_after_the_last_request_are_left_out():
    pace = _Pace(dues=[1.0, 5.0])
    pace.advance()

    assert await pace.wait_due()
    pace.end()
    assert not await pace.wait_due()
