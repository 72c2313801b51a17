"""What can be set about an encoder's training; the defaults are the recipe that `docs/training-study.md` chose.

Knows numbers and bounds, and how a deployment's settings become them; imports no heavy library.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bot.engine.settings import EngineSettings
from bot.training_settings import TrainingSettings


class EncoderSettings(BaseModel):
    """The recipe of one run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["nf4", "faithful", "full"] = Field(
        default="faithful",
        description="How frozen weights are held: NF4 (QLoRA), or as the served file's own values. For an encoder `full` is `faithful`.",
    )
    r: int = Field(default=16, ge=1, le=256, description="Rank of the LoRA matrices.")
    lora_alpha: float = Field(default=32.0, gt=0.0, description="The update's scale is lora_alpha / r.")
    learning_rate: float | None = Field(
        default=None, gt=0.0, description="Peak learning rate of the LoRA matrices; None chooses by the examples per label."
    )
    head_learning_rate: float = Field(default=1e-2, gt=0.0, description="Peak learning rate of the head.")
    weight_decay: float = Field(default=0.01, ge=0.0, description="AdamW's weight decay of the LoRA matrices.")
    epochs: int | None = Field(default=None, ge=1, le=200, description="Passes over the examples; None chooses by their number.")
    batch_size: int = Field(default=16, ge=2, le=1024, description="Examples per step.")
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0, description="Dropout on the pooled embedding.")
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0, description="Label smoothing of the cross-entropy.")
    contrast_epochs: int = Field(
        default=0, ge=0, le=200, description="Passes before the head learns, which bring examples of one label near each other."
    )
    has_label_texts: bool = Field(
        default=True, description="Whether the head starts from the labels' descriptions; otherwise from small random weights."
    )
    train_tokens: int = Field(
        default=128, ge=16, description="Tokens of one text while weights train; the middle of a longer one is left out."
    )
    text_tokens: int = Field(default=256, ge=16, description="Tokens of one text the engine reads; must be what serving uses.")
    merge_limit_mib: int = Field(default=512, ge=0, description="As the engine's: up to which size weights are served merged.")
    folds: int = Field(
        default=2, ge=2, le=10, description="Trial runs that calibration rests on, where no validation examples are given."
    )
    has_lexical_expert: bool = Field(default=True, description="Whether a TF-IDF expert may stand beside the embedding.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="bf16 only where the CPU multiplies bf16 matrices in hardware (AMX) or a GPU trains."
    )
    max_seconds: float = Field(default=1800.0, gt=0.0, description="Training stops here and goes on with what it has.")
    checkpoint_seconds: float = Field(default=15.0, ge=0.0, description="Most seconds of training that a killed run loses.")
    threads: int = Field(default=2, ge=1, le=256, description="CPU threads.")
    seed: int = Field(default=0, ge=0, description="Seed of order, initial weights and dropout.")


def build_encoder_settings(training: TrainingSettings, engine: EngineSettings) -> EncoderSettings:
    """Return the recipe with what a deployment has set; what it left empty stays the recipe's."""
    chosen: dict[str, Any] = {"learning_rate": training.learning_rate, "epochs": training.epochs}
    return EncoderSettings(
        mode=training.mode,
        r=training.r,
        lora_alpha=training.lora_alpha,
        text_tokens=engine.text_tokens,
        merge_limit_mib=engine.merge_limit_mib,
        max_seconds=training.max_seconds,
        checkpoint_seconds=training.checkpoint_seconds,
        threads=training.threads,
        seed=training.seed,
        **{name: value for name, value in chosen.items() if value is not None},
    )
