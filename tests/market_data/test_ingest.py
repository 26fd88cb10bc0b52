"""Ingestion against a venue: complete, idempotent, incremental, and whole through faults."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from market_data.errors import PagingLoop, VenueServerError
from market_data.ingest import (
    MarketScope,
    PriceScope,
    Stores,
    ingest_markets,
    ingest_open_interest,
    ingest_prices,
)
from market_data.replay.archive import Archive
from market_data.replay.faults import FaultPlan
from market_data.replay.server import RunningReplay, serve

MakeStores = Callable[..., Stores]
TABLES = (
    "market_registry", "open_interest", "market_snapshot", "label_status", "cutoff_snapshot",
)  # fmt: skip


def contents(stores: Stores) -> dict[str, pl.DataFrame]:
    """Every table in a fixed order of rows, without what only says where a row was seen."""
    out = {}
    for table in TABLES:
        frame = stores.lake.read(table).drop("ingested_at", "raw_sha256", strict=False)
        keys = [c for c in ("market_id", "ts", "cutoff_type", "cutoff_ts") if c in frame.columns]
        out[table] = frame.sort(keys)
    return out


async def test_a_simulated_venue_arrives_with_its_truth(
    replay: RunningReplay, archive: Archive, make_stores: MakeStores, ingest_all: Any
) -> None:
    stores = make_stores()
    accounts = await ingest_all(replay.base_url, stores)
    for account in accounts.values():
        assert account.dead_letters == account.failures == 0
        assert account.rows_in == account.rows_out + account.duplicates + account.left_out
    truth = pl.DataFrame((archive.truth or {})["markets"])
    found = truth.join(stores.lake.read("label_status"), on="market_id", suffix="_found")
    assert found.height == truth.height
    assert found.filter(pl.col("label") != pl.col("label_found")).is_empty()
    scored = truth.filter(pl.col("label").str.starts_with("RESOLVED"))
    cutoffs = stores.lake.read("cutoff_snapshot", pl.col("cutoff_type") == "T-24h")
    joined = scored.join(cutoffs, on="market_id", suffix="_found")
    assert joined.height == scored.height
    assert (joined["p_yes"] - joined["p_t24h"]).abs().max() < 1e-9  # type: ignore[operator]
    assert joined.filter(pl.col("liquidity_bucket") != pl.col("liquidity_bucket_found")).is_empty()
    registry = truth.join(stores.lake.read("market_registry"), on="market_id", suffix="_found")
    assert registry.filter(pl.col("category") != pl.col("category_found")).is_empty()
    assert registry.filter(pl.col("event_id") != pl.col("event_id_found")).is_empty()


async def test_faults_at_the_venue_lose_nothing(
    replay: RunningReplay,
    archive: Archive,
    make_stores: MakeStores,
    ingest_all: Any,
) -> None:
    calm, rough = make_stores("calm"), make_stores("rough")
    await ingest_all(replay.base_url, calm)
    plan = dataclasses.replace(FaultPlan.everything(0.25, seed=4), latency_ms=1.0, repeat=0.6)
    with serve(archive, faults=plan) as shaky:
        accounts = await ingest_all(shaky.base_url, rough)
        assert shaky.faults is not None
        assert all(shaky.faults.injected[kind] for kind in ("drop", "truncate", "repeat"))
    assert all(account.failures == 0 for account in accounts.values())
    expected, found = contents(calm), contents(rough)
    for table in TABLES:
        assert found[table].equals(expected[table]), table


async def test_a_second_run_changes_nothing_and_asks_for_less(
    replay: RunningReplay, make_stores: MakeStores, ingest_all: Any
) -> None:
    stores = make_stores()
    first = await ingest_all(replay.base_url, stores)
    versions = {table: stores.lake.version(table) for table in TABLES}
    second = await ingest_all(replay.base_url, stores)
    assert {table: stores.lake.version(table) for table in TABLES} == versions
    assert all(account.rows_written == 0 for account in second.values())
    assert second["prices"].skipped > 0.8 * first["prices"].requests


async def test_only_newer_history_is_fetched(
    archive: Archive, make_stores: MakeStores, ingest_all: Any
) -> None:
    half = archive.prices.with_columns(t=pl.col("t").list.head(40), p=pl.col("p").list.head(40))
    stores, whole = make_stores("growing"), make_stores("whole")
    with serve(dataclasses.replace(archive, prices=half)) as early:
        await ingest_all(early.base_url, stores)
    with serve(archive) as late:
        grown = await ingest_all(late.base_url, stores)
        await ingest_all(late.base_url, whole)
    assert grown["prices"].rows_in < 30 * len(archive.markets)
    assert contents(stores)["market_snapshot"].equals(contents(whole)["market_snapshot"])


async def test_cursor_and_offset_paging_agree(
    replay: RunningReplay, make_stores: MakeStores, rest_at: Any
) -> None:
    by_offset, by_cursor = make_stores("offset"), make_stores("cursor")
    async for rest in rest_at(replay.base_url, page_size=7):
        await ingest_markets(rest, by_offset, scope=MarketScope(by_cursor=False))
        await ingest_markets(rest, by_cursor)
    tables = [contents(stores)["market_registry"] for stores in (by_offset, by_cursor)]
    assert tables[0].equals(tables[1])


@pytest.mark.parametrize("by_cursor", [True, False])
async def test_a_venue_that_pages_in_a_circle_is_refused(
    archive: Archive, make_stores: MakeStores, rest_at: Any, by_cursor: bool
) -> None:
    plan = FaultPlan(repeat=1.0, max_per_request=1000)
    with serve(archive, faults=plan) as circle:
        async for rest in rest_at(circle.base_url, page_size=10):
            with pytest.raises(PagingLoop):
                await ingest_markets(rest, make_stores(), scope=MarketScope(by_cursor=by_cursor))


async def test_a_venue_that_stays_down_is_an_error_and_not_an_empty_result(
    archive: Archive, make_stores: MakeStores, rest_at: Any
) -> None:
    plan = FaultPlan(server_error=1.0, max_per_request=1000)
    with serve(archive, faults=plan) as down:
        async for rest in rest_at(down.base_url):
            with pytest.raises(VenueServerError):
                await ingest_markets(rest, make_stores())


async def test_bad_records_and_points_are_dead_letters_with_their_reason(
    archive: Archive, make_stores: MakeStores, rest_at: Any
) -> None:
    good = archive.markets[0]
    token = archive.prices["token_id"][0]
    broken = dict(good, id="999", outcomes="not json")
    history = pl.DataFrame(
        {"token_id": [token], "t": [[1_780_000_000, 1_780_000_300]], "p": [[0.4, 1.7]]}
    )
    flows = [{"id": "0x1", "timestamp": "1780000000", "condition": "0xnone", "amount": "5"}]
    bad = dataclasses.replace(archive, markets=[good, broken], prices=history, splits=flows)
    stores = make_stores()
    with serve(bad) as venue:
        async for rest in rest_at(venue.base_url):
            markets = await ingest_markets(rest, stores)
            await ingest_open_interest(rest, stores)
            prices = await ingest_prices(rest, stores)
    assert (markets.rows_out, markets.dead_letters) == (1, 1)
    assert prices.dead_letters == 1
    reasons = set(stores.lake.read("dead_letter")["reason"])
    assert {"OUTCOMES_UNREADABLE", "PRICE_OUT_OF_RANGE", "UNKNOWN_CONDITION"} <= reasons
    assert stores.lake.read("raw_file").height >= 2


class Interrupted(RuntimeError):
    """Stands for a process that dies."""


@pytest.mark.parametrize("stop_after", [1, 3, 7])
async def test_an_interrupted_ingestion_continues_to_the_same_lake(
    replay: RunningReplay,
    make_stores: MakeStores,
    ingest_all: Any,
    rest_at: Any,
    stop_after: int,
) -> None:
    calls = 0

    def stop(_stage: str, _done: int, _total: int | None) -> None:
        nonlocal calls
        calls += 1
        if calls == stop_after:
            raise Interrupted

    stores, whole = make_stores("interrupted"), make_stores("whole")
    scope = PriceScope(batch_size=20, flush_rows=500)

    async def ingest() -> None:
        async for rest in rest_at(replay.base_url):
            await ingest_markets(rest, stores, progress=stop)
            await ingest_open_interest(rest, stores, progress=stop)
            await ingest_prices(rest, stores, scope=scope, progress=stop)

    with pytest.raises(Interrupted):
        await ingest()
    await ingest_all(replay.base_url, stores)
    await ingest_all(replay.base_url, whole)
    for table, expected in contents(whole).items():
        assert contents(stores)[table].equals(expected), table
