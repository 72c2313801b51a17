"""Implements `bot.privacy_api.Privacy` over the database, the vault and the masker; for the running bot and the command line alike.

Everything that waits for the database runs off the event loop. Who may ask is decided by whoever hands it out.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Engine as DbEngine
from sqlmodel import Session

from bot.masking import MaskingError, Vault
from bot.masking.corrections import CorrectedMasker, Rules, load_rules
from bot.plugin_api import BotError, ConflictError, NotFoundError
from bot.privacy import correcting
from bot.privacy.correcting import CORRECTABLE, Report, add_report
from bot.privacy.datamap import build_map
from bot.privacy.erasure import erase
from bot.privacy.export import build_export, count_export
from bot.privacy.people import Finder
from bot.privacy.regression import RegressionReport, build_cases, run_regression
from bot.privacy.retention import Retention
from bot.privacy.scrub import Scrubber
from bot.privacy_api import CorrectionInfo, ErasureReport, Findings, Subject, TableInfo
from bot.sealing import KEY_FILE, Sealer
from bot.settings import Settings
from bot.similar import SimilarIndex
from db.errors import DatabaseBusyError, RowNotFoundError, StateConflictError
from db.privacy_tables import CorrectionKind, CorrectionStatus
from db.queries import privacy_corrections, privacy_erase
from db.queries.audit import record_audit
from db.queries.common import row_id
from db.session import drop_leftovers, retry_transaction, transaction

T = TypeVar("T")
ACTION_EXPORTED = "person.export"
JOB_ACTOR = "privacy"


@dataclass(frozen=True)
class PrivacyService:
    """People's rights. `get_masker` may load one; `similar` is the running bot's memory of tickets, None on the command line."""

    db_engine: DbEngine
    settings: Settings
    vault: Vault | None
    get_masker: Callable[[], CorrectedMasker]
    similar: SimilarIndex | None = None
    _erasing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def get_entity_types(self) -> Sequence[str]:
        """See `bot.privacy_api.Privacy.get_entity_types`."""
        return CORRECTABLE

    async def report_correction(
        self, *, kind: CorrectionKind, entity: str, text: str, actor: str, ticket_id: int | None = None
    ) -> CorrectionInfo:
        """See `bot.privacy_api.Privacy.report_correction`."""
        report = Report(kind, entity, text, ticket_id)

        def work(session: Session) -> CorrectionInfo:
            return correcting.describe(add_report(session, report, vault=self.vault, actor=actor), self.vault)

        return await self._write(work)

    async def list_corrections(
        self, *, status: CorrectionStatus | None = CorrectionStatus.OPEN, limit: int = 100
    ) -> Sequence[CorrectionInfo]:
        """See `bot.privacy_api.Privacy.list_corrections`."""

        def work(session: Session) -> list[CorrectionInfo]:
            rows = privacy_corrections.list_corrections(session, status=status, limit=limit)
            return [correcting.describe(row, self.vault) for row in rows]

        return await asyncio.to_thread(self._read, work)

    async def review_correction(self, correction_id: int, *, is_approved: bool, actor: str, reason: str = "") -> CorrectionInfo:
        """See `bot.privacy_api.Privacy.review_correction`. In force in this process at once, in others within seconds."""
        try:
            masked = (await self.get_masker().mask_async(reason)).text if reason.strip() else ""
        except MaskingError as error:
            raise BotError("this reason could not be masked safely, so nothing was changed; shorten it and try again") from error

        def work(session: Session) -> CorrectionInfo:
            row = privacy_corrections.review_correction(
                session, correction_id, is_approved=is_approved, actor=actor, reason=masked
            )
            return correcting.describe(row, self.vault)

        info = await self._write(work)
        await self.reload()
        return info

    async def find(self, subject: Subject) -> Findings:
        """See `bot.privacy_api.Privacy.find`."""

        def work() -> Findings:
            finder = self._build_finder()
            return finder.describe(finder.find(subject))

        return await asyncio.to_thread(work)

    async def export(self, subject: Subject, *, actor: str) -> Mapping[str, Any]:
        """See `bot.privacy_api.Privacy.export`."""

        def work() -> dict[str, Any]:
            finder = self._build_finder()
            return build_export(finder, finder.find(subject))

        export = await asyncio.to_thread(work)
        kind = "person" if subject.person.strip() else "tickets"
        await self._write(
            lambda session: record_audit(
                session,
                actor=actor,
                action=ACTION_EXPORTED,
                subject_type=kind,
                subject_id="one" if kind == "person" else str(len(export["tickets"])),
                detail={**count_export(export), "tickets": [ticket["ticket"]["id"] for ticket in export["tickets"]][:100]},
            )
        )
        return export

    async def erase(self, subject: Subject, *, actor: str, reason: str) -> ErasureReport:
        """See `bot.privacy_api.Privacy.erase`."""
        try:
            masked = (await self.get_masker().mask_async(reason)).text if reason.strip() else ""
        except MaskingError as error:
            raise BotError("this reason could not be masked safely, so nothing was erased; shorten it and try again") from error

        def work() -> ErasureReport:
            held = self._build_finder().find(subject)
            report = erase(self._build_scrubber(), held, person=subject.person.strip(), actor=actor, reason=masked)
            for ticket_id in held.tickets:
                self._forget(ticket_id)
            drop_leftovers(self.db_engine)
            return report

        async with self._erasing:
            try:
                return await asyncio.to_thread(work)
            except DatabaseBusyError as error:
                raise BotError("the database is busy; what was erased stays erased, do it again for the rest") from error

    async def get_map(self) -> Sequence[TableInfo]:
        """See `bot.privacy_api.Privacy.get_map`."""
        retention, vault_days = self.settings.retention, self.settings.vault_days
        return await asyncio.to_thread(self._read, partial(build_map, retention=retention, vault_days=vault_days))

    async def reload(self) -> Rules:
        """Put the approved corrections in force in this process."""
        rules = await asyncio.to_thread(self._read, lambda session: load_rules(session, self.vault))
        self.get_masker().set_rules(rules)
        return rules

    def remask_pending(self, *, renew: Callable[[], bool] = lambda: True) -> int:
        """Look for newly approved phrases in the stored texts and mask them; returns how many corrections were seen to. Blocks.

        `renew` is asked before each: False means that another process does it.
        """
        pending = self._read(privacy_corrections.list_to_remask)
        if not pending:
            return 0
        everything = self._read(lambda session: load_rules(session, self.vault))
        for count, row in enumerate(pending):
            if not renew():
                return count
            rules = everything.only(row.phrase_hash)
            if not rules:
                continue  # its key is not set here; `load_rules` has said so
            done = self._build_scrubber().scrub(rules, actor=JOB_ACTOR, reason=f"correction {row_id(row)}")
            finish = partial(
                privacy_corrections.record_remasked, correction_id=row_id(row), n_remasked=done.count, actor=JOB_ACTOR
            )
            retry_transaction(self.db_engine, finish)
        drop_leftovers(self.db_engine)
        return len(pending)

    def purge(self, *, should_stop: Callable[[], bool] = lambda: False) -> dict[str, int]:
        """Delete what is older than the settings allow and return how much that was; `should_stop` ends it early. Blocks."""
        retention = Retention(self.db_engine, self.settings.retention, self.settings.runs_dir, should_stop=should_stop)
        return retention.purge()

    def run_regression(self) -> RegressionReport:
        """Run the masker over every approved correction. Blocks."""
        masker = self.get_masker()
        rows = self._read(privacy_corrections.list_approved)
        masker.set_rules(self._read(lambda session: load_rules(session, self.vault)))
        cases, n_closed = build_cases(rows, self.vault)
        return run_regression(cases, corrected=masker, bare=masker.inner, n_closed=n_closed)

    def forget_erased(self, after_id: int) -> int:
        """Drop what this process remembers of tickets that were erased or rewritten since an audit row; return the newest row. Blocks."""
        ids, newest = self._read(lambda session: privacy_erase.list_erased(session, after_id=after_id))
        for ticket_id in ids:
            self._forget(ticket_id)
        if ids:  # a suggestion that was on its way may have quoted one meanwhile
            gone = self._read(lambda session: privacy_erase.list_gone(session, ids))
            if gone:
                retry_transaction(self.db_engine, lambda session: privacy_erase.drop_quotes(session, gone))
        return newest

    def _forget(self, ticket_id: int) -> None:
        if self.similar is not None:
            self.similar.remove(ticket_id)

    def _build_finder(self) -> Finder:
        return Finder(self.db_engine, self.vault, self._open_sealer())

    def _build_scrubber(self) -> Scrubber:
        return Scrubber(self.db_engine, self.vault)

    def _open_sealer(self) -> Sealer | None:
        """The key of what plugins keep; none is made for looking."""
        keys = self.settings.vault_keys
        return Sealer.open(self.settings.home, keys) if keys or (self.settings.home / KEY_FILE).exists() else None

    def _read(self, work: Callable[[Session], T]) -> T:
        with transaction(self.db_engine, is_read_only=True) as session:
            return work(session)

    async def _write(self, work: Callable[[Session], T]) -> T:
        try:
            return await asyncio.to_thread(retry_transaction, self.db_engine, work)
        except RowNotFoundError as error:
            raise NotFoundError(str(error)) from error
        except StateConflictError as error:
            raise ConflictError(str(error)) from error
        except DatabaseBusyError as error:
            raise BotError("the database is busy with another process; nothing was recorded, try again") from error
