"""Deliveries of alerts to sinks: at least once, never by two workers at the same time.

A delivery is claimed by moving its next attempt behind a lease, in a compare-and-set on its number
of attempts. A worker that ends in between leaves a row whose lease runs out. Failed attempts wait
twice as long each time; what is refused for good, or has failed too often, keeps its reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from calibration_service.alerts.errors import DeliveryError, DeliveryRefused
from calibration_service.alerts.sinks import Sink
from calibration_service.alerts.store import DELIVERY, StoredAlert, of_sequences

NO_SINK = "there is no sink of this name"
_REASON = 200


@dataclass(frozen=True, slots=True)
class Patience:
    """How long and how often a delivery is tried.

    Attributes:
        attempts: at most, ≥ 1.
        first_wait_ms: after the first failure; it doubles with each one.
        longest_wait_ms: between two attempts.
        lease_ms: time of a claim; longer than an attempt can take.
        at_once: deliveries that are claimed together.
    """

    attempts: int = 10
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
    """

    def __init__(
        self, engine: sa.Engine, sinks: Sequence[Sink], patience: Patience | None = None
    ) -> None:
        self._engine = engine
        self._sinks = {sink.rule.name: sink for sink in sinks}
        self._patience = patience or Patience()

    async def deliver_due(self, now: datetime) -> Counts:
        """Sends what is due, up to ``at_once`` of it side by side.

        Args:
            now: aware; when it is, for waits and for signatures.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the store does not answer. What was sent and could not
                be noted is sent again.
        """
        millis = int(now.timestamp() * 1000)
        claims, alerts = await asyncio.to_thread(self._claim, millis)
        ends = await asyncio.gather(
            *(self._send(claim, alerts.get(claim.sequence), now) for claim in claims)
        )
        await asyncio.to_thread(self._note, list(zip(claims, ends, strict=True)), millis)
        failed = sum(end is not None and end[1] for end in ends)
        delivered = sum(end is None for end in ends)
        return Counts(delivered, len(ends) - delivered - failed, failed)

    async def _send(
        self, claim: _Claim, stored: StoredAlert | None, now: datetime
    ) -> tuple[str, bool] | None:
        """None when it was taken; else why not, and whether that is final."""
        sink = self._sinks.get(claim.sink)
        if sink is None:
            return NO_SINK, True
        if stored is None:
            return "the alert is gone", True
        try:
            async with asyncio.timeout(self._patience.lease_ms / 2000):
                await sink.send(stored, now)
        except DeliveryRefused as error:
            return str(error), True
        except DeliveryError as error:
            return str(error), claim.attempts >= self._patience.attempts
        except TimeoutError:
            return "no answer in time", claim.attempts >= self._patience.attempts
        return None

    def _claim(self, millis: int) -> tuple[list[_Claim], dict[int, StoredAlert]]:
        due = (
            sa.select(DELIVERY)
            .where(DELIVERY.c.next_attempt_at <= millis)
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

    def _note(self, ended: Sequence[tuple[_Claim, tuple[str, bool] | None]], millis: int) -> None:
        """Writes how claims ended, unless their lease ran out and somebody else has them."""
        if not ended:
            return
        with self._engine.begin() as connection:
            for claim, end in ended:
                own = (DELIVERY.c.delivery_id == claim.delivery_id) & (
                    DELIVERY.c.attempts == claim.attempts
                )
                values: dict[str, object] = {"next_attempt_at": None, "failed_reason": None}
                if end is None:
                    values["delivered_at"] = millis
                else:
                    values["failed_reason"] = end[0][:_REASON]
                    if not end[1]:
                        wait = self._patience.wait_ms(claim.attempts)
                        values["next_attempt_at"] = millis + wait
                connection.execute(DELIVERY.update().where(own).values(values))
