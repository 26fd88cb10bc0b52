"""Publisher and Subscriber of google.pubsub.v1 on loopback, as far as the bus asks them.

Messages of one ordering key are delivered in order; one that is given back comes again with every
later one of its key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import grpc
from google.protobuf import empty_pb2
from google.pubsub_v1.types import pubsub


@dataclass
class Queue:
    """A subscription: what waits, and what was delivered and not acknowledged, by number."""

    topic: str
    waiting: list[tuple[int, Any]] = field(default_factory=list)
    outstanding: dict[str, tuple[int, Any]] = field(default_factory=dict)


class FakePubSub:
    """Serves until it is stopped.

    Attributes:
        port: on 127.0.0.1.
        queues: subscriptions by name.
        is_away: answers UNAVAILABLE to everything.
        refuses_to_extend: answers PERMISSION_DENIED where a deadline is to be later.
    """

    def __init__(self) -> None:
        self.queues: dict[str, Queue] = {}
        self.topics: set[str] = set()
        self.is_away = False
        self.refuses_to_extend = False
        self.port = 0
        self._numbers = count(1)
        self._changed = asyncio.Event()
        self._server = grpc.aio.server()

    async def start(self) -> None:
        """Listens on a port that the kernel picks."""
        services = {
            "Publisher": {
                "CreateTopic": (self._create_topic, pubsub.Topic, pubsub.Topic),
                "Publish": (self._publish, pubsub.PublishRequest, pubsub.PublishResponse),
            },
            "Subscriber": {
                "CreateSubscription": (self._create, pubsub.Subscription, pubsub.Subscription),
                "Pull": (self._pull, pubsub.PullRequest, pubsub.PullResponse),
                "Acknowledge": (self._acknowledge, pubsub.AcknowledgeRequest, None),
                "ModifyAckDeadline": (self._modify, pubsub.ModifyAckDeadlineRequest, None),
            },
        }
        for name, methods in services.items():
            handlers = {
                method: grpc.unary_unary_rpc_method_handler(
                    self._answering(work),
                    request_deserializer=asked.deserialize,
                    response_serializer=(
                        told.serialize if told else empty_pb2.Empty.SerializeToString
                    ),
                )
                for method, (work, asked, told) in methods.items()
            }
            self._server.add_generic_rpc_handlers(
                [grpc.method_handlers_generic_handler(f"google.pubsub.v1.{name}", handlers)]
            )
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()

    async def stop(self) -> None:
        """Stops serving."""
        await self._server.stop(None)

    def _answering(self, work: Callable[..., Any]) -> Callable[..., Any]:
        async def answer(request: Any, context: Any) -> Any:
            if self.is_away:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
            return await work(request, context)

        return answer

    async def _create_topic(self, request: Any, context: Any) -> Any:
        if request.name in self.topics:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "topic")
        self.topics.add(request.name)
        return request

    async def _create(self, request: Any, context: Any) -> Any:
        if request.name in self.queues:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "subscription")
        assert request.enable_message_ordering
        self.queues[request.name] = Queue(request.topic)
        return request

    async def _publish(self, request: Any, context: Any) -> Any:
        if request.topic not in self.topics:
            await context.abort(grpc.StatusCode.NOT_FOUND, "topic")
        if len({one.ordering_key for one in request.messages}) > 1:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "one ordering key a request")
        ids = []
        for message in request.messages:
            number = next(self._numbers)
            message.message_id = str(number)
            message.publish_time = {"seconds": number}
            ids.append(str(number))
            for queue in self.queues.values():
                if queue.topic == request.topic:
                    queue.waiting.append((number, message))
        self._changed.set()
        return pubsub.PublishResponse(message_ids=ids)

    async def _pull(self, request: Any, _: Any) -> Any:
        queue = self.queues[request.subscription]
        while not queue.waiting:
            self._changed.clear()
            await self._changed.wait()
        taken = queue.waiting[: request.max_messages]
        del queue.waiting[: len(taken)]
        received = []
        for number, message in taken:
            ack_id = f"{number}/{next(self._numbers)}"
            queue.outstanding[ack_id] = (number, message)
            received.append(pubsub.ReceivedMessage(ack_id=ack_id, message=message))
        return pubsub.PullResponse(received_messages=received)

    async def _acknowledge(self, request: Any, _: Any) -> Any:
        for ack_id in request.ack_ids:
            self.queues[request.subscription].outstanding.pop(ack_id, None)
        return empty_pb2.Empty()

    async def _modify(self, request: Any, context: Any) -> Any:
        if request.ack_deadline_seconds and self.refuses_to_extend:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not yours")
        if request.ack_deadline_seconds == 0:
            queue = self.queues[request.subscription]
            self._give_back(queue, [one for one in request.ack_ids if one in queue.outstanding])
        return empty_pb2.Empty()

    def expire(self) -> None:
        """The deadline of everything that was delivered passes."""
        for queue in self.queues.values():
            self._give_back(queue, list(queue.outstanding))

    def _give_back(self, queue: Queue, ack_ids: list[str]) -> None:
        first: dict[str, int] = {}
        for number, message in sorted(
            (queue.outstanding[one] for one in ack_ids), key=lambda one: one[0]
        ):
            first.setdefault(message.ordering_key, number)
        for ack_id, (number, message) in list(queue.outstanding.items()):
            if number >= first.get(message.ordering_key, number + 1):
                del queue.outstanding[ack_id]
                queue.waiting.append((number, message))
        queue.waiting.sort(key=lambda one: one[0])
        self._changed.set()

    def put(self, topic: str, message: Any) -> None:
        """Publishes a message as somebody else would."""
        number = next(self._numbers)
        message.message_id = str(number)
        for queue in self.queues.values():
            if queue.topic == topic:
                queue.waiting.append((number, message))
        self._changed.set()
