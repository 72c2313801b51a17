"""Whether a base model may serve: a pure decision from its licence note, its approval, and what the operator said.

Notes and approvals are rows of the table `licence_note`; this module reads and writes none of them.
"""

from dataclasses import dataclass
from typing import Final, Protocol

from bot.engine.protocol import ModelFileError
from bot.models.catalog import CatalogEntry
from bot.models.default import DEFAULT_DIGEST, DEFAULT_NAME, LICENCE, SOURCE, WEIGHTS_DIGEST

BUNDLED_APPROVER: Final = "bundled"


class LicenceError(ModelFileError):
    """A model whose licence nobody approved was about to serve. The message says how to approve it."""


class ApprovedNote(Protocol):
    """What the decision reads of a note: a row of `licence_note` has it."""

    @property
    def licence(self) -> str:
        """Name of the licence."""
        ...

    @property
    def approved_by(self) -> str | None:
        """Who approved it, or None."""
        ...


@dataclass(frozen=True)
class LicenceFacts:
    """The values of a licence note, in the words of `db.queries.licences.upsert_licence`."""

    model_name: str
    source: str
    revision: str
    licence: str
    noted_on: str
    restrictions: str = ""
    commercial_use: str = ""
    hosted_use: str = ""
    affiliate_use: str = ""


@dataclass(frozen=True)
class LicenceDecision:
    """Whether the model may serve, and why, in one sentence."""

    may_serve: bool
    reason: str


DEFAULT_FACTS: Final = LicenceFacts(
    model_name=DEFAULT_NAME,
    source=SOURCE,
    revision=f"sha256:{WEIGHTS_DIGEST}",
    licence=LICENCE,
    noted_on="2026-11-22",
    restrictions="Keep the licence and attribution (NOTICE).",
    commercial_use="yes",
    hosted_use="yes",
    affiliate_use="yes",
)


def build_facts(entry: CatalogEntry, *, revision: str) -> LicenceFacts:
    """Return the note of a catalog entry as it was pulled, at the revision that the hub gave."""
    return LicenceFacts(
        model_name=entry.name,
        source=entry.url,
        revision=revision or entry.revision,
        licence=entry.licence,
        noted_on=entry.noted_on,
        restrictions=entry.restrictions,
        commercial_use=entry.commercial_use,
        hosted_use=entry.hosted_use,
        affiliate_use=entry.affiliate_use,
    )


def resolve_licence(digest: str, note: ApprovedNote | None, *, model_name: str, allow_unapproved: bool) -> LicenceDecision:
    """Decide whether the base model of that digest may serve. The embedded default is approved with the product."""
    if digest == DEFAULT_DIGEST:
        return LicenceDecision(may_serve=True, reason=f"{DEFAULT_NAME} is bundled under {LICENCE}")
    if note is not None and note.approved_by:
        return LicenceDecision(may_serve=True, reason=f"licence {note.licence} approved by {note.approved_by}")
    missing = "has no licence note" if note is None else f"has a licence note ({note.licence}) that nobody approved"
    if allow_unapproved:
        return LicenceDecision(
            may_serve=True, reason=f"{model_name} {missing}; the operator allowed it (UNDERSTUDY_MODEL_ALLOW_UNAPPROVED)"
        )
    return LicenceDecision(
        may_serve=False,
        reason=(
            f"the model {model_name} {missing}: read the licence and run `understudy models approve {model_name}`, "
            "or set UNDERSTUDY_MODEL_ALLOW_UNAPPROVED=true and answer for it yourself"
        ),
    )


def require_licence(digest: str, note: ApprovedNote | None, *, model_name: str, allow_unapproved: bool) -> LicenceDecision:
    """Like `resolve_licence`, but raises LicenceError where the model may not serve."""
    decision = resolve_licence(digest, note, model_name=model_name, allow_unapproved=allow_unapproved)
    if not decision.may_serve:
        raise LicenceError(decision.reason)
    return decision
