"""The subgraph fails by segment: what can be read is kept, and what cannot comes later."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl
import pytest
from starlette.responses import Response

from market_data.ingest import Stores, ingest_markets, ingest_open_interest
from market_data.replay.archive import Archive
from market_data.replay.faults import FaultPlan
from market_data.replay.server import RunningReplay, create_app, run_app, serve
from market_data.venues.http import HttpPolicy, VenueHttp
from market_data.venues.polymarket.settings import PolymarketSettings
from market_data.venues.polymarket.subgraph import AMOUNT_FIELDS, FlowPage, Segment, Subgraph

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

MakeStores = Callable[..., Stores]
END = 4_000_000_000


@dataclasses.dataclass
class BrokenEntities:
    """A subgraph where some entities fail: by error beside data, or the whole request."""

    archive: Archive
    broken: set[str]
    refuses: bool = False

    def __post_init__(self) -> None:
        self._app = create_app(self.archive)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].startswith("/subgraph"):
            await self._app(scope, receive, send)
            return
        body = (await receive())["body"]
        variables = orjson.loads(body)["variables"]
        hit = {e for e in self.broken if variables.get(f"with{e.title()}")}
        if hit and self.refuses:
            await Response(status_code=400)(scope, receive, send)
            return
        answers: list[bytes] = []

        async def again() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def collect(message: Message) -> None:
            answers.append(message.get("body", b""))

        await self._app(scope, again, collect)
        value = orjson.loads(b"".join(answers))
        if hit:
            value["data"] |= dict.fromkeys(hit)
            value["errors"] = [{"message": "store error", "path": [e]} for e in sorted(hit)]
        await Response(orjson.dumps(value))(scope, receive, send)


@contextmanager
def broken(archive: Archive, *entities: str, refuses: bool = False) -> Iterator[str]:
    with run_app(BrokenEntities(archive, set(entities), refuses)) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def subgraph_at() -> Callable[..., Any]:
    async def nap(_seconds: float) -> None:
        return

    async def build(base_url: str, size: int = 50) -> AsyncIterator[Subgraph]:
        settings = PolymarketSettings("", "", f"{base_url}/subgraph/activity", 500, size)
        async with VenueHttp(HttpPolicy(), rng=random.Random(1), sleep=nap) as http:
            yield Subgraph(http, settings)

    return build


def tables(stores: Stores) -> tuple[pl.DataFrame, pl.DataFrame]:
    flows = stores.lake.read("collateral_flow").sort("flow_id")
    return flows, stores.lake.read("open_interest").sort("market_id", "ts")


async def test_three_entities_come_in_one_request_and_each_once(
    replay: RunningReplay, archive: Archive, subgraph_at: Any
) -> None:
    found: dict[str, list[str]] = {entity: [] for entity in AMOUNT_FIELDS}
    pages = 0
    async for subgraph in subgraph_at(replay.base_url):
        async for part in subgraph.flows([Segment(entity, 0, END) for entity in AMOUNT_FIELDS]):
            assert isinstance(part, FlowPage)
            pages += 1
            for segment, records in part.records.items():
                found[segment.entity] += [record["id"] for record in records]
    for entity in AMOUNT_FIELDS:
        assert found[entity] == [record["id"] for record in getattr(archive, entity)]
    assert pages == len(archive.splits) // 50 + 1


async def test_conditions_are_asked_for_together(
    replay: RunningReplay, archive: Archive, subgraph_at: Any
) -> None:
    wanted = tuple(market["conditionId"] for market in archive.markets[:5])
    found: list[str] = []
    async for subgraph in subgraph_at(replay.base_url):
        async for part in subgraph.flows([Segment(e, 0, END, wanted) for e in AMOUNT_FIELDS]):
            found += [r["condition"] for records in part.records.values() for r in records]
    flows = [*archive.splits, *archive.merges, *archive.redemptions]
    assert sorted(found) == sorted(f["condition"] for f in flows if f["condition"] in wanted)


async def test_faults_neither_lose_nor_double_a_flow(
    archive: Archive, replay: RunningReplay, make_stores: MakeStores, rest_at: Any
) -> None:
    calm, rough = make_stores("calm"), make_stores("rough")
    plan = dataclasses.replace(FaultPlan.everything(0.3, seed=2), latency_ms=1.0, repeat=0.6)
    with serve(archive, faults=plan) as shaky:
        for stores, url in ((calm, replay.base_url), (rough, shaky.base_url)):
            async for rest in rest_at(url):
                await ingest_markets(rest, stores)
                done = await ingest_open_interest(rest, stores)
                assert done.failures == 0
        assert shaky.faults is not None
        assert shaky.faults.injected["repeat"]
    for one, other in zip(tables(calm), tables(rough), strict=True):
        assert one.equals(other)
    flows = len(archive.splits) + len(archive.merges) + len(archive.redemptions)
    assert tables(calm)[0].height == flows


@pytest.mark.parametrize("refuses", [False, True])
async def test_an_entity_that_fails_takes_no_other_with_it_and_comes_with_the_next_run(
    archive: Archive, replay: RunningReplay, make_stores: MakeStores, rest_at: Any, refuses: bool
) -> None:
    stores, whole = make_stores("partly"), make_stores("whole")
    with broken(archive, "merges", refuses=refuses) as url:
        async for rest in rest_at(url):
            await ingest_markets(rest, stores)
            done = await ingest_open_interest(rest, stores)
    kept = dict(stores.lake.read("collateral_flow")["entity"].value_counts().iter_rows())
    assert kept == {"splits": len(archive.splits), "redemptions": len(archive.redemptions)}
    assert (done.failures, done.dead_letters) == (1, 1)
    letter = stores.lake.read("dead_letter").row(0, named=True)
    asked = orjson.loads(letter["record"])
    assert (asked["entity"], asked["timestamp_gte"], letter["raw_sha256"]) == ("merges", 0, None)
    assert letter["reason"] == ("VenueRefused" if refuses else "VenueBadPayload")
    for url, target in ((replay.base_url, stores), (replay.base_url, whole)):
        async for rest in rest_at(url):
            await ingest_markets(rest, target)
            assert (await ingest_open_interest(rest, target)).failures == 0
    for one, other in zip(tables(stores), tables(whole), strict=True):
        assert one.equals(other)


async def test_a_subgraph_without_a_single_entity_is_named_and_changes_nothing(
    archive: Archive, replay: RunningReplay, make_stores: MakeStores, rest_at: Any
) -> None:
    stores = make_stores()
    async for rest in rest_at(replay.base_url):
        await ingest_markets(rest, stores)
        await ingest_open_interest(rest, stores)
    before = tables(stores)
    with broken(archive, *AMOUNT_FIELDS) as url:
        async for rest in rest_at(url):
            done = await ingest_open_interest(rest, stores)
    assert done.failed == tuple(f"{entity} (VenueBadPayload)" for entity in AMOUNT_FIELDS)
    assert (done.requests, done.rows_written) == (0, 0)
    assert stores.lake.read("dead_letter").height == len(AMOUNT_FIELDS)
    for one, other in zip(before, tables(stores), strict=True):
        assert one.equals(other)


@dataclasses.dataclass
class BreaksOff:
    """A subgraph that refuses splits behind their first page."""

    archive: Archive

    def __post_init__(self) -> None:
        self._app = create_app(self.archive)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].startswith("/subgraph"):
            await self._app(scope, receive, send)
            return
        asked = await receive()

        async def again() -> Message:
            return asked

        variables = orjson.loads(asked["body"])["variables"]
        hit = variables["withSplits"] and variables["splitsAfter"]
        await (Response(status_code=400) if hit else self._app)(scope, again, send)


async def test_an_entity_that_fails_behind_its_first_page_is_read_from_there_again(
    archive: Archive, replay: RunningReplay, make_stores: MakeStores, rest_at: Any
) -> None:
    stores, whole = make_stores("partly"), make_stores("whole")
    newest_first = sorted(archive.splits, key=lambda split: -int(split["timestamp"]))
    ids = sorted(str(split["id"]) for split in archive.splits)
    turned = [s | {"id": i} for s, i in zip(newest_first, ids, strict=True)]
    archive = dataclasses.replace(archive, splits=turned)
    with run_app(BreaksOff(archive)) as port:
        async for rest in rest_at(f"http://127.0.0.1:{port}"):
            await ingest_markets(rest, stores)
            done = await ingest_open_interest(rest, stores)
    assert done.failed == ("splits (VenueRefused)",)
    assert set(stores.lake.read("flow_reach")["entity"]) == {"merges", "redemptions"}
    with serve(archive) as sound:
        for target in (stores, whole):
            async for rest in rest_at(sound.base_url):
                await ingest_markets(rest, target)
                assert (await ingest_open_interest(rest, target)).failures == 0
    assert len(archive.splits) > 100
    for one, other in zip(tables(stores), tables(whole), strict=True):
        assert one.equals(other)


@dataclasses.dataclass
class Indexing:
    """A subgraph that indexes more splits behind the first answer of it."""

    before: Archive
    after: Archive
    answered: int = 0

    def __post_init__(self) -> None:
        self._apps = create_app(self.before), create_app(self.after)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        place = min(self.answered, 1)
        self.answered += scope["path"].startswith("/subgraph")
        await self._apps[place](scope, receive, send)


async def test_flows_that_are_indexed_while_pages_are_read_come_with_the_next_run(
    archive: Archive, make_stores: MakeStores, rest_at: Any
) -> None:
    stores = make_stores()
    now = int(stores.now().timestamp())
    moved = {"condition": archive.markets[0]["conditionId"], "amount": "7000000"}
    late = [
        {"id": "0x", "timestamp": str(now - 60), **moved},
        {"id": "0xzz", "timestamp": str(now - 30), **moved},
    ]
    after = dataclasses.replace(archive, splits=[*archive.splits, *late])
    with run_app(Indexing(archive, after)) as port:
        async for rest in rest_at(f"http://127.0.0.1:{port}"):
            await ingest_markets(rest, stores)
            await ingest_open_interest(rest, stores)
            later = dataclasses.replace(stores, now=lambda: stores.now() + timedelta(hours=1))
            await ingest_open_interest(rest, later)
    flows, _ = tables(stores)
    assert {"splits:0x", "splits:0xzz"} <= set(flows["flow_id"])
    assert flows.filter(pl.col("entity") == "splits").height == len(after.splits)


async def test_a_flow_that_cannot_be_read_is_a_letter_of_its_raw_answer(
    archive: Archive, make_stores: MakeStores, rest_at: Any
) -> None:
    spoilt = [archive.splits[0] | {"amount": "many"}, *archive.splits[1:]]
    stores = make_stores()
    with serve(dataclasses.replace(archive, splits=spoilt)) as venue:
        async for rest in rest_at(venue.base_url):
            await ingest_markets(rest, stores)
            await ingest_open_interest(rest, stores)
    (letter,) = stores.lake.read("dead_letter").to_dicts()
    assert letter["reason"] == "AMOUNT_UNREADABLE"
    assert letter["raw_sha256"] in set(stores.lake.read("raw_file")["sha256"])
