"""Deliveries of alerts to sinks: at least once, never by two workers at the same time.

A delivery is claimed by moving its next attempt behind a lease, in a compare-and-set on its number
of attempts. A worker that ends in between leaves a row whose lease runs out. Failed attempts wait
twice as long each time, counted from the end of the attempt, up to ten minutes; what is refused for
good, or has failed for more than a day, keeps its reason. Each sink has its own turn, and the end
of a delivery is noted as it comes: neither a slow sink nor a broken one holds the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import sqlalchemy as sa

from calibration_service.alerts.errors import DeliveryError, DeliveryRefused
from calibration_service.alerts.sinks import Sink
from calibration_service.alerts.store import DELIVERY, StoredAlert, of_sequences

NO_SINK = "there is no sink of this name"
_REASON = 200
_MILLISECOND = timedelta(milliseconds=1)
_T = TypeVar("_T")
_LOG = logging.getLogger("calibration_service.alerts")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long and how often a delivery is tried.

    Attributes:
        attempts: at most, ≥ 1. The waits between 160 add up to more than 25 hours.
        first_wait_ms: after the first failure; it doubles with each one.
        longest_wait_ms: between two attempts.
        lease_ms: time of a claim; longer than an attempt can take.
        at_once: deliveries of one sink that are claimed together.
    """

    attempts: int = 160
    first_wait_ms: int = 1_000
    longest_wait_ms: int = 600_000
    lease_ms: int = 60_000
    at_once: int = 100

    def wait_ms(self, attempts: int) -> int:
        """Wait after so many failed attempts (≥ 1).

        >>> [Patience().wait_ms(n) for n in (1, 2, 3, 99)]
        [1000, 2000, 4000, 600000]
        """
        return min(self.longest_wait_ms, self.first_wait_ms << min(attempts - 1, 40))


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the deliveries that were due.

    Attributes:
        delivered: taken by their sink.
        retried: not taken, and tried again later.
        failed: refused for good, or tried too often.
    """

    delivered: int = 0
    retried: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class _End:
    """How a claim ended: why it was not taken, "" where it was, and whether that is final."""

    reason: str = ""
    is_final: bool = True


@dataclass(frozen=True, slots=True)
class _Claim:
    delivery_id: int
    sequence: int
    sink: str
    attempts: int


class Outbox:
    """The deliveries of a control store.

    Args:
        engine: its store.
        sinks: where to; a delivery to a name that is not among them fails.
        patience: how long and how often.
        monotonic: seconds that never go back, for how long an attempt takes; by default those of
            the event loop.
    """

    def __init__(
        self,
        engine: sa.Engine,
        sinks: Sequence[Sink],
        patience: Patience | None = None,
        *,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        self._engine = engine
        self._sinks = {sink.rule.name: sink for sink in sinks}
        self._patience = patience or Patience()
        self._monotonic = monotonic

    async def deliver_due(self, now: datetime) -> Counts:
        """Sends what is due, up to ``at_once`` of each sink side by side.

        Args:
            now: aware; when it is, for waits and for signatures.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the store does not answer. What was sent and could not
                be noted is sent again.
        """
        each = [self.deliver_due_to(name, now) for name in self._sinks]
        done = _all_of(
            await asyncio.gather(*each, self.refuse_unknown(now), return_exceptions=True)
        )
        return Counts(
            sum(one.delivered for one in done),
            sum(one.retried for one in done),
            sum(one.failed for one in done),
        )

    async def deliver_due_to(self, name: str, now: datetime) -> Counts:
        """Sends what is due to one sink, see `deliver_due`."""
        return await self._deliver(DELIVERY.c.sink == name, now)

    async def refuse_unknown(self, now: datetime) -> Counts:
        """Gives up what is due to sinks that are not there any more, see `deliver_due`."""
        return await self._deliver(DELIVERY.c.sink.not_in(list(self._sinks)), now)

    async def _deliver(self, which: sa.ColumnElement[bool], now: datetime) -> Counts:
        clock = self._monotonic or asyncio.get_running_loop().time
        millis, began = int(now.timestamp() * 1000), clock()
        claims, alerts = await asyncio.to_thread(self._claim, which, millis)
        ends: list[_End] = []

        async def deliver(claim: _Claim) -> None:
            end = await self._send(claim, alerts.get(claim.sequence), now)
            spent = timedelta(seconds=clock() - began)
            await asyncio.to_thread(self._note, claim, end, millis + spent // _MILLISECOND)
            ends.append(end)

        _all_of(await asyncio.gather(*map(deliver, claims), return_exceptions=True))
        delivered = sum(not end.reason for end in ends)
        failed = sum(end.is_final for end in ends) - delivered
        return Counts(delivered, len(ends) - delivered - failed, failed)

    async def _send(self, claim: _Claim, stored: StoredAlert | None, now: datetime) -> _End:
        sink = self._sinks.get(claim.sink)
        if sink is None:
            return _End(NO_SINK)
        if stored is None:
            return _End("the alert is gone")
        is_last = claim.attempts >= self._patience.attempts
        try:
            async with asyncio.timeout(self._patience.lease_ms / 2000):
                await sink.send(stored, now)
        except DeliveryRefused as error:
            return _End(str(error) or "refused")
        except DeliveryError as error:
            return _End(str(error) or "not taken", is_last)
        except TimeoutError:
            return _End("no answer in time", is_last)
        return _End()

    def _claim(
        self, which: sa.ColumnElement[bool], millis: int
    ) -> tuple[list[_Claim], dict[int, StoredAlert]]:
        due = (
            sa.select(DELIVERY)
            .where(DELIVERY.c.next_attempt_at <= millis, which)
            .order_by(DELIVERY.c.next_attempt_at, DELIVERY.c.delivery_id)
            .limit(self._patience.at_once)
        )
        with self._engine.connect() as connection:
            rows = sorted(connection.execute(due).all(), key=lambda row: row.delivery_id)
        if not rows:
            return [], {}
        claims = []
        with self._engine.begin() as connection:
            for row in rows:
                mine = (
                    DELIVERY.update()
                    .where(
                        DELIVERY.c.delivery_id == row.delivery_id,
                        DELIVERY.c.attempts == row.attempts,
                    )
                    .values(
                        attempts=row.attempts + 1, next_attempt_at=millis + self._patience.lease_ms
                    )
                )
                if connection.execute(mine).rowcount == 1:
                    claims.append(_Claim(row.delivery_id, row.sequence, row.sink, row.attempts + 1))
            return claims, of_sequences(connection, [claim.sequence for claim in claims])

    def _note(self, claim: _Claim, end: _End, millis: int) -> None:
        """Writes how a claim ended, unless its lease ran out and somebody else has it."""
        values: dict[str, object] = {"next_attempt_at": None, "failed_reason": None}
        if not end.reason:
            values["delivered_at"] = millis
        else:
            values["failed_reason"] = end.reason[:_REASON]
        if not end.is_final:
            values["next_attempt_at"] = millis + self._patience.wait_ms(claim.attempts)
        own = (DELIVERY.c.delivery_id == claim.delivery_id) & (
            DELIVERY.c.attempts == claim.attempts
        )
        with self._engine.begin() as connection:
            connection.execute(DELIVERY.update().where(own).values(values))
        if end.reason and end.is_final:
            _LOG.warning(
                "alert %d was not delivered to %s after %d attempts: %s",
                claim.sequence, claim.sink, claim.attempts, end.reason[:_REASON],
            )  # fmt: skip


def _all_of(done: Sequence[_T | BaseException]) -> list[_T]:
    """What came of things done side by side; raises the first failure, when all have ended."""
    found = []
    for one in done:
        if isinstance(one, BaseException):
            raise one
        found.append(one)
    return found
