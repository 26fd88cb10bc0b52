"""The stages behind ingestion: each reads and writes tables, and counts rows in and out.

Plain functions without Prefect, so that a stage can be called from a test, a flow or a shell.
A stage that finds nothing to do says so in its note, or raises `NoDataError` where that would
make the run worthless.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from calibration_service.metrics import (
    ScoredRows,
    build_isotonic,
    build_metrics,
    build_reliability,
    scored_rows,
)
from calibration_service.scoreboard import build_scoreboard
from flows import parts
from flows.batches import day_batches, last_snapshots, market_batches
from flows.feature_days import inputs_of, remember, unfinished
from flows.questions import question_quality
from flows.recalibration import in_force_at
from flows.runs import NoDataError, Run, StageCount, window_length
from market_data import ingest
from market_data.lake import UpsertResult, empty

_SCORE_TABLES = ("calibration_metrics", "reliability_curve", "reliability_isotonic")


def labels(run: Run) -> StageCount:
    """Decides what happened in each market."""
    done = ingest.derive_labels(run.lake)
    return StageCount(done.rows_in, done.rows_out, done.rows_written)


def cutoffs(run: Run) -> StageCount:
    """Picks the price at fixed times before the end."""
    registry, truth = run.lake.read("market_registry"), run.lake.read("label_status")
    work = partial(parts.cutoffs, registry=registry, labels=truth)
    frames = run.spread.frames(work, run.lake, market_batches(run.lake))
    found = pl.concat([empty("cutoff_snapshot"), *frames])
    done = run.lake.replace("cutoff_snapshot", found)
    return StageCount(_snapshots(run), found.height, _written(done))


def metrics(run: Run) -> StageCount:
    """Scores segments of resolved markets, and their reliability curves, per window."""
    total = StageCount(0, 0)
    without: list[str] = []
    built: dict[str, list[pl.DataFrame]] = {name: [empty(name)] for name in _SCORE_TABLES}
    for window in run.settings.windows:
        scored = scored_in_window(run, window)
        if scored.frame.is_empty():
            without.append(window)
            continue
        key: dict[str, Any] = {"window": window, "run_id": run.run_id, "as_of": run.interval_end}
        draws = np.random.default_rng(run.settings.seed)
        built["calibration_metrics"].append(build_metrics(scored.frame, rng=draws, **key))
        built["reliability_curve"].append(build_reliability(scored.frame, **key))
        built["reliability_isotonic"].append(build_isotonic(scored.frame, **key))
        aside = scored.without_truth + scored.without_price
        total = replace(
            total,
            rows_in=total.rows_in + scored.frame.height + aside,
            set_aside=total.set_aside + aside,
        )
    for table, frames in built.items():
        rows = pl.concat(frames, how="diagonal_relaxed")
        done = run.lake.replace_part(table, rows, column="run_id", values=[run.run_id])
        total = replace(
            total,
            rows_out=total.rows_out + rows.height,
            rows_written=total.rows_written + _written(done),
        )
    if not without:
        return total
    note = (
        f"no market with a price and an outcome resolved in the {' and '.join(without)} before "
        f"{run.interval_end:%Y-%m-%d %H:%M} UTC: nothing to score"
    )
    if len(without) == len(run.settings.windows):
        raise NoDataError(note)
    return replace(total, failures=len(without), note=note)


def scored_in_window(run: Run, window: str) -> ScoredRows:
    """Cutoff rows of the markets that were resolved in the window before the run's end."""
    until = run.interval_end
    resolved = run.lake.read(
        "label_status",
        (pl.col("resolved_at") > until - window_length(window)) & (pl.col("resolved_at") <= until),
    )
    chosen = run.lake.read("cutoff_snapshot").join(
        resolved.select("market_id"), on="market_id", how="semi"
    )
    return scored_rows(chosen, labels=resolved, registry=run.lake.read("market_registry"))


