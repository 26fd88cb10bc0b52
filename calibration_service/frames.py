"""Columns as rows of a table of the lake: its column names, order and types, NaN as null."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from market_data.schemas import SCHEMA_VERSION, Table


def schema_of(table: Table) -> pl.Schema:
    """Polars schema of a table."""
    empty = pl.from_arrow(table.schema.empty_table())
    assert isinstance(empty, pl.DataFrame)
    return empty.schema


def empty_frame(table: Table) -> pl.DataFrame:
    """No rows of a table."""
    return pl.DataFrame(schema=schema_of(table))


def frame_of(columns: Mapping[str, Any], table: Table) -> pl.DataFrame:
    """Rows of a table from arrays of one length; scalars are repeated.

    Missing numbers (NaN) become null, ``schema_version`` and ``dt`` are filled in.

    Args:
        columns: every column of the table except ``schema_version`` and ``dt``, and no other.
        table: the table.

    Raises:
        ValueError: a column is missing or unknown.
    """
    return conform(
        pl.DataFrame(
            {
                name: np.ascontiguousarray(values) if isinstance(values, np.ndarray) else values
                for name, values in columns.items()
            }
        ),
        table,
    )


def conform(frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    """Order, cast and complete a frame that holds a table's columns; see `frame_of`."""
    schema = schema_of(table)
    given = set(frame.columns) | {"schema_version", "dt"}
    if given - {"schema_version", "dt"} != set(schema) - {"schema_version", "dt"}:
        raise ValueError(f"{table.name}: columns differ: {sorted(given ^ set(schema))}")
    extra = [pl.lit(SCHEMA_VERSION).alias("schema_version")]
    if table.dt_from is not None:
        extra.append(pl.col(table.dt_from).dt.strftime("%Y-%m-%d").alias("dt"))
    real = [name for name, kind in frame.schema.items() if kind == pl.Float64]
    filled = frame.with_columns(pl.col(real).fill_nan(None), *extra)
    return filled.select(pl.col(name).cast(kind) for name, kind in schema.items())
