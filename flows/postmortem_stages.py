"""The stages of post-mortems: those that are missing or outdated are made, others stay.

A post-mortem is outdated when a row that it was made from has changed: the digest of them is kept
beside it. One whose market has lost its outcome is removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import polars as pl

from calibration_service.postmortem.build import (
    ALERT_COLUMNS,
    LABELS,
    MARKET_COLUMNS,
    SNAPSHOT_COLUMNS,
    Sources,
    build_postmortems,
    digest_of,
)
from calibration_service.postmortem.recalibration_history import RecalibrationHistory
from flows.batches import MarketBatch, market_batches
from flows.postmortem_pictures import PathPicture
from flows.questions import counting
from flows.runs import NoDataError, Run, StageCount
from market_data.cutoffs import T_MINUS
from market_data.lake import Lake, UpsertResult, empty

MARKETS_AT_ONCE = 250
_TABLE = "postmortem"
_QUESTION = ("llm_model", "prompt_version", "ambiguity", "resolution_risk", "bullets")
_ALERT_SCHEMA = pl.Schema(
    dict.fromkeys(ALERT_COLUMNS, pl.String()) | {"ts": pl.Datetime("us", "UTC")}
)


def postmortems(run: Run) -> StageCount:
    """Makes the post-mortems of markets that were resolved in the run's window.

    Raises:
        NoDataError: no market has an outcome.
    """
    resolved = _resolved(run)
    if resolved.is_empty():
        raise NoDataError("no market has an outcome yet: there is nothing to look back on")
    sources = _sources(run)
    due = _due(run, resolved, sources)
    stored = set(run.lake.read(_TABLE, columns=("market_id",))["market_id"].to_list())
    written = _remove_lost(run, stored)
    made = 0
    work = partial(_made, due=due, sources=sources)
    batches = [one for one in market_batches(run.lake) if due.select(one.holds().any()).item()]
    for frame in run.spread.frames(work, run.lake, batches):
        written += _store(run.lake, frame, stored)
        made += frame.height
        run.progress("postmortems", made, due.height)
    same = resolved.height - due.height
    note = f"{same} have not changed" if same else ""
    return StageCount(resolved.height, resolved.height, written, note=note)


def _resolved(run: Run) -> pl.DataFrame:
    """The markets that were resolved in the run's window, with what is known of them."""
    labels = run.lake.read(
        "label_status",
        pl.col("label").is_in(LABELS)
        & (pl.col("resolved_at") > run.interval_start)
        & (pl.col("resolved_at") <= run.interval_end),
    )
    registry = run.lake.read("market_registry", columns=("market_id", "question", "category"))
    return labels.join(registry, on="market_id", how="left").sort("market_id")


def _sources(run: Run) -> Sources:
    """Everything but the snapshots, which come batch by batch."""
    return Sources(
        snapshots=empty("market_snapshot").select(SNAPSHOT_COLUMNS),
        cutoffs=run.lake.read("cutoff_snapshot", pl.col("cutoff_type").is_in(list(T_MINUS))),
        questions=counting(run.lake, run.settings.questions),
        alerts=run.lake.read("alert", columns=ALERT_COLUMNS),
        recalibrations=RecalibrationHistory(
            run.lake.read("recalibration_choice"), run.lake.read("recalibration_state")
        ),
    )


def _due(run: Run, resolved: pl.DataFrame, sources: Sources) -> pl.DataFrame:
    """The markets whose post-mortem is missing or was made from other rows."""
    cutoffs, alerts = sources.cutoffs, sources.alerts.select(ALERT_COLUMNS)
    told = resolved.select("market_id", pl.struct(resolved.columns).alias("0"))
    parts = [
        told.with_columns(pl.col("0").struct.json_encode()),
        _texts(cutoffs.sort("cutoff_type", "cutoff_ts"), cutoffs.columns, "1"),
        _texts(sources.questions, _QUESTION, "2"),
        _texts(alerts.sort("ts", "alert_id"), ALERT_COLUMNS, "3"),
        _prints(run.lake, resolved),
    ]
    joined = parts[0]
    for part in parts[1:]:
        joined = joined.join(part, on="market_id", how="left")
    history = sources.recalibrations
    in_force = [history.version_at(at) for at in resolved["resolved_at"]]
    digests = pl.DataFrame(
        [
            (row[0], digest_of([*row[1:], version]))
            for row, version in zip(joined.sort("market_id").iter_rows(), in_force, strict=True)
        ],
        schema=["market_id", "inputs_digest"], orient="row",
    )  # fmt: skip
    stored = run.lake.read(_TABLE, columns=("market_id", "inputs_digest"))
    fresh = digests.join(stored, on=["market_id", "inputs_digest"], how="anti")
    fresh = fresh.join(_beyond_prices(run.lake), on="market_id", how="anti")
    return resolved.join(fresh, on="market_id", how="inner").select(MARKET_COLUMNS)


