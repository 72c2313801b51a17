"""The watch over the active adapter: what goes wrong is kept and said, and ends neither the watch nor the start."""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest

from bot.adapter_watch import AdapterWatch
from bot.bundle import MANIFEST_FILE, Bundle, BundleError
from bot.core import Core
from bot.engine.protocol import AdapterError, EngineError, SwapReport
from bot.similar import SimilarIndex
from bot.types import BASE
from db.queries import adapters, audit
from db.queries.state import get_state
from db.session import transaction
from db.types import FeedbackKind, ModelKind, TaskKind
from tests.support.db_rows import CLASSIFICATION, SUMMARY, add_adapter, add_feedback, add_inference

A, B, C = "a" * 64, "b" * 64, "c" * 64


class FakeEngine:
    """Serves what it is told to and fails where `failures` says so, by method."""

    kind = ModelKind.ENCODER
    base_digest = "d" * 64

    def __init__(self):
        self.failures = {}
        self.calls = []
        self.active = dict.fromkeys(TaskKind, BASE)
        self.loaded = []

    def _call(self, name):
        self.calls.append(name)
        if name in self.failures:
            raise self.failures[name]

    async def load(self, bundle):
        self._call("load")
        self.loaded.append(bundle.name)
        return bundle.name

    async def activate(self, task, digest):
        self._call("activate")
        previous, self.active[task] = self.active[task], digest or BASE
        return SwapReport(task, self.active[task], previous, load_ms=0, prove_ms=0, flip_ms=0, drain_ms=0)

    async def unload(self, digest):
        self._call("unload")
        self.loaded.remove(digest)

    async def embed(self, texts, *, task, adapter=None):
        self._call("embed")
        return np.ones((len(texts), 1), dtype=np.float32)

    def get_active(self, task):
        return self.active[task]

    def get_loaded(self):
        return tuple(self.loaded)


@pytest.fixture
def engine():
    return FakeEngine()


@pytest.fixture
def watch(sqlite_engine, engine, tmp_path):
    core = Core(
        settings=SimpleNamespace(adapters_dir=tmp_path, watch_interval_s=0.01, similar_index_size=10),
        db_engine=sqlite_engine,
        masker=None,
        vault=None,
        label_set=SimpleNamespace(version="v1"),
        choices=None,
        engines=dict.fromkeys(TaskKind, engine),
        similar=SimilarIndex(10),
    )
    return AdapterWatch(core)


def activate(db_engine, digest, task=CLASSIFICATION, label_set_version="v1"):
    with transaction(db_engine) as session:
        add_adapter(session, digest, task=task, label_set_version=label_set_version, path=digest)
        adapters.activate_adapter(session, digest, actor="ana", reason="test")


