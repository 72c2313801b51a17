"""The privacy service over a database, with a masker that knows three names and a tool to put tickets in as the bot does."""

import re
from dataclasses import dataclass
from datetime import timedelta

import pytest

from bot.masking import Masked, PlaceholderMap, Span, Vault
from bot.masking.corrections import CorrectedMasker
from bot.privacy.service import PrivacyService
from bot.settings import Settings
from bot.similar import SimilarIndex
from db.queries import tickets
from db.queries.common import row_id
from db.session import transaction
from db.tables import now
from db.types import MaskedText
from tests.support.db_rows import SUMMARY, add_feedback, add_inference

KNOWN = re.compile(r"Maria Gonzalez|Jasper|Tom Berg|[\w.]+@[\w.]+\w")


class SimpleMasker:
    """Masks a few names and addresses; everything about it can be foreseen."""

    def mask(self, text, mapping=None):
        mapping = PlaceholderMap() if mapping is None else mapping
        spans, surfaces, parts, position = [], [], [], 0
        for match in KNOWN.finditer(text):
            entity = "EMAIL_ADDRESS" if "@" in match.group() else "PERSON"
            placeholder = mapping.placeholder(entity, match.group())
            spans.append(Span(match.start(), match.end(), entity, 1.0))
            surfaces.append((placeholder, match.group()))
            parts += [text[position : match.start()], placeholder]
            position = match.end()
        parts.append(text[position:])
        return Masked(MaskedText("".join(parts)), tuple(spans), tuple(surfaces))

    async def mask_async(self, text, mapping=None):
        return self.mask(text, mapping)


@dataclass
class Site:
    """A service with its database."""

    service: PrivacyService
    masker: CorrectedMasker

    @property
    def db_engine(self):
        return self.service.db_engine

    @property
    def vault(self):
        return self.service.vault

    def add_ticket(self, text, *, external_id, subject="", plugin="desk", summary="", edited=""):
        """Mask and store a ticket, with a suggestion, an example, and a summary that somebody edited."""
        mapping = PlaceholderMap()
        with transaction(self.db_engine) as session:
            row = tickets.upsert_ticket(
                session,
                plugin=plugin,
                external_id=external_id,
                subject=self.masker.mask(subject, mapping).text,
                text=self.masker.mask(text, mapping).text,
            )
            add_feedback(session, add_inference(session, row), text=row.text)
            if summary:
                made = add_inference(session, row, task=SUMMARY, output={"text": self.masker.mask(summary, mapping).text})
                edit = {"kind": "edit", "value": self.masker.mask(edited, mapping).text} if edited else {}
                add_feedback(session, made, text=row.text, **edit)
            if self.vault is not None:
                expires_at = now() + timedelta(days=3)
                ciphertext = self.vault.encrypt(mapping)
                tickets.put_vault(session, ticket_id=row_id(row), ciphertext=ciphertext, expires_at=expires_at)
            return row_id(row)

    def read(self, work):
        with transaction(self.db_engine, is_read_only=True) as session:
            return work(session)

    def write(self, work):
        with transaction(self.db_engine) as session:
            return work(session)


@pytest.fixture
def keys():
    return [Vault.new_key()]


def build_site(db_engine, home, keys):
    settings = Settings(home=home, vault_key=",".join(keys) or None)
    masker = CorrectedMasker(SimpleMasker())
    vault = Vault.from_keys(keys) if keys else None
    return Site(PrivacyService(db_engine, settings, vault, get_masker=lambda: masker, similar=SimilarIndex(10)), masker)


@pytest.fixture
def site(db_engine, tmp_path, keys):
    """With a vault key."""
    return build_site(db_engine, tmp_path, keys)


@pytest.fixture
def keyless(db_engine, tmp_path):
    """Without one: nothing raw is kept."""
    return build_site(db_engine, tmp_path, [])
