"""A consumer of one consumer group of Kafka."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from aiokafka import ConsumerRebalanceListener  # type: ignore[import-untyped]

from market_data.bus.desk import Desk
from market_data.bus.port import BodyCodec, DeadLetter, Delivery, Envelope
from market_data.errors import BusUnavailable


class KafkaConsumer:
    """Takes from the partitions that its group gives it.

    Of each partition it commits the lowest offset that is not done, since Kafka keeps no more than
    that: what was acknowledged after it comes again to the next consumer. Attempts are counted in
    this process: after its end they begin at 1 again.
    """

    def __init__(
        self,
        client: Any,
        *,
        codec: BodyCodec,
        clock: Callable[[], float],
        attempts: int,
        bury: Callable[[DeadLetter], Awaitable[None]],
        answering: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._client = client
        self._codec = codec
        self._clock = clock
        self._attempts = attempts
        self._bury = bury
        self._answering = answering
        self._open: dict[Any, set[int]] = {}
        self._next: dict[Any, int] = {}
        self._committed: dict[Any, int] = {}
        self._ends: dict[Any, deque[tuple[float, int]]] = {}
        self._is_torn = False
        self.desk = Desk()
        self.group = ""
        self.is_closed = False

    async def open(self, topic: str) -> None:
        """Joins the group; raises BusUnavailable where Kafka does not answer."""
        self._client.subscribe([topic], listener=_Listener(self))
        is_open = False
        try:
            with self._answering():
                await self._client.start()
            is_open = True
        finally:
            if not is_open:
                await self.close()

    def revoked(self, partitions: set[Any]) -> None:
        """What was fetched of these comes again, to whoever has them next."""
        self._is_torn |= any(one.place[0] in partitions for one in self.desk.taken.values())
        self.desk.drop(lambda one: one.place[0] in partitions)
        for kept in (self._open, self._next, self._committed, self._ends):
            for partition in partitions & set(kept):
                del kept[partition]

    async def take(self, limit: int, wait_seconds: float) -> list[Delivery]:
        """The next deliveries; empty where none comes within the time.

        Raises:
            BusUnavailable: Kafka does not answer, or what was in hand is another's now: subscribe
                again.
            BusError: it refuses.
        """
        self._check()
        if not self.desk.ready:
            with self._answering():
                found = await self._client.getmany(
                    timeout_ms=round(wait_seconds * 1_000), max_records=limit
                )
            for partition, records in found.items():
                for record in records:
                    await self._fetched(partition, record)
        return self.desk.take(limit)

    def _check(self) -> None:
        if self._is_torn:
            raise BusUnavailable(f"partitions of {self.group!r} were given out anew")

    async def _fetched(self, partition: Any, record: Any) -> None:
        self._next[partition] = record.offset + 1
        told: dict[str, str] = {}
        try:
            told = {name: (value or b"").decode() for name, value in record.headers}
            if record.value is None or None in (value for _, value in record.headers):
                raise ValueError("a body or a header is null")
            body = self._codec.decode(record.value)
            envelope = Envelope(told["id"], told["symbol"], told["kind"], body, told["coalesce"])
        except (ValueError, KeyError, TypeError) as error:
            symbol = (record.key or b"").decode("utf-8", "replace")
            await self._bury(DeadLetter(
                told.get("id", ""), symbol, told.get("kind", ""), f"UNREADABLE: {error!r}"[:500],
                1, record.value or b"",
            ))  # fmt: skip
            return
        self._open.setdefault(partition, set()).add(record.offset)
        self.desk.add((partition, record.offset), envelope)

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Says that they are done.

        Raises:
            BusUnavailable: Kafka does not answer, or their partition is another's now; they come
                again.
        """
        self._check()
        for held in self.desk.done(deliveries):
            partition, offset = held.place
            self._open[partition].discard(offset)
        await self._commit()

    async def _commit(self) -> None:
        places = {
            partition: min(self._open.get(partition) or {following})
            for partition, following in self._next.items()
        }
        changed = {one: at for one, at in places.items() if self._committed.get(one) != at}
        if changed:
            with self._answering():
                await self._client.commit(changed)
            self._committed.update(changed)

    async def refuse(self, delivery: Delivery, reason: str) -> None:
        """Gives one back, and the later ones of its symbol with it."""
        held = self.desk.held(delivery)
        if held is None:
            return
        if held.attempt >= self._attempts:
            await self.put_aside(delivery, reason)
        else:
            self.desk.give_back(held)

    async def put_aside(self, delivery: Delivery, reason: str) -> None:
        """Makes a dead letter of one; raises as `acknowledge`."""
        held = self.desk.held(delivery)
        if held is None:
            return
        one = held.envelope
        body = self._codec.encode(one.body)
        letter = DeadLetter(one.event_id, one.symbol, one.kind, reason, held.attempt, body)
        await self._bury(letter)
        await self.acknowledge([delivery])

    async def behind(self) -> tuple[int, float]:
        """How many wait in its partitions, and for how long at least the oldest has.

        Ages are those of the ends that were seen at earlier calls: what waited before the first
        call counts from then on.
        """
        with self._answering():
            partitions = list(self._client.assignment())
            ends = await self._client.end_offsets(partitions) if partitions else {}
            positions = {one: await self._client.position(one) for one in partitions}
        now, waiting, oldest = self._clock(), len(self.desk.ready), 0.0
        for partition in partitions:
            seen = self._ends.setdefault(partition, deque(maxlen=10_000))
            if not seen or seen[-1][1] < ends[partition]:
                seen.append((now, ends[partition]))
            while seen and seen[0][1] <= positions[partition]:
                seen.popleft()
            waiting += ends[partition] - positions[partition]
            oldest = max(oldest, now - seen[0][0] if seen else 0.0)
        return waiting, oldest

    async def close(self) -> None:
        """Leaves; what was not acknowledged goes to others."""
        if self.is_closed:
            return
        self.is_closed = True
        with self._answering():
            await self._client.stop()


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer

    def on_partitions_revoked(self, revoked: Any) -> None:
        self._consumer.revoked(set(revoked))

    def on_partitions_assigned(self, assigned: Any) -> None:
        """Their positions are those that were committed."""
