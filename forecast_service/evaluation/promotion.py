"""Whether a candidate may take the place of the champion.

PROMOTE only if all of this holds, else KEEP with every reason:

- the paired difference of the losses has an interval below zero in each split, over enough events;
- in no family with enough events is the candidate shown to be worse;
- its corrected bands cover within bounds in each split, over all and in those families;
- its live figures pass the canary gate. Without live figures nothing is promoted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from forecast_service import interval_scores as scores
from forecast_service.evaluation.scoring import ALL, CONFORMAL, Figure
from forecast_service.interval_scores import Interval
from forecast_service.transform import FloatArray

PROMISED = {"coverage_80": 0.80, "coverage_95": 0.95}


class Verdict(StrEnum):
    """What is to be done."""

    PROMOTE = "PROMOTE"
    KEEP = "KEEP"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a candidate must keep.

    Attributes:
        min_events: fewest events of the test part whose interval is believed.
        under, over: how far coverage may be below and above what is promised. Prices have ticks
            and most steps are still, so that a band of any width covers too much; too little has
            no such excuse.
        p95_ms, failure_share, fallback_share, requests: of the canary gate: largest 95th
            percentile of the latency, largest shares, fewest requests.
    """

    min_events: int = 30
    under: float = 0.03
    over: float = 0.15
    p95_ms: float = 500.0
    failure_share: float = 0.01
    fallback_share: float = 0.02
    requests: int = 100


@dataclass(frozen=True, slots=True)
class LiveFigures:
    """What a gateway says about a model.

    Attributes:
        requests: series that the model was sent; failures: of them without an answer.
        p95_ms: upper end of the bar in which the 95th percentile of the latency lies.
        probes: forecasts that were asked for to look at the answers.
        fallbacks: of the probes, those that a baseline answered.
        refused: of the probes, those that got an error.
        invalid: of the probes, those whose answer was malformed, here or for the gateway.
        breaker: state of the breaker, such as "CLOSED"; "" when none stands before the model.
    """

    requests: int
    failures: int
    p95_ms: float
    probes: int
    fallbacks: int
    refused: int
    invalid: int
    breaker: str


@dataclass(frozen=True, slots=True)
class Difference:
    """Candidate minus champion: paired loss, in units of the champion's mean loss of the family.

    Attributes:
        split, family: where.
        interval: below zero the candidate is better.
    """

    split: str
    family: str
    interval: Interval


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict and why.

    Attributes:
        verdict: PROMOTE or KEEP.
        reasons: why not; none for PROMOTE.
        differences: what it rests on.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    differences: tuple[Difference, ...]


def differences(
    split: str,
    candidate: FloatArray,
    champion: FloatArray,
    family: NDArray[np.str_],
    event: NDArray[np.str_],
    *,
    rng: np.random.Generator,
) -> list[Difference]:
    """Paired differences over all windows and by family.

    Each window's difference is divided by the champion's mean loss in its family, for families
    differ in scale by orders of magnitude. Intervals (95 %) resample events.

    Args:
        candidate, champion: [N] losses of the same windows.
        family, event: [N].
    """
    _, of = np.unique(family, return_inverse=True)
    mean = np.bincount(of, champion) / np.bincount(of)
    relative = (candidate - champion) / np.maximum(mean, 1e-12)[of]
    found = [Difference(split, ALL, scores.mean(relative, event, rng=rng))]
    for name in np.unique(family).tolist():
        rows = family == name
        found.append(Difference(split, name, scores.mean(relative[rows], event[rows], rng=rng)))
    return found


def decide(
    paired: Sequence[Difference],
    figures: Sequence[tuple[str, Figure]],
    live: LiveFigures | str,
    bounds: Bounds,
) -> Decision:
    """The verdict on one candidate.

    Args:
        paired: its differences in all splits.
        figures: its scores with the split they belong to.
        live: what the gateway says of it, or why nothing was measured.
        bounds: what it must keep.
    """
    reasons = [
        *_not_better(paired, bounds),
        *_outside(figures, bounds),
        *(canary(live, bounds) if isinstance(live, LiveFigures) else [f"canary: {live}"]),
    ]
    verdict = Verdict.KEEP if reasons else Verdict.PROMOTE
    return Decision(verdict, tuple(reasons), tuple(paired))


def canary(live: LiveFigures, bounds: Bounds) -> list[str]:
    """What speaks against a model in its live figures."""
    reasons = []
    if live.requests < bounds.requests:
        reasons.append(f"{live.requests} requests, {bounds.requests} are needed")
    if not live.p95_ms <= bounds.p95_ms:
        reasons.append(f"p95 of {live.p95_ms:g} ms is above {bounds.p95_ms:g} ms")
    if live.failures > bounds.failure_share * live.requests:
        reasons.append(f"{live.failures} of {live.requests} series failed")
    if not live.probes:
        reasons.append("no answer was looked at")
    if live.fallbacks + live.refused > bounds.fallback_share * live.probes:
        reasons.append(
            f"of {live.probes} answers {live.fallbacks} came from a baseline and "
            f"{live.refused} were errors"
        )
    if live.invalid:
        reasons.append(f"{live.invalid} of {live.probes} answers were malformed")
    if live.breaker not in ("", "CLOSED"):
        reasons.append(f"the breaker is {live.breaker}")
    return [f"canary: {reason}" for reason in reasons]


def _not_better(paired: Sequence[Difference], bounds: Bounds) -> list[str]:
    reasons = []
    for one in paired:
        found = one.interval
        said = f"{100 * found.value:+.1f} % ({100 * found.low:+.1f} to {100 * found.high:+.1f})"
        if one.family != ALL:
            if found.low > 0.0 and found.events >= bounds.min_events:
                reasons.append(f"{one.split}: worse in {one.family}, loss {said}")
        elif found.events < bounds.min_events:
            reasons.append(f"{one.split}: {found.events} events, {bounds.min_events} are needed")
        elif not found.high < 0.0:
            reasons.append(f"{one.split}: no improvement shown, loss {said}")
    return reasons


def _outside(figures: Sequence[tuple[str, Figure]], bounds: Bounds) -> list[str]:
    """Corrected bands of all steps that cover too little or too much, beyond what chance does."""
    reasons = []
    for split, figure in figures:
        promised = PROMISED.get(figure.metric)
        if promised is None or (figure.band, figure.steps) != (CONFORMAL, ALL):
            continue
        found = figure.interval
        if figure.family != ALL and found.events < bounds.min_events:
            continue
        within = promised - bounds.under <= found.value <= promised + bounds.over
        if not (within or found.low <= promised <= found.high):
            reasons.append(
                f"{split}: {figure.metric} of {figure.family} is {found.value:.3f} "
                f"({found.low:.3f} to {found.high:.3f})"
            )
    return reasons
