"""What a stage does with one part of the snapshots: functions that run here or on another machine.

Each reads its part from the lake and yields rows of one table; see `flows.fan_out`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import polars as pl

from calibration_service.trust import INPUTS as TRUST_INPUTS
from calibration_service.trust import build_trust
from flows.batches import MarketBatch
from flows.feature_days import feature_days
from market_data.cutoffs import INPUTS as CUTOFF_INPUTS
from market_data.cutoffs import build_cutoffs
from market_data.lake import Lake


def cutoffs(
    lake: Lake, batch: MarketBatch, *, registry: pl.DataFrame, labels: pl.DataFrame
) -> Iterator[pl.DataFrame]:
    """``cutoff_snapshot`` rows of a batch of markets."""
    snapshots = batch.snapshots(lake, columns=CUTOFF_INPUTS)
    yield build_cutoffs(snapshots, registry.filter(batch.holds()), labels)


def trust(
    lake: Lake, batch: MarketBatch, *, until: datetime, quality: pl.DataFrame
) -> Iterator[pl.DataFrame]:
    """``trust_score`` rows of a batch of markets at an instant."""
    snapshots = batch.snapshots(lake, until=until, columns=TRUST_INPUTS)
    yield build_trust(snapshots, question_quality=quality)


def features(
    lake: Lake,
    batches: Sequence[Sequence[str]],
    *,
    registry: pl.DataFrame,
    matches: pl.DataFrame,
) -> Iterator[pl.DataFrame]:
    """``feature_frame`` rows, a frame for each batch of days that has any."""
    for _, frame in feature_days(lake, batches, registry, matches):
        if not frame.is_empty():
            yield frame
