"""The scoreboard carries the finest segment that has enough events, and says which."""

import time
from datetime import UTC, datetime

import polars as pl

from calibration_service.frames import empty_frame, schema_of
from calibration_service.scoreboard import build_scoreboard
from market_data.schemas import CALIBRATION_METRICS, MARKET_SNAPSHOT, SCOREBOARD, TRUST_SCORE

AS_OF = datetime(2026, 6, 1, tzinfo=UTC)
FINE = "category=sports|liquidity=LOW|tte=LE_6H"
CATEGORY = "category=sports|liquidity=*|tte=*"
POOL = "category=*|liquidity=*|tte=*"


def registry(*markets):
    return pl.DataFrame(
        {
            "market_id": list(markets),
            "event_id": [f"e-{m}" for m in markets],
            "platform": ["polymarket"] * len(markets),
            "question": ["Will it?"] * len(markets),
            "category": ["sports"] * len(markets),
            "tags": [["nba"]] * len(markets),
            "status": ["ACTIVE"] * len(markets),
        }
    )


def filled(table, rows):
    """Rows of a table from dictionaries; what they leave out is null."""
    schema = schema_of(table)
    return pl.DataFrame(rows, schema_overrides=schema).select(
        (pl.col(n) if n in rows[0] else pl.lit(None, dtype=kind).alias(n))
        for n, kind in schema.items()
    )


def snapshot(market, p_yes, hour=1):
    return {
        "ts": datetime(2026, 5, 1, hour, tzinfo=UTC),
        "market_id": market,
        "p_yes": p_yes,
        "liquidity_bucket": "LOW",
        "tte_seconds": 3600.0,
    }


def metrics(**events):
    keys = {"fine": FINE, "category": CATEGORY, "pool": POOL}
    rows = [
        {
            "segment_key": keys[name],
            "event_count": count,
            "brier": count / 1e4,
            "low_confidence": count < 50,
        }
        for name, count in events.items()
    ]
    return filled(CALIBRATION_METRICS, rows) if rows else empty_frame(CALIBRATION_METRICS)


def board(measured, snapshots=(("a", 0.4),), markets=("a",)):
    return build_scoreboard(
        registry(*markets),
        latest=filled(MARKET_SNAPSHOT, [snapshot(*row) for row in snapshots]),
        trust=empty_frame(TRUST_SCORE),
        metrics=measured,
        window="90d",
        run_id="run",
        as_of=AS_OF,
    )


def test_rows_are_those_of_the_table():
    rows = board(metrics(fine=60, pool=900))
    assert rows.schema == schema_of(SCOREBOARD)
    assert rows["calibrated_probability"].null_count() == 1


def test_the_finest_segment_with_enough_events_serves():
    row = board(metrics(fine=60, category=300, pool=900)).row(0, named=True)
    assert (row["segment_key"], row["event_count"]) == (FINE, 60)
    assert row["brier"] == 0.006


def test_a_thin_segment_gives_way_to_a_coarser_one():
    row = board(metrics(fine=49, category=300, pool=900)).row(0, named=True)
    assert (row["segment_key"], row["event_count"]) == (CATEGORY, 300)


def test_the_pool_serves_at_last_however_small():
    row = board(metrics(fine=5, category=5, pool=8)).row(0, named=True)
    assert (row["segment_key"], row["low_confidence"]) == (POOL, True)


def test_without_metrics_there_is_no_segment():
    row = board(metrics()).row(0, named=True)
    assert row["segment_key"] is None
    assert row["brier"] is None


def test_the_last_snapshot_counts():
    row = board(metrics(pool=60), (("a", 0.4, 1), ("a", 0.7, 3), ("a", 0.5, 2))).row(0, named=True)
    assert row["p_yes"] == 0.7
    assert row["price_ts"].hour == 3


def test_a_market_without_a_price_is_listed_with_none():
    rows = board(metrics(pool=60), markets=("b", "a"))
    assert rows["market_id"].to_list() == ["a", "b"]
    assert rows["p_yes"].to_list() == [0.4, None]
    assert rows["liquidity_bucket"].to_list() == ["LOW", "UNSPECIFIED"]
    assert rows["trust"].null_count() == 2


def test_100_000_markets_take_well_under_a_second():
    markets = [f"polymarket:{i}" for i in range(100_000)]
    latest = pl.concat([filled(MARKET_SNAPSHOT, [snapshot("x", 0.4)])] * len(markets))
    latest = latest.with_columns(pl.Series("market_id", markets))
    listed, measured = registry(*markets), metrics(fine=60, pool=900)
    trust, started = empty_frame(TRUST_SCORE), time.perf_counter()
    rows = build_scoreboard(
        listed,
        latest=latest,
        trust=trust,
        metrics=measured,
        window="90d",
        run_id="run",
        as_of=AS_OF,
    )
    assert time.perf_counter() - started < 1.0
    assert rows.height == len(markets)
