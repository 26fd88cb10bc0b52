"""Where Kalshi's interface is, and how it is paged."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KalshiSettings:
    """The address without a slash at the end.

    Attributes:
        url: base address of the trade API, version included.
        page_size: events per page, ≤ 200; parlays are listed five times as many at once.
        period_minutes: length of a candle: 1, 60 or 1440.
        candles_per_request: candles that one request may span, ≤ 5000.
        with_parlays: also list combinations of other markets; there are very many, hardly traded.
    """

    url: str
    page_size: int = 200
    period_minutes: int = 60
    candles_per_request: int = 5000
    with_parlays: bool = False
