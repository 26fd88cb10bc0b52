"""Reads of the scoreboard and of single markets through the gateway, by number of markets."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import polars as pl

from benchmarks import synthetic
from benchmarks.figures import Figure, Scale, median
from benchmarks.processes import Serving, answer_of, rss_mib, serving
from market_data.lake import Lake
from marketcal.v1 import scoreboard_pb2, scoreboard_pb2_grpc

SUITE = "reads"
_CALLS = {"list_scores": "ListScores, a page of 50", "get_market": "GetMarket"}
_READY_SECONDS = 120.0
_PUBLISH_SECONDS = 2.0


def run(scale: Scale, folder: Path) -> list[Figure]:
    """p50, p95 and requests per second of one caller, and the gateway's memory."""
    figures: list[Figure] = []
    for markets in scale.listed:
        place = folder / f"listed-{markets}"
        place.mkdir()
        synthetic.publish(Lake(place / "lake"), markets)
        with serving("gateway", place) as gateway:
            _wait_until_published(gateway)
            for call, title in _CALLS.items():
                figures += _figures(gateway, call, f"{title}, {markets:,} markets", scale, markets)
            with _publishing(Lake(place / "lake")):
                title = f"ListScores while a flow publishes, {markets:,} markets"
                figures += _figures(gateway, "list_scores", title, scale, markets)
            name = f"memory of the gateway, {markets:,} markets"
            figures.append(Figure(SUITE, name, rss_mib(gateway.pid), "MiB"))
    return figures


def _figures(gateway: Serving, call: str, name: str, scale: Scale, markets: int) -> list[Figure]:
    job = {
        "call": call, "address": gateway.address, "key": gateway.key, "clients": 1,
        "seconds": scale.seconds, "requests": scale.requests, "markets": markets,
    }  # fmt: skip
    rounds = [answer_of("benchmarks.clients", [json.dumps(job)]) for _ in range(scale.rounds)]
    units = {"p50_ms": "ms p50", "p95_ms": "ms p95", "per_second": "requests/s"}
    return [
        median(SUITE, name, [met[field] for met in rounds], unit) for field, unit in units.items()
    ]


@contextmanager
def _publishing(lake: Lake) -> Iterator[None]:
    """Replaces the scoreboard again and again while the body runs."""
    board, ended = lake.read("scoreboard").drop("schema_version"), threading.Event()

    def publish() -> None:
        for number in itertools.count(1):
            later = pl.col("as_of") + pl.duration(seconds=number)
            lake.replace("scoreboard", board.with_columns(later))
            if ended.wait(_PUBLISH_SECONDS):
                return

    writer = threading.Thread(target=publish)
    writer.start()
    try:
        yield
    finally:
        ended.set()
        writer.join()


def _wait_until_published(gateway: Serving) -> None:
    """The gateway serves before it has loaded the tables; this waits until it has."""
    deadline = time.monotonic() + _READY_SECONDS
    metadata = (("authorization", f"Bearer {gateway.key}"),)
    with grpc.insecure_channel(gateway.address) as channel:
        stub: Any = scoreboard_pb2_grpc.ScoreboardServiceStub(channel)  # type: ignore[no-untyped-call]
        while True:
            try:
                stub.ListScores(
                    scoreboard_pb2.ListScoresRequest(page_size=1), metadata=metadata, timeout=5
                )
            except grpc.RpcError as error:
                if time.monotonic() > deadline or error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                time.sleep(0.05)
            else:
                return
