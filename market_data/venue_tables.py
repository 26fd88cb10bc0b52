"""Tables of what venues hold beside markets and prices; part of ``market_data.schemas``."""

from __future__ import annotations

from market_data.table import COUNT, FLAG, REAL, TEXT, TEXTS, TIME, describe

COLLATERAL_FLOW = describe(
    "collateral_flow",
    ("ts", "flow_id"),
    {
        "ts": TIME,
        "flow_id": TEXT,  # "<entity>:<the venue's id>"
        "entity": TEXT,  # splits | merges | redemptions
        "market_id": TEXT,
        "usd": REAL,  # signed: what it adds to the open interest
    },
    dt_from="ts",
)

FLOW_REACH = describe(
    "flow_reach",
    ("entity",),
    {
        "entity": TEXT,
        "complete_until": TIME,  # every flow of the entity up to here is stored
    },
)

OUTCOME_EVIDENCE = describe(
    "outcome_evidence",
    ("market_id",),
    {
        "market_id": TEXT,
        "source": TEXT,  # the interface that says it
        "winner": TEXT,  # the outcome marked as winner, else null
        "is_fifty_fifty": FLAG,
        "is_closed": FLAG,
    },
)

MARKET_EVENT = describe(
    "market_event",
    ("event_id",),
    {
        "event_id": TEXT,
        "platform": TEXT,
        "slug": TEXT,
        "title": TEXT,
        "category": TEXT,
        "tags": TEXTS,
        "is_exclusive": FLAG,  # at most one of its markets is YES
        "market_count": COUNT,
        "start_at": TIME,
        "end_at": TIME,
        "is_closed": FLAG,
        "venue_updated_at": TIME,
    },
)

MARKET_MATCH = describe(
    "market_match",
    ("market_id", "other_id"),
    {
        "market_id": TEXT,
        "other_id": TEXT,  # the same question on another platform; both directions are rows
        "score": REAL,  # in (0, 1]
        "reason": TEXT,
    },
)

VENUE_TABLES = (COLLATERAL_FLOW, FLOW_REACH, OUTCOME_EVIDENCE, MARKET_EVENT, MARKET_MATCH)
