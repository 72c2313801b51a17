"""What the engine counts: every way a request can end, each series of one engine apart from another's, none left of a freed adapter."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from bot.engine.factory import build_engine
from bot.engine.metrics import EngineMetricFamilies, shorten
from bot.engine.protocol import DeadlineError, QueueFullError
from bot.engine.settings import EngineSettings
from db.types import MaskedText, TaskKind
from tests.support.engine_cases import ask

DIGEST = "a" * 64
TASK = TaskKind.CLASSIFICATION


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def metrics(registry):
    return EngineMetricFamilies(registry).bind("m")


@pytest.fixture
async def counted(encoder_path, metrics):
    engine = build_engine(encoder_path, settings=EngineSettings(n_threads=1, queue_limit=4), metrics=metrics)
    await engine.start()
    yield engine
    await engine.stop()


def get(registry, name, **labels):
    return registry.get_sample_value(f"understudy_engine_{name}", {"model": "m"} | labels)


def get_requests(registry, outcome, verb="score"):
    return get(registry, "requests_total", verb=verb, task="classification", outcome=outcome)


async def test_answers_tokens_and_batches_are_counted(counted, registry):
    answers = await asyncio.gather(*(counted.score(ask(number)) for number in range(4)))
    assert get_requests(registry, "answered") == 4
    assert get(registry, "answer_seconds_count", adapter="base", verb="score", task="classification") == 4
    n_label_tokens = get(registry, "tokens_total", adapter="base", phase="prefill") - sum(answer.n_tokens for answer in answers)
    assert n_label_tokens > 0  # the label descriptions were read once
    assert get(registry, "batch_tokens_sum") == get(registry, "tokens_total", adapter="base", phase="prefill")
    assert get(registry, "batch_items_sum") == 4 + len(ask(0).choices.names)
    assert get(registry, "step_seconds_count") == get(registry, "batch_items_count") > 0


async def test_refusals_late_answers_and_clients_that_went_away_are_counted(counted, registry):
    await counted.score(ask(0))
    results = await asyncio.gather(*(counted.score(ask(number)) for number in range(6)), return_exceptions=True)
    assert sum(isinstance(result, QueueFullError) for result in results) == get_requests(registry, "refused") == 2
    with pytest.raises(DeadlineError):
        await counted.score(ask(1, deadline_s=0.0))
    assert get_requests(registry, "late") == 1
    gone = asyncio.create_task(counted.score(ask(1)))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert get_requests(registry, "cancelled") == 1


async def test_a_request_that_is_late_while_it_waits_is_never_computed(counted, registry, monkeypatch):
    await counted.score(ask(0))
    before = get(registry, "batch_items_sum")
    monkeypatch.setattr("bot.engine.encode_queue.EncodeJob.is_late", lambda _job, _now: True)
    with pytest.raises(DeadlineError, match="while it waited"):
        await counted.score(ask(1, deadline_s=600.0))
    assert get(registry, "expired_in_queue_total") == 1
    assert get(registry, "batch_items_sum") == before


async def test_queue_depth_life_and_adapters_are_read_at_the_scrape(counted, registry):
    assert (get(registry, "up"), get(registry, "stalled_seconds"), get(registry, "adapters_loaded")) == (1, 0, 0)
    running = [asyncio.create_task(counted.score(ask(number))) for number in range(3)]
    await asyncio.sleep(0)
    assert get(registry, "queue_depth", priority="interactive") == 3
    assert get(registry, "queue_depth", priority="bulk") == 0
    await asyncio.gather(*running)
    assert get(registry, "queue_depth", priority="interactive") == 0
    await counted.stop()
    assert get(registry, "up") == 0


async def test_no_ticket_text_reaches_the_metrics(counted, registry):
    await counted.embed([MaskedText("quite secret words")], task=TASK)
    assert b"secret" not in generate_latest(registry)


def test_series_of_a_freed_adapter_end_and_those_of_others_stay(metrics, registry):
    for digest in (DIGEST, "b" * 64, "base"):
        metrics.count_tokens(digest, prefill=3, decode=1)
        metrics.count_prefix(digest, is_hit=True)
        metrics.observe_answer("score", TASK, adapter=digest, seconds=0.1)
        metrics.observe_first_text(adapter=digest, seconds=0.1)
    for digest in (DIGEST, "base", "not there"):
        metrics.forget_adapter(digest)
    page = generate_latest(registry).decode()
    assert "aaaa" not in page
    assert get(registry, "tokens_total", adapter="b" * 12, phase="decode") == 1
    assert get(registry, "prefixes_total", adapter="base", result="hit") == 1
    metrics.count_tokens(DIGEST, prefill=2)
    assert get(registry, "tokens_total", adapter="a" * 12, phase="prefill") == 2


def test_engines_of_one_registry_keep_their_series_apart(registry):
    families = EngineMetricFamilies(registry)
    families.bind("one").count_load(is_accepted=True)
    families.bind("two").count_load(is_accepted=False)
    wanted = {("one", "accepted"): 1, ("two", "refused"): 1, ("one", "refused"): None}
    for (model, outcome), value in wanted.items():
        name = "understudy_engine_adapter_loads_total"
        assert registry.get_sample_value(name, {"model": model, "outcome": outcome}) == value


def test_weights_that_are_only_being_proven_share_one_name():
    assert shorten("probe:/some/folder") == "probe"
    assert shorten(DIGEST) == "a" * 12
