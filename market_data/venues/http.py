"""One polite way to ask a venue: bounded, rate-limited, retried, and never fooled by paging.

A request is tried ``HttpPolicy.attempts`` times. Retried are: no answer, 429, 5xx and a body that
is not JSON. Between attempts it waits ``backoff · 2^k``, jittered over [½, 1], or as long as
``Retry-After`` asks (seconds or an HTTP date), bounded by ``backoff_cap_seconds``. What remains is
a typed ``VenueError``; a failure is never turned into an empty answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any

import httpx
import orjson

from market_data.errors import (
    PagingLoop,
    VenueBadPayload,
    VenueError,
    VenueNotFound,
    VenueRateLimited,
    VenueRefused,
    VenueServerError,
    VenueUnreachable,
)

Query = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class HttpPolicy:
    """How hard and how fast a venue is asked.

    Attributes:
        max_in_flight: requests under way at once.
        requests_per_second: token bucket, its burst is one second's worth; 0 means no limit.
        attempts: tries per request, ≥ 1.
        backoff_seconds: wait after the first failure; doubles each time.
        backoff_cap_seconds: longest single wait, also for Retry-After.
        timeout_seconds: for connecting and for each read.
    """

    max_in_flight: int = 16
    requests_per_second: float = 0.0
    attempts: int = 8
    backoff_seconds: float = 0.2
    backoff_cap_seconds: float = 30.0
    timeout_seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A body as received, and what it says."""

    body: bytes
    value: Any


@dataclass(frozen=True, slots=True)
class Page:
    """A page of records as received; ``next_cursor`` is "" after the last one."""

    body: bytes
    records: list[Any]
    next_cursor: str = ""


