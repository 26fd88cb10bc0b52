"""The venues by name, and how the lake names what comes from them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sources:
    """Names under which a venue's answers are stored, and its prices and dead letters marked.

    Attributes:
        markets: listings of markets, and the quotes that their records hold.
        history: price histories.
    """

    markets: str
    history: str


SOURCES = {
    "polymarket": Sources("polymarket/gamma/markets", "polymarket/clob/prices-history"),
    "kalshi": Sources("kalshi/trade-api/events", "kalshi/trade-api/candlesticks"),
    "manifold": Sources("manifold/v0/markets", "manifold/v0/bets"),
}
"""By platform, which is what stands before the colon of a market id."""

DATES_ITS_QUOTES = ("polymarket",)
"""Venues whose time of update moves with the quotes of a record. Elsewhere it is that of the last
change which was no trade, so that a quote is known to be true only when it was fetched."""

EVENTS_SOURCE = "polymarket/gamma/events"
"""Listings of events with their markets."""

FLOWS_SOURCE = "polymarket/subgraph/activity"
"""Splits, merges and redemptions of collateral."""

OUTCOMES_SOURCE = "polymarket/clob/markets"
"""What the order book's interface says about who won."""

PLATFORMS = tuple(SOURCES)
HISTORY_SOURCES = tuple(source.history for source in SOURCES.values())
