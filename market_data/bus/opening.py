"""The bus that an address names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from market_data.bus.in_process import InProcessBus
from market_data.bus.port import Bus
from market_data.errors import BusError
from market_data.streaming.events import Codec, merged

GROUP = "live"
"""The group that works on events."""
_PREFIX = "marketcal"
_REDIS_OPTIONS = frozenset({"prefix", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_EXTRAS = {
    "redis": "stream", "rediss": "stream", "kafka": "kafka", "pubsub": "pubsub",
}  # fmt: skip


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
    opener = _OPENERS.get(scheme)
    if opener is None:
        raise BusError(f"stream.bus_url: no bus is called {scheme!r}")
    try:
        return opener(plan, _split(plan.url), clock)
    except ModuleNotFoundError as error:
        raise BusError(
            f"stream.bus_url: a bus of {scheme}: needs the package {error.name!r}; install "
            f"marketcal-platform[{_EXTRAS[scheme]}]"
        ) from error


def _split(url: str) -> SplitResult:
    """The parts of an address; it is never repeated in a message, for it may hold a password."""
    try:
        parts = urlsplit(url)
        has_port = parts.port is not None
    except ValueError as error:
        raise BusError(f"stream.bus_url: cannot be read: {error}") from error
    if not parts.hostname:
        raise BusError(f"stream.bus_url: {parts.scheme}: lacks its host or project")
    if parts.scheme == "kafka" and not has_port:
        raise BusError("stream.bus_url: kafka: lacks its port, as in kafka://host:9092/topic")
    return parts


def _options(parts: SplitResult, known: frozenset[str]) -> dict[str, str]:
    try:
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    except ValueError as error:
        raise BusError(f"stream.bus_url: its options cannot be read: {error}") from error
    unknown = sorted(set(options) - known)
    if unknown:
        raise BusError(f"stream.bus_url: {parts.scheme}: has no option {unknown[0]!r}")
    return options


def _topic(parts: SplitResult) -> str:
    topic = parts.path.strip("/")
    if not topic or "/" in topic:
        raise BusError(f"stream.bus_url: {parts.scheme}: lacks its topic")
    return topic


def _redis(plan: BusPlan, parts: SplitResult, clock: Callable[[], float]) -> Bus:  # noqa: ARG001
    from market_data.bus.redis_streams import RedisBus

    options = _options(parts, _REDIS_OPTIONS)
    prefix = options.pop("prefix", _PREFIX)
    database = parts.path.strip("/")
    if database and not database.isdecimal():
        raise BusError(f"stream.bus_url: {database!r} is no number of a Redis database")
    return RedisBus(
        parts._replace(query=urlencode(options)).geturl(),
        prefix,
        codec=Codec(),
        merge=merged,
        partitions=plan.partitions,
        bound=plan.bound,
    )


def _pubsub(plan: BusPlan, parts: SplitResult, clock: Callable[[], float]) -> Bus:  # noqa: ARG001
    from market_data.bus.pubsub import PubSubBus

    emulator = _options(parts, frozenset({"emulator"})).get("emulator", "")
    return PubSubBus(
        parts.netloc, _topic(parts), codec=Codec(), clock=clock, groups=[GROUP], emulator=emulator
    )


def _kafka(plan: BusPlan, parts: SplitResult, clock: Callable[[], float]) -> Bus:  # noqa: ARG001
    from market_data.bus.kafka import KafkaBus

    _options(parts, frozenset())
    return KafkaBus(parts.netloc, _topic(parts), codec=Codec(), clock=clock)


_OPENERS: dict[str, Callable[[BusPlan, SplitResult, Callable[[], float]], Bus]] = {
    "redis": _redis,
    "rediss": _redis,
    "kafka": _kafka,
    "pubsub": _pubsub,
}
