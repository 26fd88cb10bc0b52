"""The stages of an evaluation; what one leaves for the next is held by `Assessment`.

Arrays of bands are too large for a table and cheap to make again; scores and verdicts are tables.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, SecretStr

from flows import canary, evaluation_report, evaluation_sources
from flows.runs import NoDataError, Run, StageCount
from forecast_service.evaluation import bands, correction, promotion, scoring, splits
from forecast_service.evaluation.promotion import Bounds, Decision, Difference, LiveFigures
from forecast_service.evaluation.scoring import CONFORMAL, RAW, Figure
from forecast_service.evaluation.splits import Split
from forecast_service.evaluation.windows import Windows, sampled, time_cuts, windows_of
from forecast_service.models.catalog import ModelCard
from forecast_service.models.loading import load
from forecast_service.settings import ForecastSettings
from forecast_service.transform import FloatArray
from market_data.lake import UpsertResult, polars_schema


class Order(BaseModel):
    """What is to be evaluated.

    Attributes:
        models: names of models; none for all that are served.
        champion: the model in force, which the others are compared with; "" for the default model.
        recorded: folder of recorded markets; None for the lake.
        gateway: where live figures are read, ``host:port``; "" for nowhere.
        key: API key for it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: tuple[str, ...] = ()
    champion: str = ""
    recorded: Path | None = None
    gateway: str = ""
    key: SecretStr | None = None


@dataclass(slots=True, eq=False)
class Results:
    """What an evaluation found.

    Attributes:
        champion: the model in force; models: all that were asked, it first.
        source: where the histories come from.
        windows: the windows; splits: of them.
        raw: [N, H, Q] bands by model.
        corrected: [N, H, Q] by (split, model), meaningful for the scored windows.
        figures: scores with the name of their split.
        decisions: by candidate; live: their live figures, or why there are none.
    """

    champion: str
    models: tuple[str, ...]
    source: str = ""
    windows: Windows | None = None
    splits: tuple[Split, ...] = ()
    raw: dict[str, FloatArray] = field(default_factory=dict)
    corrected: dict[tuple[str, str], FloatArray] = field(default_factory=dict)
    figures: list[tuple[str, Figure]] = field(default_factory=list)
    decisions: dict[str, Decision] = field(default_factory=dict)
    live: dict[str, LiveFigures | str] = field(default_factory=dict)

    @property
    def all_windows(self) -> Windows:
        """The windows, once they are cut."""
        assert self.windows is not None, "windows are cut by the first stage"
        return self.windows


