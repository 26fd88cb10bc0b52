"""The tables of calibration beside its scores: curves, recalibration and drift."""

from __future__ import annotations

import pyarrow as pa

from market_data.table import COUNT, FLAG, REAL, TEXT, TEXTS, TIME, describe

_REALS = pa.list_(pa.float64())

_CURVE = {
    "window": TEXT,
    "segment_key": TEXT,
    "run_id": TEXT,
    "bin": COUNT,
    "bin_lower": REAL,
    "bin_upper": REAL,
    "mean_price": REAL,
    "observed_rate": REAL,
    "sample_size": COUNT,
    "event_count": COUNT,
    "consistency_lo": REAL,
    "consistency_hi": REAL,  # where the rate lies, 95 %, if calibrated
    "as_of": TIME,
}

RELIABILITY_CURVE = describe(
    "reliability_curve", ("window", "segment_key", "run_id", "bin"), _CURVE
)
"""Ten bins of equal width."""

RELIABILITY_ISOTONIC = describe(
    "reliability_isotonic", ("window", "segment_key", "run_id", "bin"), _CURVE
)
"""Blocks of the isotonic (CORP) curve; a bin is a block, its bounds are prices that occur."""

RECALIBRATION_STATE = describe(
    "recalibration_state",
    ("version", "pool"),
    {
        "version": TEXT,
        "pool": TEXT,  # a category, "*" for everything together
        "method": TEXT,  # identity | shift | platt | beta | isotonic: what validation chose
        "parameters": TEXT,  # JSON of the chosen map
        "served": TEXT,  # own | pool | price: what the grid below comes from
        "price": _REALS,  # the grid; 0 and 1 are on it
        "value": _REALS,  # calibrated probability at the grid, not decreasing
        "lo": _REALS,
        "hi": _REALS,  # 95 %, over events; null where nothing could be fitted
        "promoted": FLAG,
        "reasons": TEXTS,  # why not; empty where promoted
        "brier_raw": REAL,  # of the price, over the validation folds
        "brier_recalibrated": REAL,  # of the chosen method, fitted before each fold
        "difference": REAL,  # recalibrated − price, methods chosen before each fold
        "difference_lo": REAL,
        "difference_hi": REAL,
        "p_value": REAL,
        "p_adjusted": REAL,  # Holm over the pools of this version
        "sample_size": COUNT,
        "event_count": COUNT,
        "validation_events": COUNT,
        "fitted_from": TIME,
        "fitted_to": TIME,  # first and last resolution among the events
        "as_of": TIME,
        "run_id": TEXT,
    },
)

RECALIBRATION_CHOICE = describe(
    "recalibration_choice",
    ("chosen_at",),
    {
        "chosen_at": TIME,
        "version": TEXT,  # of recalibration_state, or "identity"; the latest row is in force
        "by": TEXT,
        "reason": TEXT,
    },
)

CALIBRATION_DRIFT = describe(
    "calibration_drift",
    ("run_id", "segment_key", "test"),
    {
        "run_id": TEXT,
        "segment_key": TEXT,
        "test": TEXT,  # REFERENCE: recent = reference period | PERFECT: recent = calibrated
        "category": TEXT,
        "liquidity_bucket": TEXT,
        "tte_bucket": TEXT,
        "recent_from": TIME,  # events resolved from then on are recent
        "sample_size": COUNT,
        "event_count": COUNT,
        "reference_sample_size": COUNT,
        "reference_event_count": COUNT,
        "slope": REAL,  # of the recent period
        "intercept": REAL,
        "slope_change": REAL,  # recent − reference, or recent − 1
        "slope_change_lo": REAL,
        "slope_change_hi": REAL,
        "intercept_change": REAL,
        "intercept_change_lo": REAL,
        "intercept_change_hi": REAL,
        "statistic": REAL,  # quadratic form of the score, two degrees of freedom
        "p_value": REAL,
        "p_adjusted": REAL,  # Holm over the segments of one test
        "drifted": FLAG,
        "as_of": TIME,
    },
)