async def wait_for(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  what is waited for is another task's state, which has no event
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("method", ["load", "activate"])
async def test_an_unexpected_error_stops_neither_start_nor_watch_nor_the_other_task(watch, engine, sqlite_engine, caplog, method):
    activate(sqlite_engine, A)
    engine.failures[method] = OSError("what the disk said")
    await watch.start()
    assert watch.problems == {
        CLASSIFICATION: "the adapter for classification could not be brought up to date: unexpected OSError"
    }
    assert "what the disk said" not in caplog.text
    engine.failures.clear()
    await wait_for(lambda: engine.active[CLASSIFICATION] == A and not watch.problems)
    activate(sqlite_engine, B, SUMMARY)
    await wait_for(lambda: engine.active[SUMMARY] == B)
    await watch.stop()


async def test_one_task_swaps_though_the_other_fails(watch, engine, sqlite_engine, monkeypatch):
    activate(sqlite_engine, A)
    activate(sqlite_engine, B, SUMMARY)
    load = engine.load

    async def fail_for_a(bundle):
        if bundle.name == A:
            raise ZeroDivisionError
        return await load(bundle)

    monkeypatch.setattr(engine, "load", fail_for_a)
    await watch.check()
    assert engine.active == {CLASSIFICATION: BASE, SUMMARY: B}
    assert list(watch.problems) == [CLASSIFICATION]


async def test_the_new_adapter_serves_though_the_old_one_cannot_be_unloaded(watch, engine, sqlite_engine):
    for digest in (A, B):
        activate(sqlite_engine, digest)
        await watch.check()
    engine.failures["unload"] = EngineError("busy")
    activate(sqlite_engine, C)
    await watch.check()
    assert (engine.active[CLASSIFICATION], engine.calls[-1]) == (C, "unload")
    assert "unexpected" in watch.problems[CLASSIFICATION]
    with transaction(sqlite_engine) as session:
        assert get_state(session, "serving.classification") == {"digest": C}
    await watch.stop()


async def test_a_refused_adapter_is_tried_once_and_again_after_it_is_promoted_anew(watch, engine, sqlite_engine):
    activate(sqlite_engine, A)
    engine.failures["load"] = AdapterError("the probe failed")
    for _ in range(3):
        await watch.check()
    assert engine.calls == ["load"]
    assert "the probe failed" in watch.problems[CLASSIFICATION]
    with transaction(sqlite_engine) as session:
        assert [row.subject_id for row in audit.list_audit(session, action="adapter.refused")] == [A]
    engine.failures.clear()
    watch.forget_refusal(CLASSIFICATION)
    await watch.check()
    assert (engine.active[CLASSIFICATION], watch.problems) == (A, {})
    await watch.stop()


async def test_a_fault_that_passes_is_audited_once_and_tried_again_at_every_look(watch, engine, sqlite_engine):
    activate(sqlite_engine, A)
    engine.failures["load"] = EngineError("the model server cannot be reached")
    for _ in range(3):
        await watch.check()
    assert engine.calls == ["load"] * 3
    with transaction(sqlite_engine) as session:
        assert len(list(audit.list_audit(session, action="adapter.refused"))) == 1
    engine.failures.clear()
    await watch.check()
    assert (engine.active[CLASSIFICATION], watch.problems) == (A, {})
    await watch.stop()


async def test_a_refused_adapter_that_was_activated_again_between_two_looks_is_tried_again(watch, engine, sqlite_engine):
    activate(sqlite_engine, A)
    engine.failures["load"] = AdapterError("the probe failed")
    await watch.check()
    engine.failures.clear()
    with transaction(sqlite_engine) as session:
        adapters.deactivate_to_base(session, CLASSIFICATION, actor="ana", reason="test")
        adapters.activate_adapter(session, A, actor="ana", reason="test")
    await watch.check()
    assert engine.active[CLASSIFICATION] == A
    await watch.stop()


async def test_another_label_set_stays_a_problem_until_an_adapter_of_the_one_in_force_serves(watch, sqlite_engine):
    activate(sqlite_engine, A, label_set_version="v0")
    for _ in range(3):
        await watch.check()
        assert "was trained on label set v0, in force is v1" in watch.problems[CLASSIFICATION]
    activate(sqlite_engine, B)
    await watch.check()
    assert watch.problems == {}
    await watch.stop()


async def test_decided_tickets_are_found_again_after_the_start(watch, sqlite_engine):
    with transaction(sqlite_engine) as session:
        for label in ("refund", "hardware"):
            add_feedback(session, add_inference(session), kind=FeedbackKind.OVERRIDE, value=label)
    await watch.start()
    similar = watch._core.similar
    await wait_for(lambda: len(similar) == 2)
    found = similar.search(np.ones(1, dtype=np.float32), digest=BASE, limit=5)
    assert {neighbour.label for neighbour in found} == {"refund", "hardware"}
    await watch.stop()


async def test_a_rebuild_that_fails_unexpectedly_is_logged_by_type_alone(watch, engine, sqlite_engine, caplog):
    with transaction(sqlite_engine) as session:
        add_feedback(session)
    engine.failures["embed"] = RuntimeError("words of a ticket")
    await watch.start()
    await wait_for(lambda: "similar tickets are incomplete: unexpected RuntimeError" in caplog.text)
    assert "words of a ticket" not in caplog.text
    await watch.stop()


def test_a_bundle_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / MANIFEST_FILE).mkdir()
    with pytest.raises(BundleError, match=rf"{MANIFEST_FILE} cannot be read \(Is a directory\)"):
        Bundle.load(tmp_path)
