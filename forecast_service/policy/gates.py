"""Requests that no model but a baseline should answer: too few prices, a gap, nobody trading."""

from __future__ import annotations

import numpy as np

from forecast_service.policy.decision import Ask, FallbackReason
from forecast_service.policy.settings import PolicySettings
from forecast_service.segment import Liquidity
from forecast_service.series import Series


def closed_gate(settings: PolicySettings, ask: Ask) -> FallbackReason:
    """Which gate is closed for a request; NONE when all are open."""
    if settings.low_liquidity_to_baseline and ask.segment.liquidity is Liquidity.LOW:
        return FallbackReason.LOW_LIQUIDITY
    if ask.series.missing_ratio == 0.0:  # then there is nothing to count, and no gap
        few = ask.series.values.size < settings.min_finite_points
        return FallbackReason.TOO_FEW_POINTS if few else FallbackReason.NONE
    if ask.series.finite_count < settings.min_finite_points:
        return FallbackReason.TOO_FEW_POINTS
    if longest_gap_seconds(ask.series) > max(settings.max_gap_seconds, ask.series.freq_seconds):
        return FallbackReason.GAP
    return FallbackReason.NONE


def longest_gap_seconds(series: Series) -> float:
    """Length of the longest run of missing steps in the context, trailing ones included.

    One missing step is never a gap at a cadence longer than the limit; that is why the caller
    compares with the longer of the two.
    """
    finite = np.flatnonzero(np.isfinite(series.values))
    if finite.size == series.values.size:
        return 0.0
    edges = np.append(finite, series.values.size)
    return float((np.diff(edges) - 1).max() * series.freq_seconds)
