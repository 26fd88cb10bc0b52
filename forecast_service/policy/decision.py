"""What the policy is asked, and what it says of its answer."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from forecast_service.batch import Bands, Query
from forecast_service.models.catalog import ModelCard
from forecast_service.policy.breaker import BreakerState
from forecast_service.policy.degradation import DegradationState
from forecast_service.segment import UNSPECIFIED_SEGMENT, Segment
from forecast_service.series import Series
from forecast_service.transform import FloatArray


class FallbackReason(IntEnum):
    """Why a baseline answered in place of the asked model; the numbers are the contract's."""

    NONE = 0
    BACKEND_UNAVAILABLE = 1
    DEADLINE = 2
    INVALID_OUTPUT = 3
    BREAKER_OPEN = 4
    TOO_FEW_POINTS = 5
    GAP = 6
    LOW_LIQUIDITY = 7
    DEGRADED = 8
    BACKEND_ERROR = 9


class CacheState(IntEnum):
    """Whether an answer was remembered; the numbers are the contract's."""

    NOT_CONSULTED = 0
    MISS = 1
    HIT = 2
    STALE = 3


class BandKind(IntEnum):
    """Which bands the caller wants; the numbers are the contract's."""

    UNSPECIFIED = 0
    RAW = 1
    CONFORMAL = 2
    BOTH = 3


class ModelFailed(Exception):
    """The asked model gives no answer; ``reason`` says why."""

    def __init__(self, reason: FallbackReason, detail: str = "") -> None:
        super().__init__(f"{reason.name} {detail}".rstrip())
        self.reason = reason


class Ask(NamedTuple):
    """A checked request.

    Attributes:
        market_id: the market, as the caller names it.
        caller: who asks; answers that rest on earlier prices never cross callers.
        card: model that the request or a route names; ``query.model`` is its name.
        query: what is asked of it.
        series: the prices, not longer than the model's context.
        segment: kind of the market.
        route: name of the rule that chose the model.
        band: which bands are wanted.
    """

    market_id: str
    card: ModelCard
    query: Query
    series: Series
    segment: Segment = UNSPECIFIED_SEGMENT
    route: str = "asked"
    band: BandKind = BandKind.UNSPECIFIED
    caller: str = ""


class Corrected(NamedTuple):
    """Bands after conformal correction.

    Attributes:
        quantiles: [H, Q] float64 in [0, 1], not decreasing along Q.
        version: of the state that corrected them.
    """

    quantiles: FloatArray
    version: str


Inputs = tuple[int, float]
"""Prices that a model saw: how many, missing ones among them, and the share of those in [0, 1)."""


def inputs_of(series: Series) -> Inputs:
    """What is told of the prices in an answer."""
    length = series.values.size
    whole = series.missing_ratio == 0.0
    return length, 0.0 if whole else 1.0 - series.finite_count / length


class Made(NamedTuple):
    """A finished forecast, as it is remembered.

    Attributes:
        bands: its bands, as the model gives them.
        card: model that made it.
        reason: why that is not the asked one; NONE when it is.
        corrected: the bands after correction; None where no state has one or nobody wants it.
    """

    bands: Bands
    card: ModelCard
    reason: FallbackReason = FallbackReason.NONE
    corrected: Corrected | None = None


class Answer(NamedTuple):
    """A forecast and how it came about.

    Attributes:
        made: the forecast.
        series: the prices that its model saw; for a STALE answer those it would have seen.
        cache: whether it was remembered.
        breaker: state of the breaker before the asked model; None where there is none.
        degradation: state of its backend; None where it is not tracked.
        earlier: the prices that the model of a STALE answer saw; None for any other.
    """

    made: Made
    series: Series
    cache: CacheState = CacheState.NOT_CONSULTED
    breaker: BreakerState | None = None
    degradation: DegradationState | None = None
    earlier: Inputs | None = None
