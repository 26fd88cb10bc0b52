"""Who is connected to the replayed streams, what they asked for, and what they therefore get."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable
from typing import Any, Protocol, TypeGuard
from urllib.parse import parse_qsl, urlsplit

import orjson
from websockets.asyncio.server import ServerConnection

from market_data.replay.stream_faults import Deliver
from market_data.replay.stream_state import Contents, ReplayState, contents_of

log = logging.getLogger(__name__)

POLYMARKET_PATH = "/ws/market"
_MARKET_STREAMS = "/market/stream"
_MARKET_RAW = "/market/ws/"
_MAX_STREAMS = 1024
_WINDOW_FRAMES = 256


class Speaker(Protocol):
    """One venue's side of a conversation."""

    channel: str
    misunderstood: int

    @property
    def is_subscribed(self) -> bool:
        """Whether anything was asked for."""

    def answers(self, message: str, state: ReplayState) -> list[bytes]:
        """What a client's message is answered with."""

    def receives(self, contents: Contents) -> bool:
        """Whether a frame is for this client."""

    def wrap(self, frame: bytes) -> bytes:
        """A frame in the form of this connection."""


class PolymarketSpeaker:
    """The market channel: a wrong form of subscription is met with silence, and a log line."""

    channel = "polymarket"

    def __init__(self) -> None:
        self.misunderstood = 0
        self._custom: dict[str, bool] = {}

    @property
    def is_subscribed(self) -> bool:
        """Whether there is a subscription."""
        return bool(self._custom)

    def answers(self, message: str, state: ReplayState) -> list[bytes]:
        """PONG for PING, and the books of what was subscribed to."""
        if message == "PING":
            return [b"PONG"]
        request = _object(message)
        assets = request.get("assets_ids")
        operation = request.get("operation") or (request.get("type") == "market" and "subscribe")
        if not _are_names(assets) or operation not in ("subscribe", "unsubscribe"):
            self.misunderstood += 1
            log.warning("the market channel does not understand %.200r", message)
            return []
        if operation == "unsubscribe":
            for asset in assets:
                self._custom.pop(asset, None)
            return []
        is_custom = request.get("custom_feature_enabled") is True
        self._custom.update(dict.fromkeys(assets, is_custom))
        wants_dump = request.get("initial_dump", True)
        return [state.snapshot(assets)] if wants_dump else []

    def receives(self, contents: Contents) -> bool:
        """Frames of subscribed assets; custom types only where they were asked for."""
        if contents.is_for_all:
            return any(self._custom.values())
        if contents.is_custom:
            return any(self._custom.get(name) for name in contents.names)
        return not contents.names.isdisjoint(self._custom)

    def wrap(self, frame: bytes) -> bytes:
        """Frames are sent as they are."""
        return frame


class BinanceSpeaker:
    """Streams of futures by name; on a wrong base all is acknowledged and nothing ever comes."""

    channel = "binance"

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        named = dict(parse_qsl(parts.query)).get("streams", "")
        self.misunderstood = 0
        self._is_raw = parts.path.startswith(_MARKET_RAW)
        self._is_silent = not self._is_raw and parts.path != _MARKET_STREAMS
        raw_name = parts.path.removeprefix(_MARKET_RAW) if self._is_raw else ""
        self._streams = set(filter(None, [*named.split("/"), raw_name]))

    @property
    def is_subscribed(self) -> bool:
        """Whether there is a subscription that is served."""
        return bool(self._streams) and not self._is_silent

    def answers(self, message: str, state: ReplayState) -> list[bytes]:
        """The acknowledgement of a request, or its refusal."""
        del state
        request = _object(message)
        number, names = request.get("id"), request.get("params", [])
        method = request.get("method")
        if method == "LIST_SUBSCRIPTIONS":
            return [orjson.dumps({"result": sorted(self._streams), "id": number})]
        if method not in ("SUBSCRIBE", "UNSUBSCRIBE") or not _are_names(names):
            return [self._refusal(2, "Invalid request: unknown method or parameters", number)]
        if method == "UNSUBSCRIBE":
            self._streams.difference_update(names)
        elif len(self._streams | set(names)) > _MAX_STREAMS:
            return [self._refusal(3, f"more than {_MAX_STREAMS} streams", number)]
        else:
            self._streams.update(names)
        return [orjson.dumps({"result": None, "id": number})]

    def receives(self, contents: Contents) -> bool:
        """Frames of subscribed streams."""
        return not self._is_silent and not contents.names.isdisjoint(self._streams)

    def wrap(self, frame: bytes) -> bytes:
        """Frames with their stream's name, or what is in them on a raw connection."""
        if not self._is_raw:
            return frame
        return frame[frame.find(b'"data":') + len(b'"data":') : -1]

    def _refusal(self, code: int, text: str, number: object) -> bytes:
        self.misunderstood += 1
        return orjson.dumps({"error": {"code": code, "msg": text}, "id": number})