def features(run: Run) -> StageCount:
    """What alerts and models look at, for each snapshot of the days that changed.

    The day of the run's end is not over: it is computed each time, up to that instant, and rows
    of a later run stay.
    """
    inputs, until = inputs_of(run.lake), run.interval_end
    ended, today = day_batches(run.lake, until=until), [f"{until:%Y-%m-%d}"]
    todo = unfinished(run.lake, ended, inputs)
    registry = run.lake.read("market_registry", columns=("market_id", "event_id"))
    matches = run.lake.read("market_match", columns=("market_id", "other_id"))
    work = partial(parts.features, registry=registry, matches=matches)
    rows = written = 0
    for frame in run.spread.frames(work, run.lake, _chunks([*todo, today], run.spread.width)):
        days = frame["dt"].unique().to_list()
        if days == today:
            done = run.lake.upsert("feature_frame", frame.filter(pl.col("ts") <= until))
        else:
            done = run.lake.replace_part("feature_frame", frame, column="dt", values=days)
            remember(run.lake, days, inputs)
        rows, written = rows + frame.height, written + _written(done)
        run.progress("features", rows, None)
    same = sum(map(len, ended)) - sum(map(len, todo))
    return StageCount(rows, rows, written, note=f"{same} days have not changed" if same else "")


def trust(run: Run) -> StageCount:
    """How far each market's price can be trusted at its last snapshot."""
    quality = question_quality(run.lake, run.settings.questions)
    work = partial(parts.trust, until=run.interval_end, quality=quality)
    frames = run.spread.frames(work, run.lake, market_batches(run.lake))
    found = pl.concat([empty("trust_score"), *frames])
    done = run.lake.upsert("trust_score", found)
    return StageCount(_snapshots(run), found.height, _written(done))


def scoreboard(run: Run) -> StageCount:
    """One row per market and window: price, trust, and the scores of its segment.

    A newer scoreboard stays: a run over the past never takes its place.
    """
    registry = registry_at(run.lake.read("market_registry"), run.interval_end)
    published = run.lake.scan("scoreboard").select(pl.col("as_of").max()).collect().item()
    if published is not None and published > run.interval_end:
        note = f"the scoreboard of {published:%Y-%m-%d %H:%M} UTC is newer and stays"
        return StageCount(registry.height, 0, note=note)
    latest = last_snapshots(run.lake, until=run.interval_end)
    trusted = run.lake.read("trust_score", pl.col("ts") <= run.interval_end)
    recalibration = in_force_at(run)
    boards = [
        build_scoreboard(
            registry,
            latest=latest,
            trust=trusted,
            window=window,
            run_id=run.run_id,
            as_of=run.interval_end,
            recalibration=recalibration,
            metrics=run.lake.read(
                "calibration_metrics",
                (pl.col("run_id") == run.run_id) & (pl.col("window") == window),
            ),
        )
        for window in run.settings.windows
    ]
    board = pl.concat(boards)
    done = run.lake.replace("scoreboard", board)
    return StageCount(registry.height, board.height, _written(done))


def registry_at(registry: pl.DataFrame, instant: datetime) -> pl.DataFrame:
    """The markets that existed at ``instant``; those that closed later are ACTIVE."""
    ended = pl.coalesce("closed_at", "resolved_at")
    existed = (pl.col("created_at") <= instant).fill_null(value=True)
    return registry.filter(existed).with_columns(
        pl.when(ended > instant).then(pl.lit("ACTIVE")).otherwise(pl.col("status")).alias("status")
    )


def _snapshots(run: Run) -> int:
    return int(run.lake.scan("market_snapshot").select(pl.len()).collect().item())


def _chunks(batches: list[list[str]], count: int) -> list[list[list[str]]]:
    """The batches in at most ``count`` runs of successive ones."""
    size = -(-len(batches) // count)
    return [batches[at : at + size] for at in range(0, len(batches), size)]


def _written(result: UpsertResult) -> int:
    return result.rows_new + result.rows_changed
