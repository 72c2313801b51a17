"""Settings of the masker. Every field is described; reading them from the environment is `bot.settings`' business."""

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bot.masking.placeholders import ENTITY_TYPES, KEPT_BY_DEFAULT, LITERAL

SHIPPED: Final = "shipped"
TRANSFORMERS_PREFIX: Final = "transformers:"


class EntityAction(StrEnum):
    """What happens to a found entity of one type."""

    MASK = "mask"
    KEEP = "keep"
    DROP = "drop"


class MaskingSettings(BaseModel):
    """How text is masked. The defaults mask every personal type and keep the team's own numbers (orders, tickets)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_dir: Path | None = Field(
        default=None, description="Directory of the name model; the one shipped with the package if unset. Never downloaded."
    )
    models: dict[str, str] = Field(
        default_factory=dict,
        description="Name model per language code, for instance {'de': '/models/de'}: the directory of a spaCy pipeline, or "
        "'transformers:/directory' of a token classification model where transformers is installed, or 'shipped' for English.",
    )
    language: str = Field(
        default="en",
        min_length=2,
        description="Language of tickets. With several models each piece of text goes to the one whose common words it holds most of, "
        "and to this one where that does not decide.",
    )
    allow_list: tuple[str, ...] = Field(
        default=(),
        description="Product and company names that are never a person or a place, for instance 'Jasper' or 'Paris Billing'. Case does not matter.",
    )
    actions: dict[str, EntityAction] = Field(
        default_factory=dict,
        description="Action per entity type: 'mask', 'keep', or 'drop' to withhold the whole ticket, for instance "
        "{'LOCATION': 'keep', 'US_SSN': 'drop'}. Default 'mask', but 'keep' for order, invoice, customer and ticket numbers and HEALTH. "
        "LITERAL is always masked.",
    )
    phone_regions: tuple[str, ...] = Field(
        default=("US", "GB", "DE", "FR", "IN", "AU"),
        min_length=1,
        description="Countries (ISO codes) whose national phone formats are recognised without a + prefix; each costs time.",
    )
    min_score: float = Field(default=0.5, ge=0.0, le=1.0, description="Score from which a name or a place is masked.")
    max_chars: int = Field(default=1_048_576, ge=1, description="Longer texts are refused: send them as a file instead.")
    chunk_chars: int = Field(
        default=4000, ge=1000, le=20_000, description="Longer texts are analysed in overlapping pieces of this size."
    )
    chunk_timeout_ms: int = Field(
        default=2000,
        ge=50,
        description="Time allowed for one piece; when it runs out the text is withheld, never passed on unmasked.",
    )

    workers: int = Field(
        default=2,
        ge=0,
        le=64,
        description="Processes in which `serve` masks, about 200 MB each. A long text takes half of them at most, so two or more keep "
        "short ones moving. 0 masks in the bot's own process.",
    )
    max_waiting: int = Field(
        default=256, ge=1, description="Texts that may wait for a masking process; more are refused as busy, to be sent again."
    )
    recycle_after: int = Field(
        default=20_000, ge=1, description="Texts after which a masking process is replaced by a fresh one, without a pause."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        unknown = sorted(set(self.actions) - set(ENTITY_TYPES))
        if unknown:
            raise ValueError(f"unknown entity types in actions: {', '.join(unknown)}; known: {', '.join(ENTITY_TYPES)}")
        if self.actions.get(LITERAL, EntityAction.MASK) is not EntityAction.MASK:
            raise ValueError("LITERAL cannot be kept or dropped: text that imitates a placeholder must be masked")
        if self.model_dir is not None and "en" in self.models:
            raise ValueError("model_dir and models['en'] both name the English model: set one of them")
        if self.language != "en" and self.language not in self.models:
            raise ValueError(f"language is {self.language!r} but models names no model for it: add models[{self.language!r}]")
        return self

    def action(self, entity: str) -> EntityAction:
        """What happens to entities of this type."""
        return self.actions.get(entity, EntityAction.KEEP if entity in KEPT_BY_DEFAULT else EntityAction.MASK)

    def is_masked(self, entity: str) -> bool:
        """Whether entities of this type are looked for, to be replaced or to drop the ticket."""
        return self.action(entity) is not EntityAction.KEEP

    def first_dropped(self, entities: Iterable[str]) -> str | None:
        """The first of these types whose presence withholds the ticket, None if none does."""
        return next((entity for entity in entities if self.action(entity) is EntityAction.DROP), None)
