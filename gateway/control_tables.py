"""The tables of the control store, and how a store of an earlier version gets what it lacks.

A store changes in one way: a table or a column that may be empty is added. So every version reads
the store of every other, and an earlier gateway goes on beside a later one.
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

METADATA = sa.MetaData()
API_KEY = sa.Table(
    "api_key",
    METADATA,
    sa.Column("key_id", sa.String(8), primary_key=True),
    sa.Column("secret_sha256", sa.String(64), nullable=False),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("note", sa.String(200), nullable=False, default=""),
    sa.Column("rate_per_minute", sa.Float, nullable=False),
    sa.Column("burst", sa.Integer, nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("expires_at", sa.DateTime(timezone=True)),
    sa.Column("revoked_at", sa.DateTime(timezone=True)),
    sa.Column("last_used_at", sa.DateTime(timezone=True)),
)
KEY_ROTATION = sa.Table(
    "key_rotation",
    METADATA,
    sa.Column("key_id", sa.String(8), primary_key=True),
    sa.Column("successor_id", sa.String(8), nullable=False),
)
AUDIT = sa.Table(
    "audit",
    METADATA,
    sa.Column("audit_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False, index=True),
    sa.Column("actor", sa.String(200), nullable=False),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("action", sa.String(200), nullable=False),
    sa.Column("resource", sa.String(200), nullable=False),
    sa.Column("address", sa.String(100), nullable=False),
    sa.Column("request_id", sa.String(64), nullable=False),
    sa.Column("outcome", sa.String(40)),
    sqlite_autoincrement=True,  # the number of a row that somebody removed is not given again
)


_ALONE = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": "SELECT pg_advisory_xact_lock(hashtext('marketcal control store'))",
}
"""What lets one process at a time change the tables, until its transaction ends."""


def prepare(engine: sa.Engine) -> None:
    """Adds the tables and columns that the store lacks; of several processes one after another.

    Raises:
        sqlalchemy.exc.DBAPIError: the store does not answer, or is none.
    """
    with engine.connect() as connection:
        if not _missing(connection):
            return
    with engine.begin() as connection:
        if engine.dialect.name in _ALONE:
            connection.execute(sa.text(_ALONE[engine.dialect.name]))
        METADATA.create_all(connection)
        for column in _missing(connection):
            kind = f"{column.name} {column.type.compile(dialect=engine.dialect)}"
            connection.execute(sa.text(f"ALTER TABLE {column.table.name} ADD COLUMN {kind}"))


def _missing(connection: sa.Connection) -> list[sa.Column[object]]:
    """Columns that the store lacks, those of tables that it lacks included."""
    inspector = sa.inspect(connection)
    there = set(inspector.get_table_names())
    found = {
        (name, column["name"])
        for name in METADATA.tables
        if name in there
        for column in inspector.get_columns(name)
    }
    return [
        column
        for table in METADATA.sorted_tables
        for column in table.columns
        if (table.name, column.name) not in found
    ]


def as_utc(stored: datetime | None) -> datetime | None:
    """A stored time in UTC: SQLite forgets that it is, and PostgreSQL has a zone of its own."""
    if stored is None:
        return None
    return stored.replace(tzinfo=UTC) if stored.tzinfo is None else stored.astimezone(UTC)
