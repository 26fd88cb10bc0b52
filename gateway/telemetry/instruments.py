"""Every metric there is: its name, kind, unit, labels and meaning.

Labels hold methods of the contract, codes, reasons, scopes, families and models of the catalogue,
and members of enumerations, so the number of series has a bound that no caller can move. Names are
those that Prometheus shows; a counter ends in ``_total``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a metric is."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric.

    Attributes:
        name: as Prometheus shows it; also its name over OTLP unless ``otlp_name`` is set.
        kind: what it is.
        unit: UCUM unit; "1" of counts and shares.
        meaning: one sentence.
        labels: names of its labels.
        otlp_name: its name by the conventions of OpenTelemetry, where there is one.
    """

    name: str
    kind: Kind
    unit: str
    meaning: str
    labels: tuple[str, ...] = ()
    otlp_name: str = ""


_COUNTER, _GAUGE, _HISTOGRAM = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

RPC_DURATION = Metric(
    "rpc_server_duration_milliseconds", _HISTOGRAM, "ms",
    "Time from the arrival of a call to its end, by gRPC code (a number); bars of OK, 0, alone.",
    ("rpc_service", "rpc_method", "rpc_grpc_status_code"), "rpc.server.duration",
)  # fmt: skip
RPC_ACTIVE = Metric(
    "rpc_server_active_requests", _GAUGE, "1", "Calls and streams under way.",
    ("rpc_service", "rpc_method"), "rpc.server.active_requests",
)  # fmt: skip
REFUSALS = Metric(
    "marketcal_refusals_total", _COUNTER, "1",
    "Calls that this process refused, by published reason: credentials, limits, shedding, input.",
    ("reason",),
)  # fmt: skip
WORK = Metric("marketcal_work_in_flight", _GAUGE, "1", "Cost of the calls under way.", ("scope",))
WORK_LIMIT = Metric(
    "marketcal_work_limit", _GAUGE, "1", "Cost that may be under way now.", ("scope",)
)
SHED = Metric(
    "marketcal_calls_shed_total", _COUNTER, "1",
    "Calls told to come back because too much was under way.", ("scope",),
)  # fmt: skip
STREAMS = Metric("marketcal_streams_open", _GAUGE, "1", "Streams that are open.")
LIMITER = Metric(
    "marketcal_rate_limit_verdicts_total", _COUNTER, "1",
    "Verdicts of the rate limit: allowed or refused.", ("verdict",),
)  # fmt: skip
LIMITER_AWAY = Metric(
    "marketcal_rate_limit_store_away", _GAUGE, "1",
    "1 while Redis does not answer and limits are of this process alone.",
)  # fmt: skip
LIMITER_STOOD_IN = Metric(
    "marketcal_rate_limit_stood_in_total", _COUNTER, "1",
    "Verdicts of this process's own limits while Redis did not answer.",
)  # fmt: skip
LATENCY = Metric(
    "tollama_latency_ms", _HISTOGRAM, "ms",
    "Time of a batch at its backend, of every model, those of tollama among them.", ("model",),
)  # fmt: skip
BATCH_SIZE = Metric("marketcal_batch_series", _HISTOGRAM, "1", "Series in a batch.", ("model",))
MODEL_SERIES = Metric(
    "marketcal_model_series_total", _COUNTER, "1", "Series that a model was asked for.", ("model",)
)
MODEL_FAILURES = Metric(
    "marketcal_model_failures_total", _COUNTER, "1",
    "Series that a model gave no answer to.", ("model",),
)  # fmt: skip
FORECASTS = Metric(
    "marketcal_forecasts_total", _COUNTER, "1",
    "Forecasts that went out, by asked model and what the cache said "
    "(NOT_CONSULTED, MISS, HIT, STALE).", ("model", "cache"),
)  # fmt: skip
FALLBACKS = Metric(
    "marketcal_fallbacks_total", _COUNTER, "1",
    "Forecasts by a baseline in place of the asked model, by reason.", ("reason",),
)  # fmt: skip
FALLBACK_RATE = Metric(
    "fallback_rate", _GAUGE, "1",
    "Share of fallbacks among the last 1,000 forecasts; absent before the first.",
)  # fmt: skip
CROSSINGS = Metric(
    "marketcal_quantile_crossings_total", _COUNTER, "1",
    "Forecasts whose quantiles crossed before they were put in order.",
)  # fmt: skip
CROSSING_RATE = Metric(
    "quantile_crossing_rate", _GAUGE, "1",
    "Share of forecasts with crossing quantiles among the last 1,000; absent before the first.",
)  # fmt: skip
INTERVAL_WIDTH = Metric(
    "interval_width", _HISTOGRAM, "1",
    "Width in probability between the levels 0.1 and 0.9 at the last step, by answering model; of "
    "forecasts whose outermost levels these are.",
    ("model",),
)  # fmt: skip
COVERAGE = Metric(
    "coverage_rolling", _GAUGE, "1",
    "Share of outcomes within the band, as last measured on settled markets, of raw and of "
    "corrected bands; absent before the first measurement.", ("bands",),
)  # fmt: skip
COVERAGE_NOMINAL = Metric(
    "coverage_nominal", _GAUGE, "1", "Share that the band of coverage_rolling promises."
)
CACHE_ENTRIES = Metric("marketcal_cache_entries", _GAUGE, "1", "Forecasts that are remembered.")
CACHE_BYTES = Metric("marketcal_cache_bytes", _GAUGE, "By", "Size of remembered forecasts.")
BREAKER = Metric(
    "marketcal_breaker_state", _GAUGE, "1",
    "Breaker before a family's backend: 1 closed, 2 open, 3 half open.", ("family",),
)  # fmt: skip
BREAKER_MOVES = Metric(
    "marketcal_breaker_transitions_total", _COUNTER, "1",
    "Moves of a breaker, by the state that it went to.", ("family", "to"),
)  # fmt: skip
DEGRADATION = Metric(
    "marketcal_degradation_state", _GAUGE, "1",
    "State of a family's backend: 1 normal, 2 degraded, 3 baseline only.", ("family",),
)  # fmt: skip
QUEUE = Metric("marketcal_pool_queue", _GAUGE, "1", "Series that wait for a backend.", ("family",))
RAY = Metric("marketcal_ray_connected", _GAUGE, "1", "1 while forecasts are made on Ray.")
ALERT_WATCHERS = Metric(
    "marketcal_alert_watchers", _GAUGE, "1", "Streams of alerts that are told of new ones."
)
ALERTS_MISSED = Metric(
    "marketcal_alerts_missed_total", _COUNTER, "1",
    "Alerts that slow readers of a stream were not sent; each of them heard how many.",
)  # fmt: skip
FORECAST_WATCHERS = Metric(
    "marketcal_forecast_watchers", _GAUGE, "1", "Streams that get a band at each closed bar."
)
BARS_SKIPPED = Metric(
    "marketcal_forecast_bars_skipped_total", _COUNTER, "1",
    "Closed bars at which a stream got no band, by the reason of the refused forecast.",
    ("reason",),
)  # fmt: skip
KEYS_AGE = Metric(
    "marketcal_keys_refreshed_seconds", _GAUGE, "s",
    "Time since the keys were last read from the control store.",
)  # fmt: skip
PUBLICATION_AGE = Metric(
    "marketcal_publication_age_seconds", _GAUGE, "s",
    "Age of the data behind the published tables; absent before the first.",
)  # fmt: skip
SPANS = Metric(
    "marketcal_telemetry_spans_total", _COUNTER, "1",
    "Spans by what became of them: sent, dropped (no room) or failed (not taken).", ("outcome",),
)  # fmt: skip

METRICS = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""All of them."""
