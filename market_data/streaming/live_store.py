"""What the live path keeps in the control store: bars, triggers, and where it goes on.

A checkpoint is one transaction: the state of markets, what must not count twice, the bars, the
triggers, and whatever else the caller writes on the same connection. What was not committed is
delivered again, on the state that was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from market_data.streaming.bars import Bar
from market_data.streaming.volatility import Diagnostics, Trigger

METADATA = sa.MetaData()
_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")

LIVE_BAR = sa.Table(
    "live_bar",
    METADATA,
    sa.Column("sequence", _NUMBER, primary_key=True),
    sa.Column("market_id", sa.String(256), nullable=False),
    sa.Column("interval_ms", sa.Integer, nullable=False),
    sa.Column("start_ms", sa.BigInteger, nullable=False),
    sa.Column("open", sa.Float),
    sa.Column("high", sa.Float),
    sa.Column("low", sa.Float),
    sa.Column("close", sa.Float),
    sa.Column("volume", sa.BigInteger, nullable=False),
    sa.Column("trade_count", sa.Integer, nullable=False),
    sa.Column("realized_vol", sa.Float),
    sa.UniqueConstraint("market_id", "interval_ms", "start_ms"),
    sa.Index("live_bar_by_start", "interval_ms", "start_ms"),
    sqlite_autoincrement=True,
)
LIVE_MARKET = sa.Table(
    "live_market",
    METADATA,
    sa.Column("market_id", sa.String(256), primary_key=True),
    sa.Column("state", sa.LargeBinary, nullable=False),
    sa.Column("suppressed", sa.String(64), nullable=False, default=""),
)
LIVE_JUDGED = sa.Table(
    "live_judged",
    METADATA,
    sa.Column("market_id", sa.String(256), primary_key=True),
    sa.Column("state", sa.LargeBinary, nullable=False),
    sa.Column("diagnostics", sa.JSON),
    sa.Column("resolved_ms", sa.BigInteger),
    sa.Column("winner", sa.String(256)),
)
LIVE_TRADE = sa.Table(
    "live_trade",
    METADATA,
    sa.Column("identity", sa.String(400), primary_key=True),
    sa.Column("ms", sa.BigInteger, nullable=False, index=True),
)
LIVE_TRIGGER = sa.Table(
    "live_trigger",
    METADATA,
    sa.Column("sequence", _NUMBER, primary_key=True),
    sa.Column("trigger_id", sa.String(400), nullable=False, unique=True),
    sa.Column("market_id", sa.String(256), nullable=False, index=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("ms", sa.BigInteger, nullable=False),
    sa.Column("merged", sa.Integer, nullable=False),
    sa.Column("diagnostics", sa.JSON, nullable=False),
    sqlite_autoincrement=True,
)
LIVE_POSITION = sa.Table(
    "live_position",
    METADATA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.JSON, nullable=False),
)
_INSERT: dict[str, Callable[[sa.Table], Any]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}
_BAR_COLUMNS = (
    "market_id", "interval_ms", "start_ms", "open", "high", "low", "close", "volume",
    "trade_count", "realized_vol",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FoldedRow:
    """What was folded of a market.

    Attributes:
        state: bytes that its owner reads again.
        suppressed: why the market may fire nothing; "" where it may.
    """

    market_id: str
    state: bytes
    suppressed: str


@dataclass(frozen=True, slots=True)
class JudgedRow:
    """What is known of a market from minute to minute.

    Attributes:
        state: bytes that its owner reads again.
        diagnostics: what the last look of the triggers saw; None before any.
        resolved_ms: when it was resolved, None before; winner: the token that pays.
    """

    market_id: str
    state: bytes
    diagnostics: Diagnostics | None
    resolved_ms: int | None
    winner: str | None


def write_bars(connection: sa.Connection, bars: Iterable[Bar]) -> None:
    """Adds bars, or changes those that are there; a bar that changes gets a new sequence number.

    So whoever reads on from a sequence number sees a revised bar again.
    """
    rows = {(bar.market_id, bar.interval_ms, bar.start_ms): _bar_row(bar) for bar in bars}
    if not rows:
        return
    at = (LIVE_BAR.c.market_id, LIVE_BAR.c.interval_ms, LIVE_BAR.c.start_ms)
    same = sa.and_(*(column == sa.bindparam(f"_{column.name}") for column in at))
    keys = [
        {"_market_id": one, "_interval_ms": two, "_start_ms": three} for one, two, three in rows
    ]
    connection.execute(LIVE_BAR.delete().where(same), keys)
    connection.execute(LIVE_BAR.insert(), list(rows.values()))


def _bar_row(bar: Bar) -> dict[str, Any]:
    row = {name: getattr(bar, name) for name in _BAR_COLUMNS}
    return {name: None if value != value else value for name, value in row.items()}


def read_bars(
    connection: sa.Connection,
    interval_ms: int,
    *,
    since_ms: int = 0,
    market_id: str | None = None,
) -> list[Bar]:
    """Bars that began at or after an instant, oldest first."""
    query = sa.select(*(LIVE_BAR.c[name] for name in _BAR_COLUMNS)).where(
        LIVE_BAR.c.interval_ms == interval_ms, LIVE_BAR.c.start_ms >= since_ms
    )
    if market_id is not None:
        query = query.where(LIVE_BAR.c.market_id == market_id)
    query = query.order_by(LIVE_BAR.c.start_ms, LIVE_BAR.c.market_id)
    return [_bar(row) for row in connection.execute(query)]


def bars_after(connection: sa.Connection, sequence: int, limit: int) -> list[tuple[int, Bar]]:
    """Bars with a later sequence number, with it, in order."""
    query = (
        sa.select(LIVE_BAR.c.sequence, *(LIVE_BAR.c[name] for name in _BAR_COLUMNS))
        .where(LIVE_BAR.c.sequence > sequence)
        .order_by(LIVE_BAR.c.sequence)
        .limit(limit)
    )
    return [(row[0], _bar(row[1:])) for row in connection.execute(query)]


def latest_bar_sequence(connection: sa.Connection) -> int:
    """The highest sequence number of a bar; 0 before any."""
    return connection.execute(sa.select(sa.func.max(LIVE_BAR.c.sequence))).scalar() or 0


def _bar(row: Sequence[Any]) -> Bar:
    values: Any = [float("nan") if value is None else value for value in row]
    market_id, interval, start, opened, high, low, close, volume, trades, realized = values
    return Bar(market_id, interval, start, opened, high, low, close, volume, trades, 0, realized)


def write_folded(connection: sa.Connection, rows: Iterable[FoldedRow]) -> None:
    """Keeps what was folded of markets."""
    _replace(connection, LIVE_MARKET, [asdict(row) for row in rows])


def read_folded(connection: sa.Connection) -> list[FoldedRow]:
    """What was folded of all markets, by id."""
    rows = connection.execute(LIVE_MARKET.select().order_by(LIVE_MARKET.c.market_id))
    return [FoldedRow(row.market_id, row.state, row.suppressed) for row in rows]


def write_judged(connection: sa.Connection, rows: Iterable[JudgedRow]) -> None:
    """Keeps what is known of markets."""
    given = [
        {
            "market_id": row.market_id, "state": row.state,
            "diagnostics": None if row.diagnostics is None else _plain(row.diagnostics),
            "resolved_ms": row.resolved_ms, "winner": row.winner,
        }
        for row in rows
    ]  # fmt: skip
    _replace(connection, LIVE_JUDGED, given)


def read_judged(connection: sa.Connection) -> list[JudgedRow]:
    """What is known of all markets, by id."""
    rows = connection.execute(LIVE_JUDGED.select().order_by(LIVE_JUDGED.c.market_id))
    return [
        JudgedRow(
            row.market_id, row.state,
            None if row.diagnostics is None else _diagnostics(row.diagnostics),
            row.resolved_ms, row.winner,
        )
        for row in rows
    ]  # fmt: skip


def resolved_markets(connection: sa.Connection) -> set[str]:
    """Markets that are over."""
    query = sa.select(LIVE_JUDGED.c.market_id).where(LIVE_JUDGED.c.resolved_ms.is_not(None))
    return set(connection.execute(query).scalars())


def _replace(connection: sa.Connection, table: sa.Table, given: list[dict[str, Any]]) -> None:
    """Puts rows in the place of those with the same ``market_id``."""
    if given:
        same = table.c.market_id == sa.bindparam("_market_id")
        keys = [{"_market_id": one["market_id"]} for one in given]
        connection.execute(table.delete().where(same), keys)
        connection.execute(table.insert(), given)


def drop_markets(connection: sa.Connection, market_ids: Iterable[str]) -> None:
    """Forgets markets of which nothing is heard any more."""
    given = [{"_market_id": one} for one in market_ids]
    if given:
        for table in (LIVE_MARKET, LIVE_JUDGED):
            same = table.c.market_id == sa.bindparam("_market_id")
            connection.execute(table.delete().where(same), given)


def write_trades(connection: sa.Connection, new: Sequence[tuple[str, int]], before_ms: int) -> None:
    """Forgets trades from before an instant, and keeps those that have counted since.

    One that is there already stays: the memory of a loop may be shorter than that of its store.
    """
    connection.execute(LIVE_TRADE.delete().where(LIVE_TRADE.c.ms < before_ms))
    rows = [{"identity": one, "ms": ms} for one, ms in new if ms >= before_ms]
    if rows:
        insert = _INSERT[connection.dialect.name](LIVE_TRADE)
        connection.execute(insert.on_conflict_do_nothing(index_elements=["identity"]), rows)


def read_trades(connection: sa.Connection) -> list[tuple[str, int]]:
    """Trades that have counted, with the venue's time of each."""
    query = sa.select(LIVE_TRADE.c.identity, LIVE_TRADE.c.ms)
    return [(row.identity, row.ms) for row in connection.execute(query)]


