"""All stages behind ingestion over a lake of any size: seconds, growth and peak memory.

The lake is filled by day, then the stages run in a process of their own, so that its peak memory
is theirs: ``python -m benchmarks.lake_scale '{…}'``. A plain polars group-by over the same rows
runs in the same process, for comparison.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks import synthetic
from benchmarks.daily_flow import peak_mib
from benchmarks.figures import Figure, Scale
from benchmarks.processes import answer_of
from market_data.categories import liquidity_bucket
from market_data.lake import Lake

SUITE = "lake_scale"
PER_MARKET = 200
_HOUR, _DAY = 3_600_000_000, 86_400_000_000


def run(scale: Scale, folder: Path) -> list[Figure]:
    """Seconds of each stage at each size, of everything again, and peak memory."""
    figures: list[Figure] = []
    taken: dict[str, list[tuple[int, float]]] = {}
    for rows in scale.lake_rows:
        place = folder / f"rows-{rows}"
        fill(Lake(place), markets=rows // PER_MARKET)
        first, again = (_stages(place) for _ in range(2))
        name = f"{rows:,} snapshots"
        figures += [
            Figure(SUITE, f"all stages, {name}", first["seconds"], "s"),
            Figure(SUITE, f"all stages, {name}", rows / first["seconds"], "snapshots/s"),
            Figure(SUITE, f"all stages, {name}", first["peak_mib"], "MiB peak"),
            Figure(SUITE, f"all stages once more, {name}", again["seconds"], "s"),
            Figure(SUITE, f"polars group-by of prices by day and bin, {name}", first["plain"], "s"),
        ]
        for stage, seconds in first["stages"].items():
            figures.append(Figure(SUITE, f"{stage}, {name}", seconds, "s"))
            taken.setdefault(stage, []).append((rows, seconds))
    return figures + [figure for stage, sizes in taken.items() for figure in _growth(stage, sizes)]


def _growth(stage: str, sizes: list[tuple[int, float]]) -> list[Figure]:
    """b in seconds ∝ rows^b from the smallest to the largest size."""
    (fewest, short), (most, long) = sizes[0], sizes[-1]
    if fewest == most:
        return []
    exponent = math.log(long / short) / math.log(most / fewest)
    return [Figure(SUITE, f"{stage}, growth {fewest:,} → {most:,} snapshots", exponent, "exponent")]


def fill(lake: Lake, *, markets: int, per_market: int = PER_MARKET) -> None:
    """A registry, and hourly prices of every market before its end, or before now while open."""
    registry = synthetic.registry(markets)
    lake.replace("market_registry", registry)
    is_open = (registry["status"] == "ACTIVE").to_numpy()
    now = int(synthetic.AS_OF.timestamp() * 1e6)
    ends = np.where(is_open, now + _HOUR, registry["end_at"].dt.epoch("us").to_numpy())
    rng = np.random.default_rng(2)
    walk = np.cumsum(rng.normal(0.0, 0.1, (markets, per_market)).astype(np.float32), axis=1)
    depth = np.exp(rng.uniform(6.0, 14.0, markets))
    hours = np.arange(per_market, 0, -1)
    ts = ends[:, None] - hours[None, :] * _HOUR
    days = ts // _DAY
    for day in range(int(days.min()), int(days.max()) + 1):
        market, place = np.nonzero(days == day)
        if market.size == 0:
            continue
        price = np.round(1.0 / (1.0 + np.exp(-walk[market, place].astype(float))), 3)
        rows = pl.DataFrame(
            {
                "market_id": registry["market_id"].gather(market),
                "ts": pl.Series(ts[market, place]).cast(pl.Datetime("us", "UTC")),
                "p_yes": price.clip(0.001, 0.999),
                "open_interest": depth[market] * np.exp(0.02 * np.sin(place)),
                "tte_seconds": hours[place] * 3_600.0,
                "data_freshness_sec": np.zeros(market.size),
            }
        ).with_columns(
            (1.0 - pl.col("p_yes")).alias("p_no"),
            pl.lit("benchmark").alias("data_source"),
            liquidity_bucket(pl.lit(None, dtype=pl.Float64), pl.col("open_interest")).alias(
                "liquidity_bucket"
            ),
        )
        lake.upsert("market_snapshot", synthetic.completed("market_snapshot", rows))


def _stages(place: Path) -> dict[str, Any]:
    met: dict[str, Any] = answer_of("benchmarks.lake_scale", [json.dumps({"lake": str(place)})])
    return met


def main(job: dict[str, str]) -> None:
    """Runs the stages once and prints seconds, peak memory and the seconds of each stage."""
    from flows import daily
    from flows.settings import FlowSettings

    settings = FlowSettings(lake=job["lake"], raw=f"{job['lake']}/raw")
    began = time.perf_counter()
    done = daily.calibrate.fn(as_of=synthetic.AS_OF, flow_settings=settings)
    seconds, peak = time.perf_counter() - began, peak_mib()
    began = time.perf_counter()
    priced = pl.col("p_yes")
    by = ("dt", (priced * 10).floor().cast(pl.Int8).alias("bin"))
    Lake(job["lake"]).scan("market_snapshot").group_by(by).agg(
        pl.len(), priced.mean()
    ).collect(engine="streaming")  # fmt: skip
    plain = time.perf_counter() - began
    stages = {name: count.seconds for name, count in done.stages.items()}
    print(json.dumps({"seconds": seconds, "peak_mib": peak, "stages": stages, "plain": plain}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
