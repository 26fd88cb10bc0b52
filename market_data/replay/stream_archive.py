"""A stream that goes on where an archive ends: its open markets, at their last prices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from market_data.replay.archive import Archive, Record
from market_data.replay.stream_simulate import StreamDay
from market_data.replay.stream_simulate_market import Listed

DAYS = 1
"""How long the stream goes on; then it says that it is over."""


def day_after(archive: Archive, *, start_ms: int, seed: int, markets: int) -> StreamDay:
    """The days after an archive, begun at ``start_ms`` whatever the archive's own time.

    Every second market jumps once, so that alerts can be seen: of 200 markets one every 13 minutes.

    Raises:
        ValueError: the archive has no open market with two tokens and a price.
    """
    listed = tuple(_listed(archive))[:markets]
    if not listed:
        raise ValueError("the archive has no open market with two tokens and a price")
    return StreamDay(
        seed=seed, n_conditions=len(listed), start_ms=start_ms, duration_s=DAYS * 86_400.0,
        updates_per_second=0.2 * len(listed), n_jumps=max(1, len(listed) // 2), jumps_after=0.001,
        symbols="", listed=listed,
    )  # fmt: skip


def _listed(archive: Archive) -> Iterator[Listed]:
    last = {
        row["token_id"]: row["p"][-1] for row in archive.prices.iter_rows(named=True) if row["p"]
    }
    for market in archive.markets:
        tokens = _tokens(market)
        if market.get("closed") or len(tokens) != 2 or tokens[0] not in last:
            continue
        yield Listed(
            str(market["id"]), str(market["conditionId"]), (tokens[0], tokens[1]), last[tokens[0]]
        )


def _tokens(market: Record) -> list[str]:
    """Gamma sends lists as JSON text."""
    found: Any = market.get("clobTokenIds") or "[]"
    named = orjson.loads(found) if isinstance(found, str) else found
    return [str(one) for one in named]
