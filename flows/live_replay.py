"""A recorded stream through the live path, as fast as it goes, without a socket.

The same events give the same bars and alerts every time: minutes close by the venue's time, and
bands come from a baseline in this process unless a gateway is asked.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson

from flows.live import LiveWorker
from flows.live_ingest import Parser, enveloped
from flows.live_markets import Followed, of_tokens
from market_data.bus.port import Bus
from market_data.replay.stream_capture import Record
from market_data.streaming.events import Event, Unreadable
from market_data.streaming.instruments import Instruments
from market_data.venues.binance.stream_parse import FuturesParser
from market_data.venues.polymarket.stream_parse import MarketChannelParser

PART = 2_000
"""Records between two looks at the bus."""


def markets_of(records: Iterable[Record]) -> list[Followed]:
    """The markets that a capture speaks of; of two tokens the one with the lower id comes first.

    A capture does not say which outcome is the first one, so prices may be those of the second:
    where the registry knows the markets, follow those.
    """
    tokens: dict[str, set[str]] = defaultdict(set)
    for record in records:
        if record.channel != "polymarket":
            continue
        try:
            found = orjson.loads(record.frame)
        except orjson.JSONDecodeError:
            continue  # it goes to the dead letters when the capture is played
        for message in found if isinstance(found, list) else [found]:
            if isinstance(message, dict):
                tokens[str(message.get("market"))].update(_tokens(message))
    return of_tokens({market: sorted(one) for market, one in tokens.items() if one})


def _tokens(message: dict[str, Any]) -> Iterator[str]:
    if message.get("event_type") in ("new_market", "market_resolved"):
        return
    if isinstance(message.get("asset_id"), str):
        yield message["asset_id"]
    for change in message.get("price_changes") or ():
        if isinstance(change, dict) and isinstance(change.get("asset_id"), str):
            yield change["asset_id"]


@dataclass(slots=True)
class Replayed:
    """What a replay did.

    Attributes:
        records: frames played; events: what they said.
        rejected: frames and messages that could not be read, by reason.
        messages: by kind.
    """

    records: int = 0
    events: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)


async def replay(
    records: Iterable[Record],
    markets: Iterable[Followed],
    worker: LiveWorker,
    bus: Bus,
    progress: Callable[[Replayed], None] = lambda _: None,
) -> Replayed:
    """Plays records through ``worker``, which has been started and takes from ``bus``."""
    tokens = Instruments.of_markets((one.market_id, one.token_ids) for one in markets).by_token
    parsers: dict[str, Parser] = {
        "polymarket": MarketChannelParser(tokens),
        "binance": FuturesParser(),
    }
    done, source = Replayed(), iter(records)
    while part := list(islice(source, PART)):
        await bus.publish(enveloped(_events(part, parsers, done)))
        while (await bus.lag("live")).waiting:
            await worker.turn()
        progress(done)
        await asyncio.sleep(0)
    await worker.checkpoint()
    await worker.bands.close()
    for parser in parsers.values():
        done.messages.update(parser.counts)
    return done


def _events(part: list[Record], parsers: dict[str, Parser], done: Replayed) -> list[Event]:
    events: list[Event] = []
    for record in part:
        parser = parsers.get(record.channel)
        if parser is None:
            continue  # what no stream carries, such as answers to polls
        done.records += 1
        found = parser.parse(record.frame, record.recv_ms)
        done.events += len(found)
        events += found
        for place, one in enumerate(parser.rejected):
            done.rejected[one.reason] += 1
            key = f"{record.recv_ms}/{done.records}/{place}"
            events.append(
                Unreadable(f"{record.channel}:unreadable", record.recv_ms, key, record.recv_ms,
                           one.reason, one.detail[:400], one.raw[:65_536])
            )  # fmt: skip
        parser.rejected.clear()
    return events
