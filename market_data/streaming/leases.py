"""One run at a time for each symbol, over all processes, and one more for all that came meanwhile.

Whoever wants to run for a symbol asks with a trigger. Where nobody runs, it gets the lease, with a
number that rises with each run: what writes for the symbol compares it, so that a holder that was
given up and comes back writes nothing. Where someone runs, or the symbol has run a moment ago in
market time, the trigger is merged into the one pending run, which the holder takes when it is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from market_data.control_store import prepare

METADATA = sa.MetaData()
LIVE_LEASE = sa.Table(
    "live_lease",
    METADATA,
    sa.Column("symbol", sa.String(256), primary_key=True),
    sa.Column("owner", sa.String(256), nullable=False, default=""),
    sa.Column("fence", sa.BigInteger, nullable=False, default=0),
    sa.Column("expires_ms", sa.BigInteger, nullable=False, default=0),
    sa.Column("ran_ms", sa.BigInteger),
    sa.Column("pending_count", sa.BigInteger, nullable=False, default=0),
    sa.Column("pending_ms", sa.BigInteger),
    sa.Column("pending_mode", sa.String(16)),
)
_AT = LIVE_LEASE.c


class TriggerMode(StrEnum):
    """What asked for a run."""

    TIMER = "timer"
    BAR = "bar"
    EVENT = "event"
    MANUAL = "manual"


class Verdict(StrEnum):
    """What became of a trigger."""

    RUNS = "runs"
    MERGED_WHILE_RUNNING = "merged_while_running"
    MERGED_IN_COOLDOWN = "merged_in_cooldown"
    TOO_OLD = "too_old"


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run for a symbol.

    Attributes:
        symbol: whose.
        owner: who has it.
        fence: rises with every lease of the symbol.
        expires_ms: until when, UTC milliseconds of the store's users.
    """

    symbol: str
    owner: str
    fence: int
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Pending:
    """What asked for a run and did not get one yet.

    Attributes:
        symbol: for which.
        count: how many triggers it stands for, at least 1.
        ms: market time of the latest, UTC milliseconds.
        mode: what asked last, by market time.
    """

    symbol: str
    count: int
    ms: int
    mode: TriggerMode


