"""The bus over Redis Streams: a stream per bucket of symbols, and one consumer at a time for each.

What a stream has taken is there until every group is done with it. So Redis has to keep its data
(``appendonly yes``), and to be told never to evict it (``maxmemory-policy noeviction``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from market_data.bus import redis_scripts
from market_data.bus.outgoing import Outgoing, Waiting
from market_data.bus.port import BodyCodec, DeadLetter, Envelope, Lag, Merge
from market_data.bus.redis_consumer import LEASE_SECONDS, RedisConsumer
from market_data.bus.redis_link import Keys, Link
from market_data.errors import BusError, BusUnavailable

_BATCH = 500
_PAUSE_SECONDS = 0.02
"""How long a publisher waits before it looks for room again."""


class RedisBus:
    """Carries envelopes through Redis.

    While a stream is full, envelopes that may be merged wait in the publisher, in its memory, and
    `publish` returns; every other one makes it wait until Redis has it.

    Args:
        url: of Redis, without options of ours.
        prefix: what all keys begin with.
        codec: bodies to bytes.
        merge: makes one body of two.
        partitions: streams that symbols are spread over; the same in every process.
        bound: envelopes that may wait or be unacknowledged in all streams together.
        attempts: how often one is tried before it is put aside.
        lease_seconds: how long a stream stays with a consumer of which nothing is heard.
    """

    def __init__(
        self,
        url: str,
        prefix: str,
        *,
        codec: BodyCodec,
        merge: Merge,
        partitions: int = 8,
        bound: int = 50_000,
        attempts: int = 5,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._keys = Keys(prefix, partitions)
        self._link = Link(url)
        self._codec = codec
        self._bound = max(1, bound // partitions)
        self._attempts = attempts
        self._lease_seconds = lease_seconds
        self._outgoing = Outgoing(merge, self._keys.bucket_of, max(1, bound // 2))
        self._lock = asyncio.Lock()
        self._is_closing = False
        self._later: asyncio.Task[None] | None = None

    async def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Takes them over, in order; waits while a stream is full.

        Raises:
            BusUnavailable: Redis does not answer; publish all of them again.
            BusError: Redis refuses.
        """
        async with self._lock:
            await self._send()
            undo = self._outgoing.add(envelopes)
            is_taken = False
            try:
                await self._send()
                await self._wait_for_room()
                is_taken = True
            finally:
                if not is_taken:  # all of them are published again
                    self._outgoing.undo(undo)
        if len(self._outgoing) and (self._later is None or self._later.done()):
            self._later = asyncio.create_task(self._send_later())

    async def _wait_for_room(self) -> None:
        while self._outgoing.must_be_waited_for:
            await asyncio.sleep(_PAUSE_SECONDS)
            await self._send()

    async def _send_later(self) -> None:
        """Sends what waits in memory, when there is room and nobody publishes."""
        while len(self._outgoing) and not self._is_closing:
            await asyncio.sleep(_PAUSE_SECONDS)
            async with self._lock:
                with suppress(BusError):  # it is tried again, and the next publisher hears
                    await self._send()

    async def _send(self) -> None:
        """Sends what there is room for; what is left waits."""
        full: set[int] = set()
        for batch in self._outgoing.batches(_BATCH, full):
            refused = await self._put(batch)
            full.update(one.bucket for one in refused)
            left = {one.number for one in refused}
            self._outgoing.taken(one for one in batch if one.number not in left)
            if len(full) == len(self._keys.streams):
                break
        if self._outgoing.coalesced:
            merged = self._outgoing.coalesced
            await self._link.ask("HINCRBY", self._keys.counts, "coalesced", merged)
            self._outgoing.coalesced -= merged

    async def _put(self, batch: Sequence[Waiting]) -> list[Waiting]:
        """Sends a batch; returns those for which there was no room."""
        places = {name: at for at, name in enumerate(sorted({one.bucket for one in batch}), 1)}
        streams = self._keys.streams
        values: list[str | bytes | int] = [self._bound]
        for waiting in batch:
            one = waiting.envelope
            if waiting.raw is None:
                waiting.raw = self._codec.encode(one.body)
            at = places[waiting.bucket]
            values += (at, one.event_id, one.symbol, one.kind, one.coalesce, waiting.raw)
        keys = [*(streams[bucket] for bucket in places), self._keys.order]
        added = await self._link.run(redis_scripts.PUT, keys, values)
        room = dict(zip(places, added, strict=True))
        refused: list[Waiting] = []
        for waiting in batch:
            room[waiting.bucket] -= 1
            if room[waiting.bucket] < 0:
                refused.append(waiting)
        return refused

    async def subscribe(self, group: str, consumer: str) -> RedisConsumer:
        """A consumer that holds at least one stream.

        An earlier consumer of the same name loses its streams to this one at once; one of another
        name keeps them for as long as it is heard of.

        Raises:
            BusUnavailable: Redis does not answer, or other consumers hold every stream.
            BusError: Redis refuses.
        """
        made = RedisConsumer(
            self._link,
            self._keys,
            group,
            consumer,
            codec=self._codec,
            attempts=self._attempts,
            lease_seconds=self._lease_seconds,
        )
        await made.open()
        return made

    async def lag(self, group: str) -> Lag:
        """How far ``group`` is behind; raises BusUnavailable where Redis does not answer."""
        waiting, pending, oldest_ms = await self._link.run(
            redis_scripts.LAG, self._keys.streams, [group]
        )
        coalesced, dead = await self._link.ask(
            "HMGET", self._keys.counts, "coalesced", f"dead:{group}"
        )
        merged = int(coalesced or 0) + self._outgoing.coalesced
        return Lag(waiting, pending, oldest_ms / 1_000, merged, int(dead or 0))

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """What was put aside, newest first; raises BusUnavailable where Redis does not answer."""
        found = await self._link.ask("XREVRANGE", self._keys.dead, "+", "-", "COUNT", limit)
        return [_letter(dict(fields)) for _, fields in found]

    async def close(self) -> None:
        """Hangs up; what still waits in memory is sent first, where there is room for it."""
        self._is_closing = True
        if self._later is not None:
            await asyncio.gather(self._later, return_exceptions=True)
        try:
            async with self._lock:
                await self._send()
        except BusUnavailable:
            pass  # what may be merged may be missed: the venue says it again
        finally:
            await self._link.close()


def _letter(fields: dict[bytes, bytes]) -> DeadLetter:
    identity, symbol, kind, reason = (
        fields[name].decode("utf-8", "replace") for name in (b"id", b"symbol", b"kind", b"reason")
    )
    return DeadLetter(identity, symbol, kind, reason, int(fields[b"attempts"]), fields[b"body"])
