"""The state of the live path as one transaction writes it, and the same state read again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import sqlalchemy as sa

from calibration_service.alerts.state import MarketState, read_state, write_state
from calibration_service.alerts.values import Band
from flows.live_facts import Facts, MarketFacts
from market_data.streaming.bars import Minutes
from market_data.streaming.live_market import LiveMarket
from market_data.streaming.live_store import FoldedRow, JudgedRow, read_folded, read_judged
from market_data.streaming.market_stream import MarketStream

_PACK = msgspec.msgpack.Encoder()
_VERSION = 1


class StateUnreadable(Exception):
    """The kept state of a market cannot be read; the message names the market."""


@dataclass(slots=True)
class Watched:
    """What the live path knows of a market beside its stream.

    Attributes:
        alerts: state of the alert engine.
        resolved_ms: when it was resolved; None before. winner: the token that pays.
    """

    alerts: MarketState
    resolved_ms: int | None = None
    winner: str | None = None

    def is_over(self, at_ms: int) -> bool:
        """Whether it had been resolved by an instant."""
        return self.resolved_ms is not None and self.resolved_ms <= at_ms


@dataclass(slots=True)
class Restored:
    """Markets as they were kept."""

    markets: dict[str, LiveMarket] = field(default_factory=dict)
    watched: dict[str, Watched] = field(default_factory=dict)
    issued: dict[str, list[Band]] = field(default_factory=dict)


def fold_row(market: LiveMarket) -> FoldedRow:
    """What was folded of a market, as it is kept; it changes with every event."""
    state = (
        _VERSION, market.minutes.state(), market.ms, market.key, market.recv_ms, market.bid,
        market.ask, market.bid_size, market.ask_size, market.mid, market.quiet_until,
        market.merged, list(market.volumes),
    )  # fmt: skip
    return FoldedRow(market.market_id, _PACK.encode(state), market.suppressed)


def judged_row(
    watched: Watched, issued: Sequence[Band], facts: MarketFacts, market: LiveMarket | None
) -> JudgedRow:
    """What is known of a market beside its stream, as it is kept; it changes once a minute."""
    told = (facts.told_tick, facts.open_interest)
    state = (_VERSION, write_state(watched.alerts), [_plain(one) for one in issued], told)
    return JudgedRow(
        watched.alerts.market_id,
        _PACK.encode(state),
        market.diagnostics if market else None,
        watched.resolved_ms,
        watched.winner,
    )


def restore(connection: sa.Connection, stream: MarketStream, facts: Facts) -> Restored:
    """Markets as they were kept; ``stream`` and ``facts`` take over what they knew of them.

    Raises:
        StateUnreadable: the state of a market is of another version, or none.
    """
    restored = Restored()
    for folded in read_folded(connection):
        with _naming(folded.market_id):
            market = _market(_decoded(folded.state), stream)
            market.suppressed = folded.suppressed
            restored.markets[folded.market_id] = market
    for row in read_judged(connection):
        with _naming(row.market_id):
            alerts, issued, told = _decoded(row.state)
            known = facts.of(row.market_id)
            known.told_tick = told[0]
            for ms, usd in told[1]:
                known.add_open_interest(ms, usd)
            restored.watched[row.market_id] = Watched(
                read_state(alerts), row.resolved_ms, row.winner
            )
            restored.issued[row.market_id] = [_band(one) for one in issued]
            if row.market_id in restored.markets:
                restored.markets[row.market_id].diagnostics = row.diagnostics
    stream.markets.update(restored.markets)
    return restored


@contextmanager
def _naming(market_id: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, msgspec.DecodeError) as error:
        raise StateUnreadable(f"{market_id}: {error}") from error


def _decoded(state: bytes) -> list[Any]:
    rest: list[Any]
    version, *rest = msgspec.msgpack.decode(state)
    if version != _VERSION:
        raise ValueError(f"a state of version {version}")
    return rest


def _market(folded: Sequence[Any], stream: MarketStream) -> LiveMarket:
    market = LiveMarket(Minutes.restored(folded[0]), stream.volatility)
    (market.ms, market.key, market.recv_ms, market.bid, market.ask, market.bid_size,
     market.ask_size, market.mid, market.quiet_until, market.merged) = folded[1:11]  # fmt: skip
    market.volumes.extend(folded[11])
    return market


def _plain(band: Band) -> tuple[Any, ...]:
    return (band.issued_ms, band.step_ms, band.low, band.high, band.inner_low, band.inner_high,
            band.model, band.fallback_reason, band.is_corrected)  # fmt: skip


def _band(found: Sequence[Any]) -> Band:
    issued_ms, step_ms, low, high, inner_low, inner_high, model, reason, is_corrected = found
    sides = (tuple(low), tuple(high), tuple(inner_low), tuple(inner_high))
    return Band(issued_ms, step_ms, *sides, model, reason, is_corrected)
