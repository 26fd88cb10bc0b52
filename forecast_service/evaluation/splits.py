"""What is fitted and what is measured: apart in time, and apart in events."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from forecast_service.evaluation.windows import BoolArray, Windows

HELD_OUT_SHARE = 1 / 3
"""Share of events that are measured in the split by events."""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Two parts of the windows.

    Attributes:
        name: "time" or "events".
        calibration: [N] bool, windows on which corrections are fitted.
        test: [N] bool, windows that are scored.
        pool: [N] bool, those to fit on that may speak for families other than their own.
    """

    name: str
    calibration: BoolArray
    test: BoolArray
    pool: BoolArray


def by_time(windows: Windows, cuts: Mapping[str, float]) -> Split:
    """Settled before the family's cut to fit, begun a horizon or more after it to measure.

    Families have cuts of their own; one speaks for another only by what was settled before any
    window that is measured began.
    """
    cut = np.array([cuts[family] for family in windows.family.tolist()])
    embargo = windows.settled - windows.origin
    calibration, test = windows.settled <= cut, windows.origin >= cut + embargo
    earliest = windows.origin[test].min() if test.any() else np.inf
    return Split("time", calibration, test, calibration & (windows.settled <= earliest))


def by_events(windows: Windows, share: float = HELD_OUT_SHARE) -> Split:
    """Held-out events to measure, all others to fit, whenever they were."""
    held = {event: held_out(event, share) for event in np.unique(windows.event).tolist()}
    test = np.array([held[event] for event in windows.event.tolist()], dtype=bool)
    return Split("events", ~test, test, ~test)


def held_out(event: str, share: float = HELD_OUT_SHARE) -> bool:
    """Whether an event is held out: by its name alone, so that no run moves it to the other side.

    Training holds out the same events.

    >>> held_out("a", 0.0), held_out("a", 1.0)
    (False, True)
    """
    digest = hashlib.blake2b(event.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64
