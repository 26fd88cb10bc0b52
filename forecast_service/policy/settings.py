"""Settings of the policy."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class PolicySettings(BaseModel):
    """Section ``forecast.policy``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
