"""Remembered forecasts: for the same input a while, for the same market when its model fails.

A forecast is found by the digest of everything that it rests on, prices included, and then it is a
HIT. When a model fails it is found by caller, market, query and kind of bands alone, with earlier
prices, and then it is STALE; the caller is part of that key because those prices were the caller's
word. Both ways lead to one entry, and entries leave in the order of their last use when their bytes
pass the bound.
"""

from __future__ import annotations

import hashlib
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from forecast_service.batch import Bands, Query
from forecast_service.policy.decision import Ask, FallbackReason, Inputs, Made, inputs_of
from forecast_service.policy.settings import PolicySettings

ENTRY_BYTES = 1_500
"""What an entry holds besides its numbers: keys, names, records, places in two tables."""

_DIGEST = len("sha256:") + 12
"""Characters of a digest that tell weights apart."""

StaleKey = tuple[str, str, Query, int]


def input_key(ask: Ask, conformal_version: str = "") -> bytes:
    """Digest of everything that a forecast rests on; [16] bytes.

    The market is no part of it: equal prices asked equally have equal forecasts, as long as the
    same state corrects them.
    """
    series = ask.series
    model = (ask.card.version, ask.card.digest)
    asked = _asked(ask.query, model, int(ask.band), ask.segment.key, conformal_version)
    digest = asked.copy()
    digest.update(struct.pack("<d", series.steps_to_event))
    digest.update(series.values.tobytes())
    return digest.digest()


@lru_cache(maxsize=1024)
def _asked(
    query: Query, model: tuple[str, str], band: int, segment: str, conformal_version: str
) -> hashlib.blake2b:
    """The digest of all that many requests share; it is copied, never updated."""
    version, digest = model  # a version is written by hand; the weights speak for themselves
    text = repr((
        query.model, version, digest[:_DIGEST], query.horizon_steps, query.levels,
        query.transform.space.value, query.transform.eps, query.freq_seconds,
        query.limits.minimum, query.limits.maximum, band, segment, conformal_version,
    ))  # fmt: skip
    return hashlib.blake2b(text.encode(), digest_size=16)


def stale_key(ask: Ask) -> StaleKey:
    """What an earlier forecast must share with a request to stand in for its answer."""
    return ask.caller, ask.market_id, ask.query, int(ask.band)  # whose hash is quick


@dataclass(slots=True, eq=False)
class _Entry:
    """A remembered forecast; ``stale_key`` is None for one that never stands in.

    ``inputs`` are those of the model that was asked for.
    """

    made: Made
    fresh_until: float
    stale_until: float
    size: int
    stale_key: StaleKey | None
    inputs: Inputs


class ForecastCache:
    """Forecasts by their input and by their market, least recently used first to go."""

    def __init__(self, settings: PolicySettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._latest: dict[StaleKey, bytes] = {}
        self.size = 0
        """Bytes of all entries."""

    def __len__(self) -> int:
        return len(self._entries)

    def fresh(self, key: bytes) -> Made | None:
        """The forecast for exactly this input, while it is fresh."""
        entry = self._entries.get(key)
        if entry is None or entry.fresh_until <= self._clock():
            return None
        self._entries.move_to_end(key)
        return entry.made

    def stale(self, ask: Ask) -> tuple[Made, Inputs] | None:
        """The asked model's last forecast for the market and what it saw, while it may stand in."""
        key = self._latest.get(stale_key(ask))
        entry = self._entries.get(key) if key is not None else None
        if entry is None or entry.stale_until <= self._clock():
            return None
        return entry.made, entry.inputs

    def put(self, key: bytes, ask: Ask, made: Made) -> Made:
        """Remembers a forecast; returns it with numbers that nobody can change any more.

        A forecast by a stand-in is remembered shortly, and never as an earlier answer of the
        model that it stood in for.
        """
        now, settings = self._clock(), self._settings
        kept = _frozen(made)
        numbers = kept.bands.quantiles.nbytes + kept.bands.adjusted.nbytes
        if kept.corrected is not None:
            numbers += kept.corrected.quantiles.nbytes
        size = ENTRY_BYTES + len(ask.market_id) + int(numbers)
        if size > settings.cache_bytes:
            return kept
        self._remove(key)
        if made.reason is FallbackReason.NONE:
            fresh, stale = settings.cache_seconds, settings.cache_stale_seconds
            of_market: StaleKey | None = stale_key(ask)
        else:
            fresh = stale = settings.cache_fallback_seconds
            of_market = None
        inputs = inputs_of(ask.series)
        self._entries[key] = _Entry(kept, now + fresh, now + stale, size, of_market, inputs)
        self.size += size
        if of_market is not None:
            self._latest[of_market] = key
        while self.size > settings.cache_bytes:
            self._remove(next(iter(self._entries)))
        return kept

    def _remove(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self.size -= entry.size
        if entry.stale_key is not None and self._latest.get(entry.stale_key) == key:
            del self._latest[entry.stale_key]


def _frozen(made: Made) -> Made:
    """The same with own, read-only arrays: those of a batch would be kept alive as a whole."""
    of = made.bands
    quantiles, adjusted = of.quantiles.copy(), of.adjusted.copy()
    quantiles.flags.writeable = adjusted.flags.writeable = False
    bands = Bands(quantiles, of.flags, adjusted, of.effective_horizon, of.served_by, of.source)
    if made.corrected is not None:
        made.corrected.quantiles.flags.writeable = False
    return made._replace(bands=bands)
