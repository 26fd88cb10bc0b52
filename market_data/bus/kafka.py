"""The bus over Kafka: the symbol is the key of a record, and a group is a consumer group.

Kafka keeps what is published for as long as its topic says, whether it was worked on or not: a
publisher waits until its envelopes are confirmed, and for nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aiokafka import (  # type: ignore[import-untyped]
    AIOKafkaConsumer,
    AIOKafkaProducer,
    TopicPartition,
)
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]

from market_data.bus.kafka_consumer import KafkaConsumer
from market_data.bus.port import BodyCodec, DeadLetter, Envelope, Lag
from market_data.errors import BusError, BusUnavailable

ANSWER_SECONDS = 10.0
"""How long Kafka may take to answer."""


@contextmanager
def answering() -> Iterator[None]:
    """What Kafka may do wrong, as errors of this package.

    Raises:
        BusUnavailable: it does not answer, or asking again may help for another reason.
        BusError: it refuses what was asked.
    """
    try:
        yield
    except TimeoutError as error:
        raise BusUnavailable("Kafka does not answer in time") from error
    except (KafkaError, OSError) as error:
        may_pass = isinstance(error, OSError) or error.retriable or not error.errno
        told = f"{type(error).__name__}: {error}"
        if may_pass:
            raise BusUnavailable(f"Kafka does not answer: {told}") from error
        raise BusError(f"Kafka refused: {told}") from error


class KafkaBus:
    """Carries envelopes through a topic, which is there already or is made by the broker.

    Args:
        servers: ``host:port``, several with commas.
        topic: which; dead letters go to ``<topic>.dead``.
        codec: bodies to bytes.
        clock: monotonic seconds.
        attempts: how often one is tried before it is put aside.
        answer_seconds: how long Kafka may take to confirm what is published.
    """

    def __init__(
        self,
        servers: str,
        topic: str,
        *,
        codec: BodyCodec,
        clock: Callable[[], float],
        attempts: int = 5,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._servers = servers
        self._topic = topic
        self._codec = codec
        self._clock = clock
        self._attempts = attempts
        self._answer_seconds = answer_seconds
        self._lock = asyncio.Lock()
        self._producer: Any = None
        self._consumers: list[KafkaConsumer] = []
        self._dead: dict[str, int] = {}

    @property
    def _dead_topic(self) -> str:
        return f"{self._topic}.dead"

    async def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Takes them over, in order; returns when every replica in step has them.

        Raises:
            BusUnavailable: Kafka does not answer; publish all of them again.
            BusError: it refuses.
        """
        records = [
            (one.symbol, self._codec.encode(one.body), {
                "id": one.event_id, "symbol": one.symbol, "kind": one.kind,
                "coalesce": one.coalesce,
            })
            for one in envelopes
        ]  # fmt: skip
        await self._send(self._topic, records)

    async def _send(self, topic: str, records: Sequence[tuple[str, bytes, dict[str, str]]]) -> None:
        """Sends records; where that fails the producer begins anew, since its sequence is torn."""
        async with self._lock:
            is_confirmed = False
            try:
                with answering():
                    async with asyncio.timeout(self._answer_seconds):
                        await self._confirmed(topic, records)
                is_confirmed = True
            finally:
                if not is_confirmed:
                    await self._give_up_producer()

    async def _confirmed(
        self, topic: str, records: Sequence[tuple[str, bytes, dict[str, str]]]
    ) -> None:
        producer = await self._started()
        sent = []
        for symbol, body, told in records:
            headers = [(name, value.encode()) for name, value in told.items()]
            sent.append(await producer.send(topic, body, key=symbol.encode(), headers=headers))
        for outcome in await asyncio.gather(*sent, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _started(self) -> Any:
        if self._producer is None:
            self._producer = AIOKafkaProducer(
                bootstrap_servers=self._servers,
                acks="all",
                enable_idempotence=True,
                request_timeout_ms=round(self._answer_seconds * 1_000),
            )
            await self._producer.start()
        return self._producer

    async def _give_up_producer(self) -> None:
        """Ends the producer with what it has not sent, for which its own end would wait for ever.

        An idempotent producer tries again for as long as it lives; whoever asked asks again.
        """
        producer, self._producer = self._producer, None
        if producer is None:
            return
        producer._closed = True
        with answering():
            await producer._sender.close()
            await producer.client.close()

    async def subscribe(self, group: str, consumer: str) -> KafkaConsumer:
        """A consumer of ``group``; raises BusUnavailable where Kafka does not answer."""
        made = KafkaConsumer(
            AIOKafkaConsumer(
                bootstrap_servers=self._servers,
                group_id=f"{self._topic}.{group}",
                client_id=consumer,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                request_timeout_ms=round(self._answer_seconds * 1_000),
            ),
            codec=self._codec,
            clock=self._clock,
            attempts=self._attempts,
            bury=lambda letter: self._bury(group, letter),
            answering=answering,
        )
        made.group = group
        await made.open(self._topic)
        self._consumers = [one for one in self._consumers if not one.is_closed] + [made]
        return made

    async def _bury(self, group: str, letter: DeadLetter) -> None:
        headers = {
            "id": letter.event_id, "symbol": letter.symbol, "kind": letter.kind,
            "reason": letter.reason, "attempts": str(letter.attempts), "group": group,
        }  # fmt: skip
        await self._send(self._dead_topic, [(letter.symbol, letter.body, headers)])
        self._dead[group] = self._dead.get(group, 0) + 1

    async def lag(self, group: str) -> Lag:
        """How far this bus's consumers of ``group`` are behind in their partitions.

        Raises:
            BusUnavailable: Kafka does not answer.
            BusError: nobody has subscribed to ``group`` here.
        """
        ours = [one for one in self._consumers if one.group == group and not one.is_closed]
        if not ours:
            raise BusError(f"the lag of {group!r} is known where it has a consumer alone")
        found = [await one.behind() for one in ours]
        return Lag(
            sum(waiting for waiting, _ in found),
            sum(len(one.desk.taken) for one in ours),
            max(oldest for _, oldest in found),
            0,
            self._dead.get(group, 0),
        )

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """What was put aside, newest first; raises BusUnavailable where Kafka does not answer."""
        reader = AIOKafkaConsumer(
            bootstrap_servers=self._servers,
            enable_auto_commit=False,
            request_timeout_ms=round(self._answer_seconds * 1_000),
        )
        records: list[Any] = []
        with answering():
            try:
                await reader.start()
                reader.subscribe([self._dead_topic])
                await reader._client.set_topics([self._dead_topic])
                numbers = reader.partitions_for_topic(self._dead_topic) or set()
                places = [TopicPartition(self._dead_topic, one) for one in sorted(numbers)]
                reader.unsubscribe()
                reader.assign(places)
                ends = await reader.end_offsets(places)
                for place in places:
                    reader.seek(place, max(0, ends[place] - limit))
                while any([await reader.position(one) < ends[one] for one in places]):
                    got = await reader.getmany(timeout_ms=100)
                    records += [record for some in got.values() for record in some]
            finally:
                await reader.stop()
        records.sort(key=lambda one: (one.timestamp, one.offset), reverse=True)
        return [_letter(one) for one in records[:limit]]

    async def close(self) -> None:
        """Hangs up."""
        for consumer in self._consumers:
            await consumer.close()
        await self._give_up_producer()


def _letter(record: Any) -> DeadLetter:
    told = {name: value.decode() for name, value in record.headers}
    return DeadLetter(
        told["id"], told["symbol"], told["kind"], told["reason"], int(told["attempts"]),
        record.value,
    )  # fmt: skip
