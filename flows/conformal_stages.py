"""The stages of the conformal pipeline: bands, corrections, coverage."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from flows import history
from flows.adaptive_state import Shares
from flows.conformal_settings import ConformalSettings
from flows.runs import NoDataError, Run, StageCount
from flows.settled import Settled, by_model, settled_rows
from forecast_service.batch import InvalidAnswerError
from forecast_service.conformal.coverage import Coverage, coverages, measured_step
from forecast_service.conformal.fit import FIT_LEVELS, Correction, Rules, fit_step, knots_within
from forecast_service.conformal.state import ModelKey
from forecast_service.corrections import load as load_state
from forecast_service.models.catalog import served
from forecast_service.models.errors import CatalogError, ModelError
from forecast_service.models.loading import load
from forecast_service.settings import ForecastSettings
from market_data.lake import empty

_LOG = logging.getLogger("flows")
LOOKBACK = timedelta(days=30)
"""Prices before the window that contexts may reach back to."""
BAND = (0.1, 0.9)
NOMINAL = 0.8
TEST_SHARE = 1 / 3
"""Share of the window, its end, on which coverage is measured."""
SHORTFALL = 0.03
"""Coverage whose whole interval lies this far below what is promised is a failure."""


def chosen_models(conformal: ConformalSettings, forecast: ForecastSettings) -> list[str]:
    """Names of the models whose bands are corrected.

    Raises:
        CatalogError: there is no such model.
    """
    cards = served(forecast)
    usual = (forecast.default_model, forecast.policy.fallback_model)
    names = list(dict.fromkeys(conformal.models or usual))
    unknown = [name for name in names if name not in cards]
    if unknown:
        raise CatalogError(f"flows.conformal.models: there is no model {', '.join(unknown)}")
    return names


def window_start(run: Run) -> datetime:
    """Where the rolling window begins."""
    return run.interval_end - timedelta(days=run.settings.conformal.days)


def bands(run: Run, forecast: ForecastSettings) -> StageCount:
    """Makes the forecasts of the window, as they would have been made; those long before it go."""
    settings = run.settings.conformal
    run.lake.remove_days("forecast_band", before=f"{window_start(run) - LOOKBACK:%Y-%m-%d}")
    prices = _prices(run, window_start(run) - LOOKBACK)
    if prices.is_empty():
        raise NoDataError(f"no price before {run.interval_end:%Y-%m-%d %H:%M} UTC in the lake")
    registry = run.lake.read("market_registry", columns=("market_id", "end_at"))
    ends = dict(registry.drop_nulls().with_columns(pl.col("end_at").dt.epoch("s")).iter_rows())
    stored, failures, made = 0, [], 0
    for name in run.parameters["models"]:
        try:
            found = _missing_bands(run, prices, ends, name, forecast)
        except (ModelError, InvalidAnswerError, ModuleNotFoundError) as error:
            _LOG.warning("no bands of %s: %s", name, error)
            failures.append(f"{name} ({type(error).__name__})")
            continue
        made += found.height
        if not found.is_empty():
            done = run.lake.upsert("forecast_band", found)
            stored += done.rows_new + done.rows_changed
    if len(failures) == len(run.parameters["models"]):
        raise NoDataError(f"no model made a band: {', '.join(failures)}")
    note = f"no bands of {', '.join(failures)}" if failures else ""
    note = note or f"{made} bands up to step {settings.max_steps} were missing"
    return StageCount(prices.height, made, stored, failures=len(failures), note=note)


def _missing_bands(
    run: Run,
    prices: pl.DataFrame,
    ends: dict[str, float],
    name: str,
    forecast: ForecastSettings,
) -> pl.DataFrame:
    card, settings = served(forecast)[name], run.settings.conformal
    known = _known_origins(run, f"{name}@{card.version}")
    by_freq: dict[int, list[history.Contexts]] = {}
    for one in history.windows_of(
        prices, since=window_start(run), until=run.interval_end,
        every_steps=settings.every_steps, context=card.max_context,
    ):  # fmt: skip
        seen = known.get((one.market_id, one.freq_seconds), set())
        lacking = one.without(seen).answered_by(card, forecast.policy)
        if len(lacking.origin):
            by_freq.setdefault(one.freq_seconds, []).append(lacking)
    if not by_freq:
        return empty("forecast_band").drop("schema_version", "dt")
    model = load(forecast, card.family)[name]
    parts = [
        history.bands_of(card, model, windows, ends, settings.max_steps)
        for _, windows in sorted(by_freq.items())
    ]
    return pl.concat(parts)


def _known_origins(run: Run, model_id: str) -> dict[tuple[str, int], set[int]]:
    """Origins, in seconds since the epoch, of the bands made afterwards by market and cadence."""
    stored = run.lake.read(
        "forecast_band",
        (pl.col("model_id") == model_id)
        & (pl.col("horizon_step") == 1)
        & (pl.col("source") == "history"),
        columns=("market_id", "step_seconds", "ts"),
        days=_days(run),
    )
    found: dict[tuple[str, int], set[int]] = {}
    for market, freq, at in stored.with_columns(pl.col("ts").dt.epoch("s")).iter_rows():
        found.setdefault((market, freq), set()).add(at)
    return found


def corrections(run: Run) -> StageCount:
    """Fits corrections to the settled bands of the window; a new version only if they changed."""
    if newer := _newer_state(run):
        return StageCount(0, 0, note=f"{newer} and stays")
    settled = _settled(run)
    shares = Shares(run, load_state(run.lake))
    found: list[tuple[ModelKey, Correction]] = []
    without: list[str] = []
    samples = failures = 0
    for of in settled:
        tails = shares.updated(of) if run.settings.conformal.adaptive else {}
        rows = _fitted(run, of, tails)
        samples += sum(int(np.isfinite(one.actual).sum()) for one in of.by_step.values())
        found.extend((of.key, row) for row in rows)
        if not rows:
            without.append(f"{of.key.model} at {of.key.freq_seconds} s")
            failures += of.events_made_afterwards >= run.settings.conformal.min_events
    if not found:
        raise NoDataError(
            f"{samples} settled bands are too few: a correction needs "
            f"{run.settings.conformal.min_samples} independent windows of "
            f"{run.settings.conformal.min_events} events"
        )
    # First the shares: a run that ends between the two counts no outcome again, and goes on.
    written = shares.keep()
    written += _keep(run, _state_rows(run, found))
    note = f"too few settled bands, not corrected: {', '.join(without)}" if without else ""
    return StageCount(samples, len(found), written, failures=failures, note=note)


def _fitted(run: Run, of: Settled, tails: Mapping[int, Mapping[str, float]]) -> list[Correction]:
    rules, freq = _rules(run), of.key.freq_seconds
    return [
        row
        for step in knots_within(run.settings.conformal.max_steps)
        if step in of.by_step
        for row in fit_step(
            of.by_step[step], FIT_LEVELS, step=step, freq_seconds=freq, rules=rules,
            tails=tails.get(step),
        )
    ]  # fmt: skip


def _state_rows(run: Run, found: list[tuple[ModelKey, Correction]]) -> pl.DataFrame:
    """``conformal_state`` rows of one version, whose name tells its time and its content."""
    rows = [
        (
            key.model, key.version, key.freq_seconds, row.segment,
            "quiet" if row.quiet else "wide", row.horizon_step, row.level,
            round(row.correction, 12), row.samples, row.events,
        )
        for key, row in found
    ]  # fmt: skip
    names = [
        "model", "model_version", "freq_seconds", "segment", "width_class", "horizon_step",
        "level", "correction", "samples", "events",
    ]  # fmt: skip
    frame = pl.DataFrame(rows, schema=names, orient="row").sort(names[:7])
    digest = hashlib.sha256(frame.write_csv().encode()).hexdigest()[:12]
    return frame.with_columns(
        version=pl.lit(f"{run.interval_end:%Y%m%dT%H%M%SZ}-{digest}"),
        fitted_at=pl.lit(run.interval_end).cast(pl.Datetime("us", "UTC")),
        window_start=pl.lit(window_start(run)).cast(pl.Datetime("us", "UTC")),
        window_end=pl.lit(run.interval_end).cast(pl.Datetime("us", "UTC")),
    )


def _keep(run: Run, rows: pl.DataFrame) -> int:
    """Writes a version beside the last ones; nothing when its content is that of the newest."""
    stored = run.lake.read("conformal_state")
    versions = stored.select("fitted_at", "version").unique().sort("fitted_at", "version")
    digest = rows["version"][0].rpartition("-")[2]
    if not versions.is_empty() and versions["version"][-1].rpartition("-")[2] == digest:
        return 0
    # A version of its own, never the whole table: another pipeline may be adding one, too.
    run.lake.replace_part("conformal_state", rows, column="version", values=[rows["version"][0]])
    at_once = versions.filter(pl.col("fitted_at") == run.interval_end)["version"].to_list()
    old = [*versions["version"][: -run.settings.conformal.keep_versions].to_list(), *at_once]
    if old:
        none = empty("conformal_state")
        run.lake.replace_part("conformal_state", none, column="version", values=old)
    return rows.height


def coverage(run: Run) -> StageCount:
    """Measures, out of sample, what corrections of this kind do on the window's last third."""
    if newer := _newer_state(run):
        return StageCount(0, 0, note=f"{newer} and keeps its figures")
    state = load_state(run.lake)
    if state is None:
        raise NoDataError("there is no state to measure")
    split_at = window_start(run) + (1.0 - TEST_SHARE) * (run.interval_end - window_start(run))
    rows, short = [], []
    settled = _settled(run)
    shares = Shares(run, state)
    for of in settled:
        tails = shares.tails(of) if run.settings.conformal.adaptive else {}
        for one in _measured(run, of, int(split_at.timestamp()), tails):
            rows.append(_coverage_row(state.version, of.key, one, split_at, run.interval_end))
            if one.after.high < NOMINAL - SHORTFALL:
                short.append(f"{of.key.model} {one.segment} {one.third} ({one.after.value:.3f})")
    frame = pl.DataFrame(rows, schema_overrides={"events": pl.Int64}) if rows else None
    if frame is None:
        note = "too few events after the split to measure coverage"
        return StageCount(len(settled), 0, note=note)
    done = run.lake.replace_part(
        "conformal_coverage", frame, column="version", values=[state.version]
    )
    written = done.rows_new + done.rows_changed
    if not short:
        return StageCount(int(frame["samples"].sum()), frame.height, written)
    note = f"corrected bands cover too little: {', '.join(short[:5])}"
    note += " and others" if len(short) > 5 else ""
    return StageCount(
        int(frame["samples"].sum()), frame.height, written, failures=len(short), note=note
    )


