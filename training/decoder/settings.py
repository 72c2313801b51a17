"""What can be set about a decoder's training.

Knows numbers and bounds; imports no library.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class DecoderSettings(BaseModel):
    """The recipe of one run, for classification and for summaries."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["nf4", "faithful", "full"] = Field(
        default="faithful",
        description="How frozen weights are held: NF4 (QLoRA), or as the served file's own values; `full` holds them in float32 at any size.",
    )
    faithful_limit_mib: int = Field(
        default=2048,
        ge=0,
        description="A base of more MiB in float32 is held as the file's quantised blocks; for `nf4` it is read from them.",
    )
    r: int = Field(default=16, ge=1, le=256, description="Rank of the LoRA matrices.")
    lora_alpha: float = Field(default=32.0, gt=0.0, description="The update's scale is lora_alpha / r.")
    lora_dropout: float = Field(default=0.0, ge=0.0, lt=1.0, description="Dropout before the LoRA matrices.")
    learning_rate: float | None = Field(
        default=None, gt=0.0, description="Peak learning rate; None chooses by the model's width: wider models need less."
    )
    weight_decay: float = Field(default=0.0, ge=0.0, description="AdamW's weight decay of the LoRA matrices.")
    epochs: int | None = Field(default=None, ge=1, le=200, description="Passes over the examples; None chooses by their number.")
    patience: int = Field(
        default=2,
        ge=0,
        description="Passes without a smaller held-out loss after which training stops with the best pass's weights; 0 goes through all.",
    )
    batch_size: int = Field(default=8, ge=1, le=1024, description="Examples per step.")
    pack_tokens: int = Field(
        default=1024,
        ge=32,
        description="Tokens computed at once, fewer where memory is short; a step of more is cut into packs, each with the shared prompt.",
    )
    choice_weight: float = Field(default=1.0, ge=0.0, description="Weight of choosing rightly where answers part.")
    completion_weight: float = Field(
        default=0.25, ge=0.0, description="Weight of writing a label's tokens, against the whole vocabulary."
    )
    train_tokens: int = Field(
        default=512, ge=16, description="Tokens of one text while weights train; the middle of a longer one is left out."
    )
    text_tokens: int = Field(default=1024, ge=16, description="Tokens of one text the engine reads; must be what serving uses.")
    answer_tokens: int = Field(default=200, ge=8, description="Tokens of a summary that are learnt; a longer one is cut.")
    preference_epochs: int = Field(
        default=0,
        ge=0,
        le=50,
        description="Passes over the pairs of draft and edited summary after the supervised ones; 0 means none.",
    )
    preference_beta: float = Field(
        default=0.1,
        gt=0.0,
        le=10.0,
        description="How fast a preference counts as learnt: the lower, the further weights may move.",
    )
    preference_rate: float = Field(
        default=0.2, gt=0.0, le=1.0, description="Peak learning rate there, as a share of learning_rate."
    )
    preference_anchor: float = Field(
        default=4.0, ge=0.0, description="Weight of writing the edited summary itself, so that its own probability does not sink."
    )
    preference_min_pairs: int = Field(default=8, ge=1, description="Pairs without which there is no such step.")
    n_ctx: int = Field(default=8192, ge=256, description="Tokens the calibrating engine's cache holds.")
    holdout: float = Field(
        default=0.15,
        gt=0.0,
        lt=0.5,
        description="Share of the examples that calibration is fitted on where none are given for it.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="bf16 only where the CPU multiplies bf16 matrices in hardware (AMX) or a GPU trains."
    )
    max_seconds: float = Field(default=1800.0, gt=0.0, description="Training stops here and goes on with what it has.")
    checkpoint_seconds: float = Field(default=15.0, ge=0.0, description="Most seconds of training that a killed run loses.")
    threads: int = Field(default=2, ge=1, le=256, description="CPU threads.")
    seed: int = Field(default=0, ge=0, description="Seed of order, initial weights and dropout.")
