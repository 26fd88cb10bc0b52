"""The bus that an address names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from market_data.bus.in_process import InProcessBus
from market_data.bus.port import Bus
from market_data.errors import BusError
from market_data.streaming.events import Codec, merged

GROUP = "live"
"""The group that works on events."""


@dataclass(frozen=True, slots=True)
class BusPlan:
    """What to open.

    Attributes:
        url: `memory:`, `redis://…`, `kafka://host:port/topic` or `pubsub://project/topic`.
        partitions: streams that symbols are spread over, where the bus has them.
        bound: envelopes that may wait.
    """

    url: str
    partitions: int = 8
    bound: int = 50_000

    @property
    def is_within_process(self) -> bool:
        """Whether nothing else can take part."""
        return self.url.startswith("memory:")


def open_bus(plan: BusPlan, clock: Callable[[], float]) -> Bus:
    """The bus of an address; nothing is connected yet.

    Args:
        clock: monotonic seconds.

    Raises:
        BusError: no bus has such an address, or the package of its client is not installed.
    """
    scheme = plan.url.partition(":")[0]
    if scheme == "memory":
        return InProcessBus([GROUP], Codec(), merged, clock, bound=plan.bound)
    raise BusError(f"stream.bus_url: no bus is called {scheme!r}")
