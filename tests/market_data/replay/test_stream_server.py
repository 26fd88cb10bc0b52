"""The streaming venue: both protocols, its clock, its memory of who left, and its polling."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError

from market_data.errors import CaptureError
from market_data.replay.stream_capture import Record, read_capture
from market_data.replay.stream_faults import KINDS, StreamFaultPlan
from market_data.replay.stream_playback import PlaybackSettings
from market_data.replay.stream_server import RunningStreams, serve_streams
from market_data.replay.stream_simulate import StreamDay, simulate_day

DEADLINE = 20.0
DAY = StreamDay(
    n_conditions=4, duration_s=200, updates_per_second=10, n_jumps=0, resolved_share=0.5
)
RECORDS, TRUTH = simulate_day(DAY)
ASSETS = [asset for pair in TRUTH.assets.values() for asset in pair]


def capture() -> Any:
    return iter(RECORDS)


@asynccontextmanager
async def to(venue: RunningStreams, path: str = "/ws/market") -> AsyncIterator[ClientConnection]:
    async with connect(venue.url + path, proxy=None, close_timeout=0.2) as socket:
        yield socket


async def subscribe(socket: ClientConnection, *assets: str, **changes: object) -> None:
    message = {"type": "market", "assets_ids": assets or ASSETS, "custom_feature_enabled": True}
    await socket.send(orjson.dumps(message | changes), text=True)


async def read(socket: ClientConnection) -> Any:
    async with asyncio.timeout(DEADLINE):
        text = await socket.recv()
    return orjson.loads(text) if text != "PONG" else text


async def drain(socket: ClientConnection) -> list[str]:
    frames: list[str] = []
    async with asyncio.timeout(DEADLINE):
        try:
            while True:
                frames.append(str(await socket.recv()))
        except ConnectionClosed:
            return frames


def messages(frames: list[str]) -> list[dict[str, Any]]:
    values = [orjson.loads(frame) for frame in frames]
    return [m for value in values for m in (value if isinstance(value, list) else [value])]


async def poll(venue: RunningStreams, path: str) -> Any:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(venue.http_url + path)
        return answer.json() if answer.status_code == 200 else answer.status_code


async def test_a_subscription_is_answered_with_an_array_of_books_and_ping_with_pong() -> None:
    async with serve_streams(capture, PlaybackSettings(speed=1)) as venue, to(venue) as socket:
        await subscribe(socket, *ASSETS[:2])
        dump = await read(socket)
        await socket.send("PING")
        answers = [await read(socket)]
        while answers[-1] != "PONG":
            answers.append(await read(socket))

    assert [(m["event_type"], m["asset_id"]) for m in dump] == [("book", a) for a in ASSETS[:2]]
    assert dump[0]["bids"]
    assert dump[0]["asks"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "subscribe", "channel": "market", "market_ids": ["x"]},
        {"type": "market", "asset_ids": ASSETS},
        {"type": "market", "assets_ids": "all"},
        {"operation": "resubscribe", "assets_ids": ASSETS},
    ],
)
async def test_a_wrong_form_is_met_with_silence(wrong: dict[str, object]) -> None:
    async with serve_streams(capture) as venue, to(venue) as socket:
        await socket.send(orjson.dumps(wrong), text=True)
        await socket.send("PING")

        assert await read(socket) == "PONG"
        assert (await poll(venue, "/replay/state"))["misunderstood"] == 1
        assert venue.playback.sent == {}


async def test_only_subscribed_assets_come_and_custom_types_only_where_asked_for() -> None:
    plain, custom = list(TRUTH.assets.values())[:2]
    async with serve_streams(capture) as venue, to(venue) as socket:
        await subscribe(socket, *plain, custom_feature_enabled=False, initial_dump=False)
        await subscribe(socket, *custom, operation="subscribe", initial_dump=False)
        found = messages(await drain(socket))

    best = {m["asset_id"] for m in found if m["event_type"] == "best_bid_ask"}
    others = {m["asset_id"] for m in found if m["event_type"] in ("book", "last_trade_price")}
    assert best == set(custom)
    assert others == {*plain, *custom}


async def test_the_clock_stands_still_while_somebody_is_missing() -> None:
    settings = PlaybackSettings(clients={"polymarket": 2})
    async with serve_streams(capture, settings) as venue:
        async with to(venue) as first:
            await subscribe(first)
            await read(first)
            await first.send("PING")
            assert await read(first) == "PONG"
            assert venue.playback.records == 0
            async with to(venue) as second:
                await subscribe(second)
                await read(second)
                assert await read(first) == await read(second)
        async with asyncio.timeout(DEADLINE):
            while venue.playback.clients:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        position = venue.playback.position_ms
        assert not venue.playback.is_ended
        assert (await poll(venue, "/replay/state"))["position_ms"] == position


async def test_a_client_that_returns_gets_what_was_under_way_and_a_snapshot_of_then() -> None:
    settings = PlaybackSettings(overlap_ms=2_000, overlap_frames=800)
    sent = [r.frame.decode() for r in RECORDS if r.channel == "polymarket"]
    async with serve_streams(capture, settings) as venue:
        async with to(venue) as socket:
            await subscribe(socket)
            await read(socket)
            first = [str(await socket.recv()) for _ in range(1500)]
            socket.transport.abort()
        async with to(venue) as socket:
            await subscribe(socket)
            dump, *rest = await drain(socket)
        assert venue.playback.rewinds == 1
        assert await poll(venue, "/replay/state") | {"injected": 0} == {
            "position_ms": RECORDS[-1].recv_ms, "records": len(RECORDS), "ended": True,
            "sent": {"polymarket": venue.playback.sent["polymarket"]}, "rewinds": 1, "clients": 0,
            "misunderstood": 0, "injected": 0,
        }  # fmt: skip

    assert first == sent[:1500]
    start = len(sent) - len(rest)
    assert rest == sent[start:]
    assert 0 < start <= 1500
    before = max(int(book["timestamp"]) for book in orjson.loads(dump))
    next_ms = min(int(m["timestamp"]) for m in messages(rest[:5]))
    assert before <= next_ms


async def test_the_end_is_said_to_everyone_also_to_those_who_come_late() -> None:
    async with serve_streams(capture) as venue:
        for _ in range(2):
            async with to(venue) as socket:
                await subscribe(socket)
                await drain(socket)
                assert (socket.close_code, socket.close_reason) == (1000, "end of capture")
        assert (await poll(venue, "/replay/state"))["ended"] is True
        assert venue.playback.rewinds == 0


async def test_a_replay_takes_as_long_as_its_speed_says() -> None:
    span = (RECORDS[-1].recv_ms - RECORDS[0].recv_ms) / 1e3
    async with serve_streams(capture, PlaybackSettings(speed=250)) as venue, to(venue) as socket:
        began = time.monotonic()
        await subscribe(socket)
        await drain(socket)
        took = time.monotonic() - began

    assert span / 250 <= took < span / 250 + 2.0


async def test_polling_shows_the_book_of_now_the_trades_and_resolutions_that_were_withheld() -> (
    None
):
    withheld = next(r for r in TRUTH.resolutions if r.is_withheld)
    condition = f"/gamma/markets?condition_ids={withheld.condition}"
    async with serve_streams(capture) as venue, to(venue) as socket:
        assert (await poll(venue, condition))[0]["closed"] is False
        await subscribe(socket)
        found = messages(await drain(socket))

        (market,) = await poll(venue, condition)
        paid = orjson.loads(market["outcomePrices"])
        winner = orjson.loads(market["clobTokenIds"])[paid.index("1")]
        assert (market["closed"], winner) == (True, withheld.winning_asset)
        assert withheld.condition not in {
            m["market"] for m in found if m["event_type"] == "market_resolved"
        }
        for asset in ASSETS:
            book = await poll(venue, f"/clob/book?token_id={asset}")
            last = [best for best in TRUTH.best if best.asset == asset][-1]
            bids, asks = ([float(x["price"]) for x in book[s]] for s in ("bids", "asks"))
            assert (bids[-1:] or [0.0])[0] == float(last.bid)
            assert (asks[-1:] or [1.0])[0] == float(last.ask)
        trades = await poll(venue, f"/data/trades?market={withheld.condition}")
        told = [t for t in TRUTH.trades if t.condition == withheld.condition]
        assert [(t["asset"], t["size"]) for t in trades[::-1]] == [
            (t.asset, float(t.size)) for t in told
        ]
        for nothing in ("/clob/book?token_id=x", "/elsewhere"):
            assert await poll(venue, nothing) == 404
        assert await poll(venue, "/gamma/markets?condition_ids=0x0") == []


async def test_streams_of_futures_are_acknowledged_listed_and_dropped() -> None:
    request = {"method": "SUBSCRIBE", "params": ["btcusdt@markPrice@1s"], "id": 7}
    async with (
        serve_streams(capture, PlaybackSettings(speed=100)) as venue,
        to(venue, "/market/stream?streams=btcusdt@kline_1m") as socket,
    ):
        await socket.send(orjson.dumps(request), text=True)
        seen = [await read(socket) for _ in range(40)]
        await socket.send(orjson.dumps({"method": "LIST_SUBSCRIPTIONS", "id": 8}), text=True)
        await socket.send('{"method":"SUBSCRIBE","params":"all","id":9}')
        seen += [await read(socket) for _ in range(40)]

    assert {"result": None, "id": 7} in seen
    assert {"result": ["btcusdt@kline_1m", "btcusdt@markPrice@1s"], "id": 8} in seen
    assert next(m["error"]["code"] for m in seen if m.get("id") == 9) == 2
    assert {m["stream"] for m in seen if "stream" in m} == {
        "btcusdt@kline_1m",
        "btcusdt@markPrice@1s",
    }


async def test_a_raw_stream_comes_without_its_wrapper() -> None:
    async with serve_streams(capture) as venue, to(venue, "/market/ws/btcusdt@kline_1m") as socket:
        assert (await read(socket))["e"] == "kline"


@pytest.mark.parametrize("path", ["/stream", "/ws/btcusdt@kline_1m", "/public/stream"])
async def test_a_stream_on_the_wrong_base_is_acknowledged_and_silent(path: str) -> None:
    async with serve_streams(capture) as venue, to(venue, path) as socket:
        await socket.send('{"method":"SUBSCRIBE","params":["btcusdt@kline_1m"],"id":1}')
        assert await read(socket) == {"result": None, "id": 1}
        async with to(venue) as other:
            await subscribe(other)
            await drain(other)
        await socket.send('{"method":"LIST_SUBSCRIPTIONS","id":2}')
        assert (await read(socket))["id"] == 2


@pytest.mark.parametrize("kind", KINDS)
async def test_each_kind_of_fault_is_counted_and_visible_on_the_wire(kind: str) -> None:
    plan = StreamFaultPlan(**{kind: 0.01}, seed=5, freeze_ms=1.0, latency_ms=1.0)
    frames, connections = [], 0
    async with serve_streams(capture, PlaybackSettings(faults=plan, overlap_frames=0)) as venue:
        while not venue.playback.is_ended:
            async with to(venue) as socket:
                connections += 1
                try:
                    await subscribe(socket, initial_dump=False)
                    frames += await drain(socket)
                except ConnectionClosedError:
                    continue
        count = (await poll(venue, "/replay/state"))["injected"][kind]

    sent = [r.frame.decode() for r in RECORDS if r.channel == "polymarket"]
    assert count > 5
    assert venue.playback.faults.injected == Counter({kind: count})
    if kind == "disconnect":
        assert connections == count + 1
    elif kind == "truncate":
        assert sum(frame not in set(sent) for frame in frames) == count
    elif kind == "unknown":
        assert sum("weather_report" in frame for frame in frames) == count
    elif kind == "duplicate":
        assert len(frames) == len(sent) + count
    elif kind == "array":
        arrays = [f for f in frames if f.startswith("[") and f not in set(sent)]
        assert len(arrays) == count
        assert len(messages(frames)) == len(messages(sent))
    elif kind == "reorder":
        assert sorted(frames) == sorted(sent)
        assert frames != sent
    else:
        assert frames == sent


async def test_recorded_streams_are_served(recorded: Path) -> None:
    source = read_capture(recorded / "ws" / "clob_ws_book_btc5m.parquet")
    head = list(itertools.islice(source(), 3_000))
    assets = {orjson.loads(record.frame)["asset_id"] for record in head}
    async with serve_streams(lambda: iter(head)) as venue, to(venue) as socket:
        await subscribe(socket, *assets)
        dump, *rest = await drain(socket)

    assert {book["asset_id"] for book in orjson.loads(dump)} <= assets
    assert rest == [record.frame.decode() for record in head]


async def test_recorded_candles_are_served(recorded: Path) -> None:
    source = read_capture(recorded / "ws" / "binance_futures_binance_futures_ws_1_0.jsonl.gz")
    names = {orjson.loads(r.frame)["stream"] for r in source() if b"@kline_1m" in r.frame[:60]}
    path = f"/market/stream?streams={'/'.join(names)}"
    async with serve_streams(source) as venue, to(venue, path) as socket:
        found = messages(await drain(socket))

    assert names
    assert {m["data"]["e"] for m in found} == {"kline"}


async def test_a_capture_that_turns_out_damaged_ends_the_venue_with_its_error() -> None:
    def damaged() -> Any:
        yield from RECORDS[:50]
        raise CaptureError("day.jsonl.gz: line 51: frame is missing or no text")

    async def serve_it() -> None:
        async with serve_streams(damaged, PlaybackSettings(speed=50)) as venue, to(venue) as socket:
            await subscribe(socket)
            await asyncio.wait({venue.playing})

    with pytest.raises(CaptureError, match="line 51"):
        await asyncio.wait_for(serve_it(), DEADLINE)


@pytest.mark.parametrize("field", ["speed", "overlap_ms", "overlap_frames"])
def test_refuses_settings_below_zero(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must not be negative"):
        PlaybackSettings(**{field: -1})


async def test_two_venues_of_one_capture_do_not_share_a_position() -> None:
    one = [Record(1, "polymarket", RECORDS[4].frame)]
    async with (
        serve_streams(lambda: iter(one)) as first,
        serve_streams(lambda: iter(one)) as second,
    ):
        async with to(first) as socket:
            await subscribe(socket)
            await drain(socket)
        assert (first.playback.records, second.playback.records) == (1, 0)
