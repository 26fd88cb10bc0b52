"""Settings of the policy."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from forecast_service.segment import Liquidity, Tte

RESERVED_ROUTES = ("default", "asked")
"""Names of the routes that are no rule."""


class Width(BaseModel):
    """Smallest and largest width of the 10–90 % band."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    minimum: float = Field(0.02, ge=0, le=1, description="Narrower bands are opened.")
    maximum: float = Field(0.9, ge=0, le=1, description="Wider bands are closed.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError("minimum is above maximum")
        return self


class RouteRule(BaseModel):
    """One rule: markets that fit every named condition go to ``model``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9_-]{1,64}$", description="What answers call the rule.")
    model: str = Field(description="Model that answers.")
    liquidity: Liquidity | None = Field(None, description="Liquidity bucket.")
    category: str | None = Field(None, description="Canonical category.")
    tte: Tte | None = Field(None, description="Bucket of the time to the deciding event.")
    min_horizon_steps: int = Field(1, ge=1, description="Shortest horizon.")
    max_horizon_steps: int | None = Field(None, ge=1, description="Longest horizon.")
    width: Width | None = Field(None, description="Width limits in place of the liquidity's.")

    @model_validator(mode="after")
    def _not_reserved(self) -> Self:
        if self.name in RESERVED_ROUTES:
            raise ValueError(f"the name {self.name} is reserved")
        return self


class PolicySettings(BaseModel):
    """Section ``forecast.policy``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_seconds: float = Field(
        1.0, gt=0, description="Longest wait for a model that is no baseline, in seconds."
    )
    degraded_seconds: float = Field(
        0.5, gt=0, description="The same while its backend is degraded, in seconds."
    )
    fallback_model: str = Field(
        "ewma", description="Baseline that answers in place of a model that cannot."
    )
    routes: tuple[RouteRule, ...] = Field(
        (), description="Rules that choose the model of a request that names none; first match."
    )
    widths: dict[Liquidity, Width] = Field(
        {}, description="Width limits by liquidity bucket; the others have 0.02 to 0.9."
    )

    min_finite_points: int = Field(
        32, ge=0, description="With fewer finite prices a baseline answers."
    )
    max_gap_seconds: float = Field(
        3_600.0, gt=0, description="With a longer gap in the prices a baseline answers."
    )
    low_liquidity_to_baseline: bool = Field(
        True, description="Whether a baseline answers for markets of LOW liquidity."
    )

    cache_seconds: float = Field(60.0, ge=0, description="How long an answer serves again.")
    cache_stale_seconds: float = Field(
        120.0, ge=0, description="How long an answer stands in when its model fails."
    )
    cache_fallback_seconds: float = Field(
        2.0, ge=0, le=2, description="How long an answer of a stand-in serves again."
    )
    cache_bytes: int = Field(64 << 20, ge=0, description="Most bytes of remembered answers.")
    cache_baselines: bool = Field(
        False, description="Whether answers of baselines are remembered too."
    )

    breaker_window_calls: int = Field(20, ge=1, description="Calls that are looked at.")
    breaker_window_seconds: float = Field(60.0, gt=0, description="And no older than that.")
    breaker_min_calls: int = Field(5, ge=1, description="Fewer calls say nothing of a backend.")
    breaker_failure_rate: float = Field(
        0.8, gt=0, le=1, description="Share of failed calls at which the breaker opens."
    )
    breaker_slow_share: float = Field(
        0.8, gt=0, lt=1, description="Share of model_seconds after which a call counts as slow."
    )
    breaker_slow_rate: float = Field(
        0.8, gt=0, le=1, description="Share of slow calls at which the breaker opens."
    )
    breaker_open_seconds: float = Field(
        120.0, gt=0, description="How long a backend is left alone by an open breaker."
    )
    breaker_permits: int = Field(
        2, ge=1, description="Requests that may try a half-open breaker at once."
    )
    breaker_permit_seconds: float = Field(
        10.0, gt=0, description="After it a permit that nobody gave back counts as given back."
    )
    breaker_successes: int = Field(2, ge=1, description="Good calls that close the breaker.")

    degraded_rate: float = Field(
        0.3, gt=0, le=1, description="Share of failed calls at which a backend is degraded."
    )
    baseline_only_rate: float = Field(
        0.7, gt=0, le=1, description="Share of failed calls at which baselines take over."
    )
    recovery_margin: float = Field(
        0.15, ge=0, lt=1, description="How far below its rate a state is left again."
    )
    probe_every: int = Field(
        10, ge=1, description="While baselines take over, each so many requests try the backend."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [route.name for route in self.routes]
        if len(set(names)) < len(names):
            raise ValueError("routes: two rules have the same name")
        if not self.recovery_margin < self.degraded_rate <= self.baseline_only_rate:
            raise ValueError("recovery_margin < degraded_rate <= baseline_only_rate must hold")
        if self.cache_stale_seconds < self.cache_seconds:
            raise ValueError("cache_stale_seconds is below cache_seconds")
        return self
