"""The thresholds of alerts: one typed file, whose version and digest each alert carries.

What the facts are measured over is no threshold: their names say it, and it is fixed in
`STRUCTURE_MINUTES` and `BASELINE_HOURS`.
"""

from __future__ import annotations

import hashlib
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from calibration_service.alerts.errors import PolicyError

STRUCTURE_MINUTES = 60
"""Minutes over which the change of open interest and the volume are measured."""
BASELINE_HOURS = 24
"""Hours before, whose mean hourly volume the volume of the last hour is held against."""
BAR_MS = 60_000
"""Milliseconds of a bar that the engine is given."""

DEFAULT_FILE = Path(__file__).with_name("policy.toml")

Level = Annotated[float, Field(gt=0.0, lt=1.0, allow_inf_nan=False)]
MarketId = Annotated[str, Field(min_length=1, max_length=256)]


class SelectionPolicy(BaseModel):
    """Section ``selection``: which markets are watched."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    top_n: int = Field(ge=0, le=100_000, description="Markets beside the watch list.")
    watch_list: tuple[MarketId, ...] = Field(description="Market ids that are always watched.")
    muted: tuple[MarketId, ...] = Field(description="Market ids that raise nothing.")


class AlertPolicy(BaseModel):
    """Every threshold of alerts; a file holds all of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$", description="Name of this set of thresholds."
    )
    alert_low_level: Level = Field(description="Lower quantile level of the alert band.")
    alert_high_level: Level = Field(description="Upper quantile level of the alert band.")
    inner_low_level: Level = Field(description="Lower level of the band an alert may fall back to.")
    inner_high_level: Level = Field(description="Its upper level.")
    consecutive_bars: int = Field(
        ge=1, le=60, description="Closed bars in a row outside the band before an episode opens."
    )
    max_bar_gap: int = Field(
        ge=1, le=60, description="Bars (minutes) between two that still follow one another."
    )
    minimum_move_ticks: float = Field(
        ge=0, le=1000, allow_inf_nan=False, description="Smallest move that counts, in ticks."
    )
    minimum_move: float = Field(
        ge=0, le=1, allow_inf_nan=False, description="Smallest move that counts, in probability."
    )
    open_interest_change_at_most: float = Field(
        ge=-1,
        le=0,
        allow_inf_nan=False,
        description="Change in an hour that counts; -0.15 = -15 %.",
    )
    volume_ratio_at_least: float = Field(
        gt=0, le=1000, allow_inf_nan=False, description="Last hour over mean hour that counts."
    )
    volume_history_hours: float = Field(
        ge=0, le=24, allow_inf_nan=False, description="Hours of volume that a ratio needs."
    )
    ambiguity_at_most: float = Field(
        ge=0, le=1, allow_inf_nan=False, description="Ambiguity of the question, in [0, 1]."
    )
    trust_at_least: float = Field(
        ge=0, le=100, allow_inf_nan=False, description="Trust score below which alerts are FYI."
    )
    cooldown_seconds: int = Field(
        ge=0, le=86_400, description="Market time after an alert in which only worse ones follow."
    )
    close_after_bars: int = Field(
        ge=1, le=1440, description="Bars in a row back inside the band that end an episode."
    )
    reference_minutes: int = Field(
        ge=5, le=1440, description="Age at which the band that was left is given up."
    )
    selection: SelectionPolicy

    @model_validator(mode="after")
    def _levels_are_nested(self) -> Self:
        levels = (self.alert_low_level, self.inner_low_level, self.inner_high_level,
                  self.alert_high_level)  # fmt: skip
        if list(levels) != sorted(set(levels)):
            raise ValueError(
                "alert_low_level < inner_low_level < inner_high_level < alert_high_level must hold"
            )
        return self

    @cached_property
    def stamp(self) -> str:
        """What each alert carries: version and digest, so that two sets never share it."""
        digest = hashlib.sha256(self.model_dump_json().encode()).hexdigest()
        return f"{self.version}+{digest[:8]}"


STEP_MINUTES = 5
"""Minutes of a step of the forecasts that alerts use."""


def check_steps(policy: AlertPolicy, steps: int) -> None:
    """Refuses thresholds that need more of a forecast than it has.

    A band may be a step old when it is left, so a forecast of ``steps`` steps lasts one step less.

    Raises:
        PolicyError: ``reference_minutes`` is longer than that.
    """
    longest = (steps - 1) * STEP_MINUTES
    if policy.reference_minutes > longest:
        raise PolicyError(
            f"reference_minutes: is {policy.reference_minutes}, and a forecast of "
            f"stream.forecast_steps = {steps} steps lasts for {longest}"
        )


def load_policy(path: Path | None = None) -> AlertPolicy:
    """The policy in a TOML file; None is the one that comes with this package.

    Raises:
        PolicyError: the file cannot be read, or a field is missing, unknown or out of range; the
            message names the file and each such field.
    """
    file = DEFAULT_FILE if path is None else path
    try:
        return AlertPolicy.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise PolicyError(f"{file}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PolicyError(f"{file}: is no TOML: {error}") from None
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'policy'}: {one['msg']}" for one in error.errors()
        )
        raise PolicyError(f"{file}: {wrong}") from None
