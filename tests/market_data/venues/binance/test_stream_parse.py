"""Mark prices and candles of the futures streams."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest

from market_data.streaming.events import Kline, Mark
from market_data.venues.binance.stream_parse import FuturesParser

MARK = {"e": "markPriceUpdate", "E": 1_789_460_401_000, "s": "ETHUSDT", "p": "3184.27000000",
        "ap": "3184.19000000", "i": "3183.95510000", "P": "3184.01220000", "r": "0.00007100",
        "T": 1_789_488_000_000, "st": 1}  # fmt: skip
CANDLE = {"t": 1_789_460_400_000, "T": 1_789_460_459_999, "s": "ETHUSDT", "i": "1m", "f": 1,
          "L": 2, "o": "3184.10", "c": "3187.65", "h": "3188.00", "l": "3183.90", "v": "1421.337",
          "n": 1178, "x": True, "q": "1", "V": "1", "Q": "1", "B": "0"}  # fmt: skip
KLINE = {"e": "kline", "E": 1_789_460_460_003, "s": "ETHUSDT", "k": CANDLE}
RECORDED = Path(__file__).parents[5] / "shared/data/dev/ws"


def parsed(value: Any) -> tuple[Any, FuturesParser]:
    parser = FuturesParser()
    events = parser.parse(json.dumps(value).encode(), 77)
    return (events[0] if events else None), parser


def test_a_mark_price_is_read_bare_and_combined() -> None:
    mark, _ = parsed(MARK)
    assert mark == Mark("binance:ETHUSDT@mark", 1_789_460_401_000, "m1789460401000", 77, 3184.27,
                        3183.9551, 0.000071)  # fmt: skip
    assert parsed({"stream": "ethusdt@markPrice@1s", "data": MARK})[0] == mark


def test_no_funding_is_not_a_rate_of_zero() -> None:
    assert math.isnan(parsed(MARK | {"r": ""})[0].funding_rate)


def test_a_closed_candle_has_one_identity_and_an_open_one_that_of_its_moment() -> None:
    closed, _ = parsed(KLINE)
    assert isinstance(closed, Kline)
    assert (closed.market_id, closed.volume, closed.is_closed) == (
        "binance:ETHUSDT", 1_421_337_000, True)  # fmt: skip
    later, _ = parsed(KLINE | {"E": 1_789_460_470_000})
    assert later.key == closed.key
    still_open = KLINE | {"k": CANDLE | {"x": False}}
    assert parsed(still_open)[0].key != parsed(still_open | {"E": 1})[0].key


def test_a_continuous_candle_has_the_symbol_of_its_pair() -> None:
    without = {key: value for key, value in CANDLE.items() if key != "s"}
    message = {"e": "continuous_kline", "E": 5, "ps": "ETHUSDT", "ct": "PERPETUAL", "k": without}
    assert parsed(message)[0].market_id == "binance:ETHUSDT"


@pytest.mark.parametrize("missing", [{"E": 0}, {"E": None}], ids=["zero", "null"])
def test_without_an_event_time_that_of_receipt_stands_in_and_is_counted(missing: Any) -> None:
    mark, parser = parsed(MARK | missing)
    assert mark.ms == 77
    assert parser.counts["WITHOUT_EVENT_TIME"] == 1


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (MARK | {"p": "no"}, "FIELDS_UNREADABLE"), (MARK | {"p": "-1"}, "FIELDS_UNREADABLE"),
        (MARK | {"s": ""}, "FIELDS_UNREADABLE"), (KLINE | {"k": None}, "FIELDS_UNREADABLE"),
        (KLINE | {"k": CANDLE | {"h": "nan"}}, "FIELDS_UNREADABLE"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_set_aside(value: Any, reason: str) -> None:
    event, parser = parsed(value)
    assert event is None
    assert [one.reason for one in parser.rejected] == [reason]


def test_other_streams_are_counted_and_passed_over() -> None:
    event, parser = parsed({"e": "bookTicker", "s": "X", "b": "1", "i": {"any": "shape"}})
    assert event is None
    assert parser.counts == {"UNKNOWN_TYPE": 1}
    assert not parser.rejected


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded market data are not here")
def test_recorded_streams_are_read_without_a_rejected_frame() -> None:
    found = 0
    for file in sorted(RECORDED.glob("binance_*.jsonl.gz")):
        parser = FuturesParser()
        with gzip.open(file) as lines:
            for line in lines:
                found += len(parser.parse(json.loads(line)["frame"].encode(), 1))
        assert not parser.rejected
    assert found > 400
