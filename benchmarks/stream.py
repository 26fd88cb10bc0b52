"""From the bytes of frames to bars and triggers on one core, beside what else does that.

Compared in one run, round by round:

==============  ====================================================================================
decode          msgspec's typed decode of the frame, and nothing else
plain msgspec   decode, best prices and a 1m bar per market, by hand; no dedupe, no trigger, no
                check of any value
nautilus        nautilus_trader's own decode, ``parse_to_quote`` and 1m bar aggregation, where
                BENCH_NAUTILUS_PYTHON names an interpreter that has it and ``py_clob_client``
ours            parse, dedupe, 1m and 5m bars, triggers
==============  ====================================================================================
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.figures import Figure, Scale, median
from benchmarks.stream_frames import Frames, book_frames, mixed_frames
from market_data.streaming.market_stream import MarketStream, StreamRules
from market_data.streaming.volatility import VolatilityRules
from market_data.venues.polymarket.stream_parse import MarketChannelParser

SUITE = "stream"
ROOT = Path(__file__).resolve().parent.parent
NAUTILUS = "BENCH_NAUTILUS_PYTHON"


class _Level(msgspec.Struct):
    price: str
    size: str


class _Book(msgspec.Struct):
    event_type: str
    asset_id: str
    market: str
    bids: list[_Level]
    asks: list[_Level]
    timestamp: str
    hash: str


def run(scale: Scale, folder: Path) -> list[Figure]:
    """Frames per second of each, and the ratios round by round."""
    del folder
    books, mix = book_frames(scale.frames), mixed_frames(scale.frames * 2)
    size = sum(map(len, books.raw)) / len(books.raw)
    contenders: dict[str, Callable[[], float]] = {
        "decode": lambda: _seconds(_decode, books),
        "plain msgspec": lambda: _seconds(_plain, books),
        "ours": lambda: _seconds(_ours, books),
        "mix": lambda: _seconds(_ours, mix),
    }
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    beside: list[float] = []
    for _ in range(scale.rounds):
        for name, measure in contenders.items():
            taken[name].append(measure())
        beside += _nautilus(books)
    what = f"{books.source} book frames, {size / 1000:.1f} KB"
    count = len(books.raw)
    figures = [
        median(SUITE, f"{what}: {name}", [count / one for one in taken[name]], "frames/s")
        for name in ("decode", "plain msgspec", "ours")
    ]
    ratios = [ours / decode for ours, decode in zip(taken["ours"], taken["decode"], strict=True)]
    figures.append(median(SUITE, f"{what}: cost of ours ÷ decode", ratios, "×"))
    if beside:
        figures.append(
            median(SUITE, f"{what}: nautilus_trader", [count / one for one in beside], "frames/s")
        )
    name = f"{mix.source} mix of price_change, best_bid_ask and trades: ours"
    rates = [len(mix.raw) / one for one in taken["mix"]]
    return [*figures, median(SUITE, name, rates, "frames/s")]


def _seconds(work: Callable[[Frames], object], frames: Frames) -> float:
    gc.collect()
    began = time.perf_counter()
    work(frames)
    return time.perf_counter() - began


def _decode(frames: Frames) -> None:
    decode = msgspec.json.Decoder(_Book).decode
    for frame in frames.raw:
        decode(frame)


def _plain(frames: Frames) -> int:
    """What somebody writes in an afternoon."""
    decode = msgspec.json.Decoder(_Book).decode
    bars: dict[tuple[str, int], list[float]] = {}
    for frame in frames.raw:
        book = decode(frame)
        if not book.bids or not book.asks:
            continue
        mid = (float(book.bids[-1].price) + float(book.asks[-1].price)) / 2
        place = book.asset_id, int(book.timestamp) // 60_000
        bar = bars.get(place)
        if bar is None:
            bars[place] = [mid, mid, mid, mid]
            continue
        bar[1], bar[2], bar[3] = max(bar[1], mid), min(bar[2], mid), mid
    return len(bars)


def _ours(frames: Frames) -> int:
    parse = MarketChannelParser(frames.tokens).parse
    stream = MarketStream(StreamRules(), VolatilityRules())
    apply, signals = stream.apply, 0
    for frame in frames.raw:
        apply(parse(frame, 0))
        if stream.signals:
            signals += len(stream.take_signals())
    return signals


def _nautilus(frames: Frames) -> Sequence[float]:
    """Seconds of nautilus_trader for the same frames; empty where it is not there."""
    interpreter = os.environ.get(NAUTILUS)
    if not interpreter:
        return ()
    done = subprocess.run(
        [interpreter, "-m", "benchmarks.stream_beside"], input=b"\n".join(frames.raw),
        capture_output=True, cwd=ROOT, timeout=300, check=False,
    )  # fmt: skip
    if done.returncode:
        print(done.stderr.decode()[-500:], file=sys.stderr)
        return ()
    found: Any = json.loads(done.stdout.splitlines()[-1])
    return (float(found["seconds"]),)
