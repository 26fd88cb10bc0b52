"""Every table of the lake: its Arrow schema, its key and how it is partitioned.

This module is the data contract between the stages. A stage reads tables and writes tables that
are named here, and nothing else. Times are UTC microseconds, probabilities are float64 in [0, 1],
ids are text, money is float64 US dollars (Decimal lives in the execution ledger alone).

``schema_version`` is a constant column of every table; it rises when a column changes meaning.
Beside it stand the modules ``*_tables``, one for each subject.
"""

from __future__ import annotations

import pyarrow as pa

from market_data.calibration_tables import (
    CALIBRATION_DRIFT,
    RECALIBRATION_CHOICE,
    RECALIBRATION_STATE,
    RELIABILITY_CURVE,
    RELIABILITY_ISOTONIC,
)
from market_data.evaluation_tables import EVALUATION, PROMOTION
from market_data.forecast_tables import (
    CONFORMAL_ADAPTIVE,
    CONFORMAL_COVERAGE,
    CONFORMAL_STATE,
    FORECAST_BAND,
)
from market_data.postmortem_tables import POSTMORTEM
from market_data.question_tables import QUESTION_QUALITY
from market_data.stage_tables import STAGE_INPUT
from market_data.stream_tables import ALERT, ALERT_QUALITY, BAR
from market_data.table import COUNT, FLAG, REAL, SCHEMA_VERSION, TEXT, TEXTS, TIME, Table
from market_data.table import describe as _table
from market_data.venue_tables import VENUE_TABLES

__all__ = ["SCHEMA_VERSION", "TABLES", "Table"]

_SEGMENT = {"category": TEXT, "liquidity_bucket": TEXT, "tte_bucket": TEXT}

_SNAPSHOT = {
    "p_yes": REAL,
    "p_no": REAL,
    "bid": REAL,
    "ask": REAL,
    "spread": REAL,
    "volume_24h": REAL,
    "open_interest": REAL,
    "num_traders_proxy": COUNT,
    "tte_seconds": REAL,
    "liquidity_bucket": TEXT,
    "data_source": TEXT,
    "data_freshness_sec": REAL,
}

MARKET_REGISTRY = _table(
    "market_registry",
    ("market_id",),
    {
        "market_id": TEXT,  # "<platform>:<venue id>", e.g. "polymarket:512345"
        "event_id": TEXT,  # "<platform>:<venue event id>"; a market without one is its own event
        "platform": TEXT,
        "venue_market_id": TEXT,
        "condition_id": TEXT,
        "slug": TEXT,
        "question": TEXT,
        "outcomes": TEXTS,
        "token_ids": TEXTS,
        "enable_order_book": FLAG,
        "tags": TEXTS,
        "category": TEXT,
        "neg_risk": FLAG,
        "market_structure": TEXT,  # BINARY | MULTI_OUTCOME | SCALAR | MULTI_LEG | PLAYER_PROP
        "tick_size": REAL,  # smallest price step, in probability units
        "created_at": TIME,
        "start_at": TIME,
        "end_at": TIME,
        "closed_at": TIME,
        "resolved_at": TIME,  # when the venue closed it with a final state, else null
        "status": TEXT,  # ACTIVE | RESOLVED | VOID | UNRESOLVED
        "volume_total": REAL,
        "volume_24h": REAL,
        "liquidity": REAL,
        "open_interest": REAL,
        "best_bid": REAL,
        "best_ask": REAL,
        "last_trade_price": REAL,
        "outcome_prices": pa.list_(pa.float64()),
        "uma_status": TEXT,  # the oracle's last word, or one of labels.VENUE_STATES
        "venue_updated_at": TIME,
        "ingested_at": TIME,
        "raw_sha256": TEXT,  # content name of the raw file that the row came from
    },
)

MARKET_REGISTRY_HISTORY = _table(
    "market_registry_history",
    ("market_id", "changed_at", "field"),
    {
        "market_id": TEXT,
        "changed_at": TIME,
        "field": TEXT,
        "old_value": TEXT,
        "new_value": TEXT,
        "kind": TEXT,  # CHANGE | CONFLICT (an identity field changed, or two records disagree)
        "raw_sha256": TEXT,
    },
)

