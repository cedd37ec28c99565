"""The common ground of all specs."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, StrictFloat, StrictInt

Whole = StrictInt
"""A whole number; neither true nor "1" is one."""

Number = StrictFloat
"""A number, whole or not; neither true nor "1" is one."""


class Spec(BaseModel):
    """A frozen value that knows only its declared fields; numbers are finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
