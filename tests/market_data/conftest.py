"""What the tests of market_data share: a small archive, a venue that serves it, stores, rows."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from market_data.cutoffs import build_cutoffs
from market_data.ingest import (
    IngestResult,
    Stores,
    derive_labels,
    ingest_markets,
    ingest_open_interest,
    ingest_prices,
)
from market_data.lake import Lake, conform, polars_schema
from market_data.raw import RawStore
from market_data.replay.archive import Archive
from market_data.replay.server import RunningReplay, serve
from market_data.replay.simulate import SimulationConfig
from market_data.replay.simulate_records import simulate
from market_data.venues.http import HttpPolicy, VenueHttp
from market_data.venues.polymarket.rest import PolymarketRest
from market_data.venues.polymarket.settings import PolymarketSettings

NOW = datetime(2026, 10, 1, 6, tzinfo=UTC)
RECORDED = Path(__file__).resolve().parents[2] / "../shared/data/dev"


@pytest.fixture(scope="session")
def recorded() -> Path:
    """The folder of recorded data; the test skips where it is absent."""
    if not (RECORDED / "gamma").is_dir():
        pytest.skip("the recorded data is not part of the repository and is absent here")
    return RECORDED


@pytest.fixture(scope="session")
def config() -> SimulationConfig:
    return SimulationConfig(seed=11, n_markets=120, snapshots_per_market=60)


@pytest.fixture(scope="session")
def archive(config: SimulationConfig) -> Archive:
    return simulate(config)


@pytest.fixture(scope="session")
def replay(archive: Archive) -> Iterator[RunningReplay]:
    with serve(archive) as running:
        yield running


@pytest.fixture
def make_stores(tmp_path: Path) -> Callable[[str], Stores]:
    def make(name: str = "stores") -> Stores:
        return Stores(Lake(tmp_path / name), RawStore(tmp_path / name / "raw"), lambda: NOW)

    return make


@pytest.fixture
def rest_at() -> Callable[[str], Any]:
    """Builds a venue client that never waits between attempts."""

    async def nap(_seconds: float) -> None:
        return

    async def build(base_url: str, page_size: int = 50) -> AsyncIterator[PolymarketRest]:
        settings = PolymarketSettings(
            gamma_url=f"{base_url}/gamma",
            clob_url=f"{base_url}/clob",
            subgraph_url=f"{base_url}/subgraph/activity",
            page_size=page_size,
            subgraph_page_size=100,
        )
        async with VenueHttp(HttpPolicy(), rng=random.Random(1), sleep=nap) as http:
            yield PolymarketRest(http, settings)

    return build


@pytest.fixture
def ingest_all(rest_at: Any) -> Any:
    """Runs every ingestion and stage against a venue; returns the accounts by stage."""

    async def run(base_url: str, stores: Stores) -> dict[str, IngestResult]:
        accounts: dict[str, IngestResult] = {}
        async for rest in rest_at(base_url):
            for step in (ingest_markets, ingest_open_interest, ingest_prices):
                account = await step(rest, stores)
                accounts[account.stage] = account
        derive_labels(stores.lake)
        snapshots, registry, labels = (
            stores.lake.read(name)
            for name in ("market_snapshot", "market_registry", "label_status")
        )
        stores.lake.replace("cutoff_snapshot", build_cutoffs(snapshots, registry, labels))
        return accounts

    return run


def gamma_record(**changes: Any) -> dict[str, Any]:
    """A closed yes/no market as Gamma sends it, with changes; a value of None drops the field."""
    record = {
        "id": "1",
        "question": "Will it happen?",
        "conditionId": "0xabc",
        "slug": "will-it-happen",
        "endDate": "2026-09-01T00:00:00Z",
        "createdAt": "2026-08-01T00:00:00Z",
        "updatedAt": "2026-09-01T03:00:00Z",
        "closedTime": "2026-09-01 02:00:00+00",
        "closed": True,
        "active": True,
        "outcomes": '["Yes", "No"]',
        "outcomePrices": '["1", "0"]',
        "clobTokenIds": '["11", "22"]',
        "enableOrderBook": True,
        "umaResolutionStatus": "resolved",
        "umaResolutionStatuses": '["proposed", "resolved"]',
        "volumeNum": 5.5,
        "events": [{"id": "77", "category": "Sports"}],
    } | changes
    return {name: value for name, value in record.items() if value is not None}


@pytest.fixture
def record() -> Callable[..., dict[str, Any]]:
    return gamma_record


@pytest.fixture
def registry_rows() -> Callable[..., pl.DataFrame]:
    """Registry rows from (market_id, resolved_at or None for open, end_at)."""

    def build(rows: list[tuple[str, datetime | None, datetime | None]]) -> pl.DataFrame:
        schema = polars_schema("market_registry")
        frame = pl.DataFrame(
            {
                "market_id": [r[0] for r in rows],
                "event_id": [r[0] for r in rows],
                "outcomes": [["Yes", "No"] for _ in rows],
                "token_ids": [[r[0] + "-y", r[0] + "-n"] for r in rows],
                "resolved_at": [r[1] for r in rows],
                "closed_at": [r[1] for r in rows],
                "end_at": [r[2] for r in rows],
                "status": ["ACTIVE" if r[1] is None else "RESOLVED" for r in rows],
            },
            schema_overrides={c: schema[c] for c in ("resolved_at", "closed_at", "end_at")},
        )
        missing = [c for c in schema if c not in frame.columns and c != "schema_version"]
        return conform(
            "market_registry", frame.with_columns(pl.lit(None).alias(c) for c in missing)
        )

    return build


@pytest.fixture
def snapshot_rows() -> Callable[..., pl.DataFrame]:
    """Snapshot rows from (market_id, time, p_yes)."""

    def build(rows: list[tuple[str, datetime, float]]) -> pl.DataFrame:
        schema = polars_schema("market_snapshot")
        frame = pl.DataFrame(
            {
                "market_id": [r[0] for r in rows],
                "ts": [r[1] for r in rows],
                "p_yes": [r[2] for r in rows],
                "p_no": [1 - r[2] for r in rows],
                "bid": [r[2] - 0.01 for r in rows],
                "liquidity_bucket": ["LOW" for _ in rows],
            },
            schema_overrides={"ts": schema["ts"], "market_id": pl.String()},
        )
        missing = [
            c for c in schema if c not in frame.columns and c not in ("schema_version", "dt")
        ]
        return conform(
            "market_snapshot", frame.with_columns(pl.lit(None).alias(c) for c in missing)
        )

    return build


@pytest.fixture
def at() -> Callable[[float], datetime]:
    """Hours after 2026-09-01T00:00Z, as a time."""
    return lambda hours: datetime(2026, 9, 1, tzinfo=UTC) + timedelta(hours=hours)
