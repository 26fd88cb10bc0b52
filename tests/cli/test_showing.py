"""What `marketcal up` shows: it goes on without an open market that can be forecast."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gateway.cli import showing
from marketcal.v1 import market_pb2


class Venue:
    """A client of a gateway that knows these markets with so many hourly prices each."""

    def __init__(self, prices: dict[str, int]) -> None:
        self.prices = prices
        self.asked: list[str] = []

    def list_markets(self, **filters: Any) -> Iterator[market_pb2.Market]:
        return (market_pb2.Market(market_id=name) for name in self.prices)

    def price_history(self, market_id: str) -> Iterator[market_pb2.PricePoint]:
        self.asked.append(market_id)
        for hour in range(self.prices[market_id]):
            point = market_pb2.PricePoint(p_yes=0.5)
            point.time.seconds = 3600 * hour
            yield point


def test_the_first_open_market_with_enough_prices_is_forecast() -> None:
    venue = Venue({"none": 0, "one": 1, "many": 9, "more": 90})
    market, history = next(showing.forecastable(venue, 200))
    assert (market.market_id, history.freq, len(history.values)) == ("many", "1h", 9)
    assert venue.asked == ["none", "one", "many"]


@pytest.mark.parametrize("count", [0, 1000])
def test_the_search_for_a_market_ends(count: int) -> None:
    venue = Venue({str(number): 1 for number in range(count)})
    assert next(showing.forecastable(venue, 200), None) is None
    assert len(venue.asked) == min(count, 200)


def test_a_gateway_without_such_a_market_is_shown_all_the_same(
    gateway: Any,
) -> None:
    said: list[str] = []
    showing.show(gateway.address, gateway.key("forecaster"), said.append, most_markets=0)
    text = "\n".join(said)
    assert "Scoreboard: the ten most trustworthy prices" in text
    assert "No open market has enough recorded prices for a forecast" in text
    assert "Call it:\n  .venv/bin/marketcal scores --address" in text
