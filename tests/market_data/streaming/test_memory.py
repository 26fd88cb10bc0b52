"""Memory of the way from frames to bars, over many messages of many markets."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from benchmarks.stream_frames import mixed, mixed_frames
from market_data.streaming.market_stream import MarketStream, StreamRules
from market_data.streaming.volatility import VolatilityRules
from market_data.venues.polymarket.stream_parse import MarketChannelParser

PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_mib() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20


def grown_mib(messages: int) -> float:
    """MiB that the second to the last fifth of so many messages add to what the first one took."""
    parse = MarketChannelParser(mixed_frames(1).tokens).parse
    stream = MarketStream(StreamRules(recent=1 << 14), VolatilityRules())
    part, after_first = messages // 50, 0.0
    for number in range(50):
        for frame in mixed(part, number, first=number * part):
            stream.apply(parse(frame, 0))
        stream.take_signals()
        stream.ledger.written(len(stream.ledger.new()))  # as each checkpoint does
        if number == 9:
            after_first = resident_mib()
    assert len(stream.markets) == 500
    assert not stream.counts["TOO_LATE"]
    return resident_mib() - after_first


@pytest.mark.soak
def test_memory_is_flat_over_ten_million_messages() -> None:
    grown = grown_mib(10_000_000)
    print(f"\nmemory over 10,000,000 messages: {grown:+.1f} MiB")
    assert grown < 24