def _beyond_prices(lake: Lake) -> pl.DataFrame:
    """Stored post-mortems that begin before the oldest price: nobody can make them again."""
    days = list(lake.files("market_snapshot"))
    begun = pl.col("path_ts").list.first().dt.strftime("%Y-%m-%d")
    stored = lake.scan(_TABLE).filter(begun < min(days)) if days else lake.scan(_TABLE)
    return stored.select("market_id").collect()


def _texts(rows: pl.DataFrame, columns: tuple[str, ...] | list[str], name: str) -> pl.DataFrame:
    """The rows of each market as one text, in their order."""
    text = pl.struct(columns).struct.json_encode().alias(name)
    told = rows.select("market_id", text).group_by("market_id", maintain_order=True)
    return told.agg(pl.col(name).str.join("\n"))


def _prints(lake: Lake, resolved: pl.DataFrame) -> pl.DataFrame:
    """What tells the snapshots of each market apart from others, without keeping them.

    A sum of the rows' hashes does not depend on the order in which rows are read.
    """
    ends = resolved.lazy().select("market_id", "resolved_at")
    known = lake.scan("market_snapshot").join(ends, on="market_id")
    row = pl.struct(SNAPSHOT_COLUMNS).hash(1).alias("rows")
    return (
        known.filter(pl.col("ts") < pl.col("resolved_at"))
        .with_columns(row)
        .group_by("market_id")
        .agg(pl.len(), pl.col("rows").sum())
        .collect(engine="streaming")
    )


def _made(
    lake: Lake, batch: MarketBatch, *, due: pl.DataFrame, sources: Sources
) -> Iterator[pl.DataFrame]:
    """``postmortem`` rows of a batch of markets, a bounded number in each frame.

    Frames go by day, so that a day of the table lies in few files.
    """
    own = due.filter(batch.holds()).sort("resolved_at", "market_id")
    snapshots = lake.read(
        "market_snapshot",
        pl.col("market_id").is_in(own["market_id"].to_list()),
        columns=SNAPSHOT_COLUMNS,
    )
    draw = PathPicture()
    for markets in own.iter_slices(MARKETS_AT_ONCE):
        ids = markets.select("market_id")
        part = Sources(
            snapshots=snapshots.join(ids, on="market_id", how="semi"),
            cutoffs=sources.cutoffs.join(ids, on="market_id", how="semi"),
            questions=sources.questions.join(ids, on="market_id", how="semi"),
            alerts=sources.alerts.join(ids, on="market_id", how="semi"),
            recalibrations=sources.recalibrations,
        )
        yield build_postmortems(markets, part, draw)


def _store(lake: Lake, frame: pl.DataFrame, stored: set[str]) -> int:
    """Puts rows in place of those of their markets, also where these lie on another day."""
    ids = frame["market_id"].to_list()
    if stored.isdisjoint(ids):
        return _written(lake.upsert(_TABLE, frame))
    return _written(lake.replace_part(_TABLE, frame, column="market_id", values=ids))


def _remove_lost(run: Run, stored: set[str]) -> int:
    """Removes the post-mortems of markets that have no outcome any more, and counts them."""
    labels = run.lake.read("label_status", pl.col("label").is_in(LABELS), columns=("market_id",))
    lost = sorted(stored - set(labels["market_id"].to_list()))
    for at in range(0, len(lost), MARKETS_AT_ONCE):
        part = lost[at : at + MARKETS_AT_ONCE]
        run.lake.replace_part(_TABLE, empty(_TABLE), column="market_id", values=part)
    return len(lost)


def _written(result: UpsertResult) -> int:
    return result.rows_new + result.rows_changed