class VenueHttp:
    """An asynchronous JSON client for one venue; use it as an async context manager.

    Clock, sleep and random generator are passed in, so that tests need not wait.
    """

    def __init__(
        self,
        policy: HttpPolicy,
        *,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.policy = policy
        self._rng = rng or random.Random()
        self._sleep = sleep
        self._now = now
        self._gate = asyncio.Semaphore(policy.max_in_flight)
        self._bucket = TokenBucket(policy.requests_per_second, sleep=sleep, monotonic=monotonic)
        limits = httpx.Limits(
            max_connections=policy.max_in_flight, max_keepalive_connections=policy.max_in_flight
        )
        self._client = httpx.AsyncClient(
            timeout=policy.timeout_seconds, limits=limits, follow_redirects=False
        )

    async def __aenter__(self) -> VenueHttp:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def get(self, url: str, query: Query | None = None) -> Answer:
        """GET a JSON body; raises a ``VenueError`` once the attempts are spent."""
        return await self._ask(self._client.build_request("GET", url, params=tuple(query or ())))

    async def post(self, url: str, payload: Any) -> Answer:
        """POST a JSON payload and read a JSON body; errors as for ``get``."""
        request = self._client.build_request(
            "POST",
            url,
            content=orjson.dumps(payload),
            headers={"content-type": "application/json"},
        )
        return await self._ask(request)

    async def _ask(self, request: httpx.Request) -> Answer:
        last: VenueError | None = None
        for attempt in range(1, self.policy.attempts + 1):
            outcome = await self._try(request, attempt)
            if isinstance(outcome, Answer):
                return outcome
            last, wait = outcome
            if attempt < self.policy.attempts:
                await self._sleep(self._pause(attempt, wait))
        assert last is not None
        raise last

    async def _try(
        self, request: httpx.Request, attempt: int
    ) -> Answer | tuple[VenueError, float | None]:
        """One attempt: an answer, or the error it would be and what Retry-After asked for."""
        url = str(request.url.copy_with(query=None))
        async with self._gate:
            await self._bucket.take()
            try:
                response = await self._client.send(request)
            except httpx.TransportError as error:
                cause = f"{url}: no answer ({type(error).__name__})"
                return VenueUnreachable(cause, url=url, attempts=attempt), None
        status = response.status_code
        if status == 429:
            wait = retry_after(response.headers.get("retry-after"), self._now())
            return VenueRateLimited(f"{url}: 429", url=url, attempts=attempt), wait
        if status >= 500:
            wait = retry_after(response.headers.get("retry-after"), self._now())
            return VenueServerError(f"{url}: {status}", url=url, attempts=attempt), wait
        if status != 200:
            text = response.text[:200]
            refused = VenueNotFound if status == 404 else VenueRefused
            raise refused(f"{url}: {status} {text}", url=url, attempts=attempt)
        try:
            return Answer(response.content, orjson.loads(response.content))
        except orjson.JSONDecodeError as error:
            cause = f"{url}: not JSON ({error}), {len(response.content)} bytes"
            return VenueBadPayload(cause, url=url, attempts=attempt), None

    def _pause(self, attempt: int, asked: float | None) -> float:
        cap = self.policy.backoff_cap_seconds
        if asked is not None:
            return min(asked, cap)
        longest = min(cap, self.policy.backoff_seconds * 2.0 ** (attempt - 1))
        return longest * (0.5 + 0.5 * self._rng.random())


class TokenBucket:
    """Spends ``rate`` tokens per second with a burst of one second's worth; 0 spends freely."""

    def __init__(
        self,
        rate: float,
        *,
        sleep: Callable[[float], Awaitable[None]],
        monotonic: Callable[[], float],
    ) -> None:
        self._rate = rate
        self._sleep = sleep
        self._monotonic = monotonic
        self._free_at = monotonic() - 1.0

    async def take(self) -> None:
        """Wait until a request may go."""
        if self._rate <= 0:
            return
        now = self._monotonic()
        self._free_at = max(self._free_at, now - 1.0) + 1.0 / self._rate
        if self._free_at > now:
            await self._sleep(self._free_at - now)


def retry_after(header: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for; None when it is absent or unreadable.

    >>> retry_after("120", datetime(2026, 1, 1, tzinfo=UTC))
    120.0
    >>> retry_after("Thu, 01 Jan 2026 00:00:30 GMT", datetime(2026, 1, 1, tzinfo=UTC))
    30.0
    """
    if not header:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max((at - now).total_seconds(), 0.0)


async def offset_pages(
    fetch: Callable[[int], Awaitable[Page]], *, patience: int = 4
) -> AsyncIterator[Page]:
    """All pages of a listing that is paged by offset, until an empty one.

    A page that came before is asked for again, ``patience`` times.

    Raises:
        PagingLoop: the venue keeps serving a page that it already served.
    """
    seen: set[bytes] = set()
    offset = 0
    while True:
        page = await _fresh(lambda at=offset: fetch(at), seen, set(), patience)  # type: ignore[misc]
        if not page.records:
            return
        offset += len(page.records)
        yield page


async def cursor_pages(
    fetch: Callable[[str], Awaitable[Page]], *, patience: int = 4
) -> AsyncIterator[Page]:
    """All pages of a listing that is paged by cursor, until a page without a next cursor.

    Raises:
        PagingLoop: the venue keeps serving a page or a cursor that it already served.
    """
    seen: set[bytes] = set()
    cursors: set[str] = set()
    cursor = ""
    while True:
        cursors.add(cursor)
        page = await _fresh(lambda at=cursor: fetch(at), seen, cursors, patience)  # type: ignore[misc]
        if page.records:
            yield page
        if not page.next_cursor:
            return
        cursor = page.next_cursor


async def _fresh(
    fetch: Callable[[], Awaitable[Page]], seen: set[bytes], cursors: set[str], patience: int
) -> Page:
    for _ in range(patience):
        page = await fetch()
        digest = hashlib.sha256(page.body).digest()
        is_repeated = bool(page.records) and digest in seen
        if not is_repeated and page.next_cursor not in cursors - {""}:
            seen.add(digest)
            return page
    raise PagingLoop(f"a page came back {patience} times", attempts=patience)
