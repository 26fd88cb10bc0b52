"""Rate limits that several gateways share: the same GCRA as one script in Redis.

Redis holds one number per bucket, its theoretical arrival time in seconds of Redis's own clock, and
forgets it when the bucket is full again. Checks that come while an answer is awaited go together
with the next question, over one connection, so that a check costs a share of a round trip.

When Redis does not answer in time the limits of this process take over: callers are limited as if
this gateway were alone, and Redis is asked again after a pause, so that a dead Redis costs one
question in a pause and not every call.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.gcra import Limiter, Verdict

_LOG = logging.getLogger("gateway.limits")
PREFIX = "marketcal:limit:"
ANSWER_SECONDS = 0.1
"""How long Redis may take to answer."""
PAUSE_SECONDS = 1.0
"""How long Redis is left alone after it has not answered."""
_AWAY = (RedisError, OSError, TimeoutError)
_NONSENSE = (ValueError, TypeError, IndexError)
"""What an answer raises that no Redis gives."""
MOST_TOGETHER = 256
"""Checks in one question."""

_SCRIPT = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local cost, interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local arrival = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local excess = arrival + cost * interval - now - burst * interval
if excess > 1e-6 then
  return {0, tostring(excess), tostring(arrival - now)}
end
local moved = arrival + cost * interval
redis.call('SET', KEYS[1], string.format('%.6f', moved), 'PX', math.ceil((moved - now) * 1000) + 1)
return {1, '0', tostring(moved - now)}
"""


@dataclass(frozen=True, slots=True)
class _Question:
    """One check that waits for its verdict."""

    key: tuple[str, str]
    cost: int
    rate_per_minute: float
    burst: int
    verdict: asyncio.Future[Verdict]

    @property
    def interval(self) -> float:
        """Seconds in which a token flows back."""
        return 60.0 / self.rate_per_minute

    def answer(self, verdict: Verdict) -> None:
        """Gives the verdict, unless its caller has gone away."""
        if not self.verdict.done():
            self.verdict.set_result(verdict)


class SharedLimits:
    """GCRA buckets in Redis, with those of this process where Redis is away.

    Attributes:
        away: whether the limits of this process stand in.
        stood_in: how many checks they have answered.
    """

    def __init__(self, url: str, local: Limiter, clock: Callable[[], float]) -> None:
        self._redis: Any = Redis.from_url(
            url,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            decode_responses=True,
        )
        self._local = local
        self._clock = clock
        self._ask_again_at = -math.inf
        self._waiting: list[_Question] = []
        self._asking: asyncio.Task[None] | None = None
        self.away = False
        self.stood_in = 0

    async def check(
        self, key: tuple[str, str], cost: int, *, rate_per_minute: float, burst: int
    ) -> Verdict:
        """Takes ``cost`` tokens from the bucket of ``key`` if they are there."""
        if cost > burst:
            return Verdict(False, math.inf, burst, 0.0)
        loop = asyncio.get_running_loop()
        question = _Question(key, cost, rate_per_minute, burst, loop.create_future())
        if self._clock() < self._ask_again_at:
            return self._here(question)
        self._waiting.append(question)
        if self._asking is None:
            # In a context of its own: what it logs belongs to no single call.
            self._asking = loop.create_task(self._ask_all(), context=Context())
        return await question.verdict

    async def close(self) -> None:
        """Lets go of the connection."""
        if self._asking is not None:
            await self._asking
        await self._redis.aclose()

    async def _ask_all(self) -> None:
        """Asks until nobody waits; whatever goes wrong, everybody gets a verdict."""
        together: list[_Question] = []
        try:
            while self._waiting:
                together = self._waiting[:MOST_TOGETHER]
                del self._waiting[:MOST_TOGETHER]
                for question, verdict in zip(together, await self._answers(together), strict=True):
                    question.answer(verdict)
        finally:
            self._asking = None
            left, self._waiting = [*together, *self._waiting], []
            for question in left:
                if not question.verdict.done():
                    question.answer(self._here(question))

    async def _answers(self, together: Sequence[_Question]) -> list[Verdict]:
        try:
            replies = await self._ask(together)
            verdicts = [_verdict(*pair) for pair in zip(together, replies, strict=True)]
        except (*_AWAY, *_NONSENSE) as error:
            self._ask_again_at = self._clock() + PAUSE_SECONDS
            if not self.away:
                self.away = True
                _LOG.warning("Redis does not answer (%s): limits are of this process alone", error)
            return [self._here(question) for question in together]
        if self.away:
            self.away = False
            _LOG.info("Redis answers again: limits are shared")
        return verdicts

    async def _ask(self, together: Sequence[_Question]) -> list[list[Any]]:
        pipeline = self._redis.pipeline(transaction=False)
        for question in together:
            bucket = f"{PREFIX}{question.key[0]}|{question.key[1]}"
            # By its text: a Redis that was restarted does not know its digest.
            pipeline.eval(_SCRIPT, 1, bucket, question.cost, question.interval, question.burst)
        replies: list[list[Any]] = await pipeline.execute()
        return replies

    def _here(self, question: _Question) -> Verdict:
        self.stood_in += 1
        return self._local.check(
            question.key,
            question.cost,
            rate_per_minute=question.rate_per_minute,
            burst=question.burst,
        )


def _verdict(question: _Question, reply: list[Any]) -> Verdict:
    allowed, wait, full = int(reply[0]), float(reply[1]), float(reply[2])
    left = max(0, int(question.burst - full / question.interval + 1e-6))
    return Verdict(bool(allowed), wait, left, full)
