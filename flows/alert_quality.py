"""The alert quality pipeline: how often alerts come, and how often prices go on or come back.

The alerts are those that the stream raised. With a file of thresholds they are those that these
would have raised on the same bars, by the same judge, with a baseline's bands and with what was
known at each minute: so a policy can be tried on the past before it is used.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.context import FlowRunContext

from calibration_service.alerts.policy import AlertPolicy, check_steps, load_policy
from calibration_service.alerts.quality import Closes, Quality, nominal_rate, quality
from calibration_service.alerts.values import Alert, Severity
from flows.live_bands import BandBook, BaselineBands, LocalBands
from flows.live_facts import Facts
from flows.live_history import KEPT_MS
from flows.live_judge import Judge
from flows.live_lake import alerts_from
from flows.pipeline import as_task, begin, carry_out, flow_run_title
from flows.recorded_facts import RecordedFacts
from flows.runs import NoDataError, Run, StageCount
from flows.settings import FlowSettings
from market_data.intake import Progress
from market_data.lake import Lake
from market_data.streaming.bars import FIVE_MS, MINUTE_MS, Bar
from market_data.streaming.events import MICRO, Resolved
from market_data.streaming.market_stream import MinuteClosed

DAY_MS = 86_400_000
WARM_UP = timedelta(milliseconds=KEPT_MS)
"""Bars before the first reported minute that gates and forecasts look back on."""
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
    stream_policy: Path | None = None,
    steps: int = 14,
) -> Run:
    """Reports on the alerts of the last days.

    Args:
        days: before ``as_of``.
        policy_file: thresholds to try on the bars; None reports on what the stream raised.
        stream_policy: thresholds of the stream; None for those that come with this package.
        steps: of five minutes, of the bands on which thresholds are tried.

    Raises:
        NoDataError: there is no bar in these days.
        PolicyError: a file of thresholds is wrong, or needs longer bands than there are.
    """
    run = begin(as_of, flow_settings, pipeline="alert_quality", progress=progress)
    run.interval_start = run.interval_end - timedelta(days=days)
    policy = load_policy(policy_file or stream_policy)
    check_steps(policy, steps)
    tried = policy.stamp if policy_file is not None else None
    run.parameters = {"days": days, "policy": tried or "as raised", "steps": steps}

    def report(run: Run) -> StageCount:
        return reported(run, policy, steps if policy_file is not None else None)

    done = carry_out(run, [as_task(report)])
    if FlowRunContext.get() is not None:
        shown = run.lake.read(_TABLE, pl.col("run_id") == run.run_id)
        create_table_artifact(
            key="alert-quality", table=shown.drop("schema_version", "as_of").to_dicts(),
            description="Alerts per market-day, and what came of them",
        )  # fmt: skip
    return done


def reported(run: Run, policy: AlertPolicy, steps: int | None) -> StageCount:
    """Writes a row for each severity; ``steps`` of the bands of a trial, None where none is."""
    bars = bars_of(run.lake, run.interval_start, run.interval_end)
    if bars.is_empty():
        raise NoDataError("there is no bar in these days: did a stream worker run?")
    minutes = bars.filter(pl.col("interval") == "1m")
    if steps is not None:
        alerts = asyncio.run(judged(run, policy, steps))
    else:
        inside = pl.col("ts").is_between(run.interval_start, run.interval_end)
        alerts = alerts_from(run.lake.read("alert", inside))
    ended = _ended(run.lake)
    closes = _closes(minutes, ended)
    watched = _market_days(closes, _millis(run.interval_end))
    events = run.lake.read("market_registry", columns=("market_id", "event_id"))
    found = quality(
        [one for one in alerts if one.market_id in watched],
        closes,
        event_of={key: value for key, value in events.iter_rows() if value},
        market_days=watched,
        rng=np.random.default_rng(run.settings.seed),
    )
    stamps = {one.policy_version for one in alerts} or {policy.stamp}
    rows = _rows(run, found, sum(watched.values()), policy, stamps, is_batch=steps is not None)
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


async def judged(run: Run, policy: AlertPolicy, steps: int) -> list[Alert]:
    """The alerts that a policy raises on recorded bars, minute by minute as the stream does.

    What gates look back on, the day before the first minute, is judged too, and not reported.
    """
    bars = bars_of(run.lake, run.interval_start - WARM_UP, run.interval_end)
    baseline = BaselineBands(policy, steps, run.forecast.policy.fallback_model)
    facts, first = Facts(), bars["start_ts"].min()
    assert isinstance(first, datetime)
    recorded = RecordedFacts(
        run.lake, bars["market_id"].unique().to_list(), since_ms=_millis(first),
        until_ms=_millis(run.interval_end),
    )  # fmt: skip
    judge = Judge(policy, BandBook(LocalBands(baseline), baseline, 60.0), facts)
    for resolved in _resolutions(run.lake):
        judge.learn(resolved)
    alerts = await replayed(judge, bars, recorded)
    since = _millis(run.interval_start)
    return [one for one in alerts if one.at_ms >= since]


async def replayed(judge: Judge, bars: pl.DataFrame, recorded: RecordedFacts) -> list[Alert]:
    """The alerts that a judge raises on recorded bars, knowing at each minute what was known."""
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
        recorded.tell(judge.facts, end)
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
        ms = _millis(at)
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


def _ended(lake: Lake) -> dict[str, tuple[int, float]]:
    """When markets were over, and their value then; NaN where nobody has said it."""
    registry = lake.read("market_registry", pl.col("resolved_at").is_not_null())
    labels = lake.read("label_status", columns=("market_id", "outcome_yes"))
    paid = pl.when(pl.col("status") == "RESOLVED").then(pl.col("outcome_prices").list.first())
    rows = registry.join(labels, on="market_id", how="left").select(
        "market_id", pl.col("resolved_at").dt.epoch("ms"),
        pl.coalesce("outcome_yes", paid).fill_null(float("nan")),
    )  # fmt: skip
    return {str(name): (ms, outcome) for name, ms, outcome in rows.iter_rows()}


def _market_days(closes: Mapping[str, Closes], until_ms: int) -> dict[str, float]:
    """Days that each market was watched: minutes of the stream from its first bar to its end.

    A minute belongs to the stream where any market has a bar. Markets of futures venues, whose
    prices are no probabilities, raise no alerts and are not counted.
    """
    followed = np.unique(np.concatenate([one.at_ms for one in closes.values()]))
    days: dict[str, float] = {}
    for market_id, one in sorted(closes.items()):
        prices = one.price[np.isfinite(one.price)]
        if prices.size == 0 or not ((prices >= 0.0) & (prices <= 1.0)).any():
            continue
        end = until_ms if one.over_ms is None else min(until_ms, one.over_ms)
        first, last = np.searchsorted(followed, [one.at_ms[0], max(end, int(one.at_ms[0])) + 1])
        days[market_id] = float(last - first) * MINUTE_MS / DAY_MS
    return days


def _closes(minutes: pl.DataFrame, ended: Mapping[str, tuple[int, float]]) -> dict[str, Closes]:
    ends = minutes.select(
        "market_id", (pl.col("start_ts").dt.epoch("ms") + MINUTE_MS).alias("end"),
        pl.col("close").fill_null(float("nan")),
    )  # fmt: skip
    unknown: tuple[int | None, float] = (None, float("nan"))
    return {
        str(name): Closes(
            rows["end"].to_numpy(), rows["close"].to_numpy(), *ended.get(str(name), unknown)
        )
        for (name,), rows in ends.sort("market_id", "end").group_by("market_id")
    }


def _millis(at: datetime) -> int:
    return round(at.timestamp() * 1_000)


def _rows(
    run: Run,
    found: Mapping[Severity, Quality],
    days: float,
    policy: AlertPolicy,
    stamps: Collection[str],
    *,
    is_batch: bool,
) -> pl.DataFrame:
    """A row for each severity; of the nominal rate only where all alerts are of the policy."""
    nominal = None
    if set(stamps) == {policy.stamp}:
        nominal = nominal_rate(policy.alert_low_level, policy.alert_high_level)
    rows: list[dict[str, Any]] = []
    for severity, one in sorted(found.items()):
        row: dict[str, Any] = {
            "run_id": run.run_id, "severity": severity.name, "as_of": run.interval_end,
            "source": "batch" if is_batch else "stream",
            "policy_version": next(iter(stamps)) if len(stamps) == 1 else None,
            "alerts": one.count, "unknown": one.unknown, "market_days": days,
            "nominal_rate": nominal,
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
