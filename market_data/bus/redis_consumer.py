"""A consumer of Redis Streams: it reads the buckets whose leases it holds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from market_data.bus import redis_scripts
from market_data.bus.desk import Desk, Held
from market_data.bus.port import BodyCodec, Delivery, Envelope
from market_data.bus.redis_link import ANSWER_SECONDS, Keys, Link
from market_data.errors import BusError, BusTakenOver, BusUnavailable

LEASE_SECONDS = 15.0
"""How long a stream stays with a consumer of which nothing is heard."""
_KEPT_LETTERS = 10_000
_PAGE = 500
Place = tuple[int, str]
"""Bucket and identity of an entry."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as Redis gives it.

    Attributes:
        order: its place among all that were published; 0 where that cannot be read.
    """

    order: int
    place: Place
    fields: dict[bytes, bytes]
    attempt: int

    @classmethod
    def of(cls, bucket: int, given: Sequence[Any]) -> Entry:
        """An entry of a bucket: identity, fields one after another, and how often it was tried."""
        identity, flat, *attempt = given
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        order = fields.get(b"order", b"0")
        return cls(
            int(order) if order.isdigit() else 0,
            (bucket, identity.decode()),
            fields,
            int(attempt[0]) if attempt else 1,
        )


class RedisConsumer:
    """Takes from the streams whose leases it holds.

    Where it loses a lease it is of no use any more, and says so: what it took may be in the hands
    of another one by then. Its acknowledgements change nothing from that moment on.
    """

    def __init__(
        self,
        link: Link,
        keys: Keys,
        group: str,
        name: str,
        *,
        codec: BodyCodec,
        attempts: int,
        lease_seconds: float,
    ) -> None:
        self._link = link
        self._keys = keys
        self._group = group
        self._name = name
        self._codec = codec
        self._attempts = attempts
        self._lease_ms = round(lease_seconds * 1_000)
        self._streams = keys.streams
        self._leases = keys.leases(group)
        self._number = 0
        self._holder = ""
        self._desk = Desk()
        self._may_gain = False
        self._leaving = asyncio.Event()
        self._upkeep: asyncio.Task[None] | None = None
        self._lost: BusError | None = None
        self.buckets: list[int] = []
        """Those that it holds."""

    async def open(self) -> None:
        """Takes the leases that are to be had, and what their last holder had not acknowledged.

        Raises:
            BusUnavailable: Redis does not answer, or there is no lease to be had.
        """
        self._number = await self._link.ask("INCR", self._keys.holders)
        self._holder = f"{self._number} {self._name}"
        await self._gain()
        if not self.buckets:
            raise BusUnavailable(f"other consumers of {self._group!r} hold every stream")
        self._upkeep = asyncio.create_task(self._renew_for_ever())

    async def _gain(self) -> None:
        """Takes free leases beside those that are held already."""
        wanted = [one for one in range(len(self._streams)) if one not in self.buckets]
        if not wanted:
            return
        leases = [self._leases[one] for one in wanted]
        values = [self._number, self._name, self._lease_ms]
        found: list[Entry] = []
        for place in await self._link.run(redis_scripts.HOLD, leases, values):
            bucket = wanted[place - 1]
            await self._make_group(bucket)
            found += await self._claim(bucket)
            self.buckets.append(bucket)
        await self._fetched(found)

    async def _make_group(self, bucket: int) -> None:
        try:
            await self._link.ask(
                "XGROUP", "CREATE", self._streams[bucket], self._group, "0", "MKSTREAM"
            )
        except BusUnavailable:
            raise
        except BusError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def _claim(self, bucket: int) -> list[Entry]:
        """What was taken and not acknowledged before."""
        start, claimed = "-", list[Entry]()
        while True:
            found = await self._fenced(
                redis_scripts.CLAIM, bucket, [self._group, self._holder, start, _PAGE]
            )
            claimed += (Entry.of(bucket, one) for one in found)
            if len(found) < _PAGE:
                return claimed
            start = f"({found[-1][0].decode()}"

    async def _fetched(self, entries: Iterable[Entry]) -> None:
        """Puts entries on the desk in the order of their publication, whatever their streams.

        Those that cannot be read become dead letters.
        """
        for one in sorted(entries, key=lambda entry: entry.order):
            try:
                self._desk.add(one.place, self._envelope(one.fields), one.attempt)
            except (ValueError, KeyError) as error:
                reason = f"UNREADABLE: {error!r}"[:500]
                await self._bury(one.place, one.fields, reason, one.attempt)

    def _envelope(self, fields: dict[bytes, bytes]) -> Envelope:
        identity, symbol, kind, coalesce = (
            fields[name].decode() for name in (b"id", b"symbol", b"kind", b"coalesce")
        )
        return Envelope(identity, symbol, kind, self._codec.decode(fields[b"body"]), coalesce)

    async def take(self, limit: int, wait_seconds: float) -> list[Delivery]:
        """The next deliveries; empty where none comes within the time.

        Raises:
            BusUnavailable: Redis does not answer, or a lease was lost: subscribe again.
            BusTakenOver: a later consumer of the same name has taken the streams.
            BusError: Redis refuses.
        """
        self._check()
        if self._may_gain:
            self._may_gain = False
            await self._gain()
        if not self._desk.ready:
            last = await self._read(limit)
            while last and not self._desk.ready and wait_seconds > 0:
                part = min(wait_seconds, ANSWER_SECONDS / 2)
                wait_seconds -= part
                await self._await_entry(last, part)
                last = await self._read(limit)
        self._check()
        return self._desk.take(limit)

    def _check(self) -> None:
        if self._lost is not None:
            raise self._lost

    async def _read(self, limit: int) -> list[str]:
        """Fetches new entries; where there is none, the last identity of each stream."""
        streams = [self._streams[one] for one in self.buckets]
        keys = [*streams, *(self._leases[one] for one in self.buckets)]
        values = [self._group, self._holder, limit]
        try:
            found, last = await self._checked(redis_scripts.READ, keys, values)
        except BusUnavailable:
            raise
        except BusError as error:
            if "NOGROUP" not in str(error):
                raise
            for bucket in self.buckets:  # someone has removed the streams
                await self._make_group(bucket)
            return []
        await self._fetched(
            Entry.of(self.buckets[place - 1], one) for place, entries in found for one in entries
        )
        return [one.decode() for one in last]

    async def _await_entry(self, last: Sequence[str], wait_seconds: float) -> None:
        """Waits until a stream has more than it had."""
        wait_ms = max(1, round(wait_seconds * 1_000))
        streams = [self._streams[one] for one in self.buckets]
        await self._link.ask("XREAD", "COUNT", 1, "BLOCK", wait_ms, "STREAMS", *streams, *last)

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Says that they are done.

        Raises:
            BusUnavailable: Redis does not answer, or the lease was lost; they come again.
            BusTakenOver: a later consumer of the same name has taken the streams.
        """
        self._check()
        by_bucket: dict[int, list[str]] = {}
        for one in deliveries:
            held = self._desk.held(one)
            if held is not None:
                by_bucket.setdefault(held.place[0], []).append(held.place[1])
        for bucket, identities in by_bucket.items():
            for start in range(0, len(identities), _PAGE):
                part = identities[start : start + _PAGE]
                await self._fenced(redis_scripts.DONE, bucket, [self._group, self._holder, *part])
        self._desk.done(deliveries)

    async def refuse(self, delivery: Delivery, reason: str) -> None:
        """Gives one back, and the later ones of its symbol with it; raises as `acknowledge`."""
        held = self._desk.held(delivery)
        if held is None:
            return
        if held.attempt >= self._attempts:
            await self.put_aside(delivery, reason)
            return
        bucket, identity = held.place
        values = [self._group, self._holder, identity, held.attempt + 1]
        await self._fenced(redis_scripts.AGAIN, bucket, values)
        self._desk.give_back(held)

    async def put_aside(self, delivery: Delivery, reason: str) -> None:
        """Makes a dead letter of one; raises as `acknowledge`."""
        held = self._desk.held(delivery)
        if held is None:
            return
        await self._bury(held.place, self._fields(held), reason, held.attempt)
        self._desk.done([delivery])

    def _fields(self, held: Held) -> dict[bytes, bytes]:
        one = held.envelope
        return {
            b"id": one.event_id.encode(),
            b"symbol": one.symbol.encode(),
            b"kind": one.kind.encode(),
            b"body": self._codec.encode(one.body),
        }

    async def _bury(
        self, place: Place, fields: dict[bytes, bytes], reason: str, attempt: int
    ) -> None:
        bucket, identity = place
        told = [fields.get(name, b"") for name in (b"id", b"symbol", b"kind")]
        await self._checked(
            redis_scripts.BURY,
            [self._streams[bucket], self._leases[bucket], self._keys.dead, self._keys.counts],
            [self._group, self._holder, identity, _KEPT_LETTERS, *told, reason, attempt,
             fields.get(b"body", b"")],
        )  # fmt: skip

    async def _fenced(self, script: str, bucket: int, values: Sequence[Any]) -> Any:
        return await self._checked(script, [self._streams[bucket], self._leases[bucket]], values)

    async def _checked(self, script: str, keys: Sequence[str], values: Sequence[Any]) -> Any:
        """What a script answers that asks for the lease; raises where it is lost."""
        try:
            return await self._link.run(script, keys, values)
        except BusUnavailable:
            raise
        except BusError as error:
            if "LOST" not in str(error):
                raise
            await self._renew()
            self._check()
            raise

    async def _renew(self) -> None:
        """Keeps the leases; where one is lost, says to whom at the next call."""
        leases = [self._leases[one] for one in self.buckets]
        values = [self._holder, self._lease_ms]
        for found in await self._link.run(redis_scripts.RENEW, leases, values):
            name = found.decode().partition(" ")[2]
            if name == self._name:
                told = f"a later consumer {name!r} of {self._group!r} has taken its place"
                self._lost = BusTakenOver(told)
            elif self._lost is None:
                self._lost = BusUnavailable(
                    f"the lease of a stream of {self._group!r} has ended"
                    + (f"; {name!r} has it now" if name else "")
                )

    async def _renew_for_ever(self) -> None:
        while self._lost is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._lease_ms / 3_000):
                    await self._leaving.wait()
                return
            with suppress(BusUnavailable):  # the next call says so, or the lease has ended by then
                await self._renew()
                self._may_gain = len(self.buckets) < len(self._streams)

    async def close(self) -> None:
        """Leaves at once; what was not acknowledged goes to the next consumer."""
        if self._upkeep is not None:
            self._leaving.set()  # no cancelling: in the middle of a request it may be overheard
            await asyncio.gather(self._upkeep, return_exceptions=True)
        with suppress(BusUnavailable):  # then the leases end by themselves
            await self._link.run(
                redis_scripts.RELEASE, [self._leases[one] for one in self.buckets], [self._holder]
            )
