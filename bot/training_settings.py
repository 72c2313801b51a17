"""The settings of training: what a run needs, how it splits and trains, what the gate asks, when the schedule starts one.

Lives on the bot's side because both processes read it; imports nothing of training and decides nothing.
"""

from datetime import time
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator


class TrainingSettings(BaseModel):
    """Everything about training that a deployment can set."""

    model_config = ConfigDict(extra="forbid")

    daemon: Literal["child", "external"] = Field(
        default="child", description="Whether `serve` starts the training daemon itself, or another service runs it."
    )
    cron: str = Field(
        default="0 2 * * *",
        description="When the schedule asks for a run, as five crontab fields (Sunday is 0) in time_zone; empty means never.",
    )
    time_zone: str = Field(default="UTC", description="Time zone of cron and quiet_hours, such as Europe/Berlin.")
    quiet_hours: str = Field(
        default="", description="Hours such as 08:00-18:00 or 22:00-06:00 for the rule below; empty means that any hour will do."
    )
    quiet_hours_rule: Literal["no_runs", "runs_only"] = Field(
        default="no_runs",
        description="Whether runs that nobody pressed for never start inside quiet_hours, or only there; they wait and are not lost.",
    )
    override_rate: float | None = Field(
        default=0.4,
        gt=0.0,
        le=1.0,
        description="Share of overrides and edits among the newest decisions on the live model above which a run is asked for; "
        "empty means never.",
    )
    override_window: int = Field(
        default=100, ge=10, le=10_000, description="How many of the newest decisions on the live model both triggers look at."
    )
    has_degradation_trigger: bool = Field(
        default=True,
        description="Ask for a run when the live adapter is surely worse, on blind tickets or in accepts, than the gate measured.",
    )
    trigger_cooldown_hours: float = Field(
        default=24.0, ge=0.0, description="Least hours between two runs that the same trigger asks for."
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

    noise_action: Literal["off", "review", "leave_out"] = Field(
        default="review",
        description="What becomes of examples whose label the others speak against: nothing, a question in the review queue, or that and "
        "no training on them until it is settled.",
    )
    noise_margin: float = Field(
        default=0.5,
        gt=0.0,
        lt=1.0,
        description="How far another label's probability has to be ahead before an example's own counts as suspicious.",
    )
    noise_max_examples: int = Field(
        default=3_000,
        ge=100,
        le=20_000,
        description="Most examples, the newest, whose labels a run checks; bounds the time it takes.",
    )
    review_below: float = Field(
        default=0.4,
        ge=0.0,
        le=1.0,
        description="Answers of less confidence that nobody decided on become questions in the review queue; 0 means none do.",
    )
    review_max_questions: int = Field(
        default=200, ge=0, description="Most questions of one kind that a run puts into the review queue."
    )

    mode: Literal["nf4", "faithful", "full"] = Field(
        default="faithful",
        description="How frozen weights are held while LoRA trains: nf4 (QLoRA as published), faithful (the served file's own quantised "
        "values, so that what is trained is what is served) or full precision.",
    )
    faithful_limit_mib: int = Field(
        default=2048, ge=0, description="A decoder of more MiB in float32 is held, in faithful mode, as the file's own blocks."
    )
    r: int = Field(default=16, ge=1, le=256, description="Rank of the LoRA matrices.")
    lora_alpha: float = Field(default=32.0, gt=0.0, description="Scale of the LoRA update is lora_alpha / r.")
    learning_rate: float | None = Field(
        default=None, gt=0.0, description="Peak learning rate; empty means the trainer's own for the model kind."
    )
    epochs: int | None = Field(
        default=None, ge=1, le=200, description="Passes over the examples; empty means the trainer chooses by their number."
    )
    preference_epochs: int = Field(
        default=0,
        ge=0,
        le=50,
        description="Passes over the pairs of draft and edited summary (DPO) after a decoder has learnt the summaries; 0 means none.",
    )
    preference_beta: float = Field(
        default=0.1,
        gt=0.0,
        le=10.0,
        description="Beta of that step: the lower, the further weights may move from what the summaries taught.",
    )
    sweep_minutes: float = Field(
        default=0.0,
        ge=0.0,
        le=1440.0,
        description="Most minutes that a run first spends on trying ranks and learning rates, on top of max_seconds; 0 means none.",
    )
    sweep_r: tuple[int, ...] = Field(default=(8, 16, 32), min_length=1, description="Ranks that are tried besides r.")
    sweep_rates: tuple[float, ...] = Field(
        default=(0.5, 1.0, 2.0),
        min_length=1,
        description="Learning rates that are tried, as multiples of the one the run would have; 1 is always among them.",
    )
    max_seconds: float = Field(
        default=1800.0, gt=0.0, description="A run stops training here and goes on with the best state so far."
    )
    checkpoint_seconds: float = Field(
        default=15.0, ge=0.0, description="Most work, in seconds of training, that a killed run loses."
    )
    threads: int = Field(default=2, ge=1, le=256, description="CPU threads a run may use.")
    nice: int = Field(
        default=19,
        ge=0,
        le=19,
        description="Priority of a run: 19 takes only what nothing else wants, below that a share, 0 as much as the bot.",
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
    approvers_needed: int = Field(
        default=1,
        ge=1,
        le=2,
        description="How many different people have to approve a candidate; who started the run cannot be the only one of two.",
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
    gate_wrong_escalation_margin: float = Field(
        default=0.03,
        ge=0.0,
        le=1.0,
        description="Share of the other tickets by which a candidate may escalate more of them wrongly than what is live.",
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

    gate_min_faithful: float = Field(
        default=0.9,
        ge=0.0,
        le=1.0,
        description="Least share of summaries without a number, name or placeholder that the ticket lacks, unless the live model has less.",
    )
    leak_canaries: int = Field(
        default=4,
        ge=0,
        le=50,
        description="Made-up secrets planted among the examples of a summary decoder, none of which it may give away; 0 means no test.",
    )
    tracking: Literal["none", "mlflow", "wandb"] = Field(
        default="none",
        description="Where runs are recorded besides our own notes; mlflow needs `pip install mlflow-skinny`, wandb `wandb`.",
    )
    tracking_uri: str = Field(
        default="",
        description="MLflow's tracking URI; empty means a folder under the home folder. W&B reads its own environment.",
    )
    tracking_project: str = Field(default="understudy", description="Experiment of MLflow or project of W&B.")

    @field_validator("sweep_r")
    @classmethod
    def _check_sweep_r(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not all(1 <= r <= 256 for r in value):
            message = "sweep_r needs ranks from 1 to 256, such as [8, 16, 32]"
            raise ValueError(message)
        return value

    @field_validator("sweep_rates")
    @classmethod
    def _check_sweep_rates(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0.0 < rate <= 100.0 for rate in value):
            message = "sweep_rates needs multiples above 0 and up to 100, such as [0.5, 1, 2]"
            raise ValueError(message)
        return value

    @field_validator("quiet_hours")
    @classmethod
    def _check_quiet_hours(cls, value: str) -> str:
        if value.strip():
            parse_hours(value)
        return value.strip()

    @field_validator("time_zone")
    @classmethod
    def _check_time_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            message = f"there is no time zone '{value}': give one such as UTC or Europe/Berlin"
            raise ValueError(message) from None
        return value

    @field_validator("cron")
    @classmethod
    def _check_cron(cls, value: str) -> str:
        if value.strip() and len(value.split()) != 5:
            message = "cron needs five fields (minute hour day month weekday), such as '0 2 * * *', or nothing"
            raise ValueError(message)
        return value.strip()


def parse_hours(value: str) -> tuple[time, time]:
    """Return begin and end of hours written as 22:00-06:00. Raises ValueError."""
    begin, separator, end = value.strip().partition("-")
    try:
        hours = time.fromisoformat(begin.strip()), time.fromisoformat(end.strip())
    except ValueError:
        hours = None
    if not separator or hours is None or hours[0] == hours[1]:
        message = f"quiet_hours needs a begin and another end, such as 22:00-06:00, not '{value}'"
        raise ValueError(message)
    return hours


__all__ = ["TrainingSettings", "parse_hours"]
