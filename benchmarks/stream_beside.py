"""nautilus_trader on book frames: decode, quote, and 1m bars of the mid; in its own interpreter.

Frames come on standard input, one per line; one JSON object goes out. Nothing of ours is imported.
"""

from __future__ import annotations

import json
import sys
import time
from decimal import Decimal

import msgspec
from nautilus_trader.adapters.polymarket.schemas.book import (  # type: ignore[import-not-found]
    PolymarketBookSnapshot,
)
from nautilus_trader.common.component import TestClock  # type: ignore[import-not-found]
from nautilus_trader.data.aggregation import TimeBarAggregator  # type: ignore[import-not-found]
from nautilus_trader.model.currencies import USDC  # type: ignore[import-not-found]
from nautilus_trader.model.data import BarType  # type: ignore[import-not-found]
from nautilus_trader.model.enums import AssetClass  # type: ignore[import-not-found]
from nautilus_trader.model.identifiers import (  # type: ignore[import-not-found]
    InstrumentId,
    Symbol,
    Venue,
)
from nautilus_trader.model.instruments import BinaryOption  # type: ignore[import-not-found]
from nautilus_trader.model.objects import Price, Quantity  # type: ignore[import-not-found]


def option(token: str) -> BinaryOption:
    """An instrument of its catalogue."""
    symbol = Symbol(token[:60])
    return BinaryOption(
        instrument_id=InstrumentId(symbol, Venue("POLYMARKET")), raw_symbol=symbol,
        outcome="Yes", description="bench", asset_class=AssetClass.ALTERNATIVE, currency=USDC,
        price_increment=Price.from_str("0.001"), price_precision=3,
        size_increment=Quantity.from_str("0.000001"), size_precision=6, activation_ns=0,
        expiration_ns=0, max_quantity=None, min_quantity=Quantity.from_int(1),
        maker_fee=Decimal(0), taker_fee=Decimal(0), ts_event=0, ts_init=0,
    )  # fmt: skip


def main() -> None:
    """Measures one pass."""
    frames = sys.stdin.buffer.read().split(b"\n")
    tokens = {msgspec.json.decode(frame)["asset_id"] for frame in frames}
    bars: list[object] = []
    clock, instruments, aggregators = TestClock(), {}, {}
    clock.set_time(int(msgspec.json.decode(frames[0])["timestamp"]) * 1_000_000)
    for token in tokens:
        one = instruments[token] = option(token)
        kind = BarType.from_str(f"{one.id}-1-MINUTE-MID-INTERNAL")
        aggregators[token] = TimeBarAggregator(one, kind, bars.append, clock)
    decode = msgspec.json.Decoder(PolymarketBookSnapshot).decode
    began = time.perf_counter()
    for frame in frames:
        book = decode(frame)
        quote = book.parse_to_quote(instruments[book.asset_id], 0)
        if quote is not None:
            if quote.ts_event > clock.timestamp_ns():
                for event in clock.advance_time(quote.ts_event):
                    event.handle()
            aggregators[book.asset_id].handle_quote_tick(quote)
    print(json.dumps({"seconds": time.perf_counter() - began, "bars": len(bars)}))


if __name__ == "__main__":
    main()
