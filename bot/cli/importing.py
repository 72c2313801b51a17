"""Importing files: batch by batch into the database, large ones masked in several processes; bad rows go to a file with the reason.

Knows files and batches; what a row means is `bot.import_map`'s business, what is stored `bot.importing`'s.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TextIO

from bot.cli.common import get_actor, load_corrections, open_session
from bot.cli.masking import count_processes, open_pool
from bot.errors import UserError
from bot.import_files import RawRow, read_export
from bot.import_map import ImportMap, RowError, apply_map, load_import_map
from bot.importing import MaskedTicket, find_new, get_salt, import_batch, mask_tickets
from bot.types import PastTicket

if TYPE_CHECKING:
    from bot.masking.corrections import CorrectedMasker, Rules
    from bot.settings import Settings
    from bot.types import LabelSet

BATCH = 200
_WITHHELD = "it could not be masked safely, so nothing of it was stored"


class Importer:
    """Masks and stores tickets, a batch in a transaction; `counts` adds up what became of them. Leave it to end its processes.

    A full batch of new tickets means a large file: from then on several processes mask, unless masking.workers is 0.
    """

    def __init__(self, settings: "Settings", label_set: "LabelSet", *, is_golden: bool) -> None:
        self._settings = settings
        self._label_set = label_set
        self._is_golden = is_golden
        self._n_processes = count_processes() if settings.masking.workers else 1
        self._is_large = False
        self._running = ExitStack()
        self.counts = {"imported": 0, "known": 0, "withheld": 0}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @cached_property
    def _rules(self) -> "Rules":
        return load_corrections(self._settings)

    @cached_property
    def _masker(self) -> "CorrectedMasker":
        from bot.masking import Masker
        from bot.masking.corrections import CorrectedMasker

        return CorrectedMasker(Masker(self._settings.masking), self._rules)

    @cached_property
    def _pool(self) -> "CorrectedMasker":
        from bot.masking.corrections import CorrectedMasker

        pool = self._running.enter_context(open_pool(self._settings.masking, workers=self._n_processes))
        return CorrectedMasker(pool, self._rules)

    @cached_property
    def _salt(self) -> bytes:
        with open_session(self._settings) as session:
            return get_salt(session)

    def store(self, batch: Sequence[PastTicket]) -> list[str]:
        """Store what is new, and return the ids of tickets that could not be masked."""
        with open_session(self._settings, is_read_only=True) as session:
            new = find_new(session, batch)
        masked: list[MaskedTicket] = []
        if new:  # slow: outside the transactions, or everyone else would wait
            masked = self._mask(new)
        with open_session(self._settings) as session:
            found = import_batch(session, masked, label_set=self._label_set, is_golden=self._is_golden, actor=get_actor())
        found["known"] += len(batch) - len(new)
        for name, count in found.items():
            self.counts[name] += count
        return [ticket.external_id for ticket in masked if ticket.is_withheld]

    def _mask(self, new: Sequence[PastTicket]) -> list[MaskedTicket]:
        self._is_large = self._is_large or len(new) >= BATCH
        if self._is_large and self._n_processes > 1:
            return mask_tickets(self._pool, new, salt=self._salt, at_once=2 * self._n_processes)
        return mask_tickets(self._masker, new, salt=self._salt)


class Rejects:
    """The file of rows that were not imported: one object per line with where, why and the row as it was. Made at the first one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._file: TextIO | None = None

    def add(self, row: RawRow, *, reason: str, field: str | None = None) -> None:
        """Write one row down. Raises UserError where the file cannot be written."""
        try:
            if self._file is None:  # the rows hold what the export holds: for the owner's eyes alone
                self._file = os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8")
            entry = {"line": row.line, "field": field, "reason": reason, "row": row.raw if row.fields is None else row.fields}
            self._file.write(json.dumps(entry, ensure_ascii=True, default=str) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}; name another file with --rejects") from None
        self.count += 1

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            self._file.close()


@contextmanager
def _open_rejects(path: Path) -> Iterator[Rejects]:
    rejects = Rejects(path)
    try:
        yield rejects
    finally:
        rejects.close()


def import_export(
    path: Path,
    map_path: Path,
    *,
    settings: "Settings",
    label_set: "LabelSet",
    is_golden: bool,
    rejects: Path | None,
    is_dry: bool,
) -> dict[str, Any]:
    """Import an export and return counts of what became of its rows. Raises UserError where a whole file cannot be used."""
    mapping = load_import_map(map_path, label_set)
    target = rejects or path.with_name(f"{path.name}.rejects.jsonl")
    if target.resolve() in {path.resolve(), map_path.resolve()}:
        raise UserError(f"{target} would be read and written at once: name another file with --rejects")
    counts: dict[str, Any] = {"read": 0, "skipped": 0}
    with Importer(settings, label_set, is_golden=is_golden) as importer, _open_rejects(target) as found:
        rows = _read(path, mapping, label_set, counts=counts, rejects=found)
        while batch := list(islice(rows, BATCH)):
            if is_dry:
                importer.counts["imported"] += len({ticket.external_id for _, ticket in batch})
                continue
            withheld = set(importer.store([ticket for _, ticket in batch]))
            for row, ticket in batch:
                if ticket.external_id in withheld:
                    found.add(row, reason=_WITHHELD)
    counts |= {"imported": importer.counts["imported"], "known": importer.counts["known"], "rejected": found.count}
    return counts | {"rejects": str(target) if found.count else None, "is_dry_run": is_dry}


def _read(
    path: Path, mapping: ImportMap, label_set: "LabelSet", *, counts: dict[str, Any], rejects: Rejects
) -> Iterator[tuple[RawRow, PastTicket]]:
    for row in read_export(path, mapping):
        counts["read"] += 1
        fields: Mapping[str, Any] | None = row.fields
        if fields is None:
            rejects.add(row, reason=row.problem)
            continue
        try:
            ticket = apply_map(mapping, fields, label_set)
        except RowError as error:
            rejects.add(row, reason=str(error), field=error.field)
            continue
        if ticket is None:
            counts["skipped"] += 1
        else:
            yield row, ticket
