"""What the replayed venues share: how a request is refused, and price paths by token."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl


class BadRequest(ValueError):
    """A request that the real venue would refuse; the message is sent to the client."""


class NotFound(BadRequest):
    """Nothing of that name at the venue."""


def histories(prices: pl.DataFrame, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """(t: [S] int64 UTC seconds, p: [S] float64) by token, of the tokens with a prefix."""
    chosen = prices.filter(pl.col("token_id").str.starts_with(prefix)) if prefix else prices
    return {
        token.removeprefix(prefix): (np.asarray(t, dtype=np.int64), np.asarray(p, dtype=np.float64))
        for token, t, p in chosen.iter_rows()
    }


def whole(options: dict[str, str], name: str, default: int) -> int:
    """A parameter that must be a whole number, not negative; raises ``BadRequest``."""
    try:
        value = int(options.get(name, default))
    except ValueError:
        raise BadRequest(f"{name} is not a whole number") from None
    if value < 0:
        raise BadRequest(f"{name} is negative")
    return value
