"""The connections of a process to its venues: one for each shard of tokens."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from flows.live_ingest import Books, Ingest, Publisher, feed
from flows.live_markets import Followed
from flows.stream_settings import StreamSettings
from market_data.errors import StreamRefused
from market_data.streaming import connection
from market_data.streaming.connection import Clock, Connect, ConnectionCounts
from market_data.streaming.dialect import Policy, shards
from market_data.streaming.instruments import Instruments
from market_data.streaming.session import Session
from market_data.venues.binance.settings import POLICY as BINANCE
from market_data.venues.binance.settings import BinanceSettings
from market_data.venues.binance.stream import CombinedStreams, kline, mark_price
from market_data.venues.binance.stream_parse import FuturesParser
from market_data.venues.polymarket.stream import POLICY as POLYMARKET
from market_data.venues.polymarket.stream import MarketChannel
from market_data.venues.polymarket.stream_parse import MarketChannelParser

_LOG = logging.getLogger("flows.live")


@dataclass(slots=True)
class Shard:
    """One connection.

    Attributes:
        ingest: what stands around it.
        url: where it goes.
        counts: what happened on it.
        stop: ends it.
    """

    ingest: Ingest
    url: str
    counts: ConnectionCounts = field(default_factory=ConnectionCounts)
    stop: asyncio.Event = field(default_factory=asyncio.Event)


class Connections:
    """All connections of a process.

    Args:
        settings: of the section ``stream``.
        clock: the process's clocks.
        rng: spreads reconnections.
        connect: opens a connection.
        books: reads a book of Polymarket anew.
        futures: bounds of Binance's streams; the settings may make silence shorter, not longer.

    Attributes:
        shards: the connections that are open or being opened.
        ended: what happened on those that were needed no more.
        parsed: messages by kind, of each venue.
    """

    def __init__(
        self,
        settings: StreamSettings,
        clock: Clock,
        rng: random.Random,
        *,
        connect: Connect = connection.open_socket,
        books: Books | None = None,
        futures: Policy = BINANCE,
    ) -> None:
        self._futures = futures
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._connect = connect
        self._books = books
        self._instruments = Instruments({})
        self._market_of: dict[str, str] = {}
        self.shards: list[Shard] = []
        self.ended = ConnectionCounts()
        self.parsed: dict[str, Counter[str]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._publisher: Publisher | None = None

    def follow(self, markets: Sequence[Followed]) -> None:
        """Follows these markets from now on, and those that are gone no more."""
        wanted = {one.market_id: one for one in markets}
        gone = self._instruments.market_ids - wanted.keys()
        for market_id in gone:
            self._instruments.discard(market_id)
        for market_id, one in wanted.items():
            self._instruments.add(market_id, one.token_ids)
        self._market_of.clear()
        self._market_of |= {
            token: one.market_id
            for token, one in self._instruments.by_token.items()
            if one.is_first
        }
        if self._tasks is None or self._publisher is None:
            return
        if gone:
            self._tasks.create_task(self._unfollow(gone, self._publisher))
        self._subscribe()

    async def _unfollow(self, markets: set[str], publisher: Publisher) -> None:
        """Says that nothing more will be heard of markets: their last prices stand still."""
        for shard in self.shards:
            shard.ingest.forget(markets)
        at = self._clock.wall_ms()
        await publisher.publish([feed("polymarket", markets, "UNFOLLOWED", at)])

    async def run(self, publisher: Publisher, stop: asyncio.Event) -> None:
        """Stays connected until ``stop``.

        Raises:
            StreamRefused: a venue serves nothing at all of what was asked for.
        """
        self._publisher = publisher
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                self._subscribe()
                self._follow_futures()
                await stop.wait()
                self._tasks = None
                for shard in self.shards:
                    shard.stop.set()
        except* StreamRefused as refused:
            raise StreamRefused("; ".join(map(str, refused.exceptions))) from None
        finally:
            self._tasks = None

    def _subscribe(self) -> None:
        """Spreads markets over connections: all tokens of one together, and where they were."""
        if not self._settings.polymarket_url:
            return
        size, now = self._settings.shard_size, self._clock.monotonic()
        left: dict[str, list[str]] = {}
        for token, one in self._instruments.by_token.items():
            left.setdefault(one.market_id, []).append(token)
        parts = [
            (shard, _kept(shard.ingest.session.wanted, left, size))
            for shard in self.shards
            if shard.ingest.venue == "polymarket"
        ]
        for shard, kept in parts:
            _fill(kept, left, size)
            shard.ingest.session.want(kept, now)
            if not kept:
                self._end(shard)
        while left:
            part: list[str] = []
            _fill(part, left, size)
            self._open_market_channel(part, now)

    def _open_market_channel(self, tokens: Sequence[str], now: float) -> None:
        stale = self._settings.stale_seconds
        policy = replace(
            POLYMARKET,
            stale_after=stale,
            dead_after=2 * stale,
            max_instruments=self._settings.shard_size,
        )
        parser = MarketChannelParser(self._instruments.by_token)
        parser.counts = self.parsed.setdefault("polymarket", Counter())
        session = Session(MarketChannel(), policy, rng=self._rng)
        session.want(tokens, now)
        self._open("polymarket", session, parser, self._settings.polymarket_url, self._market_of)

    def _end(self, shard: Shard) -> None:
        """Closes a connection that is needed no more."""
        shard.stop.set()
        self.shards.remove(shard)

    def _follow_futures(self) -> None:
        market_of = dict(_streams(self._settings.binance_symbols))
        url = BinanceSettings(self._settings.binance_url).combined_url
        stale = min(self._futures.stale_after, self._settings.stale_seconds)
        policy = replace(self._futures, stale_after=stale, dead_after=2 * stale)
        for part in shards(market_of, policy.max_instruments):
            parser = FuturesParser()
            parser.counts = self.parsed.setdefault("binance", Counter())
            session = Session(CombinedStreams(), policy, rng=self._rng)
            session.want(part, self._clock.monotonic())
            self._open("binance", session, parser, url, market_of)

    def _open(
        self,
        venue: str,
        session: Session,
        parser: MarketChannelParser | FuturesParser,
        url: str,
        market_of: Mapping[str, str],
    ) -> None:
        assert self._publisher is not None
        assert self._tasks is not None
        ingest = Ingest(
            venue, session, parser, self._publisher, self._clock, market_of=market_of,
            books=self._books if venue == "polymarket" else None,
        )  # fmt: skip
        shard = Shard(ingest, url)
        self.shards.append(shard)
        _LOG.info("following %d instruments at %s", len(session.wanted), url)
        self._tasks.create_task(self._live(shard))

    async def _live(self, shard: Shard) -> None:
        """Keeps a connection until it is told to end."""
        ingest = shard.ingest
        try:
            await connection.run(
                ingest.session, shard.url, connect=self._connect, clock=self._clock,
                on_frame=ingest.on_frame, on_action=ingest.on_action, stop=shard.stop,
                counts=shard.counts,
            )  # fmt: skip
        finally:
            await ingest.close()
            if shard not in self.shards:
                _add(self.ended, shard.counts)


def _kept(wanted: Sequence[str], left: dict[str, list[str]], size: int) -> list[str]:
    """Tokens of markets that stay on a connection; they are taken out of ``left``."""
    here, kept = frozenset(wanted), list[str]()
    for market_id, tokens in list(left.items()):
        if not here.isdisjoint(tokens) and len(kept) + len(tokens) <= size:
            kept += left.pop(market_id)
    return kept


def _fill(tokens: list[str], left: dict[str, list[str]], size: int) -> None:
    """Adds markets to a connection while there is room for all tokens of the next one."""
    for market_id in list(left):
        if len(tokens) + len(left[market_id]) > size:
            return
        tokens += left.pop(market_id)


def _add(total: ConnectionCounts, more: ConnectionCounts) -> None:
    total.opened += more.opened
    total.frames += more.frames
    total.frame_bytes += more.frame_bytes
    total.ended += more.ended
    total.last_close = more.last_close or total.last_close


def _streams(symbols: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(stream, market) of what is followed of each contract."""
    for symbol in symbols:
        yield mark_price(symbol), f"binance:{symbol}@mark"
        yield kline(symbol, "1m"), f"binance:{symbol}"
