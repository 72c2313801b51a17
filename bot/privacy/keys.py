"""What the vault's keys open, and moving everything to the newest one: placeholder maps, phrases, and what plugins keep."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Engine as DbEngine
from sqlalchemy import func
from sqlmodel import Session, col, select

from bot.masking import Vault, VaultError
from bot.masking.corrections import SALT_KEY, build_secrets, hash_words, split_words
from bot.sealing import Sealer, SealError
from db.privacy_tables import Correction, CorrectionStatus
from db.queries.audit import record_audit
from db.queries.privacy_corrections import find_salt, raise_revision
from db.session import retry_transaction, transaction
from db.tables import PluginEvent, PluginValue, VaultEntry

ACTION_ROTATED = "vault.rotate"
_PAGE = 500


@dataclass(frozen=True)
class VaultStatus:
    """How many entries each key opens, by its fingerprint, newest key first, and how many none opens.

    `n_own` counts what plugins kept while there was no vault key, under the key in this installation's own file.
    """

    fingerprints: tuple[str, ...]
    n_maps: dict[str, int]
    n_phrases: dict[str, int]
    n_plugin_rows: dict[str, int]
    n_own: int
    n_unreadable: int
    expires_first: str | None
    expires_last: str | None


@dataclass(frozen=True)
class Rotation:
    """How many entries were encrypted anew, per table, and how many no key opens.

    `n_bare` counts corrections in force of which only a hash under an older key is left: they end with that key.
    """

    rotated: dict[str, int]
    n_unreadable: int
    n_bare: int

    @property
    def is_done(self) -> bool:
        """Whether nothing needs an older key."""
        return self.n_unreadable == 0 and self.n_bare == 0


def get_status(db_engine: DbEngine, vault: Vault, sealer: Sealer) -> VaultStatus:
    """Try every entry. Reads only."""

    def count(ciphertexts: Iterable[bytes | None]) -> Counter[str | None]:
        positions = (vault.find_key(ciphertext) for ciphertext in ciphertexts if ciphertext)
        return Counter(None if position is None else vault.fingerprints[position] for position in positions)

    with transaction(db_engine, is_read_only=True) as session:
        first, last = session.exec(select(func.min(VaultEntry.expires_at), func.max(VaultEntry.expires_at))).one()
        maps = count(row.ciphertext for row in _iterate(session, VaultEntry, VaultEntry.ticket_id))
        phrases = count(row.ciphertext for row in _iterate(session, Correction, Correction.id))
        kept = [row.ciphertext for row in _iterate(session, PluginEvent, PluginEvent.id)]
        kept += session.exec(select(PluginValue.ciphertext)).all()
    own = [
        ciphertext for ciphertext in kept if ciphertext and vault.find_key(ciphertext) is None and _is_open(sealer, ciphertext)
    ]
    plugin_rows = count(kept)
    n_unreadable = maps.pop(None, 0) + phrases.pop(None, 0) + plugin_rows.pop(None, 0) - len(own)
    return VaultStatus(
        fingerprints=vault.fingerprints,
        n_maps=_drop_none(maps),
        n_phrases=_drop_none(phrases),
        n_plugin_rows=_drop_none(plugin_rows),
        n_own=len(own),
        n_unreadable=n_unreadable,
        expires_first=None if first is None else str(first),
        expires_last=None if last is None else str(last),
    )


def _drop_none(counts: Mapping[str | None, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if name is not None}


def _is_open(sealer: Sealer, ciphertext: bytes) -> bool:
    try:
        sealer.unseal(ciphertext)
    except SealError:
        return False
    return True


def rotate(db_engine: DbEngine, vault: Vault, sealer: Sealer, *, actor: str) -> Rotation:
    """Encrypt everything with the newest key, a page per transaction; interrupted, it can simply be run again. Audited."""
    rotated: dict[str, int] = {}
    n_unreadable = 0
    steps: tuple[tuple[str, Any, Any, Callable[[Any, Session], bool | None]], ...] = (
        ("placeholder maps", VaultEntry, VaultEntry.ticket_id, partial(_rotate_map, vault)),
        ("phrases", Correction, Correction.id, partial(_rotate_phrase, vault)),
        ("plugin events", PluginEvent, PluginEvent.id, partial(_reseal, sealer)),
    )
    for name, kind, key, step in steps:
        last: Any = 0
        while True:
            count, failed, last = retry_transaction(db_engine, partial(_rotate_page, kind=kind, key=key, after=last, step=step))
            rotated[name] = rotated.get(name, 0) + count
            n_unreadable += failed
            if last is None:
                break
    count, failed = retry_transaction(db_engine, partial(_rotate_values, sealer=sealer))
    rotated["plugin values"] = count
    n_unreadable += failed
    n_bare = retry_transaction(db_engine, partial(_count_bare, vault=vault))
    done = Rotation({name: count for name, count in rotated.items() if count}, n_unreadable, n_bare)
    retry_transaction(db_engine, partial(_audit, vault=vault, done=done, actor=actor))
    return done


def _rotate_page(
    session: Session, *, kind: Any, key: Any, after: int, step: Callable[[Any, Session], bool | None]
) -> tuple[int, int, int | None]:
    page = session.exec(select(kind).where(key > after).order_by(key).limit(_PAGE).with_for_update()).all()
    outcomes = [step(row, session) for row in page]
    session.flush()
    last = getattr(page[-1], key.key) if len(page) == _PAGE else None
    return sum(outcome is True for outcome in outcomes), sum(outcome is None for outcome in outcomes), last


def _rotate_map(vault: Vault, row: VaultEntry, _: Session) -> bool | None:
    """True where it was encrypted anew, False where it is under the newest key already, None where no key opens it."""
    position = vault.find_key(row.ciphertext)
    if position:
        row.ciphertext = vault.rotate(row.ciphertext)
    return None if position is None else position > 0


def _rotate_phrase(vault: Vault, row: Correction, session: Session) -> bool | None:
    """As `_rotate_map`; the hash is made anew too, as the old key will be gone."""
    salt = find_salt(session)
    if row.ciphertext is None or salt is None:
        return False  # a bare hash cannot be made anew
    try:
        phrase = vault.decrypt_text(row.ciphertext)
    except VaultError:
        return None
    hash_key, secret = next(iter(build_secrets(vault, salt).items()))
    is_current = vault.find_key(row.ciphertext) == 0 and row.hash_key == hash_key
    row.ciphertext = vault.rotate(row.ciphertext)
    row.hash_key, row.phrase_hash = hash_key, hash_words(split_words(phrase), secret)
    return not is_current


def _reseal(sealer: Sealer, row: PluginEvent | PluginValue, _: Session) -> bool | None:
    if not row.ciphertext:
        return False
    try:
        row.ciphertext = sealer.reseal(row.ciphertext)
    except SealError:
        return None
    return True


def _rotate_values(session: Session, *, sealer: Sealer) -> tuple[int, int]:
    outcomes = [_reseal(sealer, row, session) for row in session.exec(select(PluginValue).with_for_update()).all()]
    session.flush()
    return sum(outcome is True for outcome in outcomes), sum(outcome is None for outcome in outcomes)


def _count_bare(session: Session, *, vault: Vault) -> int:
    query = select(func.count()).select_from(Correction)
    is_bare = (
        (col(Correction.status) == CorrectionStatus.APPROVED)
        & col(Correction.ciphertext).is_(None)
        & col(Correction.hash_key).not_in([vault.fingerprints[0], SALT_KEY])
    )
    return session.exec(query.where(is_bare)).one()


def _audit(session: Session, *, vault: Vault, done: Rotation, actor: str) -> None:
    raise_revision(session)  # hashes have changed: every process reads the corrections anew
    detail = {"rotated": done.rotated, "n_unreadable": done.n_unreadable, "n_bare": done.n_bare}
    record_audit(
        session, actor=actor, action=ACTION_ROTATED, subject_type="vault", subject_id=vault.fingerprints[0], detail=detail
    )


def _iterate(session: Session, kind: Any, key: Any) -> Any:
    last = 0
    while True:
        page = session.exec(select(kind).where(key > last).order_by(key).limit(_PAGE)).all()
        session.expunge_all()
        yield from page
        if len(page) < _PAGE:
            return
        last = getattr(page[-1], key.key)
