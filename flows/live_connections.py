"""The connections of a process to its venues: one for each shard of tokens."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from flows.live_ingest import Books, Ingest, Publisher
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
    """

    ingest: Ingest
    url: str
    counts: ConnectionCounts


class Connections:
    """All connections of a process.

    Args:
        settings: of the section ``stream``.
        clock: the process's clocks.
        rng: spreads reconnections.
        connect: opens a connection.
        books: reads a book of Polymarket anew.

    Attributes:
        shards: the connections, those of Polymarket first.
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
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._connect = connect
        self._books = books
        self._instruments = Instruments({})
        self._market_of: dict[str, str] = {}
        self.shards: list[Shard] = []
        self.parsed: dict[str, Counter[str]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._publisher: Publisher | None = None
        self._stop: asyncio.Event | None = None

    def follow(self, markets: Sequence[Followed]) -> None:
        """Follows these markets from now on, and those that are gone no more."""
        wanted = {one.market_id: one for one in markets}
        for market_id in self._instruments.market_ids - wanted.keys():
            self._instruments.discard(market_id)
        for market_id, one in wanted.items():
            self._instruments.add(market_id, one.token_ids)
        self._market_of.clear()
        self._market_of |= {
            token: one.market_id for token, one in self._instruments.by_token.items()
        }
        if self._tasks is not None:
            self._subscribe()

    async def run(self, publisher: Publisher, stop: asyncio.Event) -> None:
        """Stays connected until ``stop``.

        Raises:
            StreamRefused: a venue will not serve something.
        """
        self._publisher, self._stop = publisher, stop
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                self._subscribe()
                self._follow_futures()
                await stop.wait()
        except* StreamRefused as refused:
            raise StreamRefused("; ".join(map(str, refused.exceptions))) from None
        finally:
            self._tasks = None
            for shard in self.shards:
                await shard.ingest.close()

    def _subscribe(self) -> None:
        """Spreads the tokens over connections; a token stays where it is."""
        if not self._settings.polymarket_url:
            return
        policy = replace(self._bounded(POLYMARKET), max_instruments=self._settings.shard_size)
        mine = [one for one in self.shards if one.ingest.venue == "polymarket"]
        now, wanted = self._clock.monotonic(), dict.fromkeys(self._instruments.by_token)
        rooms: list[tuple[Shard, list[str]]] = []
        for shard in mine:
            kept = [token for token in shard.ingest.session.wanted if token in wanted]
            for token in kept:
                del wanted[token]
            rooms.append((shard, kept))
        left = iter(wanted)
        for shard, kept in rooms:
            kept += islice(left, policy.max_instruments - len(kept))
            shard.ingest.session.want(kept, now)
        for part in shards(left, policy.max_instruments):
            parser = MarketChannelParser(self._instruments.by_token)
            parser.counts = self.parsed.setdefault("polymarket", Counter())
            session = Session(MarketChannel(), policy, rng=self._rng)
            session.want(part, now)
            self._open(
                "polymarket", session, parser, self._settings.polymarket_url, self._market_of
            )

    def _follow_futures(self) -> None:
        names = list(_streams(self._settings.binance_symbols))
        market_of = {name: f"binance:{symbol}" for name, symbol in names}
        url = BinanceSettings(self._settings.binance_url).combined_url
        policy = self._bounded(BINANCE)
        for part in shards(market_of, policy.max_instruments):
            parser = FuturesParser()
            parser.counts = self.parsed.setdefault("binance", Counter())
            session = Session(CombinedStreams(), policy, rng=self._rng)
            session.want(part, self._clock.monotonic())
            self._open("binance", session, parser, url, market_of)

    def _bounded(self, policy: Policy) -> Policy:
        stale = self._settings.stale_seconds
        return replace(policy, stale_after=stale, dead_after=2 * stale)

    def _open(
        self,
        venue: str,
        session: Session,
        parser: MarketChannelParser | FuturesParser,
        url: str,
        market_of: Mapping[str, str],
    ) -> None:
        assert self._publisher is not None
        assert self._stop is not None
        assert self._tasks is not None
        ingest = Ingest(
            venue, session, parser, self._publisher, self._clock, market_of=market_of,
            books=self._books if venue == "polymarket" else None,
        )  # fmt: skip
        shard = Shard(ingest, url, ConnectionCounts())
        self.shards.append(shard)
        _LOG.info("following %d instruments at %s", len(session.wanted), url)
        self._tasks.create_task(
            connection.run(
                session, url, connect=self._connect, clock=self._clock, on_frame=ingest.on_frame,
                on_action=ingest.on_action, stop=self._stop, counts=shard.counts,
            )
        )  # fmt: skip


def _streams(symbols: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(stream, symbol) of what is followed of each contract."""
    for symbol in symbols:
        yield mark_price(symbol), symbol
        yield kline(symbol, "1m"), symbol
