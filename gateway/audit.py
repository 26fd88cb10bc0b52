"""Who changed what, when and from where: rows in the control store that nobody changes again.

The row of an attempt is there before the attempt begins: where it cannot be written, nothing is
done. How the attempt ended is added once. A row without an outcome is an attempt that was never
heard of again, since its process or the store went away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import grpc
import sqlalchemy as sa

from gateway.call import Call
from gateway.control_tables import AUDIT, METADATA
from market_data.control_store import as_utc, prepare
from marketcal.errors import MarketcalError, NotReady

_LOG = logging.getLogger("gateway.audit")
DONE = "done"
"""Outcome of a command."""
RETRY_AFTER = 1.0
_THREADS = 4


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something.

    Attributes:
        name: id of a key, subject of a token, name of a certificate, or user of this system.
        role: role of the caller; "" for a command.
        address: address of the caller; ``cli`` for a command.
    """

    name: str
    role: str
    address: str


UNNAMED = Actor("unnamed", "", "process")
"""Who changes a store that was opened without saying for whom."""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """What was done.

    Attributes:
        audit_id: number of the row, ascending.
        at: when it began, UTC.
        actor, role, address: see `Actor`.
        action: full name of a method, or a command.
        resource: id of what it was done to; "" where that is not known.
        request_id: id of the call; "" for a command.
        outcome: name of the gRPC code, or `DONE`; None where no end is known.
    """

    audit_id: int
    at: datetime
    actor: str
    role: str
    action: str
    resource: str
    address: str
    request_id: str
    outcome: str | None


class AuditLog:
    """The audit table of a control store."""

    def __init__(self, engine: sa.Engine, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._now = now
        prepare(engine, METADATA)

    def write_command(
        self, connection: sa.Connection, actor: Actor, action: str, resource: str
    ) -> None:
        """Adds what a command does, in the transaction in which it is done."""
        connection.execute(AUDIT.insert().values(self._values(actor, action, resource, "", DONE)))

    def write_attempt(self, actor: Actor, action: str, resource: str, request_id: str) -> int:
        """Adds a row without an outcome and returns its number.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the store does not take it.
        """
        values = self._values(actor, action, resource, request_id, None)
        with self._engine.begin() as connection:
            written = AUDIT.insert().values(values).returning(AUDIT.c.audit_id)
            return int(connection.execute(written).scalar_one())

    def write_outcome(self, audit_id: int, outcome: str) -> None:
        """Says once how an attempt ended; a second outcome changes nothing.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the store does not take it.
        """
        open_row = (AUDIT.c.audit_id == audit_id) & AUDIT.c.outcome.is_(None)
        with self._engine.begin() as connection:
            connection.execute(AUDIT.update().where(open_row).values(outcome=outcome))

    def rows(self, *, since: datetime | None = None, limit: int = 100) -> list[AuditRow]:
        """The newest rows first, ``limit`` at most, none from before ``since``."""
        query = AUDIT.select().order_by(AUDIT.c.audit_id.desc()).limit(limit)
        if since is not None:
            query = query.where(AUDIT.c.at >= since.astimezone(UTC))
        with self._engine.connect() as connection:
            return [_row(mapping) for mapping in connection.execute(query).mappings()]

    def _values(
        self, actor: Actor, action: str, resource: str, request_id: str, outcome: str | None
    ) -> dict[str, Any]:
        given = {
            "actor": actor.name, "role": actor.role, "address": actor.address, "action": action,
            "resource": resource, "request_id": request_id,
        }  # fmt: skip
        cut = {name: value[: AUDIT.c[name].type.length] for name, value in given.items()}  # type: ignore[attr-defined]
        return cut | {"at": self._now(), "outcome": outcome}


def _row(mapping: sa.RowMapping) -> AuditRow:
    return AuditRow(**dict(mapping) | {"at": as_utc(mapping["at"])})


class CallAudit:
    """Stands around each call that may change something."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="audit")

    @asynccontextmanager
    async def __call__(self, call: Call) -> AsyncIterator[None]:
        """Writes the attempt, lets the body run, and writes how it ended.

        Raises:
            NotReady: the attempt cannot be written, so the body does not run.
        """
        audit_id = await self._begin(call)
        outcome = "INTERNAL"
        try:
            yield
            outcome = call.code
        except MarketcalError as refusal:
            outcome = refusal.code
            raise
        except grpc.aio.AbortError:  # the process behind refused; its refusal has been passed on
            outcome = call.code
            raise
        except TimeoutError:
            outcome = "DEADLINE_EXCEEDED"
            raise
        except asyncio.CancelledError:
            outcome = "CANCELLED" if call.time_remaining() > 0 else "DEADLINE_EXCEEDED"
            raise
        finally:
            await self._end(call, audit_id, outcome)

    async def _begin(self, call: Call) -> int:
        role = call.identity.role if call.identity else ""
        actor = Actor(call.caller, role, call.address)
        writing = (actor, call.method.name, call.resource, call.request_id)
        try:
            begun = self._threads.submit(self._log.write_attempt, *writing)
            return await self._begun(call, begun)
        except (sa.exc.SQLAlchemyError, RuntimeError) as error:  # RuntimeError: closed
            _LOG.error("cannot write the audit row: %s", type(error).__name__,
                       extra={"request_id": call.request_id})  # fmt: skip
            raise NotReady(
                "what changes something must be written down, and cannot be; nothing was changed",
                retry_after=RETRY_AFTER,
            ) from None

    async def _begun(self, call: Call, begun: Future[int]) -> int:
        """Number of the attempt's row; where the caller leaves meanwhile, the row will say so."""
        try:
            return await asyncio.shield(asyncio.wrap_future(begun))
        except asyncio.CancelledError:
            if not begun.cancel():
                self._threads.submit(self._write_outcome, call.request_id, begun, "CANCELLED")
            raise

    async def _end(self, call: Call, audit_id: int, outcome: str) -> None:
        """Has the outcome written and waits for that; it is written whoever leaves meanwhile."""
        known: Future[int] = Future()
        known.set_result(audit_id)
        try:
            writing = self._threads.submit(self._write_outcome, call.request_id, known, outcome)
        except RuntimeError:  # closed: this call outlived the drain
            _LOG.error("too late for the outcome %s of audit row %d", outcome, audit_id,
                       extra={"request_id": call.request_id})  # fmt: skip
            return
        await asyncio.shield(asyncio.wrap_future(writing))

    def _write_outcome(self, request_id: str, begun: Future[int], outcome: str) -> None:
        """Runs in a thread of this audit; ``begun`` gives the number of the row."""
        try:
            self._log.write_outcome(begun.result(), outcome)
        except sa.exc.SQLAlchemyError as error:  # what was done stands, and the attempt is written
            _LOG.error("cannot write the outcome %s of a change: %s", outcome,
                       type(error).__name__, extra={"request_id": request_id})  # fmt: skip

    def close(self) -> None:
        """Waits for everything that is being written or waits to be; nothing is taken after it."""
        self._threads.shutdown()


def note_resource(call: Call, request: Any) -> None:
    """Keeps what a change is about: the first field of the request that is the id of something."""
    if not call.method.changes_state:
        return
    for field in request.DESCRIPTOR.fields:
        if field.name.endswith("_id") and field.type == field.TYPE_STRING:
            call.resource = getattr(request, field.name)
            return