def write_triggers(connection: sa.Connection, triggers: Iterable[Trigger]) -> None:
    """Adds triggers; one that is there already stays as it is."""
    given = {one.trigger_id: one for one in triggers}
    if not given:
        return
    there = sa.select(LIVE_TRIGGER.c.trigger_id).where(LIVE_TRIGGER.c.trigger_id.in_(given))
    known = set(connection.execute(there).scalars())
    rows = [
        {
            "trigger_id": one.trigger_id, "market_id": one.market_id, "kind": one.kind,
            "ms": one.ms, "merged": one.merged, "diagnostics": _plain(one.diagnostics),
        }
        for name, one in given.items()
        if name not in known
    ]  # fmt: skip
    if rows:
        connection.execute(LIVE_TRIGGER.insert(), rows)


def read_triggers(connection: sa.Connection, limit: int = 100) -> list[Trigger]:
    """The newest triggers first."""
    query = LIVE_TRIGGER.select().order_by(LIVE_TRIGGER.c.sequence.desc()).limit(limit)
    return [
        Trigger(row.trigger_id, row.market_id, row.kind, row.ms, _diagnostics(row.diagnostics),
                row.merged)
        for row in connection.execute(query)
    ]  # fmt: skip


def write_position(connection: sa.Connection, name: str, value: Any) -> None:
    """Keeps a value, JSON, by name."""
    connection.execute(LIVE_POSITION.delete().where(LIVE_POSITION.c.name == name))
    connection.execute(LIVE_POSITION.insert().values(name=name, value=value))


def read_position(connection: sa.Connection, name: str) -> Any:
    """The value of a name; None before any."""
    query = sa.select(LIVE_POSITION.c.value).where(LIVE_POSITION.c.name == name)
    return connection.execute(query).scalar_one_or_none()


def prune(
    connection: sa.Connection, *, exported: int, bars_before_ms: int, triggers_before_ms: int
) -> None:
    """Removes what is older; of bars those alone whose sequence number the lake has reached."""
    there = LIVE_BAR.c.sequence <= exported
    connection.execute(LIVE_BAR.delete().where(there, LIVE_BAR.c.start_ms < bars_before_ms))
    connection.execute(LIVE_TRIGGER.delete().where(LIVE_TRIGGER.c.ms < triggers_before_ms))


def _plain(look: Diagnostics) -> Mapping[str, Any]:
    """Diagnostics as JSON, NaN as null: a JSON column of PostgreSQL takes no NaN."""
    found = msgspec.structs.asdict(look)
    return {name: None if value != value else value for name, value in found.items()}


def _diagnostics(found: Mapping[str, Any]) -> Diagnostics:
    known: dict[str, Any] = {
        name: float("nan") if value is None else value for name, value in found.items()
    }
    return Diagnostics(**known)
