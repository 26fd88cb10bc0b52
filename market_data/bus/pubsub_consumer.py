"""A consumer of one subscription of Google Pub/Sub."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions

from market_data.bus.desk import Desk, Held
from market_data.bus.port import BodyCodec, DeadLetter, Delivery, Envelope
from market_data.errors import BusError, BusUnavailable

ACK_SECONDS = 30
"""How long Pub/Sub waits for an acknowledgement before it delivers again."""
_PULL_SECONDS = 60.0
_MOST = 1_000


@dataclass(slots=True)
class Place:
    """What Pub/Sub knows a message by.

    Attributes:
        message_id: the same whenever it is delivered.
        ack_id: of its latest delivery.
        since: when it was fetched, monotonic seconds.
    """

    message_id: str
    ack_id: str
    since: float


class PubSubConsumer:
    """Takes from a subscription.

    One pull is always under way: one that is given up takes messages with it for as long as their
    deadline lasts. What is held is asked for anew before its deadline.
    """

    def __init__(
        self,
        client: Any,
        subscription: str,
        *,
        codec: BodyCodec,
        clock: Callable[[], float],
        attempts: int,
        bury: Callable[[DeadLetter], Awaitable[None]],
        answering: Callable[[], AbstractContextManager[None]],
        extend_seconds: float = ACK_SECONDS / 3,
    ) -> None:
        self._client = client
        self._extend_seconds = extend_seconds
        self._subscription = subscription
        self._codec = codec
        self._clock = clock
        self._attempts = attempts
        self._bury = bury
        self._answering = answering
        self._pulling: asyncio.Task[Any] | None = None
        self._failed: BusError | None = None
        self._upkeep = asyncio.create_task(self._extend_for_ever())
        self.desk = Desk()
        self.group = ""
        self.is_closed = False

    def _held(self) -> list[Held]:
        return [*self.desk.ready, *self.desk.taken.values()]

    def oldest_seconds(self) -> float:
        """Since when the oldest has been fetched that was not taken; 0.0 for none."""
        waits = [one.place.since for one in self.desk.ready]
        return self._clock() - min(waits) if waits else 0.0

    async def take(self, limit: int, wait_seconds: float) -> list[Delivery]:
        """The next deliveries; empty where none comes within the time.

        Raises:
            BusUnavailable: Pub/Sub does not answer.
            BusError: it refuses, or has refused to keep what is held; subscribe again.
        """
        self._check()
        if not self.desk.ready:
            if self._pulling is None:
                self._pulling = asyncio.create_task(self._pull())
            await asyncio.wait([self._pulling], timeout=wait_seconds)
            if self._pulling.done():
                pulled, self._pulling = self._pulling, None
                await self._fetched(pulled.result())
        return self.desk.take(limit)

    async def _pull(self) -> Sequence[Any]:
        with self._answering():
            try:
                answer = await self._client.pull(
                    subscription=self._subscription, max_messages=_MOST, retry=None,
                    timeout=_PULL_SECONDS,
                )  # fmt: skip
            except exceptions.DeadlineExceeded:
                return ()
        found: Sequence[Any] = answer.received_messages
        return found

    async def _fetched(self, received: Sequence[Any]) -> None:
        """Puts messages on the desk; one that lies there already has a new acknowledgement."""
        held = {one.place.message_id: one for one in self._held()}
        for one in received:
            message = one.message
            known = held.get(message.message_id)
            if known is not None:
                known.place.ack_id = one.ack_id
                continue
            told = dict(message.attributes)
            try:
                body = self._codec.decode(bytes(message.data))
                envelope = Envelope(
                    told["id"], message.ordering_key, told["kind"], body, told["coalesce"]
                )
            except (ValueError, KeyError) as error:
                await self._bury(DeadLetter(
                    told.get("id", ""), message.ordering_key, told.get("kind", ""),
                    f"UNREADABLE: {error!r}"[:500], 1, bytes(message.data),
                ))  # fmt: skip
                await self._confirm([one.ack_id])
                continue
            place = Place(message.message_id, one.ack_id, self._clock())
            self.desk.add(place, envelope, max(1, one.delivery_attempt))

    async def _confirm(self, ack_ids: Sequence[str]) -> None:
        for start in range(0, len(ack_ids), _MOST):
            with self._answering():
                await self._client.acknowledge(
                    subscription=self._subscription, ack_ids=ack_ids[start : start + _MOST],
                    retry=None, timeout=10.0,
                )  # fmt: skip

    async def _set_deadline(self, ack_ids: Sequence[str], seconds: int) -> None:
        for start in range(0, len(ack_ids), _MOST):
            with self._answering():
                await self._client.modify_ack_deadline(
                    subscription=self._subscription, ack_ids=ack_ids[start : start + _MOST],
                    ack_deadline_seconds=seconds, retry=None, timeout=10.0,
                )  # fmt: skip

    def _check(self) -> None:
        if self._failed is not None:
            raise self._failed

    async def _extend_for_ever(self) -> None:
        while not self.is_closed:
            await asyncio.sleep(self._extend_seconds)
            try:
                await self._set_deadline([one.place.ack_id for one in self._held()], ACK_SECONDS)
            except BusUnavailable:
                continue  # it is asked again before the deadline
            except BusError as error:
                self._failed = error  # the next call says so
                return

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Says that they are done; raises as `take`."""
        self._check()
        held = [self.desk.held(one) for one in deliveries]
        await self._confirm([one.place.ack_id for one in held if one is not None])
        self.desk.done(deliveries)

    async def refuse(self, delivery: Delivery, reason: str) -> None:
        """Gives one back, and the later ones of its symbol with it; attempts are this one's."""
        held = self.desk.held(delivery)
        if held is None:
            return
        if held.attempt >= self._attempts:
            await self.put_aside(delivery, reason)
        else:
            self.desk.give_back(held)

    async def put_aside(self, delivery: Delivery, reason: str) -> None:
        """Makes a dead letter of one; raises BusUnavailable where Pub/Sub does not answer."""
        held = self.desk.held(delivery)
        if held is None:
            return
        one = held.envelope
        body = self._codec.encode(one.body)
        letter = DeadLetter(one.event_id, one.symbol, one.kind, reason, held.attempt, body)
        await self._bury(letter)
        await self.acknowledge([delivery])

    async def close(self) -> None:
        """Leaves; what was not acknowledged is delivered again at once."""
        if self.is_closed:
            return
        self.is_closed = True
        ending = [one for one in (self._upkeep, self._pulling) if one is not None]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        with suppress(BusError):  # then it is delivered again when its deadline has passed
            await self._set_deadline([one.place.ack_id for one in self._held()], 0)
