"""The alert quality pipeline: how often alerts come, and how often prices go on or come back.

The alerts are those that the stream raised. With a file of thresholds they are those that these
would have raised on the same bars, by the same judge, with a baseline's bands: so a policy can be
tried on the past before it is used.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.context import FlowRunContext

from calibration_service.alerts.policy import AlertPolicy, load_policy
from calibration_service.alerts.quality import Closes, Quality, nominal_rate, quality
from calibration_service.alerts.values import Alert, Severity
from flows.live_bands import BandBook, BaselineBands, LocalBands
from flows.live_facts import Facts
from flows.live_judge import Judge
from flows.live_lake import alerts_from
from flows.pipeline import as_task, begin, carry_out, flow_run_title
from flows.runs import NoDataError, Run, StageCount
from flows.settings import FlowSettings
from market_data.intake import Progress
from market_data.lake import Lake
from market_data.streaming.bars import FIVE_MS, MINUTE_MS, Bar
from market_data.streaming.events import MICRO, Resolved
from market_data.streaming.market_stream import MinuteClosed

DAY_MS = 86_400_000
STEPS = 14
_TABLE = "alert_quality"


@flow(
    name="alert_quality", flow_run_name=flow_run_title, validate_parameters=False,
    persist_result=False,
)  # fmt: skip
def alert_quality(
    as_of: datetime | None = None,
    flow_settings: FlowSettings | None = None,
    progress: Progress | None = None,
    days: int = 7,
    policy_file: Path | None = None,
) -> Run:
    """Reports on the alerts of the last days.

    Args:
        days: before ``as_of``.
        policy_file: thresholds to try on the bars; None reports on what the stream raised.

    Raises:
        NoDataError: there is no bar in these days.
        PolicyError: the file of thresholds is wrong.
    """
    run = begin(as_of, flow_settings, pipeline="alert_quality", progress=progress)
    run.interval_start = run.interval_end - timedelta(days=days)
    policy = load_policy(policy_file)
    tried = policy.stamp if policy_file is not None else None
    run.parameters = {"days": days, "policy": tried or "as raised"}

    def report(run: Run) -> StageCount:
        return reported(run, policy, is_batch=policy_file is not None)

    done = carry_out(run, [as_task(report)])
    if FlowRunContext.get() is not None:
        shown = run.lake.read(_TABLE, pl.col("run_id") == run.run_id)
        create_table_artifact(
            key="alert-quality", table=shown.drop("schema_version", "as_of").to_dicts(),
            description="Alerts per market-day, and what came of them",
        )  # fmt: skip
    return done


def reported(run: Run, policy: AlertPolicy, *, is_batch: bool) -> StageCount:
    """Writes a row for each severity."""
    bars = bars_of(run.lake, run.interval_start, run.interval_end)
    if bars.is_empty():
        raise NoDataError("there is no bar in these days: did a stream worker run?")
    minutes = bars.filter(pl.col("interval") == "1m")
    if is_batch:
        alerts = asyncio.run(judged(run, bars, policy))
    else:
        inside = pl.col("ts").is_between(run.interval_start, run.interval_end)
        alerts = alerts_from(run.lake.read("alert", inside))
    watched = _market_days(minutes)
    events = run.lake.read("market_registry", columns=("market_id", "event_id"))
    found = quality(
        [one for one in alerts if one.market_id in watched],
        _closes(minutes),
        event_of={key: value for key, value in events.iter_rows() if value},
        market_days=watched,
        rng=np.random.default_rng(run.settings.seed),
    )
    rows = _rows(run, found, sum(watched.values()), policy, is_batch=is_batch)
    done = run.lake.upsert(_TABLE, rows)
    strange = sum(one.market_id not in watched for one in alerts)
    said = ", ".join(f"{found[one].count} {one.name}" for one in sorted(Severity, reverse=True))
    note = f"{said} in {sum(watched.values()):.1f} market-days"
    if strange:
        note += f"; {strange} alerts have no bars"
    return StageCount(
        bars.height, rows.height, done.rows_new + done.rows_changed, set_aside=strange, note=note
    )


def bars_of(lake: Lake, since: datetime, until: datetime) -> pl.DataFrame:
    """Bars of a period, in order of time and market."""
    inside = (pl.col("start_ts") >= since) & (pl.col("start_ts") < until)
    days = (f"{since:%Y-%m-%d}", f"{until:%Y-%m-%d}")
    return lake.read("bar", inside, days=days).sort("start_ts", "interval", "market_id")


async def judged(run: Run, bars: pl.DataFrame, policy: AlertPolicy) -> list[Alert]:
    """The alerts that a policy raises on recorded bars, minute by minute as the stream does."""
    baseline = BaselineBands(policy, STEPS, run.forecast.policy.fallback_model)
    facts = Facts()
    facts.read(run.lake, bars["market_id"].unique().to_list())
    judge = Judge(policy, BandBook(LocalBands(baseline), baseline, 60.0), facts)
    for resolved in _resolutions(run.lake):
        judge.learn(resolved)
    by_end: dict[int, dict[int, list[Bar]]] = defaultdict(lambda: defaultdict(list))
    for bar in _as_bars(bars):
        by_end[bar.end_ms][bar.interval_ms].append(bar)
    alerts: list[Alert] = []
    ends = sorted(by_end)
    for end in range(ends[0], ends[-1] + 1, MINUTE_MS):
        found = by_end.get(end, {})
        closed = MinuteClosed(
            end, tuple(found.get(MINUTE_MS, ())), tuple(found.get(FIVE_MS, ())), ()
        )
        alerts += await judge.minute(closed)
        judge.look_ahead(end)
    await judge.bands.close()
    return alerts


def _resolutions(lake: Lake) -> Iterator[Resolved]:
    """When markets were over, as the registry has it."""
    rows = lake.read(
        "market_registry", pl.col("resolved_at").is_not_null(), columns=("market_id", "resolved_at")
    )
    for market_id, at in rows.iter_rows():
        ms = round(at.timestamp() * 1_000)
        yield Resolved(market_id, ms, "r", ms, "", "", "registry")


def _as_bars(rows: pl.DataFrame) -> list[Bar]:
    lengths = {"1m": MINUTE_MS, "5m": FIVE_MS}
    prices = ("open", "high", "low", "close", "realized_vol")
    filled = rows.with_columns(
        pl.col("start_ts").dt.epoch("ms"), pl.col(*prices).fill_null(float("nan"))
    )
    return [
        Bar(
            row["market_id"], lengths[row["interval"]], row["start_ts"], row["open"], row["high"],
            row["low"], row["close"], round(row["volume"] * MICRO), row["trade_count"], 1,
            row["realized_vol"],
        )
        for row in filled.iter_rows(named=True)
    ]  # fmt: skip


def _market_days(minutes: pl.DataFrame) -> dict[str, float]:
    """Days that each market was watched: from its first to its last bar, days without one left out.

    Markets of futures venues raise no alerts and are not counted.
    """
    spans = (
        minutes.filter(pl.col("close").is_between(0.0, 1.0))
        .group_by("market_id", pl.col("start_ts").dt.date().alias("day"))
        .agg((pl.col("start_ts").max() - pl.col("start_ts").min()).dt.total_milliseconds())
    )
    days: dict[str, float] = defaultdict(float)
    for market_id, _, milliseconds in spans.sort("market_id", "day").iter_rows():
        days[market_id] += (milliseconds + MINUTE_MS) / DAY_MS
    return dict(days)


def _closes(minutes: pl.DataFrame) -> Mapping[str, Closes]:
    ends = minutes.select(
        "market_id", (pl.col("start_ts").dt.epoch("ms") + MINUTE_MS).alias("end"),
        pl.col("close").fill_null(float("nan")),
    )  # fmt: skip
    return {
        str(name): Closes(rows["end"].to_numpy(), rows["close"].to_numpy())
        for (name,), rows in ends.sort("market_id", "end").group_by("market_id")
    }


def _rows(
    run: Run, found: Mapping[Severity, Quality], days: float, policy: AlertPolicy, *, is_batch: bool
) -> pl.DataFrame:
    rows: list[dict[str, Any]] = []
    for severity, one in sorted(found.items()):
        row: dict[str, Any] = {
            "run_id": run.run_id, "severity": severity.name, "as_of": run.interval_end,
            "source": "batch" if is_batch else "stream",
            "policy_version": policy.stamp if is_batch else None,
            "alerts": one.count, "unknown": one.unknown, "market_days": days,
            "nominal_rate": nominal_rate(policy.alert_low_level, policy.alert_high_level),
        }  # fmt: skip
        for name, interval in (
            ("rate", one.rate), ("follow_through", one.follow_through),
            ("false_share", one.false_share),
        ):  # fmt: skip
            row[name] = None if interval is None else interval.estimate
            row[f"{name}_lo"] = None if interval is None else interval.lo
            row[f"{name}_hi"] = None if interval is None else interval.hi
        rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)
