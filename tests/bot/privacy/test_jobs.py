"""What the serving process does by itself: corrections of other processes in force, stored texts masked, old rows deleted, once."""

import asyncio
import threading
from datetime import timedelta

from sqlmodel import select

from bot.masking.corrections import Rules
from bot.plugin_api import CorrectionKind, Subject
from bot.privacy.jobs import LEASE, LEASE_TTL, PrivacyJobs
from bot.privacy.retention import STEPS, Retention
from bot.privacy.settings import RetentionSettings
from db.privacy_tables import Correction
from db.queries import leases
from db.queries.audit import list_audit
from db.queries.privacy_corrections import SETTLED_AFTER, list_to_remask
from db.tables import Ticket, VaultEntry, now
from tests.bot.privacy.conftest import build_site


async def approve(site, text):
    info = await site.service.report_correction(kind=CorrectionKind.MASK, entity="PERSON", text=text, actor="ana")
    await site.service.review_correction(info.id, is_approved=True, actor="bob")


async def test_a_correction_approved_in_one_process_is_in_force_in_another_after_a_look(site, tmp_path, keys):
    other = build_site(site.db_engine, tmp_path, keys)
    jobs = PrivacyJobs(other.service)
    await jobs.prepare()
    await approve(site, "Bo Ek")
    assert other.masker.mask("Call Bo Ek").text == "Call Bo Ek"
    await jobs.look()
    assert other.masker.mask("Call Bo Ek").text == "Call <PERSON_1>"


async def test_an_approved_phrase_is_masked_in_stored_texts_by_the_job(site):
    ticket_id = site.add_ticket("Bo Ek wrote.", external_id="1")
    await approve(site, "Bo Ek")
    await PrivacyJobs(site.service).look()
    assert site.read(lambda s: s.get(Ticket, ticket_id)).text == "<PERSON_1> wrote."


async def test_a_text_that_was_being_masked_during_the_approval_is_found_by_a_second_look(site):
    await approve(site, "Bo Ek")
    jobs = PrivacyJobs(site.service)
    await jobs.look()
    site.masker.set_rules(Rules())  # as when its masking had begun before
    ticket_id = site.add_ticket("Bo Ek wrote.", external_id="1")
    await site.service.reload()
    await jobs.look()
    assert site.read(lambda s: s.get(Ticket, ticket_id)).text == "Bo Ek wrote."

    def make_older(session):
        row = session.exec(select(Correction)).one()
        row.reviewed_at, row.remasked_at = row.reviewed_at - SETTLED_AFTER, row.remasked_at - SETTLED_AFTER

    site.write(make_older)
    await jobs.look()
    assert site.read(lambda s: s.get(Ticket, ticket_id)).text == "<PERSON_1> wrote."
    assert site.read(lambda s: s.exec(select(Correction)).one()).n_remasked == 1
    assert site.read(list_to_remask) == []


async def test_what_another_process_erased_is_forgotten_here(site, tmp_path, keys):
    ticket_id = site.add_ticket("Maria Gonzalez wrote.", external_id="1")
    other = build_site(site.db_engine, tmp_path, keys)
    jobs = PrivacyJobs(other.service)
    await jobs.prepare()
    await site.service.erase(Subject(ticket_ids=(ticket_id,)), actor="ana", reason="")
    await jobs.look()
    assert ticket_id in other.service.similar._removed


async def test_old_rows_are_deleted_once_an_hour_by_one_of_several_processes(site, tmp_path, keys):
    ticket_id = site.add_ticket("Maria Gonzalez wrote.", external_id="1")
    site.write(lambda s: setattr(s.get(VaultEntry, ticket_id), "expires_at", now() - timedelta(days=1)))
    site.write(lambda s: leases.acquire(s, LEASE, holder="another", ttl=LEASE_TTL))
    jobs = PrivacyJobs(site.service)
    await jobs.look()
    assert site.read(lambda s: s.get(VaultEntry, ticket_id)) is not None  # another holds the lease
    site.write(lambda s: leases.release(s, LEASE, holder="another"))
    await jobs.look()
    assert site.read(lambda s: s.get(VaultEntry, ticket_id)) is None
    await PrivacyJobs(build_site(site.db_engine, tmp_path, keys).service).look()
    (audited,) = site.read(lambda s: list_audit(s, action="retention.purge"))
    assert audited.detail == {"placeholder maps": 1}
    assert site.read(lambda s: leases.get_holder(s, LEASE)) is None


def test_every_limit_is_applied_and_counted(site, tmp_path):
    site.add_ticket("Maria Gonzalez wrote.", external_id="1", summary="Maria Gonzalez wrote")
    limits = dict.fromkeys(RetentionSettings.model_fields, 1)
    later = now() + timedelta(days=2)
    counts = Retention(site.db_engine, RetentionSettings(**limits), tmp_path).purge(at=later)
    assert counts == {"ticket texts": 1, "feedback": 2, "inferences": 2, "examples": 2}
    assert {setting for setting, _ in STEPS.items()} | {"run_days", "event_days"} == set(RetentionSettings.model_fields)


def test_by_default_no_ticket_feedback_or_example_is_deleted(site, tmp_path):
    site.add_ticket("Maria Gonzalez wrote.", external_id="1")
    later = now() + timedelta(days=9999)
    assert Retention(site.db_engine, RetentionSettings(), tmp_path).purge(at=later) == {"placeholder maps": 1}


async def test_a_phrase_whose_key_is_not_set_here_is_tried_once_and_left_to_others(site, tmp_path, keys):
    site.add_ticket("Bo Ek wrote.", external_id="1")
    await approve(site, "Bo Ek")
    jobs = PrivacyJobs(build_site(site.db_engine, tmp_path, []).service)
    await jobs.look()
    assert not jobs._is_work_due()
    assert PrivacyJobs(site.service)._is_work_due()


async def test_a_job_that_is_cancelled_ends_its_transaction_and_gives_the_lease_back(site, monkeypatch):
    jobs, began, go_on = PrivacyJobs(site.service), threading.Event(), threading.Event()

    def wait(self, **options):
        began.set()
        assert go_on.wait(60)
        return {}

    monkeypatch.setattr(type(site.service), "purge", wait)
    running = asyncio.create_task(jobs.run())
    assert await asyncio.to_thread(began.wait, 60)
    running.cancel()
    await asyncio.sleep(0)
    assert not running.done()
    go_on.set()
    await asyncio.wait([running])
    assert running.cancelled()
    assert site.read(lambda s: leases.get_holder(s, LEASE)) is None
