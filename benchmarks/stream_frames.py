"""Frames to measure with: recorded books where the recording is there, simulated ones elsewhere."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson
import polars as pl

from market_data.streaming.instruments import Instrument

RECORDED = Path(__file__).parents[2] / "shared/data/dev/ws/clob_ws_book_btc5m.parquet"
_START = 1_789_460_500_000
_MARKETS = 500


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames with the tokens that they are about.

    Attributes:
        source: "recorded" or "simulated".
    """

    source: str
    raw: list[bytes]
    tokens: Mapping[str, Instrument]


def book_frames(count: int) -> Frames:
    """Full books, about 3.4 KB each."""
    if RECORDED.exists():
        table = pl.read_parquet(RECORDED, columns=["asset_id", "frame"], n_rows=count)
        tokens = {one: Instrument(f"m:{one}") for one in table["asset_id"].unique().to_list()}
        return Frames("recorded", [one.encode() for one in table["frame"].to_list()], tokens)
    return Frames("simulated", list(_books(count)), {"1": Instrument("m:1")})


def _books(count: int) -> Iterator[bytes]:
    rng, best = random.Random(3), 50
    for number in range(count):
        best = min(90, max(10, best + rng.choice((-1, 0, 1))))
        sides = {"bids": range(1, best), "asks": range(99, best, -1)}
        levels = {
            side: [{"price": f"{one / 100:.2f}", "size": f"{rng.randrange(10**6) / 100}"}
                   for one in prices]
            for side, prices in sides.items()
        }  # fmt: skip
        yield orjson.dumps(
            {"market": "0x1", "asset_id": "1", "timestamp": str(_START + number * 130),
             "hash": f"{number:040x}", **levels, "event_type": "book"}
        )  # fmt: skip


def mixed_frames(count: int, seed: int = 1) -> Frames:
    """Changes, best prices and trades of 500 markets whose prices move; 700 bytes at most."""
    tokens = {}
    for number in range(_MARKETS):
        first, second = _tokens(number)
        tokens[first] = Instrument(f"m:{number}")
        tokens[second] = Instrument(f"m:{number}", is_first=False)
    return Frames("simulated", list(mixed(count, seed)), tokens)


def _tokens(number: int) -> tuple[str, str]:
    return str(10**76 + number * 7), str(10**76 + number * 7 + 1)


def mixed(count: int, seed: int = 1, *, first: int = 0) -> Iterator[bytes]:
    """The frames one by one; each has its own time, hash and transaction."""
    rng = random.Random(seed)
    mids = [50] * _MARKETS
    for number in range(first, first + count):
        which = rng.randrange(_MARKETS)
        mids[which] = mid = min(95, max(5, mids[which] + rng.choice((-1, 0, 1))))
        kind, ms = rng.random(), _START + number
        yield _frame(kind, which, mid, ms, number)


def _frame(kind: float, which: int, mid: int, ms: int, number: int) -> bytes:
    market, (yes, no) = f"0x{which:064x}", _tokens(which)
    bid, ask = mid - 1, mid + 1
    if kind < 0.6:
        return (
            f'{{"market":"{market}","price_changes":[{{"asset_id":"{yes}","price":"0.{bid:02d}",'
            f'"size":"{number}","side":"BUY","hash":"{number:040x}","best_bid":"0.{bid:02d}",'
            f'"best_ask":"0.{ask:02d}"}},{{"asset_id":"{no}","price":"0.{100 - bid:02d}",'
            f'"size":"{number}","side":"SELL","hash":"{number + 1:040x}",'
            f'"best_bid":"0.{100 - ask:02d}","best_ask":"0.{100 - bid:02d}"}}],'
            f'"timestamp":"{ms}","event_type":"price_change"}}'
        ).encode()
    if kind < 0.85:
        return (
            f'{{"event_type":"best_bid_ask","market":"{market}","asset_id":"{yes}",'
            f'"best_bid":"0.{bid:02d}","best_ask":"0.{ask:02d}","spread":"0.02",'
            f'"timestamp":"{ms}"}}'
        ).encode()
    return (
        f'{{"event_type":"last_trade_price","asset_id":"{yes}","market":"{market}",'
        f'"price":"0.{bid:02d}","size":"{number % 100}.75","fee_rate_bps":"0","side":"BUY",'
        f'"timestamp":"{ms}","transaction_hash":"0x{number:064x}"}}'
    ).encode()