def _newer_state(run: Run) -> str:
    """What to say where the state in force is newer than the run's interval; "" elsewhere."""
    newest = run.lake.scan("conformal_state").select(pl.col("fitted_at").max()).collect().item()
    if newest is None or newest <= run.interval_end:
        return ""
    return f"the state of {newest:%Y-%m-%d %H:%M} UTC is newer"


def _measured(
    run: Run, of: Settled, split_at: int, tails: Mapping[int, Mapping[str, float]]
) -> list[Coverage]:
    measured = [
        measured_step(
            of.by_step[step], FIT_LEVELS, step=step, freq_seconds=of.key.freq_seconds,
            split_at=split_at, rules=_rules(run), band=BAND, tails=tails.get(step),
        )
        for step in knots_within(run.settings.conformal.max_steps)
        if step in of.by_step
    ]  # fmt: skip
    rng = np.random.default_rng(run.settings.seed)
    return coverages(measured, nominal=NOMINAL, rules=_rules(run), rng=rng)


def _coverage_row(
    version: str, key: ModelKey, one: Coverage, split_at: datetime, as_of: datetime
) -> dict[str, object]:
    row: dict[str, object] = {
        "version": version, "model": key.model, "model_version": key.version,
        "freq_seconds": key.freq_seconds, "segment": one.segment, "horizon_third": one.third,
        "nominal": one.nominal, "width_before": one.width_before, "width_after": one.width_after,
        "samples": one.samples, "events": one.after.events, "split_at": split_at, "as_of": as_of,
    }  # fmt: skip
    for name, found in (("before", one.before), ("after", one.after)):
        row |= {name: found.value, f"{name}_lo": found.low, f"{name}_hi": found.high}
    return row


