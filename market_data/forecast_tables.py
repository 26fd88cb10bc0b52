"""The tables of forecasts: bands as they were issued, and what corrects them."""

from __future__ import annotations

import pyarrow as pa

from market_data.table import COUNT, REAL, TEXT, TIME, describe

FORECAST_BAND = describe(
    "forecast_band",
    ("ts", "market_id", "method", "horizon_step", "step_seconds", "source"),
    {
        "ts": TIME,
        "market_id": TEXT,
        "method": TEXT,
        "horizon_step": COUNT,
        "step_seconds": COUNT,
        "levels": pa.list_(pa.float64()),
        "values": pa.list_(pa.float64()),
        "model_id": TEXT,  # "<name>@<version>"
        "band_calibration": TEXT,  # raw | conformal, of `values`; who writes bands says raw
        "source": TEXT,  # request: somebody asked for it; history: made afterwards from the lake
        "origin_price": REAL,  # last price that the model saw
        "conformal_version": TEXT,  # of the correction that the caller got beside it, else null
    },
    dt_from="ts",
)

_OF_MODEL = {"model": TEXT, "model_version": TEXT, "freq_seconds": COUNT, "segment": TEXT}

CONFORMAL_STATE = describe(
    "conformal_state",
    (
        "version", "model", "model_version", "freq_seconds", "segment", "width_class",
        "horizon_step", "level",
    ),
    {
        "version": TEXT,
        "fitted_at": TIME,  # end of the data interval; the newest one is in force
        **_OF_MODEL,
        "width_class": TEXT,  # wide | quiet: the raw band stands at its minimum width
        "horizon_step": COUNT,
        "level": REAL,
        "correction": REAL,  # in units of the level's distance from the median
        "samples": COUNT,  # independent windows
        "events": COUNT,
        "window_start": TIME,
        "window_end": TIME,
    },
)  # fmt: skip

CONFORMAL_COVERAGE = describe(
    "conformal_coverage",
    ("version", "model", "model_version", "freq_seconds", "segment", "horizon_third"),
    {
        "version": TEXT,
        **_OF_MODEL,
        "horizon_third": TEXT,  # short | middle | long
        "nominal": REAL,
        "before": REAL,
        "before_lo": REAL,
        "before_hi": REAL,
        "after": REAL,
        "after_lo": REAL,
        "after_hi": REAL,
        "width_before": REAL,
        "width_after": REAL,
        "samples": COUNT,
        "events": COUNT,
        "split_at": TIME,  # fitted on what was settled before, measured a horizon after it
        "as_of": TIME,
    },
)

CONFORMAL_ADAPTIVE = describe(
    "conformal_adaptive",
    ("model", "model_version", "freq_seconds", "segment", "horizon_step"),
    {
        **_OF_MODEL,
        "horizon_step": COUNT,
        "target": REAL,
        "alpha": REAL,
        "outcomes": COUNT,
        "last_settled_at": TIME,  # the last outcome that was counted, by the order of its settling
        "last_market_id": TEXT,
        "last_origin": TIME,
        "state_version": TEXT,  # of the corrections whose misses were counted last; null for none
    },
)
