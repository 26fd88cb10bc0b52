"""Rate limits that several gateways share: the same GCRA as one script in Redis.

Redis holds one number per bucket, its theoretical arrival time in seconds of Redis's own clock, and
forgets it when the bucket is full again. When Redis does not answer in time the limits of this
process take over: callers are limited as if this gateway were alone, and Redis is asked again after
a pause, so that a dead Redis costs one call in a pause and not every call.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from redis.asyncio import Redis
from redis.asyncio.connection import ConnectionPool
from redis.exceptions import RedisError

from gateway.gcra import Limiter, Verdict

_LOG = logging.getLogger("gateway.limits")
PREFIX = "marketcal:limit:"
ANSWER_SECONDS = 0.05
"""How long a call waits for Redis."""
PAUSE_SECONDS = 1.0
"""How long Redis is left alone after it has not answered."""
CONNECTIONS = 32

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


class SharedLimits:
    """GCRA buckets in Redis, with those of this process where Redis is away.

    Attributes:
        away: whether the limits of this process stand in.
        stood_in: how many checks they have answered.
    """

    def __init__(self, url: str, local: Limiter, clock: Callable[[], float]) -> None:
        pool = ConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            decode_responses=True,
        )
        self._redis = Redis(connection_pool=pool)
        self._script = self._redis.register_script(_SCRIPT)
        self._local = local
        self._clock = clock
        self._ask_again_at = -math.inf
        self.away = False
        self.stood_in = 0

    async def check(
        self, key: tuple[str, str], cost: int, *, rate_per_minute: float, burst: int
    ) -> Verdict:
        """Takes ``cost`` tokens from the bucket of ``key`` if they are there."""
        if cost > burst:
            return Verdict(False, math.inf, burst, 0.0)
        if self._clock() >= self._ask_again_at:
            try:
                return await self._ask(key, cost, 60.0 / rate_per_minute, burst)
            except (RedisError, OSError, TimeoutError) as error:
                self._stand_in(error)
        self.stood_in += 1
        return self._local.check(key, cost, rate_per_minute=rate_per_minute, burst=burst)

    async def close(self) -> None:
        """Lets go of the connections."""
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    async def _ask(self, key: tuple[str, str], cost: int, interval: float, burst: int) -> Verdict:
        name = f"{PREFIX}{key[0]}|{key[1]}"
        allowed, wait, full = await self._script(keys=[name], args=[cost, interval, burst])
        if self.away:
            self.away = False
            _LOG.info("Redis answers again: limits are shared")
        left = max(0, int(burst - float(full) / interval + 1e-6))
        return Verdict(bool(allowed), float(wait), left, float(full))

    def _stand_in(self, error: Exception) -> None:
        self._ask_again_at = self._clock() + PAUSE_SECONDS
        if not self.away:
            self.away = True
            _LOG.warning("Redis does not answer (%s): limits are of this process alone", error)
