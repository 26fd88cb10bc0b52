"""The table of bars that the live path made."""

from __future__ import annotations

from market_data.table import COUNT, REAL, TEXT, TIME, describe

BAR = describe(
    "bar",
    ("start_ts", "interval", "market_id"),
    {
        "start_ts": TIME,
        "interval": TEXT,  # 1m | 5m
        "market_id": TEXT,
        "open": REAL,  # of the mid; null where no mid was known
        "high": REAL,
        "low": REAL,
        "close": REAL,
        "volume": REAL,  # contracts
        "trade_count": COUNT,
        "realized_vol": REAL,  # of the log-odds over the bar, from the ranges of its minutes
    },
    dt_from="start_ts",
)
