"""One question to a tollama server within a deadline.

=============  ==================================================================================
what happens   what is done
=============  ==================================================================================
no connection  once more after a short pause, then ModelAway
502            once more after a short pause, then ModelBroke
503            ModelAway; the model is left alone for 15 s, because one exhausted call there opens a
               breaker for every caller of its family
429            ModelAway; left alone for 1 s, doubling up to 30 s: the server does not say how long
400, 413       BadQuestion: some series of it may be bad
other 5xx      ModelBroke
401, 404 …     ModelRefused, with what is wrong: the key, the path, or a model not installed
too late       TimeoutError; the connection is closed, and the server may work on
=============  ==================================================================================

The deadline holds for the whole exchange, however slowly bytes arrive: everything runs on an event
loop of its own, where leaving in time is exact.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from forecast_service.batch import InvalidAnswerError
from forecast_service.models.errors import ModelAway, ModelBroke, ModelRefused

MAX_REPLY_BYTES = 64 << 20
CONNECTIONS = 8
COOL_DOWN = 15.0
"""Seconds that a model is left alone after 503."""
FIRST_BACK_OFF, LONGEST_BACK_OFF = 1.0, 30.0
PAUSE = (0.01, 0.05)
"""Seconds before the one further try, at random between these."""
_GRACE = 0.5
"""Seconds that the loop may take to leave a call whose time is up."""


class BadQuestion(ModelRefused):
    """The server found fault with the request; with one of its series perhaps."""


class _NoConnection(ModelAway):
    """Nothing was lost yet: one more try is allowed."""


class _BadGateway(ModelBroke):
    """What stands before the server could not ask it: one more try is allowed."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where the server is.

    Attributes:
        url: of its forecasts, with the path.
        key: its API key; "" for none. It is never part of what is printed.
    """

    url: str
    key: str = field(default="", repr=False)


@dataclass(slots=True)
class _Rest:
    """Until when a model is left alone, and why."""

    until: float = 0.0
    why: str = ""
    back_off: float = FIRST_BACK_OFF


class Transport:
    """Connections to one server; several threads may ask at once.

    Args:
        server: where it is.
        clock: monotonic seconds.
        jitter: a number in [0, 1).
    """

    def __init__(
        self,
        server: Server,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._server = server
        self._clock = clock
        self._jitter = jitter
        self._rests: dict[str, _Rest] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="tollama", daemon=True)
        self._thread.start()
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {server.key}"} if server.key else {},
            limits=httpx.Limits(max_connections=CONNECTIONS),
            timeout=None,
            trust_env=False,
        )

    def post(self, model: str, body: bytes, seconds: float) -> bytes:
        """The body of the reply to a request.

        Args:
            model: whose turn it is to be left alone when the server asks for that.
            body: JSON.
            seconds: after which the connection is closed.

        Raises:
            TimeoutError, ModelAway, ModelBroke, BadQuestion, ModelRefused: see the table above.
            InvalidAnswerError: the reply is larger than `MAX_REPLY_BYTES`.
        """
        rest = self._rests.setdefault(model, _Rest())
        if (left := rest.until - self._clock()) > 0:
            raise ModelAway(f"{model}: left alone for {left:.1f} s more, {rest.why}")
        if seconds <= 0:
            raise TimeoutError(f"{model}: no time is left")
        asked = asyncio.run_coroutine_threadsafe(self._within(seconds, model, body), self._loop)
        try:
            status, reply = asked.result(seconds + _GRACE)
        except concurrent.futures.TimeoutError:
            asked.cancel()
            raise TimeoutError(f"{model}: no reply within {seconds:.3f} s") from None
        if status == httpx.codes.OK:
            rest.back_off = FIRST_BACK_OFF
            return reply
        raise self._refusal(model, status, _detail(reply), rest)

    def close(self) -> None:
        """Closes all connections and ends the loop."""
        closed = asyncio.run_coroutine_threadsafe(self._client.aclose(), self._loop)
        closed.result(_GRACE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_GRACE)

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    async def _within(self, seconds: float, model: str, body: bytes) -> tuple[int, bytes]:
        async with asyncio.timeout(seconds):
            try:
                return await self._once(model, body)
            except (_NoConnection, _BadGateway):
                shortest, longest = PAUSE
                await asyncio.sleep(shortest + (longest - shortest) * self._jitter())
                return await self._once(model, body)

    async def _once(self, model: str, body: bytes) -> tuple[int, bytes]:
        """Status and body; `_NoConnection` and `_BadGateway` allow one further try."""
        headers = {"Content-Type": "application/json"}
        try:
            async with self._client.stream(
                "POST", self._server.url, content=body, headers=headers
            ) as response:
                reply = await _read(model, response)
        except httpx.ConnectError as error:
            raise _NoConnection(f"{model}: no connection to the server ({error})") from None
        except httpx.HTTPError as error:
            # The request may have been read: the server may be at work on it.
            raise ModelAway(f"{model}: connection lost ({type(error).__name__})") from None
        if response.status_code == httpx.codes.BAD_GATEWAY:
            raise _BadGateway(f"{model}: 502 {_detail(reply)}")
        return response.status_code, reply

    def _refusal(self, model: str, status: int, detail: str, rest: _Rest) -> Exception:
        now, said = self._clock(), f"{model}: {status} {detail}"
        match status:
            case 503:
                rest.until, rest.why = now + COOL_DOWN, "after 503"
                return ModelAway(said)
            case 429:
                rest.until, rest.why = now + rest.back_off, "after 429"
                rest.back_off = min(2 * rest.back_off, LONGEST_BACK_OFF)
                return ModelAway(said)
            case 400 | 413:
                return BadQuestion(said)
            case 404 if detail == "Not Found":
                return ModelRefused(f"{model}: the server has no such path, see tollama_path")
            case _ if status >= 500:
                return ModelBroke(said)
            case _:
                return ModelRefused(said)


async def _read(model: str, response: httpx.Response) -> bytes:
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > MAX_REPLY_BYTES:
            raise InvalidAnswerError(f"{model}: the reply is above {MAX_REPLY_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def _detail(reply: bytes) -> str:
    """What a refusal says, when it is a sentence or has a code.

    Lists of pydantic repeat the input, and so a caller's prices; of them the place alone is kept.
    """
    try:
        said: Any = orjson.loads(reply)
        detail = said["detail"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "(no detail)"
    if isinstance(detail, str):
        return detail[:200]
    if isinstance(detail, dict):
        return str(detail.get("code", ""))[:60]
    if isinstance(detail, list) and detail and isinstance(detail[0], dict):
        place = ".".join(map(str, detail[0].get("loc", ())))
        return f"{detail[0].get('type', '')} at {place}"[:120]
    return "(no detail)"
