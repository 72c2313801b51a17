"""The settings of training: what a run needs, how it splits and trains, what the gate asks, when the schedule starts one.

Lives on the bot's side because both processes read it; imports nothing of training and decides nothing.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class TrainingSettings(BaseModel):
    """Everything about training that a deployment can set."""

    model_config = ConfigDict(extra="forbid")

    daemon: Literal["child", "external"] = Field(
        default="child", description="Whether `serve` starts the training daemon itself, or another service runs it."
    )
    cron: str = Field(
        default="0 2 * * *", description="When the schedule asks for a run, as five crontab fields in UTC; empty means never."
    )
    min_new_examples: int = Field(
        default=20, ge=1, description="New examples since the last run before the schedule starts another."
    )
    poll_interval_s: float = Field(
        default=0.5, gt=0.0, le=60.0, description="Seconds between the training daemon's looks at the database for a queued run."
    )

    min_examples: int = Field(
        default=50, ge=4, description="Usable examples a run needs; with fewer it is 'nothing to train on'."
    )
    min_labels: int = Field(
        default=2, ge=2, description="Labels with at least two usable examples that a classification run needs."
    )
    max_examples: int = Field(
        default=20_000,
        ge=100,
        description="Most training examples a run uses: the newest half, then a sample of older ones, label by label.",
    )
    max_test: int = Field(
        default=4_000, ge=20, description="Most tickets that judge a candidate: golden and blind ones, then the newest."
    )
    test_share: float = Field(
        default=0.2, gt=0.0, le=0.5, description="Share of new examples kept for the gate, newest first within a label."
    )
    validation_share: float = Field(
        default=0.12, gt=0.0, le=0.4, description="Share of new examples kept for early stopping and calibration."
    )
    near_duplicate: float = Field(
        default=0.8,
        gt=0.0,
        le=1.0,
        description="Share of common 5-letter pieces from which two tickets count as near-duplicates.",
    )
    has_second_masking: bool = Field(
        default=True,
        description="Mask every example once more when a run starts and refuse those in which something new is found.",
    )

    mode: Literal["nf4", "faithful", "full"] = Field(
        default="faithful",
        description="How frozen weights are held while LoRA trains: nf4 (QLoRA as published), faithful (the served file's own quantised "
        "values, so that what is trained is what is served) or full precision.",
    )
    r: int = Field(default=16, ge=1, le=256, description="Rank of the LoRA matrices.")
    lora_alpha: float = Field(default=32.0, gt=0.0, description="Scale of the LoRA update is lora_alpha / r.")
    learning_rate: float | None = Field(
        default=None, gt=0.0, description="Peak learning rate; empty means the trainer's own for the model kind."
    )
    epochs: int | None = Field(
        default=None, ge=1, le=200, description="Passes over the examples; empty means the trainer chooses by their number."
    )
    max_seconds: float = Field(
        default=1800.0, gt=0.0, description="A run stops training here and goes on with the best state so far."
    )
    checkpoint_seconds: float = Field(
        default=15.0, ge=0.0, description="Most work, in seconds of training, that a killed run loses."
    )
    threads: int = Field(default=2, ge=1, le=256, description="CPU threads a run may use.")
    nice: int = Field(
        default=10, ge=0, le=19, description="Priority of a run: 0 like the bot, 19 only when nothing else wants the CPU."
    )
    seed: int = Field(default=0, ge=0, description="Seed of shuffling, initial LoRA weights and the gate's resampling.")
    max_attempts: int = Field(
        default=3, ge=1, le=20, description="How often a run that was killed is taken up again before it has failed."
    )
    lease_seconds: float = Field(
        default=20.0, ge=1.0, le=600.0, description="A run whose process has not been heard of for this long is taken up again."
    )

    policy: Literal["automatic", "approval"] = Field(
        default="automatic", description="What follows a passed gate: promote at once, or wait for a named person to approve."
    )
    gate_rule: Literal["better", "not_worse"] = Field(
        default="better",
        description="Against a live adapter: surely better, or surely not worse than it by gate_margin. Against the bare model: always better.",
    )
    gate_confidence: float = Field(
        default=0.95, gt=0.5, lt=1.0, description="Confidence of the gate's two-sided paired intervals."
    )
    gate_margin: float = Field(
        default=0.02,
        ge=0.0,
        le=0.5,
        description="Accuracy a candidate may lose against simple baselines, and under the rule not_worse.",
    )
    gate_min_test: int = Field(default=20, ge=5, description="Fewest test tickets on which a candidate is judged at all.")
    gate_label_support: int = Field(default=20, ge=2, description="Test tickets a label needs before it is compared on its own.")
    gate_label_margin: float = Field(
        default=0.1, ge=0.0, le=1.0, description="F1 that a single label may lose against what is live."
    )
    gate_escalation_margin: float = Field(
        default=0.03, ge=0.0, le=1.0, description="Recall that labels marked `escalate` may lose against what is live."
    )
    gate_max_ece: float = Field(
        default=0.05, gt=0.0, le=1.0, description="Largest expected calibration error, beyond what chance explains."
    )
    gate_max_unsafe: float = Field(
        default=0.05,
        ge=0.0,
        le=1.0,
        description="Largest share of test tickets answered wrongly with a confidence of 0.9 or more.",
    )
    gate_max_latency: float = Field(
        default=3.0, ge=1.0, description="Largest ratio of the candidate's median latency to the bare model's."
    )

    @field_validator("cron")
    @classmethod
    def _check_cron(cls, value: str) -> str:
        if value.strip() and len(value.split()) != 5:
            message = "cron needs five fields (minute hour day month weekday), such as '0 2 * * *', or nothing"
            raise ValueError(message)
        return value.strip()


__all__ = ["TrainingSettings"]
