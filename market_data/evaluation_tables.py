"""The tables of the evaluation: scores of models, and what follows for the one in force."""

from __future__ import annotations

from market_data.table import COUNT, REAL, TEXT, TEXTS, TIME, describe

EVALUATION = describe(
    "evaluation",
    ("run_id", "split", "model", "band", "family", "steps", "metric"),
    {
        "run_id": TEXT,
        "split": TEXT,  # time | events: how the fitted part and the scored part are kept apart
        "model": TEXT,
        "band": TEXT,  # raw | conformal
        "family": TEXT,  # category of the markets, "all" for all of them
        "steps": TEXT,  # "1-4" and the like, "all" for the whole horizon
        "metric": TEXT,
        "value": REAL,
        "low": REAL,
        "high": REAL,  # 95 %, from resampling events; null where nothing was counted
        "windows": COUNT,
        "events": COUNT,
        "source": TEXT,  # lake | recorded
        "as_of": TIME,
    },
)

PROMOTION = describe(
    "promotion",
    ("run_id", "candidate"),
    {
        "run_id": TEXT,
        "candidate": TEXT,
        "champion": TEXT,
        "verdict": TEXT,  # PROMOTE | KEEP
        "reasons": TEXTS,  # why not; empty for PROMOTE
        "differences": TEXT,  # JSON: by split and family the paired difference of the losses
        "canary": TEXT,  # JSON: live figures, or why there are none
        "as_of": TIME,
    },
)
