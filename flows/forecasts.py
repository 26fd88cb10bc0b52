"""The forecasts of a daily run: a band for every open market, from its last prices."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta

import polars as pl

from flows.batches import MarketBatch, market_batches
from flows.history import Contexts, bands_of, latest_context
from flows.runs import Run, StageCount
from flows.stages import registry_at
from forecast_service.batch import InvalidAnswerError
from forecast_service.models.catalog import Family, ModelCard, served
from forecast_service.models.errors import ModelError
from forecast_service.models.loading import Models, load
from forecast_service.models.port import Model
from forecast_service.settings import ForecastSettings
from market_data.lake import empty

_LOG = logging.getLogger("flows")
SOURCE = "daily"
LOOKBACK = timedelta(days=30)
"""A market whose last price is older has no forecast."""

_COLUMNS = ("ts", "market_id", "p_yes", "liquidity_bucket")


def forecasts(run: Run) -> StageCount:
    """Forecasts every open market with the default model, or the fallback where a gate is closed.

    A market without a price within the last hour before the run's end, or two of its usual steps,
    has no forecast.
    """
    registry = registry_at(run.lake.read("market_registry"), run.interval_end)
    markets = registry.filter(pl.col("status") == "ACTIVE").select("market_id", "end_at")
    known = markets.drop_nulls().with_columns(pl.col("end_at").dt.epoch("s"))
    forecaster = Forecaster(run.forecast, dict(known.iter_rows()), run.settings.forecast_steps)
    rows = made = written = answered = 0
    for batch in market_batches(run.lake):
        prices = _prices(run, batch).join(markets, on="market_id", how="semi")
        bands = forecaster.bands(_contexts(run, prices, forecaster.context))
        rows, answered = rows + prices.height, answered + bands["market_id"].n_unique()
        if not bands.is_empty():
            done = run.lake.upsert("forecast_band", bands)
            made, written = made + bands.height, written + done.rows_new + done.rows_changed
        run.progress("forecasts", answered, markets.height)
    note = f"{answered} of {markets.height} open markets have a recent price"
    if forecaster.failure:
        note = f"{forecaster.failure}: {forecaster.fallback.name} stood in; {note}"
    return StageCount(rows, made, written, failures=int(bool(forecaster.failure)), note=note)


class Forecaster:
    """The default model and the baseline that stands in for it.

    Attributes:
        context: longest context of the two, in steps.
        fallback: card of the baseline.
        failure: why the default model does not answer; "" while it does.
    """

    def __init__(self, settings: ForecastSettings, ends: dict[str, float], max_steps: int) -> None:
        cards = served(settings)
        self.fallback = cards[settings.policy.fallback_model]
        self.failure = ""
        self._model = cards[settings.default_model]
        self._settings, self._ends, self._max_steps = settings, ends, max_steps
        self._families: dict[Family, Models] = {}
        self.context = max(self._model.max_context, self.fallback.max_context)

    def bands(self, contexts: Sequence[Contexts]) -> pl.DataFrame:
        """``forecast_band`` rows, one set of steps for each context."""
        parts = [empty("forecast_band").drop("schema_version", "dt")]
        by_freq: dict[int, list[Contexts]] = {}
        for one in contexts:
            by_freq.setdefault(one.freq_seconds, []).append(one)
        for _, alike in sorted(by_freq.items()):
            parts += self._of_one_cadence(alike)
        return pl.concat(parts, how="diagonal")

    def _of_one_cadence(self, contexts: list[Contexts]) -> list[pl.DataFrame]:
        if self.failure:
            return [self._ask(self.fallback, contexts)]
        usable = [one.answered_by(self._model, self._settings.policy) for one in contexts]
        left = [one for one, use in zip(contexts, usable, strict=True) if not len(use.origin)]
        asked = [one for one in usable if len(one.origin)]
        try:
            parts = [self._ask(self._model, asked)] if asked else []
        except (ModelError, InvalidAnswerError, ModuleNotFoundError) as error:
            _LOG.warning("%s does not answer: %s", self._model.name, error)
            self.failure = f"{self._model.name} does not answer ({type(error).__name__})"
            return [self._ask(self.fallback, contexts)]
        return [*parts, self._ask(self.fallback, left)] if left else parts

    def _ask(self, card: ModelCard, contexts: list[Contexts]) -> pl.DataFrame:
        model = self._loaded(card)
        return bands_of(card, model, contexts, self._ends, self._max_steps, source=SOURCE)

    def _loaded(self, card: ModelCard) -> Model:
        if card.family not in self._families:
            self._families[card.family] = load(self._settings, card.family)
        return self._families[card.family][card.name]


def _prices(run: Run, batch: MarketBatch) -> pl.DataFrame:
    since = run.interval_end - LOOKBACK
    recent = pl.col("ts").is_between(since, run.interval_end) & pl.col("p_yes").is_not_null()
    days = (f"{since:%Y-%m-%d}", f"{run.interval_end:%Y-%m-%d}")
    return run.lake.read("market_snapshot", batch.holds() & recent, columns=_COLUMNS, days=days)


def _contexts(run: Run, prices: pl.DataFrame, context_steps: int) -> list[Contexts]:
    until, found = int(run.interval_end.timestamp()), []
    ordered = prices.sort("market_id", "ts").with_columns(pl.col("ts").dt.epoch("s"))
    for (market,), rows in ordered.group_by("market_id", maintain_order=True):
        one = latest_context(
            str(market), rows["ts"].to_numpy(), rows["p_yes"].to_numpy(), until=until,
            context_steps=context_steps, liquidity=rows["liquidity_bucket"][-1] or "",
        )  # fmt: skip
        if one is not None:
            found.append(one)
    return found
