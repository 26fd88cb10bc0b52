"""The lake: one Delta table for each entry of ``market_data.schemas.TABLES``.

Tables lie in ``<root>/derived/<table>``; the root is a local folder or an object-store URL. What is
written must fit the table's schema, and an upsert whose rows are all stored already makes no
commit, so a table's version says whether anything changed. A table that was written before its
schema had a column is read with nulls there, and gets the column with the next write.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import polars as pl
from deltalake import CommitProperties, DeltaTable, Field, write_deltalake
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from market_data.errors import LakeError, SchemaMismatch
from market_data.lake_rows import (
    arrow_of,
    conform,
    empty,
    polars_schema,
    refuse_duplicates,
    row_digests,
    table_named,
)
from market_data.schemas import Table

__all__ = ["Lake", "UpsertResult", "conform", "empty", "polars_schema"]

VOLATILE: dict[str, tuple[str, ...]] = {
    "market_registry": ("ingested_at", "raw_sha256"),
    "raw_file": ("fetched_at", "path"),
    "dead_letter": ("first_seen_at", "raw_sha256"),
    "market_registry_history": ("raw_sha256",),
}
"""Columns that do not make a row different: when and in which file it was seen again."""

_MERGE_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class UpsertResult:
    """What an upsert did.

    Attributes:
        rows_in: rows offered.
        rows_new, rows_changed, rows_unchanged: how they compared; they add up to ``rows_in``.
        version: the table's version afterwards; None while the table does not exist.
    """

    rows_in: int
    rows_new: int
    rows_changed: int
    rows_unchanged: int
    version: int | None


class Lake:
    """Reads and writes the tables below ``root_url``."""

    def __init__(
        self, root_url: str | Path, *, storage_options: dict[str, str] | None = None
    ) -> None:
        """Name the place; nothing is opened or made yet.

        Raises:
            LakeError: a local folder whose name Delta would take for another one.
        """
        self._root = str(root_url).rstrip("/")
        self._options = storage_options
        if "://" not in self._root:
            _refuse_unusable(Path(self._root).absolute())

    def url(self, table: str) -> str:
        """Address of a table."""
        return f"{self._root}/derived/{table_named(table).name}"

    def version(self, table: str) -> int | None:
        """Committed version of a table; None while it does not exist."""
        delta = self.open(table)
        return None if delta is None else int(delta.version())

    def scan(self, table: str) -> pl.LazyFrame:
        """A lazy frame over a table; an absent table is an empty one."""
        return self.pinned(table)[1]

    def pinned(self, table: str) -> tuple[int | None, pl.LazyFrame]:
        """A table's version, and a lazy frame over the rows of that version, whenever collected."""
        delta = self.open(table)
        if delta is None:
            return None, empty(table).lazy()
        return int(delta.version()), _stored(table_named(table), delta)

    def read(
        self,
        table: str,
        where: pl.Expr | None = None,
        *,
        columns: Collection[str] | None = None,
        days: tuple[str, str] | None = None,
    ) -> pl.DataFrame:
        """Rows of a table, in no promised order.

        Args:
            where: a filter on any columns.
            columns: columns to read, all by default.
            days: first and last ``dt`` ("2026-01-31"), included; prunes partitions.
        """
        lazy = self.scan(table)
        if days is not None:
            lazy = lazy.filter(pl.col("dt").is_between(pl.lit(days[0]), pl.lit(days[1])))
        if where is not None:
            lazy = lazy.filter(where)
        if columns is not None:
            lazy = lazy.select(list(columns))
        return lazy.collect()

    def files(self, table: str) -> dict[str, list[str]]:
        """Names of a table's data files by their ``dt``, oldest day first; all "" without ``dt``.

        Files never change, so a day whose files are those of before holds the same rows.
        """
        delta = self.open(table)
        if delta is None:
            return {}
        actions = delta.get_add_actions(flatten=True)
        paths = pl.Series(actions.column("path")).to_list()
        days = [""] * len(paths)
        if table_named(table).partition_by:
            days = pl.Series(actions.column("partition.dt")).to_list()
        found: dict[str, list[str]] = {day: [] for day in sorted(set(days))}
        for day, path in sorted(zip(days, paths, strict=True)):
            found[day].append(path)
        return found

    def upsert(self, table: str, frame: pl.DataFrame) -> UpsertResult:
        """Store rows by key: new keys are inserted, changed rows replaced, equal rows skipped.

        Raises:
            SchemaMismatch, DuplicateKeys, UnknownTable: nothing was written.
            LakeError: other writers kept winning the commit.
        """
        spec = table_named(table)
        rows = conform(table, frame)
        refuse_duplicates(spec, rows)
        for _ in range(_MERGE_ATTEMPTS):
            delta = self.open(table)
            fresh, is_known = self._unlike_stored(spec, rows, delta)
            changed = int(is_known.sum())
            counts = (rows.height, fresh.height - changed, changed, rows.height - fresh.height)
            if fresh.is_empty():
                return UpsertResult(*counts, None if delta is None else int(delta.version()))
            try:
                self._commit(spec, fresh, delta)
            except DeltaError as error:
                if not self._is_lost_race(table, delta, error):
                    raise
                continue
            return UpsertResult(*counts, self.version(table))
        raise LakeError(f"{table}: {_MERGE_ATTEMPTS} commits lost against other writers")

    def replace(self, table: str, frame: pl.DataFrame) -> UpsertResult:
        """Make ``frame`` the whole table, in one commit; no commit when it already is."""
        spec = table_named(table)
        rows = conform(table, frame)
        refuse_duplicates(spec, rows)
        delta = self.open(table)
        fresh, is_known = self._unlike_stored(spec, rows, delta, where=pl.lit(value=True))
        changed = int(is_known.sum())
        stored = 0 if delta is None else self.scan(table).select(pl.len()).collect().item()
        counts = (rows.height, fresh.height - changed, changed, rows.height - fresh.height)
        if (delta is not None or rows.is_empty()) and fresh.is_empty() and stored == rows.height:
            return UpsertResult(*counts, None if delta is None else int(delta.version()))
        self._overwrite(spec, rows)
        return UpsertResult(*counts, self.version(table))

    def replace_part(
        self, table: str, frame: pl.DataFrame, *, column: str, values: Collection[str]
    ) -> UpsertResult:
        """Make ``frame`` all the rows whose ``column`` holds one of ``values``, in one commit.

        Rows of those parts that are not in ``frame`` are removed; no commit when nothing changes.

        Raises:
            SchemaMismatch: a row of ``frame`` belongs to another part.
        """
        spec = table_named(table)
        rows = conform(table, frame)
        refuse_duplicates(spec, rows)
        part = pl.col(column).is_in(list(values))
        if not rows.select(part.all()).item():
            said = ", ".join(repr(value) for value in values)
            raise SchemaMismatch(f"table '{table}': column '{column}' must hold {said} alone")
        delta = self.open(table)
        if delta is None and rows.is_empty():
            return UpsertResult(0, 0, 0, 0, None)
        delta = delta or self._create(spec)
        fresh, is_known = self._unlike_stored(spec, rows, delta, where=part)
        changed = int(is_known.sum())
        counts = (rows.height, fresh.height - changed, changed, rows.height - fresh.height)
        stored = self.scan(table).filter(part).select(pl.len()).collect().item()
        if not fresh.is_empty() or stored != rows.height:
            quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
            self._overwrite(spec, rows, predicate=f"{column} IN ({quoted})")
        return UpsertResult(*counts, self.version(table))

    def remove_days(self, table: str, *, before: str) -> int:
        """Remove the rows whose ``dt`` lies before a day, and count them; no commit for none.

        Raises:
            LakeError: other writers kept winning the commit.
        """
        for _ in range(_MERGE_ATTEMPTS):
            old = self.scan(table).filter(pl.col("dt") < before).select(pl.len()).collect().item()
            delta = self.open(table)
            if not old or delta is None:
                return 0
            try:
                delta.delete("dt < '" + before.replace("'", "''") + "'")
            except CommitFailedError:
                continue
            return int(old)
        raise LakeError(f"{table}: {_MERGE_ATTEMPTS} commits lost against other writers")

    def open(self, table: str) -> DeltaTable | None:
        """The table as Delta sees it now; None while it does not exist."""
        try:
            return DeltaTable(self.url(table), storage_options=self._options)
        except TableNotFoundError:
            return None

    def _is_lost_race(self, table: str, delta: DeltaTable | None, error: DeltaError) -> bool:
        """Whether another writer committed first, so that a fresh look may succeed."""
        was_made_meanwhile = delta is None and self.open(table) is not None
        return isinstance(error, CommitFailedError) or was_made_meanwhile

    def _unlike_stored(
        self,
        spec: Table,
        rows: pl.DataFrame,
        delta: DeltaTable | None,
        *,
        where: pl.Expr | None = None,
    ) -> tuple[pl.DataFrame, pl.Series]:
        """Rows that are not stored just so, and for each of them whether its key is stored.

        Compared is with the stored rows of ``where``; by default with those of the same days, or
        of the same first part of the key where a table has no days.
        """
        if delta is None or rows.is_empty():
            return rows, pl.Series([False] * rows.height, dtype=pl.Boolean)
        skipped = VOLATILE.get(spec.name, ())
        compared = [c for c in rows.columns if c not in skipped]
        lazy = _stored(spec, delta).select(compared)
        if where is None:
            near = "dt" if spec.partition_by else spec.key[0]
            where = pl.col(near).is_in(rows[near].unique().implode())
        if where is not None:
            lazy = lazy.filter(where)
        stored = lazy.collect()
        keys = list(spec.key)
        digests = stored.select(keys).with_columns(_stored=row_digests(stored))
        joined = rows.with_columns(_offered=row_digests(rows.select(compared))).join(
            digests, on=keys, how="left"
        )
        fresh = joined.filter(pl.col("_stored").ne_missing(pl.col("_offered")))
        return fresh.drop("_stored", "_offered"), fresh["_stored"].is_not_null()

    def _commit(self, spec: Table, rows: pl.DataFrame, delta: DeltaTable | None) -> None:
        if delta is None:
            delta = self._create(spec)
        _evolve(spec, delta)
        on = [*spec.key, *spec.partition_by]
        predicate = " AND ".join(f"t.{column} = s.{column}" for column in on)
        if spec.partition_by:
            days = ", ".join(f"'{day}'" for day in sorted(rows["dt"].unique().to_list()))
            predicate = f"t.dt IN ({days}) AND {predicate}"
        delta.merge(
            arrow_of(spec, rows),
            predicate=predicate,
            source_alias="s",
            target_alias="t",
            commit_properties=CommitProperties(max_commit_retries=0),
        ).when_matched_update_all().when_not_matched_insert_all().execute()

    def _create(self, spec: Table) -> DeltaTable:
        """An empty table; of several writers that create it at once, all get the same one."""
        try:
            return DeltaTable.create(
                self.url(spec.name),
                schema=DeltaSchema.from_arrow(spec.schema),
                mode="ignore",
                partition_by=list(spec.partition_by) or None,
                storage_options=self._options,
            )
        except CommitFailedError:
            made = self.open(spec.name)
            if made is None:
                raise
            return made

    def _overwrite(self, spec: Table, rows: pl.DataFrame, *, predicate: str | None = None) -> None:
        """Put rows in place of those of a part, or of all; what else is written meanwhile stays.

        Raises:
            LakeError: other writers kept winning the commit.
        """
        for _ in range(_MERGE_ATTEMPTS):
            delta = self.open(spec.name)
            if delta is not None:
                _evolve(spec, delta)
            try:
                write_deltalake(
                    self.url(spec.name),
                    arrow_of(spec, rows),
                    mode="overwrite",
                    partition_by=list(spec.partition_by) or None,
                    storage_options=self._options,
                    predicate=predicate,
                )
            except DeltaError as error:
                if not self._is_lost_race(spec.name, delta, error):
                    raise
                continue
            return
        raise LakeError(f"{spec.name}: {_MERGE_ATTEMPTS} commits lost against other writers")


