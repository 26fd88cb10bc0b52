"""Alerts in the control store: written once, in the order in which readers see them.

``alert.sequence`` is the order of commits: a writer holds the table until its transaction ends, so
whoever has read up to a number misses nothing by asking for what comes after it. Every function
takes a connection, so that a caller's own rows are part of the same transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from calibration_service.alerts.values import Alert, Direction, Fact, Severity, reason_of
from market_data.control_store import as_utc, prepare

_LOG = logging.getLogger("calibration_service.alerts")
METADATA = sa.MetaData()
_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")

_ONCE = sa.Index("alert_once", "episode_id", "severity", unique=True)
"""An episode raises a severity once."""

ALERT = sa.Table(
    "alert",
    METADATA,
    sa.Column("sequence", _NUMBER, primary_key=True),
    sa.Column("alert_id", sa.String(36), nullable=False, unique=True),
    sa.Column("market_id", sa.String(256), nullable=False),
    sa.Column("event_id", sa.String(256), nullable=False, default=""),
    sa.Column("at", sa.BigInteger, nullable=False),  # UTC milliseconds
    sa.Column("severity", sa.Integer, nullable=False),
    sa.Column("rule", sa.String(40), nullable=False),
    sa.Column("episode_id", sa.String(36), nullable=False),
    sa.Column("direction", sa.String(8), nullable=False),
    sa.Column("reason_codes", sa.JSON, nullable=False),
    sa.Column("evidence", sa.JSON, nullable=False),  # [[name, value, threshold | null], …]
    sa.Column("explanation", sa.JSON, nullable=False),
    sa.Column("policy_version", sa.String(64), nullable=False),
    sa.Column("acknowledged_by", sa.String(200)),
    sa.Column("acknowledged_at", sa.DateTime(timezone=True)),
    sa.Column("stored_at", sa.DateTime(timezone=True), nullable=False),
    sa.Index("alert_at", "at", "sequence"),
    sa.Index("alert_severity_at", "severity", "at", "sequence"),
    sa.Index("alert_market_at", "market_id", "at", "sequence"),
    _ONCE,
    sqlite_autoincrement=True,  # the number of a row that somebody removed is not given again
)
DELIVERY = sa.Table(
    "alert_delivery",
    METADATA,
    sa.Column("delivery_id", _NUMBER, primary_key=True),
    sa.Column("sequence", _NUMBER, nullable=False),
    sa.Column("sink", sa.String(40), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("next_attempt_at", sa.BigInteger),  # UTC milliseconds; null: there is none
    sa.Column("delivered_at", sa.BigInteger),  # UTC milliseconds
    sa.Column("failed_reason", sa.String(200)),  # of the last attempt; final without a next one
    sa.UniqueConstraint("sequence", "sink", name="alert_delivery_once"),
    sa.Index("alert_delivery_due", "next_attempt_at"),
    sqlite_autoincrement=True,
)

_IN_TURN = "SELECT pg_advisory_xact_lock(hashtext('marketcal alert'))"
_INSERT: dict[str, Callable[[sa.Table], Any]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}


@dataclass(frozen=True, slots=True)
class SinkRule:
    """Which alerts a sink is sent.

    Attributes:
        name: of the sink.
        min_severity: the lowest that it wants.
    """

    name: str
    min_severity: Severity = Severity.MED


@dataclass(frozen=True, slots=True)
class StoredAlert:
    """An alert with what the store knows of it.

    Attributes:
        sequence: its place in the order of commits, ascending.
        alert: as it was raised.
        event_id: event of the market; "" where none is known.
        acknowledged_by: who has seen it; "" for nobody.
        acknowledged_at: when, UTC; None for not yet.
    """

    sequence: int
    alert: Alert
    event_id: str = ""
    acknowledged_by: str = ""
    acknowledged_at: datetime | None = None


def prepare_alerts(engine: sa.Engine) -> None:
    """Adds the tables of alerts; in those of earlier versions too an alert then stands once.

    Where an earlier version has stored an episode's severity twice the two stay, and only the ids
    keep alerts from being there twice; the log says so.

    Raises:
        sqlalchemy.exc.DBAPIError: the store does not answer, or is none.
    """
    prepare(engine, METADATA)
    try:
        with engine.begin() as connection:
            _ONCE.create(connection, checkfirst=True)
    except sa.exc.IntegrityError:
        _LOG.warning("some episodes have two stored alerts of one severity; both stay")


def write_alerts(
    connection: sa.Connection,
    alerts: Iterable[Alert],
    sinks: Sequence[SinkRule],
    *,
    now: datetime,
    event_ids: Mapping[str, str] | None = None,
) -> list[int]:
    """Adds alerts and what is to be delivered of them, in the caller's transaction.

    An alert whose id is there already, or another of its episode and severity, changes nothing and
    is not delivered again.

    Args:
        connection: SQLite or PostgreSQL, inside a transaction.
        alerts: in the order in which readers see them.
        sinks: who is told.
        now: when they are stored, aware.
        event_ids: event of each market, where it is known.

    Returns:
        Sequence numbers of the alerts that were new.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text(_IN_TURN))
    insert = _INSERT[connection.dialect.name]
    written = []
    for alert in alerts:
        values = _values(alert) | {
            "stored_at": now,
            "event_id": (event_ids or {}).get(alert.market_id, ""),
        }
        once = insert(ALERT).values(values).on_conflict_do_nothing()
        sequence = connection.execute(once.returning(ALERT.c.sequence)).scalar()
        if sequence is None:
            continue
        written.append(int(sequence))
        due = {"sequence": sequence, "attempts": 0, "next_attempt_at": _millis(now)}
        wanted = [due | {"sink": s.name} for s in sinks if alert.severity >= s.min_severity]
        if wanted:
            connection.execute(DELIVERY.insert(), wanted)
    return written