class Assessment:
    """One evaluation: its stages in order.

    Args:
        cards: the models, the champion first.
        settings: with which they are loaded.
        order: what is to be evaluated.
    """

    def __init__(
        self, cards: dict[str, ModelCard], settings: ForecastSettings, order: Order
    ) -> None:
        self._cards = cards
        self._settings = settings
        self._order = order
        self._cuts: dict[str, float] = {}
        names = tuple(cards)
        self.results = Results(names[0], names)

    def histories(self, run: Run) -> StageCount:
        """Reads price histories and cuts windows."""
        settings = run.settings.evaluation
        found = evaluation_sources.histories(
            run.lake, run.interval_end, settings, self._order.recorded
        )
        cut = windows_of(found.paths, found.cut)
        if not len(cut):
            raise NoDataError(
                f"none of {len(found.paths)} histories has {found.cut.stride} steps and "
                f"{found.cut.horizon} after them: there is nothing to evaluate"
            )
        rng = np.random.default_rng(run.settings.seed)
        self.results.windows = bands.clipped(sampled(cut, settings.most_windows, rng))
        self.results.source = found.source
        self._cuts = time_cuts(found.paths, settings.time_share)
        kept = len(self.results.windows)
        return StageCount(len(found.paths), kept, set_aside=len(cut) - kept)

    def forecasts(self, run: Run) -> StageCount:
        """Asks every model for bands; a window that one refuses is scored for none."""
        results, budget = self.results, run.settings.evaluation.model_seconds
        windows = results.all_windows
        refused = np.zeros(len(windows), dtype=bool)
        for done, (name, card) in enumerate(self._cards.items()):
            run.progress("forecasts", done, len(self._cards))
            model = load(self._settings, card.family)[name]
            found = bands.bands_of(model, name, windows, budget=budget)
            refused |= found.refused
            results.raw[name] = found.quantiles
        if refused.any():
            results.windows = windows.where(~refused)
            results.raw = {name: raw[~refused] for name, raw in results.raw.items()}
        answered = int((~refused).sum())
        return StageCount(len(windows), answered * len(self._cards), set_aside=int(refused.sum()))

    def scores(self, run: Run) -> StageCount:
        """Refits corrections for each split, and scores what it holds back."""
        results, windows = self.results, self.results.all_windows
        results.splits = (splits.by_time(windows, self._cuts), splits.by_events(windows))
        results.figures = []
        for split in results.splits:
            if not split.test.any():
                raise NoDataError(f"the split by {split.name} has no window to score")
            test = windows.where(split.test)
            found = {}
            for name, raw in results.raw.items():
                corrected = self._corrected(split, raw)
                results.corrected[split.name, name] = corrected
                found[name, RAW] = raw[split.test]
                found[name, CONFORMAL] = corrected[split.test]
            rng = np.random.default_rng(run.settings.seed)
            scored = scoring.score(found, test.target, test.family, test.event, rng=rng)
            results.figures += [(split.name, figure) for figure in scored]
        frame = _figure_rows(run, results)
        done = run.lake.replace_part("evaluation", frame, column="run_id", values=[run.run_id])
        return StageCount(len(windows), frame.height, _written(done))

    def promotion(self, run: Run) -> StageCount:
        """Compares every candidate with the champion, and looks at its live figures."""
        results, settings = self.results, run.settings.evaluation
        bounds = Bounds(
            min_events=settings.min_events, under=settings.coverage_under,
            over=settings.coverage_over, p95_ms=settings.canary_p95_ms,
            failure_share=settings.canary_failure_share,
            fallback_share=settings.canary_fallback_share, requests=settings.canary_requests,
        )  # fmt: skip
        for name in results.models[1:]:
            results.live[name] = canary.measured(
                self._order.gateway,
                self._order.key,
                self._cards[name],
                results.all_windows,
                probes=settings.canary_probes,
                policy=self._settings.policy,
                rng=np.random.default_rng(run.settings.seed),
            )
            own = [(split, figure) for split, figure in results.figures if figure.model == name]
            results.decisions[name] = promotion.decide(
                self._differences(run, name), own, results.live[name], bounds
            )
        frame = _decision_rows(run, results)
        done = run.lake.replace_part("promotion", frame, column="run_id", values=[run.run_id])
        return StageCount(len(results.figures), frame.height, _written(done))

    def report(self, run: Run) -> StageCount:
        """Writes the report's files."""
        written, changed = evaluation_report.write(run, self.results)
        where = evaluation_report.folder_of(run)
        return StageCount(len(self.results.figures), written, changed, note=str(where))

    def _corrected(self, split: Split, raw: FloatArray) -> FloatArray:
        windows = self.results.all_windows
        state = correction.fitted(
            raw[split.calibration],
            windows.where(split.calibration),
            pool=split.pool[split.calibration],
        )
        return correction.corrected(state, raw, windows)

    def _differences(self, run: Run, candidate: str) -> list[Difference]:
        results, windows = self.results, self.results.all_windows
        found: list[Difference] = []
        for split in results.splits:
            test = windows.where(split.test)
            candidate_loss, champion_loss = (
                scoring.loss(results.corrected[split.name, name][split.test], test.target)
                for name in (candidate, results.champion)
            )
            rng = np.random.default_rng(run.settings.seed)
            found += promotion.differences(
                split.name, candidate_loss, champion_loss, test.family, test.event, rng=rng
            )
        return found


def _figure_rows(run: Run, results: Results) -> pl.DataFrame:
    rows = [
        {
            "run_id": run.run_id, "split": split, "model": figure.model, "band": figure.band,
            "family": figure.family, "steps": figure.steps, "metric": figure.metric,
            "value": figure.interval.value, "low": figure.interval.low,
            "high": figure.interval.high, "windows": figure.windows,
            "events": figure.interval.events, "source": results.source, "as_of": run.interval_end,
        }
        for split, figure in results.figures
    ]  # fmt: skip
    return _frame("evaluation", rows).with_columns(pl.col("value", "low", "high").fill_nan(None))


def _decision_rows(run: Run, results: Results) -> pl.DataFrame:
    rows = []
    for name, decision in results.decisions.items():
        live = evaluation_report.live_record(results.live[name])
        rows.append(
            {
                "run_id": run.run_id, "candidate": name, "champion": results.champion,
                "verdict": decision.verdict.value, "reasons": list(decision.reasons),
                "differences": json.dumps([asdict(one) for one in decision.differences]),
                "canary": json.dumps(live), "as_of": run.interval_end,
            }
        )  # fmt: skip
    return _frame("promotion", rows)


def _frame(table: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    schema = {name: kind for name, kind in polars_schema(table).items() if name != "schema_version"}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _written(result: UpsertResult) -> int:
    return result.rows_new + result.rows_changed
