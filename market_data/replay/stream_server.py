"""A loopback venue that streams: a capture over WebSocket, in the protocols of both venues.

One port serves ``/ws/market`` (Polymarket's market channel), ``/market/stream`` and
``/market/ws/<stream>`` (Binance; any other path is acknowledged and stays silent), and for polling,
as of the replay's clock::

    GET /clob/book?token_id=          the book of an asset
    GET /gamma/markets?condition_ids= market records, closed once the market has ended
    GET /data/trades?market=          the last trades of a condition
    GET /replay/state                 position, frames sent, faults injected, whether it is over
    GET /health

Once the capture is over connections are closed with 1000 "end of capture"; later ones get the last
snapshot and the same goodbye.

As a process::

    python -m market_data.replay.stream_server --capture FILE --port 0 --port-file FILE \\
        --speed 0 --faults "disconnect=0.001,seed=3" --clients polymarket=1,binance=1

with ``--simulate "n_conditions=20,duration_s=3600"`` in place of ``--capture``. SIGTERM and SIGINT
end it with status 0. In a test::

    async with serve_streams(capture) as venue:
        venue.url                # "ws://127.0.0.1:43210"
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import orjson
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from market_data.errors import ArchiveError, CaptureError
from market_data.replay.archive import read_archive
from market_data.replay.stream_archive import day_after
from market_data.replay.stream_capture import Capture, read_capture
from market_data.replay.stream_clients import StreamClient
from market_data.replay.stream_faults import StreamFaultPlan
from market_data.replay.stream_playback import Playback, PlaybackSettings
from market_data.replay.stream_simulate import StreamDay, simulate_records

_GOODBYE_SECONDS = 30.0
"""A client gets this long to read what is under way when the capture ends."""


@dataclass(frozen=True, slots=True)
class RunningStreams:
    """A venue that is streaming.

    Attributes:
        port: TCP port on loopback.
        playback: its position and counts.
        playing: ends only with an error, such as a damaged capture.
    """

    port: int
    playback: Playback
    playing: asyncio.Task[None]

    @property
    def url(self) -> str:
        """Base of the WebSocket addresses, without a slash at the end."""
        return f"ws://127.0.0.1:{self.port}"

    @property
    def http_url(self) -> str:
        """Base of the polling addresses."""
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def serve_streams(
    capture: Capture, settings: PlaybackSettings | None = None, *, port: int = 0
) -> AsyncIterator[RunningStreams]:
    """Serve a capture on loopback from this event loop.

    Raises:
        CaptureError: the capture cannot be read; at the start, or at the end if it was later.
    """
    playback = Playback(capture, settings or PlaybackSettings())
    venue = _Venue(playback)
    async with serve(
        venue.converse,
        "127.0.0.1",
        port,
        process_request=venue.answer,
        compression=None,
        ping_interval=None,
        close_timeout=_GOODBYE_SECONDS,
        max_size=1 << 20,
        server_header=None,
    ) as server:
        playing = asyncio.create_task(playback.play(), name="playback")
        try:
            chosen = int(next(iter(server.sockets)).getsockname()[1])
            yield RunningStreams(chosen, playback, playing)
        finally:
            playing.cancel()
            for client in playback.clients:
                client.abort()
            with suppress(asyncio.CancelledError):
                await playing


class _Venue:
    """The handlers of the server."""

    def __init__(self, playback: Playback) -> None:
        self._playback = playback

    async def converse(self, socket: ServerConnection) -> None:
        """Lives through one connection."""
        client = StreamClient(socket)
        self._playback.arrive(client)
        try:
            async for message in socket:
                await self._playback.hear(client, message)
        except ConnectionClosed:
            pass  # clients may break off; that they left is noted below
        finally:
            self._playback.leave(client)

    def answer(self, _: ServerConnection, request: Request) -> Response | None:
        """Answers polling; None lets a WebSocket handshake go on."""
        if "upgrade" in request.headers.get("Connection", "").lower():
            return None
        parts = urlsplit(request.path)
        query = parse_qs(parts.query)
        body = self._body(parts.path, query)
        if body is None:
            return _response(404, "Not Found", b'{"error":"not found"}')
        return _response(200, "OK", body)

    def _body(self, path: str, query: dict[str, list[str]]) -> bytes | None:
        state = self._playback.state
        match path:
            case "/clob/book":
                return state.book(query.get("token_id", [""])[0])
            case "/gamma/markets":
                names = [n for part in query.get("condition_ids", []) for n in part.split(",")]
                return state.markets(names)
            case "/data/trades":
                return state.trades(query.get("market", [""])[0])
            case "/replay/state":
                return orjson.dumps(replay_state(self._playback))
            case "/health":
                return b'{"status":"ok"}'
        return None


def replay_state(playback: Playback) -> dict[str, object]:
    """What ``/replay/state`` tells."""
    return {
        "position_ms": playback.position_ms,
        "records": playback.records,
        "sent": dict(playback.sent),
        "ended": playback.is_ended,
        "rewinds": playback.rewinds,
        "clients": len(playback.clients),
        "misunderstood": sum(client.speaker.misunderstood for client in playback.clients),
        "injected": dict(playback.faults.injected),
    }


def _response(status: int, phrase: str, body: bytes) -> Response:
    headers = Headers(
        {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
    )
    return Response(status, phrase, headers, body)


def main(argv: list[str] | None = None) -> int:
    """Run the venue as a process; returns its exit status."""
    options = _parser().parse_args(argv)
    try:
        capture = _capture(options)
        settings = PlaybackSettings(
            speed=options.speed,
            overlap_ms=int(options.overlap_seconds * 1000),
            overlap_frames=options.overlap_frames,
            clients=_clients(options.clients),
            faults=StreamFaultPlan.parse(options.faults),
        )
        return asyncio.run(_serve_until_signal(capture, settings, options.port, options.port_file))
    except (ArchiveError, CaptureError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    defaults = PlaybackSettings()
    parser = argparse.ArgumentParser(prog="python -m market_data.replay.stream_server")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--capture", type=Path, help="a recorded file")
    source.add_argument("--simulate", help='e.g. "n_conditions=20,duration_s=3600,seed=1"')
    source.add_argument("--archive", type=Path, help="go on where an archive ends, from now on")
    parser.add_argument("--markets", type=int, default=200, help="of an archive, at most")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--port-file", type=Path, help="the chosen port is written here")
    parser.add_argument("--speed", type=float, default=0.0, help="0: as fast as clients read")
    parser.add_argument("--overlap-seconds", type=float, default=defaults.overlap_ms / 1000)
    parser.add_argument("--overlap-frames", type=int, default=defaults.overlap_frames)
    parser.add_argument("--clients", default="", help="who is waited for: polymarket=1,binance=1")
    parser.add_argument("--faults", default="", help='e.g. "disconnect=0.001,duplicate=0.05"')
    return parser


def _capture(options: argparse.Namespace) -> Capture:
    """What is played; raises CaptureError or ValueError where it cannot be."""
    if options.capture is not None:
        return read_capture(options.capture)
    if options.archive is not None:
        now_ms = time.time_ns() // 1_000_000
        archive = read_archive(options.archive)
        day = day_after(archive, start_ms=now_ms, seed=1, markets=options.markets)
    else:
        day = StreamDay.parse(options.simulate or "")
    return lambda: simulate_records(day)


def _clients(spec: str) -> dict[str, int]:
    """Numbers by channel; raises ValueError naming a part that is none."""
    counts: dict[str, int] = {}
    for part in filter(None, spec.split(",")):
        name, _, number = part.partition("=")
        if name not in ("polymarket", "binance") or not number.isdigit():
            raise ValueError(f"--clients: {part!r} is not polymarket=N or binance=N")
        counts[name] = int(number)
    return counts


async def _serve_until_signal(
    capture: Capture, settings: PlaybackSettings, port: int, port_file: Path | None
) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serve_streams(capture, settings, port=port) as venue:
        if port_file:
            _write_port(port_file, venue.port)
        print(f"streams on {venue.url}", flush=True)
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({stopped, venue.playing}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
    return 0


def _write_port(path: Path, port: int) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(f"{port}\n")
    os.replace(part, path)


if __name__ == "__main__":
    sys.exit(main())
