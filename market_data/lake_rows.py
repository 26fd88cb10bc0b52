"""Rows as the tables of the lake want them: columns, types, keys and digests."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from market_data.errors import DuplicateKeys, SchemaMismatch, UnknownTable
from market_data.schemas import SCHEMA_VERSION, TABLES, Table


def polars_schema(table: str) -> dict[str, pl.DataType]:
    """Column types of a table as polars sees them."""
    frame = pl.from_arrow(table_named(table).schema.empty_table())
    assert isinstance(frame, pl.DataFrame)
    return dict(frame.schema)


def empty(table: str) -> pl.DataFrame:
    """No rows, with the schema of ``table``."""
    return pl.DataFrame(schema=polars_schema(table))


def conform(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """``frame`` with exactly the columns of ``table``; fills in ``schema_version`` and ``dt``.

    Raises:
        SchemaMismatch: a column is missing, unknown or of another kind, or a key is null. The
            message names table and column.
    """
    spec = table_named(table)
    wanted = polars_schema(table)
    if "schema_version" not in frame.columns:
        frame = frame.with_columns(schema_version=pl.lit(SCHEMA_VERSION, dtype=pl.Int32))
    if spec.dt_from is not None and spec.dt_from in frame.columns:
        frame = frame.with_columns(dt=pl.col(spec.dt_from).dt.strftime("%Y-%m-%d"))
    for column in wanted:
        if column not in frame.columns:
            raise SchemaMismatch(f"table '{table}': column '{column}' is missing")
    for column in frame.columns:
        if column not in wanted:
            raise SchemaMismatch(f"table '{table}': column '{column}' is not in the schema")
    casts = [_cast(table, column, frame.schema[column], kind) for column, kind in wanted.items()]
    try:
        rows = frame.select(casts)
    except pl.exceptions.InvalidOperationError as error:
        raise SchemaMismatch(f"table '{table}': {error}") from None
    for column in spec.key:
        if rows[column].null_count():
            raise SchemaMismatch(f"table '{table}': key column '{column}' holds a null")
    return rows


def _cast(table: str, column: str, found: pl.DataType, wanted: pl.DataType) -> pl.Expr:
    is_number = found.is_numeric() and wanted.is_numeric()
    is_time = isinstance(found, pl.Datetime) and found.time_zone == "UTC"
    allowed = (
        found == wanted
        or found == pl.Null
        or (is_number and not (found.is_float() and wanted.is_integer()))
        or (is_time and isinstance(wanted, pl.Datetime))
        or (isinstance(found, pl.List) and isinstance(wanted, pl.List))
        or (found in (pl.Categorical, pl.Enum) and wanted == pl.String)
    )
    if not allowed:
        raise SchemaMismatch(f"table '{table}': column '{column}' is {found}, must be {wanted}")
    return pl.col(column).cast(wanted)


def table_named(name: str) -> Table:
    """The table of that name.

    Raises:
        UnknownTable: there is none.
    """
    if name not in TABLES:
        raise UnknownTable(f"no table '{name}'; known: {', '.join(TABLES)}")
    return TABLES[name]


def refuse_duplicates(spec: Table, rows: pl.DataFrame) -> None:
    """Raises `DuplicateKeys` where two rows have one key."""
    keys = rows.select(spec.key)
    if keys.is_duplicated().any():
        first = keys.filter(keys.is_duplicated()).row(0)
        raise DuplicateKeys(f"table '{spec.name}': key {first} stands in more than one row")


def row_digests(frame: pl.DataFrame) -> pl.Series:
    """[N] uint64 hash of each row; equal rows have equal hashes within one process."""
    flat = frame.with_columns(
        pl.col(name).cast(pl.List(pl.String)).list.join("\x1f", ignore_nulls=False)
        for name, kind in frame.schema.items()
        if isinstance(kind, pl.List)
    )
    return flat.hash_rows(seed=7)


def arrow_of(spec: Table, rows: pl.DataFrame) -> pa.Table:
    """The rows in the order of their keys, with the Arrow types of the table."""
    return rows.sort(list(spec.key)).to_arrow().cast(spec.schema)
