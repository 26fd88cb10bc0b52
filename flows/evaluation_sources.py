"""Where the price histories of an evaluation come from: the lake, or recorded files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from flows.evaluation_settings import EvaluationSettings
from flows.runs import NoDataError
from forecast_service.evaluation.windows import Cut, PricePath
from market_data.lake import Lake
from market_data.series import CADENCES, MAX_FILL_SECONDS, resample, usual_cadence

LAKE, RECORDED = "lake", "recorded"
UNCATEGORISED = "uncategorised"


@dataclass(frozen=True, slots=True, eq=False)
class Histories:
    """What is evaluated.

    Attributes:
        source: `LAKE` or `RECORDED`.
        paths: the price paths.
        cut: how windows are cut out of them.
    """

    source: str
    paths: list[PricePath]
    cut: Cut


def histories(
    lake: Lake, until: datetime, settings: EvaluationSettings, recorded: Path | None
) -> Histories:
    """The histories of a folder of recorded files, else those of the lake.

    Raises:
        NoDataError: there are none.
    """
    if recorded is not None:
        return from_recorded(recorded, settings)
    return from_lake(lake, until, settings)


def from_lake(lake: Lake, until: datetime, settings: EvaluationSettings) -> Histories:
    """Prices of every market up to ``until``, on steps of the market's usual length.

    The announced end is what a forecast may know of the future; prices after the real one, which
    say who won, are left out.

    Raises:
        NoDataError: there is no price.
    """
    known = lake.read(
        "market_registry",
        columns=("market_id", "event_id", "category", "end_at", "closed_at", "resolved_at"),
    )
    ended = pl.coalesce("closed_at", "resolved_at")
    prices = (
        lake.read(
            "market_snapshot",
            (pl.col("ts") <= until) & pl.col("p_yes").is_not_null(),
            columns=("market_id", "ts", "p_yes"),
        )
        .join(known, on="market_id")
        .filter(ended.is_null() | (pl.col("ts") < ended))
        .sort("market_id", "ts")
    )
    if prices.is_empty():
        raise NoDataError(f"the lake holds no price before {until:%Y-%m-%d %H:%M} UTC")
    paths = [_path(rows) for _, rows in prices.group_by("market_id", maintain_order=True)]
    return Histories(LAKE, paths, _cut(settings, settings.stride_steps))


def digest(folder: Path) -> str:
    """What tells recorded files from others: ``recorded:…`` of their names and content."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        found.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return f"{RECORDED}:{found.hexdigest()[:16]}"


def from_recorded(folder: Path, settings: EvaluationSettings) -> Histories:
    """The four recorded families, on the strides of the training's own evaluation.

    Raises:
        NoDataError: the folder does not hold them.
    """
    from forecast_service.training import recorded

    if not (folder / "prices").is_dir():
        raise NoDataError(f"{folder} holds no recorded prices: there is no folder prices in it")
    paths = [
        PricePath(family, item.market, item.event, item.start, item.step, item.values, item.end)
        for family in recorded.STRIDES
        for item in recorded.load(folder, family)
    ]
    return Histories(RECORDED, paths, _cut(settings, settings.stride_steps, recorded.STRIDES))


def _cut(settings: EvaluationSettings, stride: int, strides: dict[str, int] | None = None) -> Cut:
    return Cut(settings.context_steps, settings.horizon_steps, stride, strides or {})


def _path(rows: pl.DataFrame) -> PricePath:
    """One market's snapshots, in order of time, on a grid that ends at the last one."""
    t = rows["ts"].dt.epoch("s").to_numpy()
    seconds = CADENCES[usual_cadence(t)]
    count = int(t[-1] - t[0]) // seconds + 1
    grid = t[-1] - seconds * np.arange(count - 1, -1, -1, dtype=np.int64)
    values = resample(
        t, rows["p_yes"].to_numpy(), grid, max_fill_seconds=max(MAX_FILL_SECONDS, 2 * seconds)
    )
    first = rows.row(0, named=True)
    end = first["end_at"]
    return PricePath(
        first["category"] or UNCATEGORISED,
        first["market_id"],
        first["event_id"] or first["market_id"],
        int(grid[0]),
        seconds,
        values,
        np.nan if end is None else end.timestamp(),
    )
