"""Settings of the masker. Every field is described; reading them from the environment is `bot.settings`' business."""

from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bot.masking.placeholders import ENTITY_TYPES, LITERAL


class EntityAction(StrEnum):
    """What happens to a found entity of one type."""

    MASK = "mask"
    KEEP = "keep"


class MaskingSettings(BaseModel):
    """How text is masked. The defaults mask every type the masker knows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_dir: Path | None = Field(
        default=None, description="Directory of the name model; the one shipped with the package if unset. Never downloaded."
    )
    allow_list: tuple[str, ...] = Field(
        default=(),
        description="Product and company names that are never a person or a place, for instance 'Jasper' or 'Paris Billing'. Case does not matter.",
    )
    actions: dict[str, EntityAction] = Field(
        default_factory=dict,
        description="Action per entity type, 'mask' (the default) or 'keep', for instance {'LOCATION': 'keep'}. LITERAL cannot be kept.",
    )
    phone_regions: tuple[str, ...] = Field(
        default=("US", "GB", "DE", "FR", "IN", "AU"),
        min_length=1,
        description="Countries (ISO codes) whose national phone formats are recognised without a + prefix; each costs time.",
    )
    min_score: float = Field(default=0.5, ge=0.0, le=1.0, description="Score from which a name or a place is masked.")
    max_chars: int = Field(default=200_000, ge=1, description="Longer texts are refused: send them as a file instead.")
    chunk_chars: int = Field(
        default=4000, ge=1000, le=20_000, description="Longer texts are analysed in overlapping pieces of this size."
    )
    chunk_timeout_ms: int = Field(
        default=2000,
        ge=50,
        description="Time allowed for one piece; when it runs out the text is withheld, never passed on unmasked.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        unknown = sorted(set(self.actions) - set(ENTITY_TYPES))
        if unknown:
            raise ValueError(f"unknown entity types in actions: {', '.join(unknown)}; known: {', '.join(ENTITY_TYPES)}")
        if self.actions.get(LITERAL) is EntityAction.KEEP:
            raise ValueError("LITERAL cannot be kept: text that imitates a placeholder must be masked")
        return self

    def is_masked(self, entity: str) -> bool:
        """Whether entities of this type are replaced."""
        return self.actions.get(entity, EntityAction.MASK) is EntityAction.MASK
