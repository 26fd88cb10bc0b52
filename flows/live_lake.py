"""Bars and alerts from the control store to the lake; old bars leave the store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import polars as pl
import sqlalchemy as sa

from calibration_service.alerts import store as alert_store
from calibration_service.alerts.values import Alert, Direction, Fact, Severity, reason_of
from market_data.lake import Lake, polars_schema
from market_data.streaming import live_store
from market_data.streaming.bars import FIVE_MS, MINUTE_MS, Bar

POSITION, ALERTS = "lake_bars", "lake_alerts"
PART = 20_000
"""Bars of one commit."""
_NAMES = {MINUTE_MS: "1m", FIVE_MS: "5m"}
_DAY_MS = 86_400_000


def export_bars(engine: sa.Engine, lake: Lake) -> int:
    """Writes bars that the lake does not have yet, in commits of 20,000; how many.

    A bar that was revised is written again. After a crash between the lake and the store the same
    bars are written once more, which changes nothing.
    """
    written = 0
    while True:
        with engine.connect() as connection:
            after = live_store.read_position(connection, POSITION) or 0
            found = live_store.bars_after(connection, after, PART)
        if not found:
            return written
        newest = {(bar.market_id, bar.interval_ms, bar.start_ms): bar for _, bar in found}
        lake.upsert("bar", frame_of(list(newest.values())))
        with engine.begin() as connection:
            live_store.write_position(connection, POSITION, found[-1][0])
        written += len(found)


def export_alerts(engine: sa.Engine, lake: Lake) -> int:
    """Writes alerts that the lake does not have yet; how many."""
    written = 0
    while True:
        with engine.connect() as connection:
            after = live_store.read_position(connection, ALERTS) or 0
            found = alert_store.after(connection, after, limit=PART)
        if not found:
            return written
        lake.upsert("alert", alert_frame([(one.alert, one.event_id) for one in found]))
        with engine.begin() as connection:
            live_store.write_position(connection, ALERTS, found[-1].sequence)
        written += len(found)


def alert_frame(alerts: Sequence[tuple[Alert, str]]) -> pl.DataFrame:
    """Alerts, each with its event, as rows of the table ``alert``."""
    rows = [
        {
            "alert_id": alert.alert_id,
            "ts": datetime.fromtimestamp(alert.at_ms / 1_000, UTC),
            "market_id": alert.market_id,
            "event_id": event_id or None,
            "severity": alert.severity.name,
            "rule": alert.rule,
            "episode_id": alert.episode_id,
            "direction": str(alert.direction),
            "reason_codes": [str(code) for code in alert.reason_codes],
            "evidence": json.dumps(
                [[one.name, one.value, one.threshold] for one in alert.evidence]
            ),
            "explanation": list(alert.explanation_lines),
            "policy_version": alert.policy_version,
        }
        for alert, event_id in alerts
    ]
    return pl.DataFrame(rows, schema=_stored("alert"))


def alerts_from(rows: pl.DataFrame) -> list[Alert]:
    """Alerts again, from rows of the table ``alert``."""
    return [
        Alert(
            alert_id=row["alert_id"],
            market_id=row["market_id"],
            at_ms=round(row["ts"].timestamp() * 1_000),
            severity=Severity[row["severity"]],
            rule=row["rule"],
            direction=Direction(row["direction"]),
            episode_id=row["episode_id"],
            reason_codes=tuple(map(reason_of, row["reason_codes"])),
            evidence=tuple(Fact(*one) for one in json.loads(row["evidence"])),
            explanation_lines=tuple(row["explanation"]),
            policy_version=row["policy_version"],
        )
        for row in rows.iter_rows(named=True)
    ]


def _stored(table: str) -> pl.Schema:
    """Columns that a writer gives: those of the table but what the lake itself fills in."""
    columns = polars_schema(table)
    return pl.Schema({k: v for k, v in columns.items() if k not in ("dt", "schema_version")})


def frame_of(bars: list[Bar]) -> pl.DataFrame:
    """Bars as rows of the table ``bar``."""
    prices = ("open", "high", "low", "close")
    return pl.DataFrame(
        {
            "start_ts": pl.Series([bar.start_ms for bar in bars], dtype=pl.Int64),
            "interval": [_NAMES[bar.interval_ms] for bar in bars],
            "market_id": [bar.market_id for bar in bars],
            **{name: pl.Series([getattr(bar, name) for bar in bars], dtype=pl.Float64)
               for name in prices},
            "volume": pl.Series([bar.contracts for bar in bars], dtype=pl.Float64),
            "trade_count": pl.Series([bar.trade_count for bar in bars], dtype=pl.Int64),
            "realized_vol": pl.Series([bar.realized_vol for bar in bars], dtype=pl.Float64),
        }
    ).with_columns(
        pl.from_epoch("start_ts", time_unit="ms").cast(pl.Datetime("us", "UTC")),
        pl.col(*prices, "realized_vol").fill_nan(None),
    )  # fmt: skip


def prune(engine: sa.Engine, keep_days: int) -> None:
    """Removes from the store what is older than ``keep_days`` before the newest bar's minute.

    Only bars that the lake has are removed: nothing is pruned before an export.
    """
    with engine.begin() as connection:
        exported = live_store.read_position(connection, POSITION)
        position = live_store.read_position(connection, "stream")
        if exported is None or position is None:
            return
        before = position["closed_until"] - keep_days * _DAY_MS
        live_store.prune(
            connection, exported=exported, bars_before_ms=before, triggers_before_ms=before
        )
