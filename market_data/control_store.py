"""How tables of the control store are added to, whoever's they are.

A store changes in one way: a table or a column that may be empty is added. So every version reads
the store of every other, and an earlier process goes on beside a later one.
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection

_ALONE = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": "SELECT pg_advisory_xact_lock(hashtext('marketcal control store'))",
}
"""What lets one process at a time change the tables, until its transaction ends."""


def prepare(engine: sa.Engine, metadata: sa.MetaData) -> None:
    """Adds the tables and columns that the store lacks; of several processes one after another.

    Raises:
        sqlalchemy.exc.DBAPIError: the store does not answer, or is none.
    """
    with engine.connect() as connection:
        if not _missing(connection, metadata):
            return
    with engine.begin() as connection:
        if engine.dialect.name in _ALONE:
            connection.execute(sa.text(_ALONE[engine.dialect.name]))
        metadata.create_all(connection)
        for column in _missing(connection, metadata):
            kind = f"{column.name} {column.type.compile(dialect=engine.dialect)}"
            connection.execute(sa.text(f"ALTER TABLE {column.table.name} ADD COLUMN {kind}"))


def _missing(connection: sa.Connection, metadata: sa.MetaData) -> list[sa.Column[object]]:
    """Columns that the store lacks, those of tables that it lacks included."""
    inspector = sa.inspect(connection)
    there = set(inspector.get_table_names())
    found = {
        (name, column["name"])
        for name in metadata.tables
        if name in there
        for column in inspector.get_columns(name)
    }
    return [
        column
        for table in metadata.sorted_tables
        for column in table.columns
        if (table.name, column.name) not in found
    ]


def as_utc(stored: datetime | None) -> datetime | None:
    """A stored time in UTC: SQLite forgets that it is, and PostgreSQL has a zone of its own."""
    if stored is None:
        return None
    return stored.replace(tzinfo=UTC) if stored.tzinfo is None else stored.astimezone(UTC)


def write_ahead(engine: sa.Engine) -> sa.Engine:
    """The engine, whose SQLite readers and writer do not wait for one another; others as they are.

    A writer that finds another one waits for up to ten seconds. What is committed survives the end
    of the process at any instant; the last commits may be lost where the machine loses power.
    """
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _pragmas)
    return engine


def _pragmas(connection: DBAPIConnection, *_: object) -> None:
    cursor = connection.cursor()
    for pragma in ("busy_timeout=10000", "journal_mode=WAL", "synchronous=NORMAL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
