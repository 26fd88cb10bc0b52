"""Records of the subgraph → ``collateral_flow`` rows → open interest. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import polars as pl

from market_data.errors import RecordRejected
from market_data.lake import conform, polars_schema
from market_data.schemas import SCHEMA_VERSION
from market_data.venues.fields import number_or_none, parse_time, text_or_none
from market_data.venues.polymarket.subgraph import AMOUNT_FIELDS

MICRO_USD = 1_000_000
UNKNOWN_CONDITION = "UNKNOWN_CONDITION"
"""Why a flow is turned away whose market the registry does not know."""

_SIGNS = {"splits": 1.0, "merges": -1.0, "redemptions": -1.0}

Flow = tuple[str, str, str, datetime, float]
"""(flow id, entity, market_id, UTC time, signed USD)."""


def parse_flow(record: Any, entity: str, markets: dict[str, str]) -> Flow:
    """Read one record of an entity.

    Args:
        markets: market ids by condition.

    Raises:
        RecordRejected: ID_MISSING, UNKNOWN_CONDITION, AMOUNT_UNREADABLE, TIME_UNREADABLE or
            TIME_MISSING.
    """
    if not isinstance(record, dict) or text_or_none(record.get("id")) is None:
        raise RecordRejected("ID_MISSING")
    condition = text_or_none(record.get("condition"))
    market_id = markets.get(condition or "")
    if market_id is None:
        raise RecordRejected(UNKNOWN_CONDITION, str(condition))
    amount = number_or_none(record.get(AMOUNT_FIELDS[entity]))
    if amount is None or amount < 0:
        raise RecordRejected("AMOUNT_UNREADABLE", repr(record.get(AMOUNT_FIELDS[entity])))
    at = parse_time(record.get("timestamp"), "timestamp")
    if at is None:
        raise RecordRejected("TIME_MISSING")
    flow_id = f"{entity}:{record['id']}"
    return flow_id, entity, market_id, at, _SIGNS[entity] * amount / MICRO_USD


def flow_frame(flows: Iterable[Flow]) -> pl.DataFrame:
    """``collateral_flow`` rows, each flow once."""
    columns = polars_schema("collateral_flow")
    names = ("flow_id", "entity", "market_id", "ts", "usd")
    frame = pl.DataFrame(list(flows), schema={n: columns[n] for n in names}, orient="row")
    return conform(
        "collateral_flow",
        frame.unique(["ts", "flow_id"], keep="last").with_columns(
            schema_version=pl.lit(SCHEMA_VERSION, dtype=pl.Int32),
            dt=pl.col("ts").dt.strftime("%Y-%m-%d"),
        ),
    )


def accumulate(flows: pl.DataFrame, before: pl.DataFrame) -> pl.DataFrame:
    """Running open interest of each market.

    Args:
        flows: market_id, ts UTC, usd float64 (signed); any order.
        before: ``open_interest`` rows older than every flow; the last of each market counts.

    Returns:
        ``open_interest`` rows, one for each market and instant with flows.
    """
    base = (
        before.sort("ts").group_by("market_id").agg(pl.col("open_interest").last().alias("_base"))
    )
    return (
        flows.group_by("market_id", "ts")
        .agg(pl.col("usd").sort().sum())
        .sort("market_id", "ts")
        .join(base, on="market_id", how="left", maintain_order="left")
        .select(
            "ts",
            "market_id",
            (pl.col("_base").fill_null(0.0) + pl.col("usd").cum_sum().over("market_id"))
            .round(6)
            .alias("open_interest"),
            pl.lit(SCHEMA_VERSION, dtype=pl.Int32).alias("schema_version"),
            pl.col("ts").dt.strftime("%Y-%m-%d").alias("dt"),
        )
    )