LABEL_STATUS = _table(
    "label_status",
    ("market_id",),
    {
        "market_id": TEXT,
        "label": TEXT,  # RESOLVED_TRUE | RESOLVED_FALSE | VOID | UNRESOLVED | MULTI_OUTCOME
        "outcome_yes": REAL,  # 1.0, 0.0, or null where the label is not a truth value
        "winner": TEXT,
        "reason": TEXT,
        "resolved_at": TIME,
    },
)

MARKET_SNAPSHOT = _table(
    "market_snapshot",
    ("ts", "market_id"),
    {"ts": TIME, "market_id": TEXT, **_SNAPSHOT},
    dt_from="ts",
)

CUTOFF_SNAPSHOT = _table(
    "cutoff_snapshot",
    ("market_id", "cutoff_type", "cutoff_ts"),
    {
        "market_id": TEXT,
        "cutoff_type": TEXT,  # T-24h | T-1h | DAILY
        "cutoff_ts": TIME,  # the instant asked for; always < resolution
        "selected_ts": TIME,  # the snapshot chosen, ≤ cutoff_ts
        "selection_rule": TEXT,  # NEAREST_EARLIER | WIDE_FALLBACK
        "age_seconds": REAL,  # cutoff_ts − selected_ts
        **_SNAPSHOT,
    },
)

FEATURE_FRAME = _table(
    "feature_frame",
    ("ts", "market_id"),
    {
        "ts": TIME,
        "market_id": TEXT,
        "p_yes": REAL,
        "logit_return_1": REAL,
        "logit_return_3": REAL,
        "logit_return_6": REAL,
        "rolling_std_3": REAL,
        "rolling_std_5": REAL,
        "rolling_std_12": REAL,
        "acceleration": REAL,
        "reversal": FLAG,
        "volume_ratio": REAL,
        "open_interest_change": REAL,
        "gap_seconds": REAL,
        "is_stale": FLAG,
        "tte_seconds": REAL,
        "tte_bucket": TEXT,
        "distance_from_half": REAL,
        "spread": REAL,
        "event_consensus": REAL,
        "event_dispersion": REAL,
        "cross_platform_disagreement": REAL,  # p_yes less the mean price on other platforms
        "impute_flags": COUNT,  # bit set: which inputs were missing
    },
    dt_from="ts",
)

_SCORED = {
    "sample_size": COUNT,  # snapshots
    "event_count": COUNT,  # independent events
    "low_confidence": FLAG,  # worth < 50 events of one size: (Σn)² / Σn², n rows each
    "base_rate": REAL,
    "mean_price": REAL,
    "brier": REAL,
    "brier_lo": REAL,
    "brier_hi": REAL,
    "log_loss": REAL,
    "log_loss_lo": REAL,
    "log_loss_hi": REAL,
    "ece": REAL,
    "ece_bias_corrected": REAL,
    "ece_null_lo": REAL,
    "ece_null_hi": REAL,
    "ece_equal_mass": REAL,
    "max_calibration_error": REAL,
    "sharpness": REAL,  # variance of the prices
    "miscalibration": REAL,  # brier = miscalibration − discrimination + uncertainty (CORP)
    "discrimination": REAL,
    "uncertainty": REAL,
    "slope": REAL,
    "slope_lo": REAL,
    "slope_hi": REAL,
    "intercept": REAL,
    "intercept_lo": REAL,
    "intercept_hi": REAL,
}

CALIBRATION_METRICS = _table(
    "calibration_metrics",
    ("window", "segment_key", "run_id"),
    {
        "window": TEXT,  # "90d": markets resolved in the last 90 days
        "segment_key": TEXT,  # "category=…|liquidity=…|tte=…", "*" for a pooled dimension
        "run_id": TEXT,
        **_SEGMENT,
        **_SCORED,
        "as_of": TIME,
    },
)

TRUST_SCORE = _table(
    "trust_score",
    ("ts", "market_id"),
    {
        "ts": TIME,
        "market_id": TEXT,
        "score": REAL,
        "liquidity_depth": REAL,
        "stability": REAL,
        "question_quality": REAL,
        "manipulation_suspect": REAL,
        "depth_usd": REAL,  # what the components were computed from, null where unknown
        "volatility": REAL,  # of the log-odds, per root hour
        "price_moves": COUNT,
        "volume_z": REAL,
        "open_interest_z": REAL,
        "question_scored_by": TEXT,  # a model's name, or the version of the rules
        "question_note": TEXT,  # the first reason for the quality of the question
        "unknown_components": TEXTS,  # components that stand at their prior
        "weights": TEXT,
        "formula_version": TEXT,
    },
    dt_from="ts",
)