def _settled(run: Run) -> list[Settled]:
    """The bands of the window that are settled, by model and cadence.

    Raises:
        NoDataError: there is none.
    """
    settings = run.settings.conformal
    chosen = pl.col("method").is_in(run.parameters["models"]) & (pl.col("ts") >= window_start(run))
    if not settings.with_requests:
        chosen &= pl.col("source") == "history"
    stored = run.lake.read("forecast_band", chosen & (pl.col("ts") <= run.interval_end),
                           days=_days(run))  # fmt: skip
    rows = settled_rows(
        stored,
        _prices(run, window_start(run) - LOOKBACK),
        run.lake.read("market_registry", columns=("market_id", "event_id", "category", "end_at")),
        until=run.interval_end,
        max_price_gap=settings.max_price_gap,
    )
    if not rows["actual"].is_not_null().any():
        raise NoDataError("no forecast of the window is settled: there is nothing to fit")
    return by_model(rows)


def _prices(run: Run, since: datetime) -> pl.DataFrame:
    return run.lake.read(
        "market_snapshot",
        (pl.col("ts") >= since) & (pl.col("ts") <= run.interval_end)
        & pl.col("p_yes").is_not_null(),
        columns=("market_id", "ts", "p_yes", "liquidity_bucket"),
        days=(f"{since:%Y-%m-%d}", f"{run.interval_end:%Y-%m-%d}"),
    )  # fmt: skip


def _days(run: Run) -> tuple[str, str]:
    return f"{window_start(run):%Y-%m-%d}", f"{run.interval_end:%Y-%m-%d}"


def _rules(run: Run) -> Rules:
    settings = run.settings.conformal
    return Rules(settings.min_samples, settings.min_events)
