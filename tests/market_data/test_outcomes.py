"""The order book's interface decides where a closed market's own prices do not, and only there."""

from __future__ import annotations

import dataclasses
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl
import pytest
from starlette.responses import Response

from market_data.errors import RecordRejected
from market_data.ingest import Stores, derive_labels, ingest_markets, ingest_outcomes
from market_data.replay.archive import Archive
from market_data.replay.clob import ClobOutcomes
from market_data.replay.faults import FaultPlan
from market_data.replay.server import RunningReplay, create_app, run_app, serve
from market_data.venues.polymarket.clob import parse_outcome

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

MakeStores = Callable[..., Stores]


@dataclasses.dataclass
class TellingApp:
    """A venue whose order book's interface says something of its own about one market."""

    archive: Archive
    condition: str
    said: dict[str, Any]

    def __post_init__(self) -> None:
        self._app = create_app(self.archive)
        honest = orjson.loads(ClobOutcomes(self.archive).market(self.condition))
        self._body = orjson.dumps(honest | self.said)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_it = scope["path"] == f"/clob/markets/{self.condition}"
        await (Response(self._body) if is_it else self._app)(scope, receive, send)


@pytest.fixture
def wiped(archive: Archive) -> tuple[Archive, dict[str, Any]]:
    """An archive in which the record of a resolved market has lost its prices, and that market."""
    market = next(
        m for m in archive.markets
        if m["outcomes"] == '["Yes","No"]' and m["outcomePrices"] == '["0","1"]'
    )  # fmt: skip
    others = [m | {"outcomePrices": '["0","0"]'} if m is market else m for m in archive.markets]
    return dataclasses.replace(archive, markets=others), market


def tokens(*winners: bool) -> list[dict[str, Any]]:
    return [{"outcome": o, "winner": w} for o, w in zip(("Yes", "No"), winners, strict=True)]


@pytest.mark.parametrize(
    ("said", "label", "reason"),
    [
        ({"tokens": tokens(False, True)}, "RESOLVED_FALSE", "BOOK_WINNER"),
        ({"tokens": tokens(True, False)}, "RESOLVED_TRUE", "BOOK_WINNER"),
        ({"tokens": tokens(False, False)}, "UNRESOLVED", "PRICES_ALL_ZERO"),
        ({"tokens": tokens(False, False), "is_50_50_outcome": True}, "VOID", "BOOK_FIFTY_FIFTY"),
        ({"tokens": tokens(True, False), "closed": False}, "UNRESOLVED", "PRICES_ALL_ZERO"),
        ({"tokens": [{"outcome": "Nobody", "winner": True}]}, "UNRESOLVED", "PRICES_ALL_ZERO"),
    ],
)
async def test_a_market_without_final_prices_gets_the_outcome_that_is_marked(
    wiped: tuple[Archive, dict[str, Any]], make_stores: MakeStores, rest_at: Any,
    said: dict[str, Any], label: str, reason: str,
) -> None:  # fmt: skip
    archive, market = wiped
    stores = make_stores()
    with run_app(TellingApp(archive, market["conditionId"], said)) as port:
        async for rest in rest_at(f"http://127.0.0.1:{port}"):
            await ingest_markets(rest, stores)
            done = await ingest_outcomes(rest, stores)
            again = await ingest_outcomes(rest, stores)
    assert (done.failures, again.rows_written) == (0, 0)
    derive_labels(stores.lake)
    row = stores.lake.read("label_status", pl.col("market_id") == f"polymarket:{market['id']}")
    assert row.select("label", "reason").rows() == [(label, reason)]
    assert (row["resolved_at"].null_count() == 0) == (label != "UNRESOLVED")


async def test_markets_whose_prices_decide_are_not_asked_about(
    replay: RunningReplay, archive: Archive, make_stores: MakeStores, rest_at: Any
) -> None:
    stores = make_stores()
    async for rest in rest_at(replay.base_url):
        await ingest_markets(rest, stores)
        done = await ingest_outcomes(rest, stores)
    registry = stores.lake.read("market_registry")
    assert done.requests == (registry["status"] == "UNRESOLVED").sum() < len(archive.markets) / 10


async def test_an_outcome_that_cannot_be_asked_for_is_a_dead_letter_and_a_failure(
    wiped: tuple[Archive, dict[str, Any]], make_stores: MakeStores, rest_at: Any
) -> None:
    archive, _ = wiped
    stores = make_stores()
    with serve(archive) as replay:
        async for rest in rest_at(replay.base_url):
            await ingest_markets(rest, stores)
    with serve(archive, faults=FaultPlan(server_error=1.0, max_per_request=1000)) as down:
        async for rest in rest_at(down.base_url):
            done = await ingest_outcomes(rest, stores)
    letters = stores.lake.read("dead_letter", pl.col("source") == "polymarket/clob/markets")
    assert done.failures == letters.height > 0


async def test_an_interface_that_is_down_is_named_and_asked_no_more_than_one_batch(
    archive: Archive, make_stores: MakeStores, rest_at: Any
) -> None:
    wiped = [m | {"outcomePrices": '["0","0"]'} for m in archive.markets if m["closed"]]
    many = [
        m | {"id": f"{m['id']}{n}", "conditionId": f"{m['conditionId']}{n}"}
        for n in range(300 // len(wiped) + 1) for m in wiped
    ]  # fmt: skip
    stores = make_stores()
    with serve(dataclasses.replace(archive, markets=many)) as replay:
        async for rest in rest_at(replay.base_url):
            await ingest_markets(rest, stores)
    with serve(archive, faults=FaultPlan(server_error=1.0, max_per_request=1000)) as down:
        async for rest in rest_at(down.base_url):
            done = await ingest_outcomes(rest, stores)
    assert done.failed == ("the order book (VenueServerError)",)
    assert done.failures == 250 < len(many)


async def test_an_outcome_that_cannot_be_read_is_a_letter_of_its_raw_answer(
    wiped: tuple[Archive, dict[str, Any]], make_stores: MakeStores, rest_at: Any
) -> None:
    archive, market = wiped
    stores = make_stores()
    with run_app(TellingApp(archive, market["conditionId"], {"tokens": "none"})) as port:
        async for rest in rest_at(f"http://127.0.0.1:{port}"):
            await ingest_markets(rest, stores)
            await ingest_outcomes(rest, stores)
    (letter,) = stores.lake.read("dead_letter").to_dicts()
    assert letter["reason"] == "TOKENS_UNREADABLE"
    assert letter["raw_sha256"] in set(stores.lake.read("raw_file")["sha256"])


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ([], "NOT_AN_OBJECT"),
        ({"closed": True}, "TOKENS_UNREADABLE"),
        ({"tokens": []}, "CLOSED_MISSING"),
        ({"tokens": tokens(True, True), "closed": True}, "WINNERS_CONFLICT"),
    ],
)
def test_a_record_that_cannot_be_read_is_rejected_by_name(record: Any, reason: str) -> None:
    with pytest.raises(RecordRejected) as caught:
        parse_outcome(record)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "name", ["clob_markets", "clob_sampling_markets", "clob_simplified_markets"]
)
def test_recorded_listings_are_read_whole(recorded: Path, name: str) -> None:
    with gzip.open(recorded / f"clob/{name}.jsonl.gz") as lines:
        outcomes = [parse_outcome(orjson.loads(line)["record"]) for line in lines]
    assert len(outcomes) > 500
    if name == "clob_markets":
        without = [o for o in outcomes if o.is_closed and not o.winner and not o.is_fifty_fifty]
        assert len(without) > 200
        assert any(o.is_fifty_fifty for o in outcomes)
