"""Closed bars of watched markets, as the service asks for them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from forecast_service.transform import FloatArray
from marketcal.errors import NotReady

BAND_SECONDS = 10.0
"""Longest time for the band of one bar, as of a single forecast."""


class ClosedBars(Protocol):
    """Tells of five-minute bars as they close."""

    def watch(self, market_id: str) -> AsyncGenerator[int]:
        """Ends of closed bars of a market in UTC milliseconds, ascending; without end.

        Where the caller is not back when two bars close, the earlier one is passed over.

        Raises:
            NotReady: there is nothing to read them from now.
        """
        ...

    async def closes(self, market_id: str, end_ms: int) -> FloatArray:
        """Prices at the ends of the bars until ``end_ms``, oldest first.

        Returns:
            [N] float64, N at most 288, NaN = missing.

        Raises:
            NotReady: there is nothing to read them from now.
        """
        ...


class NoBars:
    """The bars of a process that is told of none: whoever watches is asked to come back."""

    def watch(self, market_id: str) -> AsyncGenerator[int]:
        """Refuses."""
        raise NotReady(f"no bars of {market_id} are known here")

    async def closes(self, market_id: str, end_ms: int) -> FloatArray:
        """Refuses."""
        raise NotReady(f"no bars of {market_id} are known here at {end_ms}")


NO_BARS = NoBars()
