"""The stages between snapshots and scoreboard, by number of rows, and how their cost grows."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.metrics import brier_score_loss, log_loss  # type: ignore[import-untyped]

from benchmarks import synthetic
from benchmarks.figures import Figure, Scale, median, seconds_of
from calibration_service.drift import build_drift
from calibration_service.features import build_features
from calibration_service.metrics import build_metrics
from calibration_service.point_scores import point_scores
from calibration_service.recalibration.build import build_recalibration
from calibration_service.recalibration.state import load, with_calibrated
from calibration_service.scoreboard import build_scoreboard
from calibration_service.segments import DIMENSIONS, MARGINS, with_segments
from calibration_service.trust import build_trust
from market_data.cutoffs import build_cutoffs
from market_data.labels import build_labels

SUITE = "calibration"
Works = dict[str, Callable[[], object]]


def run(scale: Scale, folder: Path) -> list[Figure]:  # noqa: ARG001
    """Seconds of each stage at each size; growth exponents between the two largest sizes."""
    taken: dict[str, list[tuple[int, list[float]]]] = {}
    for rows in scale.rows:
        for name, work in _works(rows).items():
            taken.setdefault(name, []).append((rows, seconds_of(work, most=scale.rounds)))
    figures = []
    for name, sizes in taken.items():
        figures += [median(SUITE, f"{name}, {rows:,} rows", t, "s") for rows, t in sizes]
        figures += _growth(name, sizes)
    return figures + _beside_plain(taken)


def _works(rows: int) -> Works:
    """The stages over inputs of this size, and plain computations of the same scores."""
    scored, snapshots = synthetic.scored(rows), synthetic.snapshots(rows)
    registry, wide = synthetic.registry(snapshots["market_id"].n_unique()), synthetic.registry(rows)
    labels = build_labels(registry)
    key = {"window": "90d", "run_id": "benchmark", "as_of": synthetic.AS_OF}
    metrics = build_metrics(scored, rng=np.random.default_rng(0), **key)  # type: ignore[arg-type]
    latest = synthetic.snapshots(rows, 1)
    trusted = build_trust(latest)
    y, p = scored["outcome_yes"].to_numpy(), scored["p_yes"].to_numpy()
    return {
        "labels": lambda: build_labels(wide),
        "cutoffs": lambda: build_cutoffs(snapshots, registry, labels),
        "features": lambda: build_features(snapshots, registry=registry),
        "trust": lambda: build_trust(snapshots),
        "metrics": lambda: build_metrics(scored, rng=np.random.default_rng(0), **key),  # type: ignore[arg-type]
        _POINTS: lambda: point_scores(scored),
        **_recalibrated(scored),
        _POLARS: lambda: plain_scores(scored),
        "scikit-learn: Brier and log loss, all rows": lambda: (
            brier_score_loss(y, p), log_loss(y, p),
        ),
        "scoreboard": lambda: build_scoreboard(
            wide, latest=latest, trust=trusted, metrics=metrics, window="90d",
            run_id="run", as_of=synthetic.AS_OF,
        ),
    }  # fmt: skip


def _recalibrated(scored: pl.DataFrame) -> Works:
    dated = synthetic.dated(scored)
    key = {"run_id": "benchmark", "as_of": synthetic.AS_OF}
    recent_from = synthetic.AS_OF - timedelta(days=30)

    def fit() -> pl.DataFrame:
        return build_recalibration(dated, version="v", rng=np.random.default_rng(0), **key)  # type: ignore[arg-type]

    state = load(fit())
    return {
        "drift": lambda: build_drift(
            dated, recent_from=recent_from, rng=np.random.default_rng(0), **key,  # type: ignore[arg-type]
        ),
        "recalibration, fit": fit,
        "recalibration, applied": lambda: with_calibrated(scored, state),
    }  # fmt: skip


_POINTS = "point metrics"
_POLARS = "polars group-by: Brier and log loss, same segments"


def plain_scores(scored: pl.DataFrame) -> list[pl.DataFrame]:
    """Brier and log loss of the segments that `build_metrics` scores, without intervals."""
    p, y = pl.col("p_yes"), pl.col("outcome_yes")
    scores = (
        ((p - y) ** 2).mean().alias("brier"),
        (-(y * p.log() + (1 - y) * (1 - p).log())).mean().alias("log_loss"),
    )
    placed = with_segments(scored)
    return [
        placed.group_by([c for c, kept in zip(DIMENSIONS, margin, strict=True) if kept]).agg(scores)
        if any(margin)
        else placed.select(scores)
        for margin in MARGINS
    ]


def _growth(name: str, sizes: list[tuple[int, list[float]]]) -> list[Figure]:
    """b in seconds ∝ rows^b between the two largest sizes."""
    if len(sizes) < 2:
        return []
    (fewer, short), (more, long) = sizes[-2:]
    exponent = math.log(min(long) / min(short)) / math.log(more / fewer)
    return [Figure(SUITE, f"{name}, growth {fewer:,} → {more:,} rows", exponent, "exponent")]


def _beside_plain(taken: dict[str, list[tuple[int, list[float]]]]) -> list[Figure]:
    plain = taken[_POLARS][-1]
    figures = []
    for ours in ("metrics", _POINTS):
        rows, seconds = taken[ours][-1]
        name = f"{ours} ÷ {_POLARS}, {rows:,} rows"
        ratio = min(seconds) / min(plain[1])
        figures.append(Figure(SUITE, name, ratio, "ratio of seconds"))
    for name in (_POINTS, "scoreboard", "recalibration, applied"):
        rows, seconds = taken[name][-1]
        figures.append(
            Figure(SUITE, f"{name}, {rows:,} rows", rows / min(seconds) / 1e6, "M rows/s")
        )
    return figures
