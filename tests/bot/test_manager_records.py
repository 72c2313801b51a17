"""What the manager of a running bot tells plugins of the past, and that one approval of two swaps nothing."""

from types import SimpleNamespace
from typing import ClassVar

import pytest

from bot.core import Core
from bot.manager import ManagerService
from bot.plugin_api import ConflictError
from bot.settings import Settings
from db.queries import examples, lineage
from db.queries.audit import list_audit
from db.session import transaction
from db.types import AdapterStatus, MaskedText, ModelKind, Split, TaskKind
from tests.support.db_rows import CLASSIFICATION, add_adapter, add_run, add_ticket

DIGEST = "c" * 64


class Watch:
    """Stands for the adapter watch; remembers what was waited for."""

    problems: ClassVar = {}

    def __init__(self):
        self.waited = []

    def forget_refusal(self, task):
        pass

    async def wait_until_served(self, task, digest, *, timeout_s):
        self.waited.append(digest)
        return True


class FakeCore:
    """The parts of `Core` that the manager's records need."""

    def __init__(self, db_engine, home):
        self.settings = Settings(home=home, training={"approvers_needed": 2})
        self.engines = {
            task: SimpleNamespace(base_digest="b" * 64, get_active=lambda _: "base", kind=ModelKind.ENCODER) for task in TaskKind
        }
        self.masker = self
        self._db_engine = db_engine

    async def mask_async(self, text):
        """Mask one name, as the masker would."""
        return SimpleNamespace(text=text.replace("Maria", "<PERSON_1>"))

    async def in_db(self, work):
        with transaction(self._db_engine) as session:
            return work(session)


@pytest.fixture
def watch():
    return Watch()


@pytest.fixture
def manager(sqlite_engine, tmp_path, watch):
    core: Core = FakeCore(sqlite_engine, tmp_path)
    return ManagerService(core, watch)


@pytest.fixture
def ticket_id(sqlite_engine):
    with transaction(sqlite_engine) as session:
        ticket = add_ticket(session)
        example = examples.add_example(
            session, ticket_id=ticket.id, task=CLASSIFICATION, text=MaskedText("t"), target="billing", label_set_version="v1"
        )
        run = add_run(session)
        lineage.add_run_examples(session, run.id, [(example.id, Split.TRAIN)])
        run.adapter_digest = add_adapter(session, DIGEST, run_id=run.id).digest
        return ticket.id


async def test_the_first_of_two_approvals_swaps_nothing_and_the_second_one_does(manager, watch, ticket_id):
    info = await manager.promote(DIGEST, actor="ana", reason="fine")
    assert info.status is AdapterStatus.CANDIDATE
    assert "1 of 2 approvals" in info.reason
    assert watch.waited == []
    with pytest.raises(ConflictError, match="has approved"):
        await manager.promote(DIGEST, actor="ana", reason="again")
    assert (await manager.promote(DIGEST, actor="bo", reason="fine")).status is AdapterStatus.ACTIVE
    assert watch.waited == [DIGEST]
    (_, live) = await manager.get_timeline(task=CLASSIFICATION)
    assert (live.digest, live.approved_by) == (DIGEST, ("ana", "bo"))


async def test_a_ticket_is_traced_to_the_adapter_that_learned_from_it(manager, ticket_id):
    (trace,) = await manager.trace_ticket(ticket_id)
    assert (trace.adapter_digest, trace.split) == (DIGEST, Split.TRAIN)


async def test_the_reason_of_a_promotion_is_masked_before_it_is_stored(manager, ticket_id):
    info = await manager.promote(DIGEST, actor="ana", reason="Maria asked")
    assert "Maria" not in info.reason
    with transaction(manager._core._db_engine) as session:
        assert not any("Maria" in str(row.detail) for row in list_audit(session))