@dataclass(frozen=True, slots=True)
class Asked:
    """The answer to a trigger.

    Attributes:
        verdict: what became of it.
        lease: to run with; None where it does not run.
        pending: what the run stands for, or what waits; None for a trigger that was dropped.
        reason: a sentence for people where it does not run; "" where it does.
    """

    verdict: Verdict
    lease: Lease | None
    pending: Pending | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TriggerRules:
    """When a trigger runs.

    Attributes:
        cooldown_ms: market time between the triggers of two runs of a symbol, ≥ 0; a manual one
            does not wait.
        max_age_ms: how old a trigger may be, > 0.
        ttl_ms: how long a lease lasts that is not renewed, > 0.
    """

    cooldown_ms: int = 0
    max_age_ms: int = 600_000
    ttl_ms: int = 30_000

    def __post_init__(self) -> None:
        if self.cooldown_ms < 0:
            raise ValueError(f"cooldown_ms: {self.cooldown_ms} is below 0")
        for name in ("max_age_ms", "ttl_ms"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not above 0")


class Leases:
    """Leases of a control store.

    Every method is one transaction, and raises sqlalchemy.exc.DBAPIError where the store does not
    answer. ``now_ms`` is the wall clock in UTC milliseconds, which owners must roughly share.
    """

    def __init__(self, engine: sa.Engine, rules: TriggerRules | None = None) -> None:
        self._engine = engine
        self._rules = rules or TriggerRules()
        prepare(engine, METADATA)

    def acquire(self, symbol: str, owner: str, now_ms: int, ttl_ms: int) -> Lease | None:
        """The lease of ``symbol``, or None where another owner, or another run of this one, has it.

        Raises:
            ValueError: symbol or owner is empty, or ``ttl_ms`` is not above 0.
        """
        for name, given in (("symbol", symbol), ("owner", owner)):
            if not given:
                raise ValueError(f"{name}: is empty")
        if ttl_ms <= 0:
            raise ValueError(f"ttl_ms: {ttl_ms} is not above 0")
        with self._engine.begin() as connection:
            _begin(connection, symbol)
            return _acquire(connection, symbol, owner, now_ms, now_ms + ttl_ms)

    def renew(self, lease: Lease, now_ms: int, ttl_ms: int) -> Lease | None:
        """The lease for longer; None where it has ended or is another's by now."""
        with self._engine.begin() as connection:
            changed = connection.execute(
                LIVE_LEASE.update()
                .where(*_held(lease), _AT.expires_ms > now_ms)
                .values(expires_ms=now_ms + ttl_ms)
            )
        if changed.rowcount != 1:
            return None
        return Lease(lease.symbol, lease.owner, lease.fence, now_ms + ttl_ms)

    def is_held(self, connection: sa.Connection, lease: Lease) -> bool:
        """Whether nobody has followed; within the transaction that writes for the symbol.

        It holds the row until that transaction ends, so that nobody can follow before it.
        """
        changed = connection.execute(
            LIVE_LEASE.update().where(*_held(lease)).values(owner=lease.owner)
        )
        return changed.rowcount == 1

    def release(self, lease: Lease) -> Pending | None:
        """Ends the lease and takes what came meanwhile; None where nothing did, or it was lost."""
        with self._engine.begin() as connection:
            _begin(connection, lease.symbol)
            ended = connection.execute(
                LIVE_LEASE.update().where(*_held(lease)).values(owner="", expires_ms=0)
            )
            return _take_pending(connection, lease.symbol) if ended.rowcount == 1 else None

    def ask(self, symbol: str, mode: TriggerMode, ms: int, *, owner: str, now_ms: int) -> Asked:
        """Asks for a run because of a trigger at ``ms`` of market time.

        A run stands for every trigger that was pending before it.
        """
        rules = self._rules
        age = now_ms - ms
        if age > rules.max_age_ms:
            told = f"the trigger is {age} ms old, and may be {rules.max_age_ms} ms old at most"
            return Asked(Verdict.TOO_OLD, None, None, told)
        with self._engine.begin() as connection:
            _begin(connection, symbol)
            row = _row(connection, symbol)
            held = row.owner != "" and row.expires_ms > now_ms
            cools = row.ran_ms is not None and ms < row.ran_ms + rules.cooldown_ms
            if held or (cools and mode is not TriggerMode.MANUAL):
                pending = _merge(connection, row, mode, ms)
                if held:
                    told = f"{row.owner!r} runs for it"
                    return Asked(Verdict.MERGED_WHILE_RUNNING, None, pending, told)
                told = f"it ran for {row.ran_ms}, and runs again from {rules.cooldown_ms} ms later"
                return Asked(Verdict.MERGED_IN_COOLDOWN, None, pending, told)
            pending = _merge(connection, row, mode, ms)
            _take_pending(connection, symbol)
            lease = _acquire(connection, symbol, owner, now_ms, now_ms + rules.ttl_ms)
            connection.execute(
                LIVE_LEASE.update()
                .where(_AT.symbol == symbol)
                .values(ran_ms=max(pending.ms, row.ran_ms or pending.ms))
            )
        return Asked(Verdict.RUNS, lease, pending)

    def due(self, now_ms: int, market_ms: int) -> list[Pending]:
        """What waits and could run: nobody holds its lease, and its cooldown is over.

        Args:
            market_ms: market time now.
        """
        cooled = sa.func.coalesce(_AT.ran_ms, 0) + self._rules.cooldown_ms <= market_ms
        free = sa.or_(_AT.owner == "", _AT.expires_ms <= now_ms)
        query = sa.select(LIVE_LEASE).where(_AT.pending_count > 0, free, cooled)
        with self._engine.connect() as connection:
            return [_pending(row) for row in connection.execute(query.order_by(_AT.symbol))]


def _begin(connection: sa.Connection, symbol: str) -> None:
    """Makes sure of the row and locks it, so that what is read stays true until the end.

    The row is written to before it is read: SQLite lets one writer in at a time from there on, and
    PostgreSQL locks the row.
    """
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as pg_insert

        made = pg_insert(LIVE_LEASE).values(symbol=symbol).on_conflict_do_nothing()
        connection.execute(made)
    else:
        connection.execute(LIVE_LEASE.insert().prefix_with("OR IGNORE").values(symbol=symbol))
    connection.execute(LIVE_LEASE.update().where(_AT.symbol == symbol).values(fence=_AT.fence))


def _row(connection: sa.Connection, symbol: str) -> sa.Row[tuple[object, ...]]:
    return connection.execute(sa.select(LIVE_LEASE).where(_AT.symbol == symbol)).one()


def _acquire(
    connection: sa.Connection, symbol: str, owner: str, now_ms: int, expires_ms: int
) -> Lease | None:
    """Compares and sets: a lease that is free or has ended."""
    free = sa.or_(_AT.owner == "", _AT.expires_ms <= now_ms)
    changed = connection.execute(
        LIVE_LEASE.update()
        .where(_AT.symbol == symbol, free)
        .values(owner=owner, fence=_AT.fence + 1, expires_ms=expires_ms)
    )
    if changed.rowcount != 1:
        return None
    return Lease(symbol, owner, _row(connection, symbol).fence, expires_ms)


def _held(lease: Lease) -> tuple[sa.ColumnElement[bool], ...]:
    return _AT.symbol == lease.symbol, _AT.owner == lease.owner, _AT.fence == lease.fence


def _merge(
    connection: sa.Connection, row: sa.Row[tuple[object, ...]], mode: TriggerMode, ms: int
) -> Pending:
    """One pending run of what waits and one more trigger: the latest by market time is told."""
    waits = _pending(row) if row.pending_count else None
    if waits is None:
        merged = Pending(row.symbol, 1, ms, mode)
    elif ms >= waits.ms:
        merged = Pending(row.symbol, waits.count + 1, ms, mode)
    else:
        merged = Pending(row.symbol, waits.count + 1, waits.ms, waits.mode)
    connection.execute(
        LIVE_LEASE.update()
        .where(_AT.symbol == row.symbol)
        .values(
            pending_count=merged.count, pending_ms=merged.ms, pending_mode=merged.mode.value
        )
    )  # fmt: skip
    return merged


def _take_pending(connection: sa.Connection, symbol: str) -> Pending | None:
    row = _row(connection, symbol)
    if not row.pending_count:
        return None
    connection.execute(
        LIVE_LEASE.update()
        .where(_AT.symbol == symbol)
        .values(pending_count=0, pending_ms=None, pending_mode=None)
    )
    return _pending(row)


def _pending(row: sa.Row[tuple[object, ...]]) -> Pending:
    return Pending(row.symbol, row.pending_count, row.pending_ms, TriggerMode(row.pending_mode))
