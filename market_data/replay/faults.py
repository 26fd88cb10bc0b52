"""Deterministic trouble for the replay venue.

Whether a request is harmed depends on the seed, the request and how often it was seen, never on
timing. Each kind of fault harms one distinct request at most ``max_per_request`` times, so a
client with enough retries loses nothing::

    latency        the answer comes ``latency_ms`` late
    rate_limit     429 with Retry-After: 0
    server_error   503
    truncate       half of the JSON, well-formed HTTP
    repeat         the page before the one that was asked for (never for a first page)
    drop           the connection breaks in the middle of the answer
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import orjson

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

KINDS = ("latency", "rate_limit", "server_error", "drop", "truncate", "repeat")
_PAGING = ("offset", "after_cursor", "next_cursor", "cursor", "before")
_CURSOR_VARIABLES = ("lastId", "skip", "splitsAfter", "mergesAfter", "redemptionsAfter")


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Probabilities in [0, 1] of each fault per request, and their bounds.

    >>> FaultPlan.parse("rate_limit=0.2,drop=0.1,seed=5").rate_limit
    0.2
    """

    latency: float = 0.0
    rate_limit: float = 0.0
    server_error: float = 0.0
    truncate: float = 0.0
    repeat: float = 0.0
    drop: float = 0.0
    latency_ms: float = 50.0
    max_per_request: int = 1
    seed: int = 0

    @classmethod
    def parse(cls, text: str) -> FaultPlan:
        """Read ``kind=rate,…``; raises ValueError naming an unknown or malformed part."""
        whole = {"max_per_request", "seed"}
        known = {f.name for f in fields(cls)}
        values: dict[str, float] = {}
        for part in filter(None, (p.strip() for p in text.split(","))):
            name, _, value = part.partition("=")
            if name not in known:
                raise ValueError(f"unknown fault {name!r}; known: {', '.join(sorted(known))}")
            values[name] = int(value) if name in whole else float(value)
        return cls(**values)  # type: ignore[arg-type]

    @classmethod
    def everything(cls, rate: float = 0.1, *, seed: int = 0) -> FaultPlan:
        """Every kind at one rate."""
        return cls(rate, rate, rate, rate, rate, rate, latency_ms=5.0, seed=seed)

    def draws(self, kind: str, request: str, seen: int) -> bool:
        """Whether the ``seen``-th arrival of ``request`` suffers ``kind``."""
        text = f"{self.seed}|{kind}|{request}|{seen}".encode()
        number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
        return number / 2.0**64 < float(getattr(self, kind))


class FaultyApp:
    """An ASGI application that harms the answers of another one by a plan.

    Attributes:
        injected: how many faults of each kind were injected.
    """

    def __init__(self, app: ASGIApp, plan: FaultPlan) -> None:
        self._app = app
        self._plan = plan
        self._seen: Counter[str] = Counter()
        self._done: Counter[tuple[str, str]] = Counter()
        self._previous: dict[str, bytes] = {}
        self.injected: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/health":
            await self._app(scope, receive, send)
            return
        asked = await _read_body(receive)
        request = f"{scope['method']} {scope['path']}?{scope['query_string'].decode()}"
        if asked:
            request += hashlib.sha256(asked).hexdigest()
        faults = self._choose(request)
        if "latency" in faults:
            await asyncio.sleep(self._plan.latency_ms / 1e3)
        if "rate_limit" in faults:
            await _answer(send, 429, b'{"error":"rate limited"}', [(b"retry-after", b"0")])
        elif "server_error" in faults:
            await _answer(send, 503, b'{"error":"unavailable"}')
        else:
            await self._pass_on(scope, asked, faults, send)

    def _choose(self, request: str) -> set[str]:
        seen = self._seen[request]
        self._seen[request] += 1
        chosen = {
            kind
            for kind in KINDS
            if self._done[request, kind] < self._plan.max_per_request
            and self._plan.draws(kind, request, seen)
        }
        # One answer can be harmed once; what the first one hides does not count as injected.
        loud = [k for k in KINDS[1:] if k in chosen][:1]
        chosen = (chosen & {"latency"}) | set(loud)
        for kind in chosen:
            self._done[request, kind] += 1
            self.injected[kind] += 1
        return chosen

    async def _pass_on(self, scope: Scope, asked: bytes, faults: set[str], send: Send) -> None:
        status, headers, body = await _call(self._app, scope, asked)
        family, is_first = _family(scope, asked)
        if status == 200 and not is_first and "repeat" in faults and family in self._previous:
            body = self._previous[family]
        elif status == 200:
            self._previous[family] = body
        if "truncate" in faults:
            body = body[: len(body) // 2]
        if "drop" in faults:
            await send({"type": "http.response.start", "status": status, "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body) + 10).encode()),
            ]})  # fmt: skip
            await send({"type": "http.response.body", "body": body[:5], "more_body": True})
            return  # the server closes a connection whose answer stays incomplete
        await _answer(send, status, body, headers)


def _family(scope: Scope, asked: bytes) -> tuple[str, bool]:
    """What all pages of one listing share, and whether this is the first of them."""
    query = dict(parse_qsl(scope["query_string"].decode()))
    cursors = [query.pop(name, "") for name in _PAGING]
    rest = sorted(query.items())
    variables: dict[str, object] = {}
    text = ""
    if asked:
        payload = orjson.loads(asked)
        variables = dict(payload.get("variables") or {})
        text = str(payload.get("query"))
        cursors += [str(variables.pop(name, "")) for name in _CURSOR_VARIABLES]
    is_first = all(cursor in ("", "0") for cursor in cursors)
    return f"{scope['path']}|{rest}|{text}|{sorted(variables.items())}", is_first


async def _read_body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = bool(message.get("more_body", False))
    return body


async def _call(
    app: ASGIApp, scope: Scope, asked: bytes
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    messages: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": asked, "more_body": False}

    async def collect(message: Message) -> None:
        messages.append(message)

    await app(scope, receive, collect)
    body = b"".join(m.get("body", b"") for m in messages if m["type"] == "http.response.body")
    start = messages[0]
    headers = [(k, v) for k, v in start["headers"] if k not in (b"content-length", b"content-type")]
    return int(start["status"]), headers, body


async def _answer(
    send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": head + (headers or [])})
    await send({"type": "http.response.body", "body": body})
