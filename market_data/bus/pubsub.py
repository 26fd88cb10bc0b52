"""The bus over Google Pub/Sub: the symbol is the ordering key, and a group is a subscription.

Pub/Sub keeps what is published and does not tell its clients how much of it waits: a publisher
waits until its envelopes are confirmed, and `lag` knows what was fetched alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import grpc
from google.api_core import exceptions
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials
from google.pubsub_v1 import (
    PublisherAsyncClient,
    PubsubMessage,
    SubscriberAsyncClient,
    Subscription,
)
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport

from market_data.bus.port import BodyCodec, DeadLetter, Envelope, Lag
from market_data.bus.pubsub_consumer import ACK_SECONDS, PubSubConsumer
from market_data.errors import BusError, BusUnavailable

ANSWER_SECONDS = 10.0
_MOST = 1_000
"""Messages that one request may hold."""
_KEPT_SECONDS = 7 * 86_400
_AWAY = (
    exceptions.ServiceUnavailable, exceptions.DeadlineExceeded, exceptions.InternalServerError,
    exceptions.TooManyRequests, exceptions.Aborted, exceptions.Cancelled, exceptions.RetryError,
)  # fmt: skip


@contextmanager
def answering() -> Iterator[None]:
    """What Pub/Sub may do wrong, as errors of this package.

    Raises:
        BusUnavailable: it does not answer, or neither does who gives out its credentials.
        BusError: it refuses what was asked, or there are no credentials.
    """
    try:
        yield
    except _AWAY as error:
        raise BusUnavailable(f"Pub/Sub does not answer: {error}") from error
    except auth.GoogleAuthError as error:
        if isinstance(error, auth.TransportError) or error.retryable:
            raise BusUnavailable(f"no credentials for Pub/Sub can be had now: {error}") from error
        raise BusError(f"no credentials for Pub/Sub: {error}") from error
    except exceptions.GoogleAPICallError as error:
        raise BusError(f"Pub/Sub refused: {error}") from error


class PubSubBus:
    """Carries envelopes through a topic.

    Topic, subscriptions and the topic of dead letters are made where they are not there; whoever
    may not make them has to be given them.

    Args:
        project, topic: whose and which.
        codec: bodies to bytes.
        clock: monotonic seconds.
        groups: those whose subscriptions are there before the first envelope is published.
        attempts: how often one is tried before it is put aside.
        emulator: ``host:port`` of an emulator, spoken to in the clear; "" for Google's.
    """

    def __init__(
        self,
        project: str,
        topic: str,
        *,
        codec: BodyCodec,
        clock: Callable[[], float],
        groups: Sequence[str],
        attempts: int = 5,
        emulator: str = "",
    ) -> None:
        self._project = project
        self._topic = topic
        self._codec = codec
        self._clock = clock
        self._groups = tuple(groups)
        self._attempts = attempts
        self._emulator = emulator
        self._lock = asyncio.Lock()
        self._clients: tuple[Any, Any] | None = None
        self._consumers: list[PubSubConsumer] = []
        self._dead: dict[str, int] = {}

    def _path(self, kind: str, name: str) -> str:
        return f"projects/{self._project}/{kind}/{name}"

    def _subscription(self, group: str) -> str:
        return self._path("subscriptions", f"{self._topic}-{group}")

    async def _ready(self) -> tuple[Any, Any]:
        """The clients, when topic and subscriptions are there."""
        async with self._lock:
            if self._clients is None:
                with answering():
                    clients = self._connect()
                letters = f"{self._topic}-dead"
                for name in (self._topic, letters):
                    await self._make(
                        clients[0].create_topic(name=self._path("topics", name), **_ONE)
                    )
                for group in self._groups:
                    await self._make_subscription(clients[1], group, self._topic)
                await self._make_subscription(clients[1], "dead-letters", letters)
                self._clients = clients
        return self._clients

    def _connect(self) -> tuple[Any, Any]:
        if not self._emulator:
            return PublisherAsyncClient(), SubscriberAsyncClient()
        open_to_all: dict[str, Any] = {
            "channel": grpc.aio.insecure_channel(self._emulator),
            "credentials": AnonymousCredentials(),  # type: ignore[no-untyped-call]
        }
        return (
            PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(**open_to_all)),
            SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(**open_to_all)),
        )

    async def _make_subscription(self, client: Any, group: str, topic: str) -> None:
        wanted = Subscription(
            name=self._subscription(group),
            topic=self._path("topics", topic),
            enable_message_ordering=True,
            ack_deadline_seconds=ACK_SECONDS,
            message_retention_duration={"seconds": _KEPT_SECONDS},
        )
        await self._make(client.create_subscription(request=wanted, **_ONE))

    async def _make(self, asked: Coroutine[Any, Any, Any]) -> None:
        """Makes something that may be there; who may not make it finds out whether it is."""
        is_there = suppress(exceptions.AlreadyExists, exceptions.PermissionDenied)
        with answering(), is_there:
            await asked

    async def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Takes them over, in order; returns when Pub/Sub has confirmed all of them.

        Raises:
            BusUnavailable: it does not answer; publish all of them again.
            BusError: it refuses.
        """
        publisher, _ = await self._ready()
        by_symbol: dict[str, list[PubsubMessage]] = {}
        for one in envelopes:
            by_symbol.setdefault(one.symbol, []).append(self._message(one))
        async with self._lock:  # of one symbol no request overtakes another
            sending = [self._send(publisher, messages) for messages in by_symbol.values()]
            for outcome in await asyncio.gather(*sending, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome

    async def _send(self, publisher: Any, messages: Sequence[PubsubMessage]) -> None:
        """A request may hold messages of one ordering key."""
        topic = self._path("topics", self._topic)
        for start in range(0, len(messages), _MOST):
            with answering():
                part = list(messages[start : start + _MOST])
                await publisher.publish(topic=topic, messages=part, **_ONE)

    def _message(self, envelope: Envelope) -> PubsubMessage:
        attributes = {
            "id": envelope.event_id, "symbol": envelope.symbol, "kind": envelope.kind,
            "coalesce": envelope.coalesce,
        }  # fmt: skip
        body = self._codec.encode(envelope.body)
        return PubsubMessage(data=body, attributes=attributes, ordering_key=envelope.symbol)

    async def subscribe(self, group: str, consumer: str) -> PubSubConsumer:  # noqa: ARG002
        """A consumer of ``group``; raises BusUnavailable where Pub/Sub does not answer."""
        _, subscriber = await self._ready()
        if group not in self._groups:
            await self._make_subscription(subscriber, group, self._topic)
        made = PubSubConsumer(
            subscriber,
            self._subscription(group),
            codec=self._codec,
            clock=self._clock,
            attempts=self._attempts,
            bury=lambda letter: self._bury(group, letter),
            answering=answering,
        )
        made.group = group
        self._consumers = [one for one in self._consumers if not one.is_closed] + [made]
        return made

    async def _bury(self, group: str, letter: DeadLetter) -> None:
        publisher, _ = await self._ready()
        attributes = {
            "id": letter.event_id, "symbol": letter.symbol, "kind": letter.kind,
            "reason": letter.reason[:1_000], "attempts": str(letter.attempts), "group": group,
        }  # fmt: skip
        message = PubsubMessage(data=letter.body or b"\0", attributes=attributes)
        topic = self._path("topics", f"{self._topic}-dead")
        with answering():
            await publisher.publish(topic=topic, messages=[message], **_ONE)
        self._dead[group] = self._dead.get(group, 0) + 1

    async def lag(self, group: str) -> Lag:
        """What this bus's consumers of ``group`` have fetched and not worked on.

        How much waits at Pub/Sub is its own metric ``num_undelivered_messages``.
        """
        ours = [one for one in self._consumers if one.group == group and not one.is_closed]
        return Lag(
            sum(len(one.desk.ready) for one in ours),
            sum(len(one.desk.taken) for one in ours),
            max((one.oldest_seconds() for one in ours), default=0.0),
            0,
            self._dead.get(group, 0),
        )

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """What was put aside, newest first, as far as Pub/Sub gives it out now; it stays there."""
        _, subscriber = await self._ready()
        subscription = self._subscription("dead-letters")
        with answering():
            try:
                pulled = await subscriber.pull(
                    subscription=subscription, max_messages=_MOST, retry=None, timeout=1.0
                )
            except exceptions.DeadlineExceeded:
                return []
            ids = [one.ack_id for one in pulled.received_messages]
            if ids:
                await subscriber.modify_ack_deadline(
                    subscription=subscription, ack_ids=ids, ack_deadline_seconds=0, **_ONE
                )
        found = [one.message for one in pulled.received_messages]
        found.sort(key=lambda one: one.publish_time, reverse=True)
        return [_letter(one) for one in found[:limit]]

    async def close(self) -> None:
        """Hangs up."""
        for consumer in self._consumers:
            await consumer.close()
        if self._clients is not None:
            for client in self._clients:
                await client.transport.close()
            self._clients = None


_ONE: dict[str, Any] = {"retry": None, "timeout": ANSWER_SECONDS}
"""One try: whoever asked asks again."""


def _letter(message: PubsubMessage) -> DeadLetter:
    told = dict(message.attributes)
    return DeadLetter(
        told.get("id", ""), told.get("symbol", ""), told.get("kind", ""), told.get("reason", ""),
        int(told.get("attempts", "0")), bytes(message.data),
    )  # fmt: skip
