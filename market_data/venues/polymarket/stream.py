"""Polymarket's market channel: subscriptions by asset, a text heartbeat, no acknowledgements.

The key is ``assets_ids``; any other form of the request is answered with silence. The wish for
``best_bid_ask``, ``new_market`` and ``market_resolved`` sticks to a subscription, so each message
repeats it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from market_data.streaming.dialect import Kind, Policy, Reading, Request

POLICY = Policy()
"""Bounds of the market channel: a PING every 10 s, 500 assets per connection."""

_DATA = Reading(Kind.DATA)
_PONG = Reading(Kind.PONG)


@dataclass(frozen=True, slots=True)
class MarketChannel:
    """How the market channel is spoken to.

    Attributes:
        level: depth of the book, 1 to 3; 2 is all levels.
    """

    level: int = 2

    ping = "PING"
    awaits_snapshot = True

    def subscribe(
        self, instruments: Sequence[str], *, is_first: bool, next_id: int
    ) -> list[Request]:
        """The subscription of a new connection, or an addition to it."""
        del next_id
        message: dict[str, object] = {"assets_ids": list(instruments)}
        if is_first:
            message |= {"type": "market", "initial_dump": True, "level": self.level}
        else:
            message |= {"operation": "subscribe"}
        return [_request(message | {"custom_feature_enabled": True}, instruments)]

    def unsubscribe(self, instruments: Sequence[str], *, next_id: int) -> list[Request]:
        """The end of a subscription."""
        del next_id
        message = {
            "operation": "unsubscribe",
            "assets_ids": list(instruments),
            "custom_feature_enabled": True,
        }
        return [_request(message, instruments)]

    def must_speak(self, instrument: str) -> bool:
        """Each asset has a book; one that does not come is read over REST."""
        del instrument
        return True

    def read(self, frame: bytes) -> Reading:
        """PONG is text and no JSON; all else is for the parser."""
        return _PONG if frame == b"PONG" else _DATA


def _request(message: dict[str, object], instruments: Sequence[str]) -> Request:
    return Request(orjson.dumps(message).decode(), tuple(instruments))