SCOREBOARD = _table(
    "scoreboard",
    ("window", "market_id"),
    {
        "window": TEXT,
        "market_id": TEXT,
        "event_id": TEXT,
        "platform": TEXT,
        "question": TEXT,
        "category": TEXT,
        "tags": TEXTS,
        "liquidity_bucket": TEXT,
        "tte_bucket": TEXT,
        "status": TEXT,
        "p_yes": REAL,
        "price_ts": TIME,
        "calibrated_probability": REAL,
        "calibrated_lo": REAL,
        "calibrated_hi": REAL,
        "recalibration_method": TEXT,  # identity | shift | platt | beta | isotonic
        "recalibration_version": TEXT,
        "trust": REAL,
        "liquidity_depth": REAL,
        "stability": REAL,
        "question_quality": REAL,
        "manipulation_suspect": REAL,
        "unknown_components": TEXTS,
        "segment_key": TEXT,  # the segment whose scores the row carries
        **_SCORED,
        "as_of": TIME,
        "run_id": TEXT,  # the run whose metrics the row carries
    },
)

RUN_METADATA = _table(
    "run_metadata",
    ("run_id",),
    {
        "run_id": TEXT,
        "pipeline": TEXT,
        "code_version": TEXT,
        "config_hash": TEXT,
        "interval_start": TIME,
        "interval_end": TIME,
        "status": TEXT,  # RUNNING | SUCCESS | PARTIAL_SUCCESS | FAILED
        "error_stage": TEXT,
        "error": TEXT,
        "stage_rows": TEXT,  # JSON: {"labels": {"in": 10, "out": 9, "seconds": 0.1}, …}
        "started_at": TIME,
        "finished_at": TIME,
    },
)

DEAD_LETTER = _table(
    "dead_letter",
    ("letter_id",),
    {
        "letter_id": TEXT,  # sha256 of (source, record): the same record is one letter
        "source": TEXT,  # "polymarket/gamma/markets" and the like
        "record_id": TEXT,
        "reason": TEXT,
        "detail": TEXT,
        "record": TEXT,
        "raw_sha256": TEXT,  # null where a request failed, and no record was received
        "first_seen_at": TIME,
        "settled_at": TIME,  # when the record was read after all; null while it is rejected
        "settled_by": TEXT,  # the run that read it
    },
)

RAW_FILE = _table(
    "raw_file",
    ("sha256",),
    {
        "sha256": TEXT,
        "source": TEXT,
        "path": TEXT,
        "records": COUNT,
        "bytes": COUNT,
        "fetched_at": TIME,
    },
)

OPEN_INTEREST = _table(
    "open_interest",
    ("ts", "market_id"),
    {"ts": TIME, "market_id": TEXT, "open_interest": REAL},
    dt_from="ts",
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        MARKET_REGISTRY,
        MARKET_REGISTRY_HISTORY,
        LABEL_STATUS,
        MARKET_SNAPSHOT,
        CUTOFF_SNAPSHOT,
        FEATURE_FRAME,
        FORECAST_BAND,
        CONFORMAL_STATE,
        CONFORMAL_COVERAGE,
        CONFORMAL_ADAPTIVE,
        CALIBRATION_METRICS,
        RELIABILITY_CURVE,
        RELIABILITY_ISOTONIC,
        RECALIBRATION_STATE,
        RECALIBRATION_CHOICE,
        CALIBRATION_DRIFT,
        QUESTION_QUALITY,
        TRUST_SCORE,
        SCOREBOARD,
        POSTMORTEM,
        RUN_METADATA,
        STAGE_INPUT,
        DEAD_LETTER,
        RAW_FILE,
        OPEN_INTEREST,
        BAR,
        ALERT,
        ALERT_QUALITY,
        EVALUATION,
        PROMOTION,
        *VENUE_TABLES,
    )
}
"""All tables by name."""
