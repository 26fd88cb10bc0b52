"""A loopback server that answers as the real venues do, from an archive.

Base paths: ``/gamma`` (``/markets``, ``/events`` and their ``/keyset`` forms), ``/clob``
(``/prices-history``, ``/book``, ``/markets/{condition_id}``), ``/subgraph/activity`` (GraphQL),
``/kalshi`` (``/events``, ``/markets``, candles) and ``/manifold`` (``/markets``, ``/market/{id}``,
``/bets``). ``/health`` is never harmed by faults.

As a process::

    python -m market_data.replay.server --archive DIR --port 0 --port-file FILE [--faults SPEC]

SIGTERM and SIGINT end it gracefully with status 0. In a test::

    with serve(archive) as replay:
        replay.base_url          # "http://127.0.0.1:43210"
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from market_data.errors import ArchiveError
from market_data.replay.archive import Archive, read_archive
from market_data.replay.clob import ClobOutcomes
from market_data.replay.faults import FaultPlan, FaultyApp
from market_data.replay.kalshi import Kalshi
from market_data.replay.manifold import Manifold
from market_data.replay.paths import BadRequest, NotFound
from market_data.replay.venue import Collection, Venue, stamp

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_START_SECONDS = 20.0


def create_app(archive: Archive) -> Starlette:
    """The ASGI application that serves ``archive``."""
    venue = Venue(archive)
    health = orjson.dumps(
        {
            "status": "ok",
            "as_of": stamp(int(archive.as_of.timestamp())),
            "markets": len(archive.markets),
            "events": len(archive.events),
            "histories": archive.prices.height,
        }
    )

    async def get_health(_: Request) -> Response:
        return _json(health)

    async def graphql(request: Request) -> Response:
        return _json(venue.graphql(await request.body()))

    return Starlette(
        routes=[
            Route("/health", get_health),
            *_clob_routes(venue, ClobOutcomes(archive)),
            Route("/subgraph/activity", graphql, methods=["POST"]),
            *_kalshi_routes(Kalshi(archive)),
            *_manifold_routes(Manifold(archive)),
            *_listing_routes("markets", venue.markets),
            *_listing_routes("events", venue.events),
        ],
        exception_handlers={BadRequest: _refuse},
    )


def _clob_routes(venue: Venue, outcomes: ClobOutcomes) -> list[Route]:
    async def market(request: Request) -> Response:
        return _json(outcomes.market(request.path_params["condition"]))

    async def prices_history(request: Request) -> Response:
        return _json(venue.prices_history(request.query_params.multi_items()))

    async def book(request: Request) -> Response:
        return _json(venue.book(request.query_params.multi_items()))

    return [
        Route("/clob/markets/{condition}", market),
        Route("/clob/prices-history", prices_history),
        Route("/clob/book", book),
    ]


def _kalshi_routes(venue: Kalshi) -> list[Route]:
    async def events(request: Request) -> Response:
        return _json(venue.events(request.query_params.multi_items()))

    async def markets(request: Request) -> Response:
        return _json(venue.markets(request.query_params.multi_items()))

    async def candlesticks(request: Request) -> Response:
        path, query = request.path_params, request.query_params.multi_items()
        return _json(venue.candlesticks(path["series"], path["ticker"], query))

    place = "/kalshi/series/{series}/markets/{ticker}/candlesticks"
    return [
        Route("/kalshi/events", events),
        Route("/kalshi/markets", markets),
        Route(place, candlesticks),
    ]


def _manifold_routes(venue: Manifold) -> list[Route]:
    async def markets(request: Request) -> Response:
        return _json(venue.markets(request.query_params.multi_items()))

    async def market(request: Request) -> Response:
        return _json(venue.market(request.path_params["id"]))

    async def bets(request: Request) -> Response:
        return _json(venue.bets(request.query_params.multi_items()))

    return [
        Route("/manifold/markets", markets),
        Route("/manifold/market/{id}", market),
        Route("/manifold/bets", bets),
    ]


def _listing_routes(name: str, collection: Collection) -> list[Route]:
    async def by_offset(request: Request) -> Response:
        page = collection.page(request.query_params.multi_items(), with_cursor=False)
        return _json(b"[" + b",".join(page.records) + b"]")

    async def by_cursor(request: Request) -> Response:
        page = collection.page(request.query_params.multi_items(), with_cursor=True)
        cursor = orjson.dumps(page.next_cursor)
        body = b'{"%s":[' % name.encode() + b",".join(page.records) + b'],"next_cursor":'
        return _json(body + cursor + b"}")

    return [Route(f"/gamma/{name}", by_offset), Route(f"/gamma/{name}/keyset", by_cursor)]


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


async def _refuse(_: Request, error: Exception) -> Response:
    status = 404 if isinstance(error, NotFound) else 400
    return Response(
        orjson.dumps({"error": str(error)}), status_code=status, media_type="application/json"
    )


@dataclass(frozen=True, slots=True)
class RunningReplay:
    """A replay server that is answering.

    Attributes:
        base_url: ``http://127.0.0.1:<port>``, without a slash at the end.
        port: TCP port on loopback.
        faults: the fault injector and its counts, None without faults.
    """

    base_url: str
    port: int
    faults: FaultyApp | None


@contextmanager
def serve(
    archive: Archive, *, faults: FaultPlan | None = None, port: int = 0
) -> Iterator[RunningReplay]:
    """Serve ``archive`` from a thread of this process; the port is bound before the body runs.

    Raises:
        RuntimeError: the server did not start within 20 s.
    """
    app: ASGIApp = create_app(archive)
    faulty = FaultyApp(app, faults) if faults is not None else None
    with run_app(faulty or app, port=port) as chosen:
        yield RunningReplay(f"http://127.0.0.1:{chosen}", chosen, faulty)


@contextmanager
def run_app(app: ASGIApp, *, port: int = 0) -> Iterator[int]:
    """Serve any ASGI application on loopback from a thread; yields the port once it answers.

    Raises:
        RuntimeError: the server did not start within 20 s.
    """
    listener = _listen(port)
    server = _Announcing(_config(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        if not server.is_up.wait(_START_SECONDS):
            raise RuntimeError("the replay server did not start")
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(_START_SECONDS)
        listener.close()


class _Announcing(uvicorn.Server):
    """A uvicorn server that says when it accepts connections."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = threading.Event()
        self.announce_to: tuple[Path, int] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.announce_to is not None:
            _write_port(*self.announce_to)
        self.is_up.set()


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app, log_level="critical", access_log=False, lifespan="off", ws="none",
        timeout_graceful_shutdown=3, timeout_keep_alive=30,
    )  # fmt: skip


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    return listener


def _write_port(path: Path, port: int) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(f"{port}\n")
    os.replace(part, path)


def main(argv: list[str] | None = None) -> int:
    """Run the server as a process; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m market_data.replay.server")
    parser.add_argument("--archive", type=Path, required=True, help="folder of the archive")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--port-file", type=Path, help="the chosen port is written here")
    parser.add_argument("--faults", default="", help='e.g. "rate_limit=0.1,drop=0.05,seed=3"')
    options = parser.parse_args(argv)
    try:
        archive = read_archive(options.archive)
        plan = FaultPlan.parse(options.faults) if options.faults else None
    except (ArchiveError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    app: ASGIApp = create_app(archive)
    listener = _listen(options.port)
    port = int(listener.getsockname()[1])
    server = _Announcing(_config(FaultyApp(app, plan) if plan else app))
    if options.port_file:
        server.announce_to = (options.port_file, port)
    # uvicorn raises the signal again once it has shut down: by then it has done its work.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ignore)
    print(f"replay server on http://127.0.0.1:{port}", flush=True)
    server.run(sockets=[listener])
    return 0


def _ignore(_number: int, _frame: FrameType | None) -> None:
    return


if __name__ == "__main__":
    sys.exit(main())