class StreamClient:
    """One connection.

    Every 256 frames it is pinged, and the pong of the ping before is awaited: so no more than a
    few hundred frames are under way to a client that stopped reading, whatever its buffers hold.

    Attributes:
        speaker: the venue's side of the conversation.
        sent: frames sent.
    """

    def __init__(self, socket: ServerConnection) -> None:
        target = socket.request.path if socket.request else ""
        is_polymarket = urlsplit(target).path == POLYMARKET_PATH
        self.speaker: Speaker = PolymarketSpeaker() if is_polymarket else BinanceSpeaker(target)
        self.sent = 0
        self._socket = socket
        self._pongs: deque[Awaitable[float]] = deque()

    async def deliver(self, step: Deliver) -> bool:
        """Sends what of a step is for this client; returns whether there was anything.

        Raises:
            ConnectionClosed: the client is gone.
        """
        body = _render(self.speaker, step)
        if body is None:
            return False
        await self._socket.send(body, text=True)
        self.sent += 1
        if self.sent % _WINDOW_FRAMES == 0:
            self._pongs.append(await self._socket.ping())
            if len(self._pongs) > 1:
                await self._pongs.popleft()
        return True

    async def converse(self, message: str | bytes, state: ReplayState) -> None:
        """Answers a message."""
        text = message if isinstance(message, str) else message.decode(errors="replace")
        for answer in self.speaker.answers(text, state):
            await self._socket.send(answer, text=True)

    def abort(self) -> None:
        """Breaks the connection without a goodbye."""
        self._socket.transport.abort()

    async def say_goodbye(self) -> bool:
        """Closes the connection at the end of the capture; returns whether the client read all."""
        await self._socket.close(1000, "end of capture")
        return self._socket.close_code == 1000


def _render(speaker: Speaker, step: Deliver) -> bytes | None:
    records = [record for record in step.records if record.channel == speaker.channel]
    frames = [record.frame for record in records if speaker.receives(contents_of(record))]
    if not frames:
        return None
    if step.is_unknown:
        return _unknown(speaker.channel, sorted(contents_of(records[0]).names)[0])
    if len(step.records) > 1:
        body = b"[" + b",".join(map(_elements, frames)) + b"]"
    else:
        body = speaker.wrap(frames[0])
    return body[: len(body) // 2] if step.is_truncated else body


def _unknown(channel: str, name: str) -> bytes:
    if channel == "binance":
        return orjson.dumps({"stream": name, "data": {"e": "weatherReport", "sky": "clear"}})
    return orjson.dumps({"event_type": "weather_report", "asset_id": name, "sky": "clear"})


def _elements(frame: bytes) -> bytes:
    return frame[1:-1] if frame[:1] == b"[" else frame


def _object(message: str) -> dict[str, Any]:
    try:
        value = orjson.loads(message)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _are_names(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
