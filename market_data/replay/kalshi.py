"""What the replayed Kalshi answers: events with their markets, and candles."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np
import orjson

from market_data.replay.archive import Archive, Record
from market_data.replay.paths import BadRequest, NotFound, histories, whole

_OPEN = ("initialized", "inactive", "active")
_FINAL = ("finalized", "settled")
_PERIODS = (1, 60, 1440)
_CANDLES = 5000


class Kalshi:
    """The trade API over one archive; every method returns an encoded JSON body."""

    def __init__(self, archive: Archive) -> None:
        self._events = archive.kalshi_events
        self._markets = [market for event in self._events for market in event["markets"]]
        self._series = {
            market["ticker"]: event["series_ticker"]
            for event in self._events
            for market in event["markets"]
        }
        self._history = histories(archive.prices, "kalshi/")

    def events(self, query: list[tuple[str, str]]) -> bytes:
        """Body of ``/events``."""
        options = dict(query)
        wanted = options.get("status")
        chosen = [e for e in self._events if wanted in (None, _event_status(e))]
        if options.get("with_nested_markets") != "true":
            chosen = [{k: v for k, v in e.items() if k != "markets"} for e in chosen]
        return _page("events", chosen, options, 200)

    def markets(self, query: list[tuple[str, str]]) -> bytes:
        """Body of ``/markets``."""
        options = dict(query)
        wanted = options.get("status")
        chosen = [m for m in self._markets if wanted in (None, _status(m))]
        if options.get("mve_filter") == "only":
            chosen = [m for m in chosen if m.get("mve_collection_ticker")]
        return _page("markets", chosen, options, 1000)

    def candlesticks(self, series: str, ticker: str, query: list[tuple[str, str]]) -> bytes:
        """Body of ``/series/{series}/markets/{ticker}/candlesticks``: the candles that ended."""
        options = dict(query)
        if self._series.get(ticker) != series:
            raise NotFound(f"market {ticker} not found")
        start, end = (_required(options, name) for name in ("start_ts", "end_ts"))
        period = _required(options, "period_interval")
        if period not in _PERIODS:
            raise BadRequest("period_interval must be 1, 60 or 1440")
        step = 60 * period
        if (end - start) // step > _CANDLES:
            raise BadRequest(f"a request spans at most {_CANDLES} candles")
        t, p = self._history.get(ticker, (np.empty(0, dtype=np.int64), np.empty(0)))
        ends = -(-t // step) * step
        last = np.r_[np.diff(ends) != 0, True] if len(t) else np.empty(0, dtype=bool)
        ends, p = ends[last], p[last]
        within = (ends >= start) & (ends <= end)
        candles = [_candle(a, b) for a, b in zip(ends[within].tolist(), p[within].tolist(),
                                                 strict=True)]  # fmt: skip
        return orjson.dumps({"ticker": ticker, "candlesticks": candles})


def _candle(end: int, price: float) -> Record:
    low, high = round(max(price - 0.01, 0.0), 4), round(min(price + 0.01, 1.0), 4)
    return {
        "end_period_ts": end,
        "open_interest_fp": "900.00",
        "volume_fp": "1.00",
        "price": _ohlc(price),
        "yes_bid": _ohlc(low),
        "yes_ask": _ohlc(high),
    }


def _ohlc(price: float) -> dict[str, str]:
    text = f"{price:.4f}"
    return {f"{name}_dollars": text for name in ("open", "high", "low", "close")}


def _status(market: Record) -> str:
    """What the filter ``status`` calls the state of a market."""
    status = market["status"]
    return "open" if status in _OPEN else "settled" if status in _FINAL else "closed"


def _event_status(event: Record) -> str:
    found = {_status(market) for market in event["markets"]}
    return next(s for s in ("open", "closed", "settled") if s in found or s == "settled")


def _page(name: str, records: list[Record], options: dict[str, str], longest: int) -> bytes:
    limit = whole(options, "limit", 100)
    if not 1 <= limit <= longest:
        raise BadRequest(f"limit must be between 1 and {longest}")
    start = _decode(options.get("cursor", ""))
    end = start + limit
    cursor = base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(records) else ""
    return orjson.dumps({name: records[start:end], "cursor": cursor})


def _decode(cursor: str) -> int:
    try:
        return int(base64.urlsafe_b64decode(cursor.encode()).decode() or 0)
    except (ValueError, binascii.Error):
        raise BadRequest("invalid cursor") from None


def _required(options: dict[str, str], name: str) -> Any:
    if name not in options:
        raise BadRequest(f"{name} is required")
    return whole(options, name, 0)
