"""The market registry: the latest record of each market, and what changed on the way there.

Among records of one market the newest by the venue's own time of update wins; among equally new
ones the last received (``ingested_at``, then the order given). So the outcome does not depend on
how the records were paged, and neither an older page that arrives late nor a rejected record that
is read after all takes anything from a newer one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime

import polars as pl

from market_data.labels import decide
from market_data.lake import polars_schema
from market_data.schemas import SCHEMA_VERSION
from market_data.venues.rows import MarketRow

IDENTITY = ("event_id", "condition_id", "outcomes", "token_ids")
"""Fields that never change on a sound venue; when they do, the history row is a CONFLICT."""

TRACKED = (
    *IDENTITY,
    "slug",
    "question",
    "category",
    "neg_risk",
    "enable_order_book",
    "tick_size",
    "end_at",
    "closed_at",
    "resolved_at",
    "status",
    "uma_status",
)
"""Fields whose changes are kept; prices and volumes change all the time and are not."""


@dataclass(frozen=True, slots=True)
class RegistryUpdate:
    """What a batch of records does to the registry.

    Attributes:
        rows: ``market_registry`` rows to store, one per market of the batch.
        history: ``market_registry_history`` rows.
        superseded: records of the batch that a newer record of the same market beat.
    """

    rows: pl.DataFrame
    history: pl.DataFrame
    superseded: int


def registry_frame(
    rows: Sequence[MarketRow], raw_sha256: Sequence[str], ingested_at: datetime
) -> pl.DataFrame:
    """``market_registry`` rows in the order given, with status and resolution time decided.

    ``resolved_at`` is when the venue closed a market with a final state: its closing time, else
    the end of the oracle's process; null where no final state is known.
    """
    schema = polars_schema("market_registry")
    extra = {"is_closed": pl.Boolean(), "uma_end_at": schema["closed_at"]}
    columns = {
        f.name: pl.Series(
            f.name,
            [getattr(row, f.name) for row in rows],
            dtype=schema.get(f.name, extra.get(f.name)),
            strict=False,
        )
        for f in fields(MarketRow)
    }
    frame = pl.DataFrame(columns)
    decided = decide(frame)
    is_final = pl.col("label") != "UNRESOLVED"
    status = (
        pl.when(~pl.col("is_closed"))
        .then(pl.lit("ACTIVE"))
        .when(pl.col("label") == "VOID")
        .then(pl.lit("VOID"))
        .when(is_final)
        .then(pl.lit("RESOLVED"))
        .otherwise(pl.lit("UNRESOLVED"))
    )
    return decided.with_columns(
        status=status,
        resolved_at=pl.when(is_final).then(pl.coalesce("closed_at", "uma_end_at")),
        ingested_at=pl.lit(ingested_at, dtype=schema["ingested_at"]),
        raw_sha256=pl.Series(list(raw_sha256), dtype=pl.String),
        schema_version=pl.lit(SCHEMA_VERSION, dtype=pl.Int32),
    ).select(list(schema))


def update_registry(stored: pl.DataFrame, incoming: pl.DataFrame) -> RegistryUpdate:
    """Fold ``incoming`` rows (in the order received) into the ``stored`` registry.

    Rows of ``stored`` for other markets may be absent or present, they do not matter.
    """
    ids = incoming["market_id"].unique()
    before = stored.filter(pl.col("market_id").is_in(ids.implode()))
    ordered = (
        pl.concat([before.with_columns(_new=False), incoming.with_columns(_new=True)])
        .with_row_index("_place")
        .sort(
            "market_id",
            "venue_updated_at",
            "ingested_at",
            "_place",
            nulls_last=False,
            maintain_order=True,
        )
    )
    latest = ordered.group_by("market_id", maintain_order=True).last()
    kept = latest.filter("_new")
    return RegistryUpdate(
        rows=latest.drop("_place", "_new"),
        history=_history(ordered),
        superseded=incoming.height - kept.height,
    )


def _history(ordered: pl.DataFrame) -> pl.DataFrame:
    """Differences between successive records of one market, oldest first."""
    schema = polars_schema("market_registry_history")
    repeated = ordered.filter(pl.len().over("market_id") > 1)
    pieces = [_changes(repeated, field) for field in TRACKED] if repeated.height else []
    if not pieces:
        return pl.DataFrame(schema=schema)
    history = pl.concat(pieces).filter(pl.col("_new"))
    return (
        history.with_columns(schema_version=pl.lit(SCHEMA_VERSION, dtype=pl.Int32))
        .select(list(schema))
        .unique(["market_id", "changed_at", "field"], keep="last", maintain_order=True)
        .sort("market_id", "changed_at", "field")
    )


def _changes(ordered: pl.DataFrame, field: str) -> pl.DataFrame:
    is_list = isinstance(ordered.schema[field], pl.List)
    value = pl.col(field).list.join("|") if is_list else pl.col(field).cast(pl.String)
    is_conflict = field in IDENTITY
    return (
        ordered.select(
            "market_id",
            pl.coalesce("venue_updated_at", "ingested_at").alias("changed_at"),
            pl.lit(field).alias("field"),
            value.shift(1).over("market_id").alias("old_value"),
            value.alias("new_value"),
            pl.lit("CONFLICT" if is_conflict else "CHANGE").alias("kind"),
            "raw_sha256",
            "_new",
            pl.int_range(pl.len()).over("market_id").alias("_nth"),
        )
        .filter((pl.col("_nth") > 0) & pl.col("old_value").ne_missing(pl.col("new_value")))
        .drop("_nth")
    )
