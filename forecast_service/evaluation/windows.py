"""Price paths cut into windows: a context that ends at the origin, and the complete target."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecast_service.transform import FloatArray

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class PricePath:
    """One market on a regular grid.

    Attributes:
        family: what it is evaluated with, such as its category.
        market: its id.
        event: what decides it; markets of one event are not independent.
        start: seconds since the epoch of the first value.
        step: seconds between values.
        values: [T] float64 in [0, 1], NaN = missing.
        end: seconds since the epoch of the announced end, NaN when unknown.
    """

    family: str
    market: str
    event: str
    start: int
    step: int
    values: FloatArray
    end: float = np.nan


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """N windows.

    Attributes:
        family, market, event: [N] of each window.
        origin: [N] int64, seconds since the epoch of the last value of the context.
        step: [N] int64, seconds between values.
        context: [N, T] float64, left-padded with missing values; the last one is there.
        target: [N, H] float64, complete.
        steps_to_event: [N] float64 from the origin, NaN when unknown.
    """

    family: NDArray[np.str_]
    market: NDArray[np.str_]
    event: NDArray[np.str_]
    origin: NDArray[np.int64]
    step: NDArray[np.int64]
    context: FloatArray
    target: FloatArray
    steps_to_event: FloatArray

    def __len__(self) -> int:
        return len(self.origin)

    def where(self, keep: BoolArray) -> Windows:
        """The windows for which ``keep`` [N] holds."""
        return Windows(*(getattr(self, field.name)[keep] for field in dataclasses.fields(self)))

    @property
    def settled(self) -> NDArray[np.int64]:
        """[N] seconds since the epoch of the last value of the target."""
        return np.asarray(self.origin + self.step * self.target.shape[1])


@dataclass(frozen=True, slots=True)
class Cut:
    """How windows are cut.

    Attributes:
        context: T, steps before the origin.
        horizon: H, steps after it.
        stride: steps from one origin of a market to the next; the first one lies as far in.
        strides: other strides by family.
    """

    context: int = 288
    horizon: int = 12
    stride: int = 29
    strides: Mapping[str, int] = dataclasses.field(default_factory=dict)


def windows_of(paths: Iterable[PricePath], cut: Cut) -> Windows:
    """All windows of the paths whose context ends with a price and whose target is complete."""
    context: list[FloatArray] = []
    target: list[FloatArray] = []
    about: list[tuple[str, str, str, int, int, float]] = []
    for path in paths:
        stride = cut.strides.get(path.family, cut.stride)
        padded = np.concatenate([np.full(cut.context, np.nan), path.values])
        for origin in range(stride, path.values.size - cut.horizon + 1, stride):
            before = padded[origin : origin + cut.context]
            after = path.values[origin : origin + cut.horizon]
            if np.isnan(before[-1]) or np.isnan(after).any():
                continue
            at = path.start + (origin - 1) * path.step
            context.append(before)
            target.append(after)
            to_event = (path.end - at) / path.step
            about.append((path.family, path.market, path.event, at, path.step, to_event))
    families, markets, events, origins, steps, to_events = (
        zip(*about, strict=True) if about else ((),) * 6
    )
    return Windows(
        family=np.array(families, dtype=np.str_),
        market=np.array(markets, dtype=np.str_),
        event=np.array(events, dtype=np.str_),
        origin=np.array(origins, dtype=np.int64),
        step=np.array(steps, dtype=np.int64),
        context=np.array(context).reshape(len(about), cut.context),
        target=np.array(target).reshape(len(about), cut.horizon),
        steps_to_event=np.array(to_events, dtype=np.float64),
    )


def sampled(windows: Windows, most: int, rng: np.random.Generator) -> Windows:
    """At most so many windows of each family, drawn evenly; their order stays."""
    keep = np.zeros(len(windows), dtype=bool)
    for family in np.unique(windows.family):
        places = np.flatnonzero(windows.family == family)
        if places.size > most:
            places = rng.choice(places, most, replace=False)
        keep[places] = True
    return windows.where(keep)


def time_cuts(paths: Sequence[PricePath], share: float) -> dict[str, float]:
    """By family the instant before which this share of its prices lies, seconds since the epoch."""
    times: dict[str, list[NDArray[np.int64]]] = {}
    for path in paths:
        known = path.start + np.flatnonzero(np.isfinite(path.values)) * path.step
        times.setdefault(path.family, []).append(known)
    return {family: float(np.quantile(np.concatenate(of), share)) for family, of in times.items()}
