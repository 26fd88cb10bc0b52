"""The tables of the live path: bars, alerts, and how good alerts are."""

from __future__ import annotations

from market_data.table import COUNT, REAL, TEXT, TEXTS, TIME, describe

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

ALERT = describe(
    "alert",
    ("alert_id",),
    {
        "alert_id": TEXT,
        "ts": TIME,  # end of the bar that raised it
        "market_id": TEXT,
        "event_id": TEXT,
        "severity": TEXT,  # FYI | MED | HIGH
        "rule": TEXT,
        "episode_id": TEXT,
        "direction": TEXT,  # UP | DOWN
        "reason_codes": TEXTS,
        "evidence": TEXT,  # JSON: [[name, value, threshold or null], …]
        "explanation": TEXTS,
        "policy_version": TEXT,
    },
    dt_from="ts",
)

ALERT_QUALITY = describe(
    "alert_quality",
    ("run_id", "severity"),
    {
        "run_id": TEXT,
        "severity": TEXT,
        "as_of": TIME,
        "source": TEXT,  # stream: as raised; batch: as a policy would have raised them
        "policy_version": TEXT,  # null where the alerts carry several stamps
        "alerts": COUNT,
        "unknown": COUNT,  # alerts whose hour is not over, or has no prices
        "market_days": REAL,
        "rate": REAL,  # alerts per market-day, with a 95 % interval
        "rate_lo": REAL,
        "rate_hi": REAL,
        "nominal_rate": REAL,  # times a day that a calibrated band is left; null: policy unknown
        "follow_through": REAL,  # share after which the price went on; null without a known one
        "follow_through_lo": REAL,
        "follow_through_hi": REAL,
        "false_share": REAL,  # share after which it came back; null without a known one
        "false_share_lo": REAL,
        "false_share_hi": REAL,
    },
)
