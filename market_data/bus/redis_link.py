"""The connection to Redis: names of keys, scripts, and errors as this package has them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ConnectionError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TimeoutError,
)

from market_data.errors import BusError, BusUnavailable

_AWAY = (
    BusyLoadingError, ConnectionError, TimeoutError, OutOfMemoryError, ReadOnlyError,
    MasterDownError, OSError,
)  # fmt: skip
_PASSES = re.compile(
    r"(?:^|[\s-])(OOM|READONLY|NOREPLICAS|MISCONF|LOADING|BUSY|MASTERDOWN|TRYAGAIN)\s"
)
"""What may pass: within a script Redis tells it as text alone."""
ANSWER_SECONDS = 5.0
"""How long Redis may take to answer."""


@contextmanager
def answering() -> Iterator[None]:
    """What Redis may do wrong, as errors of this package; its address is never told.

    Raises:
        BusUnavailable: it does not answer, is starting or busy, has no memory left, cannot write
            to its disk, has lost its replicas, or is a replica now.
        BusError: it refuses what was asked.
    """
    try:
        yield
    except _AWAY as error:
        raise BusUnavailable(f"Redis does not answer: {type(error).__name__}: {error}") from error
    except RedisError as error:
        if _PASSES.search(str(error)):
            raise BusUnavailable(f"Redis cannot do it now: {error}") from error
        raise BusError(f"Redis refused: {error}") from error


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of the keys of one bus.

    Attributes:
        prefix: what they begin with.
        partitions: how many streams there are.
    """

    prefix: str
    partitions: int

    @property
    def streams(self) -> list[str]:
        """Every stream, in order."""
        return [f"{self.prefix}:events:{bucket}" for bucket in range(self.partitions)]

    def leases(self, group: str) -> list[str]:
        """The lease of every stream in ``group``, in their order."""
        return [f"{self.prefix}:lease:{group}:{bucket}" for bucket in range(self.partitions)]

    @property
    def dead(self) -> str:
        """Dead letters."""
        return f"{self.prefix}:dead"

    @property
    def counts(self) -> str:
        """What is counted over all processes."""
        return f"{self.prefix}:counts"

    @property
    def holders(self) -> str:
        """The number of the latest consumer."""
        return f"{self.prefix}:holders"

    @property
    def order(self) -> str:
        """How many entries were published, over all streams."""
        return f"{self.prefix}:order"

    def bucket_of(self, symbol: str) -> int:
        """The stream of a symbol, the same in every process.

        >>> Keys("m", 8).bucket_of("polymarket:1") == Keys("n", 8).bucket_of("polymarket:1")
        True
        """
        digest = hashlib.blake2b(symbol.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.partitions


class Link:
    """Asks Redis."""

    def __init__(self, url: str) -> None:
        self.client: Any = Redis.from_url(
            url,
            protocol=2,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._scripts: dict[str, Any] = {}

    async def run(self, script: str, keys: Sequence[str], values: Sequence[Any]) -> Any:
        """What a script of `redis_scripts` answers; raises as `answering` says."""
        registered = self._scripts.get(script)
        if registered is None:
            registered = self._scripts[script] = self.client.register_script(script)
        with answering():
            return await registered(keys=list(keys), args=list(values))

    async def ask(self, *command: Any) -> Any:
        """What a command answers; raises as `answering` says."""
        with answering():
            return await self.client.execute_command(*command)

    async def close(self) -> None:
        """Hangs up."""
        with answering():
            await self.client.aclose()
