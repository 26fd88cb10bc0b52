"""The tables of the gateway in the control store; `market_data.control_store` adds them."""

from __future__ import annotations

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