def page(
    connection: sa.Connection,
    *,
    limit: int,
    since: int | None = None,
    min_severity: Severity = Severity.FYI,
    market_id: str = "",
    after: tuple[int, int] | None = None,
) -> list[StoredAlert]:
    """Alerts newest first, ties by the newer sequence.

    Args:
        connection: a connection.
        limit: rows at most.
        since: only those at or after it, UTC milliseconds.
        min_severity: only this one or a higher one.
        market_id: only this market; "" for all.
        after: (at, sequence) of the last row of the page before.
    """
    at, sequence = ALERT.c.at, ALERT.c.sequence
    wanted: list[sa.ColumnElement[bool]] = []
    if since is not None:
        wanted.append(at >= since)
    if market_id:
        wanted.append(ALERT.c.market_id == market_id)
    if after is not None:
        wanted.append(
            sa.tuple_(at, sequence) < sa.tuple_(*(sa.literal(one, sa.BigInteger) for one in after))
        )
    ordered = sa.select(ALERT).where(*wanted).order_by(at.desc(), sequence.desc()).limit(limit)
    if min_severity <= Severity.FYI:
        return [_stored(row) for row in connection.execute(ordered).mappings()]
    merged: list[StoredAlert] = []  # one walk of an index for each severity
    for severity in Severity:
        if severity >= min_severity:
            rows = connection.execute(ordered.where(ALERT.c.severity == int(severity)))
            merged += (_stored(row) for row in rows.mappings())
    return sorted(merged, key=lambda one: (-one.alert.at_ms, -one.sequence))[:limit]


def after(connection: sa.Connection, sequence: int, *, limit: int) -> list[StoredAlert]:
    """Alerts that were committed after the one with ``sequence``, oldest first."""
    query = sa.select(ALERT).where(ALERT.c.sequence > sequence).order_by(ALERT.c.sequence)
    return [_stored(row) for row in connection.execute(query.limit(limit)).mappings()]


def latest_sequence(connection: sa.Connection) -> int:
    """Sequence of the newest alert; 0 without one."""
    return int(connection.execute(sa.select(sa.func.max(ALERT.c.sequence))).scalar() or 0)


def acknowledge(
    connection: sa.Connection, alert_id: str, *, who: str, now: datetime
) -> StoredAlert | None:
    """Marks an alert as seen and returns it; the first one stays. None: there is no such alert."""
    unseen = (ALERT.c.alert_id == alert_id) & ALERT.c.acknowledged_at.is_(None)
    seen = {"acknowledged_by": who[:200], "acknowledged_at": now}
    connection.execute(ALERT.update().where(unseen).values(seen))
    return find(connection, alert_id)


def find(connection: sa.Connection, alert_id: str) -> StoredAlert | None:
    """The alert with an id; None without one."""
    query = sa.select(ALERT).where(ALERT.c.alert_id == alert_id)
    row = connection.execute(query).mappings().first()
    return None if row is None else _stored(row)


def of_sequences(connection: sa.Connection, sequences: Sequence[int]) -> dict[int, StoredAlert]:
    """Alerts by their sequence, without those that are not there."""
    query = sa.select(ALERT).where(ALERT.c.sequence.in_(sequences))
    return {row["sequence"]: _stored(row) for row in connection.execute(query).mappings()}


def _values(alert: Alert) -> dict[str, Any]:
    return {
        "alert_id": alert.alert_id,
        "market_id": alert.market_id,
        "at": alert.at_ms,
        "severity": int(alert.severity),
        "rule": alert.rule,
        "episode_id": alert.episode_id,
        "direction": str(alert.direction),
        "reason_codes": [str(code) for code in alert.reason_codes],
        "evidence": [[fact.name, fact.value, fact.threshold] for fact in alert.evidence],
        "explanation": list(alert.explanation_lines),
        "policy_version": alert.policy_version,
    }


def _stored(row: sa.RowMapping) -> StoredAlert:
    alert = Alert(
        alert_id=row["alert_id"],
        market_id=row["market_id"],
        at_ms=row["at"],
        severity=Severity(row["severity"]),
        rule=row["rule"],
        direction=Direction(row["direction"]),
        episode_id=row["episode_id"],
        reason_codes=tuple(map(reason_of, row["reason_codes"])),
        evidence=tuple(Fact(*fact) for fact in row["evidence"]),
        explanation_lines=tuple(row["explanation"]),
        policy_version=row["policy_version"],
    )
    by, at = row["acknowledged_by"] or "", as_utc(row["acknowledged_at"])
    return StoredAlert(row["sequence"], alert, row["event_id"] or "", by, at)


def _millis(now: datetime) -> int:
    return int(now.timestamp() * 1000)
