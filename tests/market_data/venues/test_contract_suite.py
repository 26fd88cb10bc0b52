"""What ingestion relies on holds for every venue behind the port."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data.errors import PagingLoop, RecordRejected, VenueServerError
from market_data.ingest import Stores, derive_labels, ingest_markets, ingest_prices
from market_data.replay.archive import Archive
from market_data.replay.faults import FaultPlan
from market_data.replay.server import RunningReplay, serve
from market_data.replay.simulate import SimulationConfig
from market_data.replay.simulate_records import simulate
from market_data.venues.http import HttpPolicy, VenueHttp
from market_data.venues.kalshi.rest import KalshiRest
from market_data.venues.kalshi.settings import KalshiSettings
from market_data.venues.manifold.rest import ManifoldRest
from market_data.venues.manifold.settings import ManifoldSettings
from market_data.venues.polymarket.rest import PolymarketRest
from market_data.venues.polymarket.settings import PolymarketSettings
from market_data.venues.port import HistoryRequest, MarketScope, Venue
from market_data.venues.sources import SOURCES

MakeStores = Callable[..., Stores]
TABLES = ("market_registry", "market_snapshot", "label_status")


SMALL = simulate(SimulationConfig(n_markets=12, snapshots_per_market=4, mirror_share=1.0))


@dataclasses.dataclass(frozen=True)
class Case:
    """One venue: how it is asked, and where its records stand in an archive."""

    platform: str
    build: Callable[[VenueHttp, str, int], Venue]
    records: str
    spoil: Callable[[dict[str, Any]], None]
    reason: str

    @asynccontextmanager
    async def at(self, base_url: str, page_size: int = 7) -> AsyncIterator[Venue]:
        async def nap(_seconds: float) -> None:
            return

        async with VenueHttp(HttpPolicy(), rng=random.Random(1), sleep=nap) as http:
            yield self.build(http, base_url, page_size)

    def listed(self, archive: Archive) -> set[str]:
        """Market ids that the venue holds."""
        if self.platform == "kalshi":
            tickers = [m["ticker"] for e in archive.kalshi_events for m in e["markets"]]
            return {f"kalshi:{ticker}" for ticker in tickers}
        return {f"{self.platform}:{r['id']}" for r in getattr(archive, self.records)}


def polymarket(http: VenueHttp, url: str, size: int) -> Venue:
    places = {"gamma_url": f"{url}/gamma", "clob_url": f"{url}/clob", "subgraph_url": ""}
    return PolymarketRest(http, PolymarketSettings(**places, page_size=size))


def kalshi(http: VenueHttp, url: str, size: int) -> Venue:
    return KalshiRest(http, KalshiSettings(f"{url}/kalshi", page_size=size, candles_per_request=90))


def manifold(http: VenueHttp, url: str, size: int) -> Venue:
    settings = ManifoldSettings(f"{url}/manifold", page_size=size, bets_per_page=9)
    return ManifoldRest(http, settings)


CASES = [
    Case("polymarket", polymarket, "markets",
         lambda r: r.update(outcomes="?", id="bad"), "OUTCOMES_UNREADABLE"),
    Case("kalshi", kalshi, "kalshi_events",
         lambda r: r["markets"][0].update(status="vanished", ticker="BAD"), "STATUS_UNKNOWN"),
    Case("manifold", manifold, "manifold_markets",
         lambda r: r.update(isResolved="maybe", id="bad"), "RESOLVED_MISSING"),
]  # fmt: skip


@pytest.fixture(params=CASES, ids=lambda case: str(case.platform))
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture(scope="module")
def archive() -> Archive:
    """Every venue holds dozens of markets, with 24 prices each."""
    return simulate(
        SimulationConfig(seed=5, n_markets=80, snapshots_per_market=24, mirror_share=0.6)
    )


@pytest.fixture(scope="module")
def replay(archive: Archive) -> Iterator[RunningReplay]:
    with serve(archive) as running:
        yield running


async def ingest(venue: Venue, stores: Stores) -> tuple[Any, Any]:
    accounts = await ingest_markets(venue, stores), await ingest_prices(venue, stores)
    derive_labels(stores.lake)
    return accounts


def contents(stores: Stores) -> dict[str, pl.DataFrame]:
    found = {}
    for table in TABLES:
        frame = stores.lake.read(table).drop("ingested_at", "raw_sha256", strict=False)
        found[table] = frame.sort([c for c in ("market_id", "ts") if c in frame.columns])
    return found


async def test_paging_reaches_every_market_once(
    case: Case, replay: RunningReplay, archive: Archive
) -> None:
    found: list[str] = []
    scope = MarketScope()
    async with case.at(replay.base_url) as venue:
        for query in venue.listings(scope):
            async for page in venue.market_pages(query, scope):
                found += [venue.parse_market(record).market_id for record in page.records]
    assert len(found) == len(set(found))
    assert set(found) == case.listed(archive)


async def test_every_row_says_which_venue_it_comes_from(
    case: Case, replay: RunningReplay, make_stores: MakeStores
) -> None:
    stores = make_stores()
    async with case.at(replay.base_url) as venue:
        await ingest(venue, stores)
    registry = stores.lake.read("market_registry")
    assert set(registry["platform"]) == {case.platform}
    assert registry["market_id"].str.starts_with(f"{case.platform}:").all()
    sources = SOURCES[case.platform]
    named = set(stores.lake.read("market_snapshot")["data_source"])
    assert named == {sources.history, sources.markets}
    assert set(stores.lake.read("raw_file")["source"]) == {sources.history, sources.markets}


async def test_truncated_repeated_and_refused_answers_lose_nothing(
    case: Case, replay: RunningReplay, archive: Archive, make_stores: MakeStores
) -> None:
    calm, rough = make_stores("calm"), make_stores("rough")
    async with case.at(replay.base_url) as venue:
        await ingest(venue, calm)
    plan = dataclasses.replace(FaultPlan.everything(0.3, seed=4), latency_ms=1.0, repeat=0.6)
    with serve(archive, faults=plan) as shaky:
        async with case.at(shaky.base_url) as venue:
            accounts = await ingest(venue, rough)
        assert shaky.faults is not None
        kinds = ("rate_limit", "server_error", "truncate", "repeat")
        assert all(shaky.faults.injected[kind] for kind in kinds)
    assert [account.failures for account in accounts] == [0, 0]
    for table, expected in contents(calm).items():
        assert contents(rough)[table].equals(expected), table


async def test_a_venue_that_stays_down_is_an_error(
    case: Case, archive: Archive, make_stores: MakeStores
) -> None:
    with serve(archive, faults=FaultPlan(server_error=1.0, max_per_request=1000)) as down:
        async with case.at(down.base_url) as venue:
            with pytest.raises(VenueServerError):
                await ingest_markets(venue, make_stores())


async def test_a_venue_that_pages_in_a_circle_is_refused(
    case: Case, archive: Archive, make_stores: MakeStores
) -> None:
    with serve(archive, faults=FaultPlan(repeat=1.0, max_per_request=1000)) as circle:
        async with case.at(circle.base_url) as venue:
            with pytest.raises(PagingLoop):
                await ingest_markets(venue, make_stores())


async def test_a_record_that_is_refused_is_a_dead_letter_and_takes_no_other_with_it(
    case: Case, archive: Archive, make_stores: MakeStores
) -> None:
    records = getattr(archive, case.records)
    spoilt = copy.deepcopy(records[0])
    case.spoil(spoilt)
    stores = make_stores()
    with serve(dataclasses.replace(archive, **{case.records: [spoilt, *records]})) as replay:
        async with case.at(replay.base_url) as venue:
            done = await ingest_markets(venue, stores)
    letters = stores.lake.read("dead_letter")
    assert (done.dead_letters, done.rows_out) == (1, done.rows_in - 1)
    assert letters.select("source", "reason").rows() == [
        (SOURCES[case.platform].markets, case.reason)
    ]
    assert set(stores.lake.read("market_registry")["market_id"]) == case.listed(archive)


async def test_the_same_answers_again_change_nothing(
    case: Case, replay: RunningReplay, make_stores: MakeStores
) -> None:
    stores = make_stores()
    async with case.at(replay.base_url) as venue:
        await ingest(venue, stores)
        versions = {table: stores.lake.version(table) for table in TABLES}
        again = await ingest(venue, stores)
    assert [account.rows_written for account in again] == [0, 0]
    assert {table: stores.lake.version(table) for table in TABLES} == versions


async def test_states_and_results_become_the_labels_of_the_truth(
    case: Case, replay: RunningReplay, archive: Archive, make_stores: MakeStores
) -> None:
    stores = make_stores()
    async with case.at(replay.base_url) as venue:
        await ingest(venue, stores)
    truth = archive.truth or {}
    label_of = dict(zip(truth["markets"]["market_id"], truth["markets"]["label"], strict=True))
    expected = {
        market: label_of[question[0]]
        for question in truth["questions"]
        for market in question
        if question[0] in label_of and market.startswith(f"{case.platform}:")
    }
    found = dict(stores.lake.read("label_status").select("market_id", "label").iter_rows())
    assert len(expected) > 20
    assert {market: found[market] for market in expected} == expected


async def test_histories_ascend_within_bounds_and_stop_where_they_are_told_to(
    case: Case, replay: RunningReplay, make_stores: MakeStores
) -> None:
    stores = make_stores()
    async with case.at(replay.base_url) as venue:
        await ingest_markets(venue, stores)
        row = stores.lake.read("market_registry").row(0, named=True)
        opened, until = (int(row[name].timestamp()) for name in ("start_at", "ingested_at"))
        wanted = HistoryRequest(row["market_id"], row["token_ids"][0], None, opened, until)
        points = [venue.parse_history(a.value) for a in await venue.history(wanted)]
        times = [t for ts, _, _ in points for t in ts]
        later = await venue.history(dataclasses.replace(wanted, start_ts=times[-5] + 1))
        rest = [t for a in later for t in venue.parse_history(a.value)[0]]
    assert len(times) == 24
    assert times == sorted(set(times))
    assert all(0 <= p <= 1 for _, ps, _ in points for p in ps)
    assert not any(rejects for _, _, rejects in points)
    assert rest == times[-4:]


async def test_a_second_run_fetches_only_what_is_new(
    case: Case, replay: RunningReplay, archive: Archive, make_stores: MakeStores
) -> None:
    cut = [pl.col(name).list.head(16) for name in ("t", "p")]
    growing, whole = make_stores("growing"), make_stores("whole")
    with serve(dataclasses.replace(archive, prices=archive.prices.with_columns(cut))) as early:
        async with case.at(early.base_url) as venue:
            await ingest(venue, growing)
    async with case.at(replay.base_url) as venue:
        _, grown = await ingest(venue, growing)
        _, first = await ingest(venue, whole)
    assert 0 < grown.rows_in < 0.5 * first.rows_in
    found, expected = contents(growing), contents(whole)
    assert found["market_snapshot"].equals(expected["market_snapshot"])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
        max_leaves=8,
    ),
    st.data(),
)
def test_any_json_is_read_or_rejected_by_name(junk: Any, data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(CASES))
    venue = case.build(None, "", 1)  # type: ignore[arg-type]
    record = getattr(SMALL, case.records)[0]
    record = record["markets"][0] if "markets" in record else record
    name = data.draw(st.sampled_from(sorted(record)))
    for candidate in (junk, record | {name: junk}):
        reasons: list[str] = []
        try:
            venue.parse_market(candidate)
        except RecordRejected as rejected:
            reasons.append(rejected.reason)
        assert all(reason.isupper() for reason in reasons)
    for value in (junk, {"candlesticks": junk}, {"history": junk}, [junk]):
        try:
            t, p, _ = venue.parse_history(orjson.loads(orjson.dumps(value, default=repr)))
        except (RecordRejected, orjson.JSONEncodeError):
            continue
        assert len(t) == len(p)
