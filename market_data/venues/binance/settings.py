"""Where Binance's streams are, and their bounds."""

from __future__ import annotations

from dataclasses import dataclass

from market_data.streaming.dialect import Policy

DAY = 86_400.0

POLICY = Policy(
    ping_every=0.0,
    answer_within=20.0,
    stale_after=10.0,
    dead_after=20.0,
    instrument_stale_after=60.0,
    resync_every=0.0,
    life=DAY - 1800.0,
    max_instruments=1024,
)
"""The venue ends a connection after 24 h: it is replaced half an hour before."""


@dataclass(frozen=True, slots=True)
class BinanceSettings:
    """Addresses without a slash at the end; each category of streams has a base of its own.

    Attributes:
        market_url: base of mark prices and candles. A stream asked for at another base, or at the
            addresses from before the split, is acknowledged and stays silent.
    """

    market_url: str = "wss://fstream.binance.com/market"

    @property
    def combined_url(self) -> str:
        """Where frames carry the name of their stream; subscriptions follow by message."""
        return f"{self.market_url}/stream"
