"""Binance's combined streams: subscriptions by name with ids, acknowledged one by one.

An acknowledgement does not prove that a stream exists, so a mark price that stays silent after its
subscription is a failure that names it. A candle comes where there is trade, and may be silent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from market_data.streaming.dialect import Kind, Reading, Request, shards

_STREAM = re.compile(rb'\s*\{\s*"stream"\s*:\s*"([^"\\]{1,200})"')
_DATA = Reading(Kind.DATA)
_CONTROL_BYTES = 1024
_NAMES_PER_MESSAGE = 200


def mark_price(symbol: str) -> str:
    """Name of a symbol's mark price stream, once a second.

    >>> mark_price("BTCUSDT")
    'btcusdt@markPrice@1s'
    """
    return f"{symbol.lower()}@markPrice@1s"


def kline(symbol: str, interval: str = "1m") -> str:
    """Name of a symbol's candle stream.

    >>> kline("BTCUSDT")
    'btcusdt@kline_1m'
    """
    return f"{symbol.lower()}@kline_{interval}"


@dataclass(frozen=True, slots=True)
class CombinedStreams:
    """How the combined streams are spoken to; an instrument is the name of a stream."""

    ping = ""
    awaits_snapshot = False

    def subscribe(
        self, instruments: Sequence[str], *, is_first: bool, next_id: int
    ) -> list[Request]:
        """SUBSCRIBE messages of at most 200 names: the venue bounds messages per second."""
        del is_first
        return _requests("SUBSCRIBE", instruments, next_id)

    def unsubscribe(self, instruments: Sequence[str], *, next_id: int) -> list[Request]:
        """UNSUBSCRIBE messages."""
        return _requests("UNSUBSCRIBE", instruments, next_id)

    def must_speak(self, instrument: str) -> bool:
        """Mark prices come each second; candles of a contract that nobody trades do not come."""
        return "kline_" not in instrument.lower()

    def read(self, frame: bytes) -> Reading:
        """Data frames begin with the stream's name; short ones without it may be answers."""
        named = _STREAM.match(frame)
        if named:
            return Reading(Kind.DATA, named[1].decode(errors="replace"))
        if len(frame) > _CONTROL_BYTES:
            return _DATA
        try:
            value = orjson.loads(frame)
        except orjson.JSONDecodeError:
            return _DATA
        return _answer(value) if isinstance(value, dict) else _DATA


def _requests(method: str, names: Sequence[str], next_id: int) -> list[Request]:
    return [
        Request(
            orjson.dumps({"method": method, "params": list(part), "id": number}).decode(),
            part,
            number,
        )
        for number, part in enumerate(shards(names, _NAMES_PER_MESSAGE), start=next_id)
    ]


def _answer(value: dict[str, object]) -> Reading:
    """Answers are ``{"result", "id"}``, ``{"error": {"code", "msg"}, "id"}`` or the error bare."""
    error = value.get("error") or ({} if "code" not in value else value)
    if "result" not in value and not error:
        return _DATA
    number = value.get("id")
    if not error:
        text = ""
    elif isinstance(error, dict):
        text = f"{error.get('msg') or 'no reason given'} (code {error.get('code')})"
    else:
        text = str(error)
    return Reading(Kind.ACK, "", number if type(number) is int else 0, text)
