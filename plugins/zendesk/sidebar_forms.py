"""What the sidebar app may send beside its token: the clicks.

Pure. Agent and ticket are not among it: they stand in the token.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Body(BaseModel):
    """What all requests share: unknown fields are refused, and no value is repeated in an error."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, str_strip_whitespace=True)


class Nothing(Body):
    """A request that says no more than its token."""


class Click(Body):
    """A click on something that was shown. `key` names the click: sent twice, it counts once."""

    inference_id: int
    key: str = Field(pattern=r"^[\w-]{8,64}$")


class DecisionClick(Click):
    """A decision on the label."""

    kind: Literal["accept", "override", "handoff"]
    value: str | None = Field(default=None, max_length=200)
    reason: str | None = Field(default=None, max_length=500)
    decision_ms: int | None = Field(default=None, ge=0)


class SummaryClick(Click):
    """A decision on the summary; an edit carries the new text."""

    kind: Literal["accept", "edit"]
    value: str | None = Field(default=None, max_length=4000)