def _refuse_unusable(folder: Path) -> None:
    """Delta decodes %XX in a name and splits it at a backslash: it would look elsewhere."""
    text = str(folder)
    if unquote(text) != text or re.search(r"[\x00-\x1f\x7f\\]", text):
        raise LakeError(
            f"a lake cannot lie in {text!r}: no '%' with two hex digits after it, no backslash and "
            "no control character may stand in the names of its folders"
        )


def _stored(spec: Table, delta: DeltaTable) -> pl.LazyFrame:
    """The rows of a stored table; columns that it does not have yet are null.

    Polars reads the addresses of a table's files literally, so it finds none below a folder whose
    name is percent-encoded in them, and it takes "=" in a folder's name for a partition. Arrow
    does neither, but is slower.
    """
    is_odd = delta.table_uri.startswith("file:") and not {"%", "="}.isdisjoint(delta.table_uri)
    rows = pl.scan_pyarrow_dataset(delta.to_pyarrow_dataset()) if is_odd else pl.scan_delta(delta)
    wanted = polars_schema(spec.name)
    lacking = [field.name for field in _lacking(spec, delta)]
    if lacking:
        rows = rows.with_columns(pl.lit(None, dtype=wanted[name]).alias(name) for name in lacking)
    return rows.select(list(wanted))


def _lacking(spec: Table, delta: DeltaTable) -> list[Field]:
    """Columns of the schema that a table written before them does not have, all nullable."""
    found = {field.name for field in delta.schema().fields}
    wanted = DeltaSchema.from_arrow(spec.schema).fields
    lacking = [field for field in wanted if field.name not in found]
    for field in lacking:
        if field.name in (*spec.key, *spec.partition_by):
            raise SchemaMismatch(f"table '{spec.name}': no column '{field.name}' is stored, a key")
    return [Field(field.name, field.type, nullable=True) for field in lacking]


def _evolve(spec: Table, delta: DeltaTable) -> None:
    """Give a stored table the columns that it lacks."""
    lacking = _lacking(spec, delta)
    if lacking:
        delta.alter.add_columns(lacking)
