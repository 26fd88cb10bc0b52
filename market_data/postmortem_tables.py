"""The table of post-mortems: what happened in each resolved market."""

from __future__ import annotations

import pyarrow as pa

from market_data.table import TEXT, TEXTS, TIME, describe

_REALS = pa.list_(pa.float64())

POSTMORTEM = describe(
    "postmortem",
    ("market_id",),
    {
        "market_id": TEXT,
        "question": TEXT,
        "label": TEXT,  # RESOLVED_TRUE | RESOLVED_FALSE | VOID | MULTI_OUTCOME
        "winner": TEXT,
        "resolved_at": TIME,
        "summary": TEXT,
        "cutoffs": TEXT,  # JSON: [{"cutoff", "time", "p_yes", "brier", "right", "calibrated"}]
        "moves": TEXT,  # JSON: [{"start", "end", "from", "to", "volume_ratio", "open_interest"}]
        "question_risk": TEXT,  # JSON: {"ambiguity", "resolution_risk", "scored_by", "notes"}
        "alerts": TEXT,  # JSON: [{"alert_id", "time", "severity"}]
        "lesson_codes": TEXTS,
        "lessons": TEXTS,  # one sentence for each code
        "path_ts": pa.list_(TIME),  # at most 300 points, oldest first
        "path_p_yes": _REALS,
        "path_bid": _REALS,
        "path_ask": _REALS,
        "picture": pa.binary(),  # the path as PNG; null without a price
        "rules_version": TEXT,
        "inputs_digest": TEXT,  # of the rows that it was made from
    },
    dt_from="resolved_at",
)
"""Times in JSON are UTC microseconds. A market has one row, whatever its ``dt``."""
