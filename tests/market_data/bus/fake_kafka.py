"""A broker on loopback that speaks as much of Kafka's protocol as the client asks for.

A group has one member at a time: whoever joined last has all partitions, and the one before it is
told so at its next heartbeat. Batches of records are kept as they came.
"""

from __future__ import annotations

import asyncio
import struct
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from typing import Any

from aiokafka.protocol import (
    admin,
    commit,
    coordination,
    fetch,
    group,
    metadata,
    offset,
    produce,
    transaction,
)

PARTITIONS = 3
_ILLEGAL_GENERATION = 22
REQUESTS: dict[int, Any] = {
    0: produce.ProduceRequest_v3,
    1: fetch.FetchRequest_v4,
    2: offset.OffsetRequest_v1,
    3: metadata.MetadataRequest_v1,
    8: commit.OffsetCommitRequest_v2,
    9: commit.OffsetFetchRequest_v1,
    10: coordination.FindCoordinatorRequest_v0,
    11: group.JoinGroupRequest_v1,
    12: group.HeartbeatRequest_v0,
    13: group.LeaveGroupRequest_v0,
    14: group.SyncGroupRequest_v0,
    18: admin.ApiVersionRequest_v0,
    22: transaction.InitProducerIdRequest_v0,
}
"""The one version of each request that this broker knows."""


class Log:
    """A partition: batches with their first offset and how many records they hold."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int, bytes]] = []
        self.end = 0

    def append(self, records: bytes) -> int:
        """Keeps batches; returns the offset of the first record."""
        first = self.end
        for batch in _batches(records):
            size = struct.unpack_from(">i", batch, 23)[0] + 1
            self.batches.append((self.end, size, struct.pack(">q", self.end) + batch[8:]))
            self.end += size
        return first

    def read(self, at: int) -> bytes:
        """The batches that hold ``at`` and what follows."""
        return b"".join(raw for first, size, raw in self.batches if first + size > at)


def _batches(records: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(records):
        size = 12 + struct.unpack_from(">i", records, at + 8)[0]
        yield records[at : at + size]
        at += size


class FakeKafka:
    """Serves until it is stopped.

    Attributes:
        port: on 127.0.0.1.
        logs: partitions by topic and number.
        committed: offsets by group, topic and partition.
    """

    def __init__(self) -> None:
        self.port = 0
        self.logs: dict[tuple[str, int], Log] = defaultdict(Log)
        self.topics: set[str] = set()
        self.committed: dict[tuple[str, str, int], int] = {}
        self._generations: dict[str, int] = defaultdict(int)
        self._members: dict[str, str] = {}
        self._grown = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listens on a port that the kernel picks, or on the one it had."""
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Drops every connection; what was published stays."""
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    size = struct.unpack(">i", await reader.readexactly(4))[0]
                    frame = BytesIO(await reader.readexactly(size))
                    key, version, correlation = struct.unpack(">hhi", frame.read(8))
                    frame.read(max(0, struct.unpack(">h", frame.read(2))[0]))
                    kind = REQUESTS[key]
                    assert version == kind.API_VERSION, (key, version)
                    values = await self._answer(key, kind.decode(frame))
                    body = struct.pack(">i", correlation) + kind.RESPONSE_TYPE(*values).encode()
                    writer.write(struct.pack(">i", len(body)) + body)
                    await writer.drain()
        finally:
            writer.close()

    async def _answer(self, key: int, asked: Any) -> tuple[Any, ...]:
        if key == 18:
            return 0, [(one, kind.API_VERSION, kind.API_VERSION) for one, kind in REQUESTS.items()]
        if key == 22:
            return 0, 0, 1_000, 0
        if key == 10:
            return 0, 0, "127.0.0.1", self.port
        handlers = {
            0: self._produce, 1: self._fetch, 2: self._offsets, 3: self._metadata,
            8: self._commit, 9: self._committed, 11: self._join, 12: self._heartbeat,
            13: self._leave, 14: self._sync,
        }  # fmt: skip
        return await handlers[key](asked)

    async def _metadata(self, asked: Any) -> tuple[Any, ...]:
        self.topics.update(asked.topics or ())
        partitions = [(0, number, 0, [0], [0]) for number in range(PARTITIONS)]
        names = sorted(asked.topics if asked.topics else self.topics)
        topics = [(0, name, False, partitions) for name in names]
        return [(0, "127.0.0.1", self.port, None)], 0, topics

    async def _produce(self, asked: Any) -> tuple[Any, ...]:
        assert asked.required_acks == -1
        topics = []
        for topic, partitions in asked.topics:
            done = [
                (number, 0, self.logs[topic, number].append(records), -1)
                for number, records in partitions
            ]
            topics.append((topic, done))
        async with self._grown:
            self._grown.notify_all()
        return topics, 0

    async def _fetch(self, asked: Any) -> tuple[Any, ...]:
        def there() -> bool:
            return any(
                self.logs[topic, number].end > at
                for topic, partitions in asked.topics
                for number, at, _ in partitions
            )

        with suppress(TimeoutError):
            async with asyncio.timeout(asked.max_wait_time / 1_000), self._grown:
                await self._grown.wait_for(there)
        topics = []
        for topic, partitions in asked.topics:
            found = []
            for number, at, _ in partitions:
                log = self.logs[topic, number]
                found.append((number, 0, log.end, log.end, [], log.read(at)))
            topics.append((topic, found))
        return 0, topics

    async def _offsets(self, asked: Any) -> tuple[Any, ...]:
        topics = []
        for topic, partitions in asked.topics:
            found = [
                (number, 0, -1, 0 if stamp == -2 else self.logs[topic, number].end)
                for number, stamp in partitions
            ]
            topics.append((topic, found))
        return (topics,)

    async def _commit(self, asked: Any) -> tuple[Any, ...]:
        is_known = self._is_member(
            asked.consumer_group, asked.consumer_group_generation_id, asked.consumer_id
        )
        code = 0 if is_known else _ILLEGAL_GENERATION
        topics = []
        for topic, partitions in asked.topics:
            if is_known:
                for number, at, _ in partitions:
                    self.committed[asked.consumer_group, topic, number] = at
            topics.append((topic, [(number, code) for number, _, _ in partitions]))
        return (topics,)

    async def _committed(self, asked: Any) -> tuple[Any, ...]:
        name = asked.consumer_group
        return (
            [
                (topic, [(one, self.committed.get((name, topic, one), -1), "", 0) for one in some])
                for topic, some in asked.topics
            ],
        )

    def _is_member(self, name: str, generation: int, member: str) -> bool:
        return (self._generations[name], self._members.get(name)) == (generation, member)

    async def _join(self, asked: Any) -> tuple[Any, ...]:
        self._generations[asked.group] += 1
        generation = self._generations[asked.group]
        member = asked.member_id or f"member-{generation}"
        self._members[asked.group] = member
        protocol, about = asked.group_protocols[0]
        return 0, generation, protocol, member, member, [(member, about)]

    async def _sync(self, asked: Any) -> tuple[Any, ...]:
        if not self._is_member(asked.group, asked.generation_id, asked.member_id):
            return _ILLEGAL_GENERATION, b""
        return 0, dict(asked.group_assignment)[asked.member_id]

    async def _heartbeat(self, asked: Any) -> tuple[Any, ...]:
        is_known = self._is_member(asked.group, asked.generation_id, asked.member_id)
        return (0 if is_known else _ILLEGAL_GENERATION,)

    async def _leave(self, asked: Any) -> tuple[Any, ...]:
        if self._members.get(asked.group) == asked.member_id:
            del self._members[asked.group]
        return (0,)
