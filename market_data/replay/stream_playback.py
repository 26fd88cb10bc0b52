"""Plays a capture to whoever is connected, on a clock that stands still while somebody is missing.

After a client left, its next connection makes the replay go back: past all records that are
within ``overlap_ms`` of capture time or ``overlap_frames`` records of the last one sent, and at
most about twice as far, since the venue's state is kept at few points. The state goes back with
the position, so a returning client sees snapshot and frames in order, and what was under way when
it died comes again. That is what a recorded replay can do and a live venue cannot: there, the hole
is filled over REST.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from websockets.exceptions import ConnectionClosed

from market_data.replay.stream_capture import Capture, Record
from market_data.replay.stream_clients import StreamClient
from market_data.replay.stream_faults import (
    Break,
    Deliver,
    Step,
    StreamFaultPlan,
    StreamFaults,
    Wait,
)
from market_data.replay.stream_state import ReplayState, contents_of

_MOST_PRIMED = 5_000
_ACTIVITY = frozenset({"price_change", "last_trade_price"})
_YIELD_EVERY = 64


@dataclass(frozen=True, slots=True)
class PlaybackSettings:
    """How a capture is played.

    Attributes:
        speed: capture seconds per second; 0 is as fast as the clients read.
        overlap_ms, overlap_frames: how far a returning client makes the replay go back, whichever
            is further; it must cover what a client may have read and not yet committed, and the
            about 600 frames that may be under way to it.
        clients: subscribed connections per channel that must be there for the clock to run; with
            none named, any one will do.
        faults: what goes wrong.
    """

    speed: float = 0.0
    overlap_ms: int = 5_000
    overlap_frames: int = 2_048
    clients: Mapping[str, int] = field(default_factory=dict)
    faults: StreamFaultPlan = field(default_factory=StreamFaultPlan)

    def __post_init__(self) -> None:
        for name in ("speed", "overlap_ms", "overlap_frames"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


Numbered = tuple[int, Record]


class Playback:
    """The position in a capture, and who hears it.

    Attributes:
        state: the venue at the position.
        faults: what was injected so far.
        sent: frames sent per channel, also again.
        rewinds: how often the replay went back.
        position_ms: capture time of the last record.
        records: how many of the capture's records were played.
    """

    def __init__(self, capture: Capture, settings: PlaybackSettings) -> None:
        self.state = ReplayState()
        self.faults = StreamFaults(settings.faults)
        self.sent: Counter[str] = Counter()
        self.rewinds = 0
        self.position_ms = 0
        self.records = 0
        self._settings = settings
        self._source = enumerate(capture())
        self._overlap_frames = max(settings.overlap_frames, self.faults.reach)
        self._past: list[Numbered] = []  # at least the overlap, before ``_recent``
        self._recent: list[Numbered] = []
        self._again: deque[Numbered] = deque()
        self._clients: list[StreamClient] = []
        self._owed = 0
        self._must_go_back = False
        self._is_played = False
        self._changed = asyncio.Event()
        self._went_back = asyncio.Event()
        self._anchor: tuple[float, int] | None = None
        self._prime()
        self._before_past = self._before_recent = self.state.copy()

    @property
    def is_ended(self) -> bool:
        """Whether every record was sent, and nobody left who has not heard the end."""
        return self._is_played and not self._owed

    @property
    def clients(self) -> tuple[StreamClient, ...]:
        """Who is connected."""
        return tuple(self._clients)

    def arrive(self, client: StreamClient) -> None:
        """A client connected; where another one had left, the replay goes back for it.

        One more than are waited for stands in the place of one that has died without a word.
        """
        channel = client.speaker.channel
        most = self._settings.clients.get(channel)
        before = [one for one in self._clients if one.speaker.channel == channel]
        if most and len(before) >= most:
            before[0].abort()
            self.leave(before[0])
        self._clients.append(client)
        if self._owed:
            self._owed -= 1
            self._must_go_back = True
            self._went_back.clear()
        self._changed.set()

    def leave(self, client: StreamClient) -> None:
        """A client is gone before the end; harmless when it was gone already."""
        if client in self._clients:
            self._clients.remove(client)
            self._owed += 1
            self._changed.set()

    async def hear(self, client: StreamClient, message: str | bytes) -> None:
        """A client said something."""
        if self._must_go_back:
            await self._went_back.wait()  # the snapshot that may be the answer must be of then
        await client.converse(message, self.state)
        self._changed.set()

    async def play(self) -> None:
        """Plays until cancelled: also after the end, for those who come later."""
        while True:
            await self._until_ready()
            item = self._next()
            if item is None:
                await self._end()
            elif await self._pace(item[1]):
                await self._perform(item)
            else:
                self._again.appendleft(item)

    def _is_ready(self) -> bool:
        listening = Counter(c.speaker.channel for c in self._clients if c.speaker.is_subscribed)
        if self._is_played:
            return bool(listening)
        needed = self._settings.clients
        return bool(listening) and all(listening[name] >= n for name, n in needed.items())

    async def _until_ready(self) -> None:
        while True:
            self._go_back_if_needed()
            if self._is_ready():
                return
            self._anchor = None
            await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _next(self) -> Numbered | None:
        return self._again.popleft() if self._again else next(self._source, None)

    def _prime(self) -> None:
        """The books and market records with which a capture begins are known before it plays."""
        while len(self._again) < _MOST_PRIMED and (item := next(self._source, None)):
            self._again.append(item)
            if item[1].channel == "polymarket" and not self._is_opening(item[1]):
                return
            self.state.apply(item[1])

    def _is_opening(self, record: Record) -> bool:
        messages = contents_of(record).messages
        books = [str(m.get("asset_id")) for m in messages if m.get("event_type") == "book"]
        has_begun = any(m.get("event_type") in _ACTIVITY for m in messages)
        return not has_begun and not any(self.state.knows(asset) for asset in books)

    def _go_back_if_needed(self) -> None:
        if not self._must_go_back:
            return
        self._must_go_back = False
        self._is_played = False
        self._again.extendleft(reversed([*self._past, *self._recent]))
        self._past, self._recent = [], []
        self._before_recent = self._before_past
        self.state = self._before_past.copy()
        self.faults.forget()
        self.rewinds += 1
        self._anchor = None
        self._went_back.set()

    async def _pace(self, record: Record) -> bool:
        """Waits until a record is due; False where something changed meanwhile."""
        if not self._settings.speed:
            return True
        loop = asyncio.get_running_loop()
        if self._anchor is None:
            self._anchor = (loop.time(), record.recv_ms)
        began, first_ms = self._anchor
        due = began + (record.recv_ms - first_ms) / 1e3 / self._settings.speed
        self._changed.clear()
        try:
            async with asyncio.timeout_at(due):
                if due <= loop.time():
                    return True
                await self._changed.wait()
        except TimeoutError:
            return True
        return False

    async def _perform(self, item: Numbered) -> None:
        number, record = item
        self._remember(item)
        self.state.apply(record)
        self.position_ms = record.recv_ms
        self.records = max(self.records, number + 1)
        contents = contents_of(record)
        if any(client.speaker.receives(contents) for client in self._clients):
            for step in self.faults.push(number, record):
                await self._do(step)
        if number % _YIELD_EVERY == 0:
            await asyncio.sleep(0)

    def _remember(self, item: Numbered) -> None:
        recent = self._recent
        oldest_ms = item[1].recv_ms - self._settings.overlap_ms
        if len(recent) >= self._overlap_frames and recent[0][1].recv_ms <= oldest_ms:
            self._past, self._before_past = recent, self._before_recent
            self._recent, self._before_recent = [], self.state.copy()
        self._recent.append(item)

    async def _do(self, step: Step) -> None:
        if isinstance(step, Wait):
            await asyncio.sleep(step.seconds)
            self._anchor = None
        elif isinstance(step, Break):
            for client in self.clients:
                if client.speaker.channel == step.channel:
                    client.abort()
                    self.leave(client)
        else:
            await self._deliver(step)

    async def _deliver(self, step: Deliver) -> None:
        for client in self.clients:
            try:
                if await client.deliver(step):
                    self.sent[client.speaker.channel] += 1
            except ConnectionClosed:
                self.leave(client)

    async def _end(self) -> None:
        for step in self.faults.flush():
            await self._do(step)
        if self._must_go_back:
            return
        self._is_played = True
        if self._owed:
            await self._change()
            return
        for client in self.clients:
            if client.speaker.is_subscribed and client in self._clients:
                self._clients.remove(client)  # so that its leaving is owed to nobody
                self._owed += not await client.say_goodbye()
