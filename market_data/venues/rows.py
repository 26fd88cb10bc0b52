"""What every venue's records become: one row type, whoever sent them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class MarketRow:
    """One market of any venue, read; fields as in ``schemas.MARKET_REGISTRY``.

    Attributes:
        token_ids: what the venue's price histories are asked by, in the order of the outcomes; the
            entry of the YES side must be there, others may be missing.
        outcome_prices: one for each outcome, in [0, 1]; of a closed market what it pays.
        uma_status: the oracle's last word as the venue writes it; of a venue without an oracle
            null or one of ``labels.VENUE_STATES``.
        volume_total, volume_24h, liquidity, open_interest: US dollars; unknown where the venue
            counts in anything else.
        is_closed, uma_end_at: serve to decide status and resolution time.
    """

    market_id: str
    event_id: str
    platform: str
    venue_market_id: str
    condition_id: str | None
    slug: str | None
    question: str
    outcomes: list[str]
    token_ids: list[str]
    enable_order_book: bool | None
    tags: list[str]
    category: str
    neg_risk: bool
    market_structure: str
    tick_size: float | None
    created_at: datetime | None
    start_at: datetime | None
    end_at: datetime | None
    closed_at: datetime | None
    uma_end_at: datetime | None
    is_closed: bool
    volume_total: float | None
    volume_24h: float | None
    liquidity: float | None
    open_interest: float | None
    best_bid: float | None
    best_ask: float | None
    last_trade_price: float | None
    outcome_prices: list[float] | None
    uma_status: str | None
    venue_updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event of any venue, read; fields as in ``venue_tables.MARKET_EVENT``."""

    event_id: str
    platform: str
    slug: str | None
    title: str
    category: str
    tags: list[str]
    is_exclusive: bool
    market_count: int
    start_at: datetime | None
    end_at: datetime | None
    is_closed: bool
    venue_updated_at: datetime | None
