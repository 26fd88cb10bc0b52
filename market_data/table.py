"""What a table of the lake is, and how one is described."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = 1
"""A constant column of every table; it rises when a column changes meaning."""

TIME = pa.timestamp("us", tz="UTC")
TEXT = pa.string()
REAL = pa.float64()
COUNT = pa.int64()
FLAG = pa.bool_()
TEXTS = pa.list_(pa.string())


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the lake.

    Attributes:
        name: folder of the table below ``raw/`` or ``derived/``.
        key: columns that identify a row; an upsert merges on them.
        schema: Arrow schema, partition and version columns included.
        partition_by: partition columns; ``("dt",)`` for tables that grow with time, else empty.
        dt_from: the time column whose UTC date is ``dt``; None when the table has no ``dt``.
    """

    name: str
    key: tuple[str, ...]
    schema: pa.Schema
    partition_by: tuple[str, ...] = ()
    dt_from: str | None = None


def describe(
    name: str, key: tuple[str, ...], columns: dict[str, pa.DataType], *, dt_from: str | None = None
) -> Table:
    """A table of these columns and those that every table has."""
    fields = [
        pa.field(column, kind, nullable=column not in key) for column, kind in columns.items()
    ]
    fields.append(pa.field("schema_version", pa.int32(), nullable=False))
    if dt_from is not None:
        fields.append(pa.field("dt", pa.string(), nullable=False))
    return Table(
        name=name,
        key=key,
        schema=pa.schema(fields),
        partition_by=("dt",) if dt_from else (),
        dt_from=dt_from,
    )
