"""Promotion: noise promotes nobody, a better model is promoted, and every doubt keeps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from forecast_service.evaluation.promotion import (
    Bounds,
    Decision,
    Difference,
    LiveFigures,
    Verdict,
    canary,
    decide,
    differences,
)
from forecast_service.evaluation.scoring import ALL, CONFORMAL, Figure
from forecast_service.interval_scores import Interval

BOUNDS = Bounds()
HEALTHY = LiveFigures(
    requests=500, failures=0, p95_ms=20.0, probes=32, fallbacks=0, refused=0, invalid=0,
    breaker="CLOSED",
)  # fmt: skip


def losses(
    rng: np.random.Generator, gain: float, *, events: int = 60, each: int = 6
) -> tuple[np.ndarray, ...]:
    """Losses of two models: events differ in scale, and models differ by event and by window."""
    event = np.repeat(np.arange(events), each)
    scale = np.exp(rng.normal(0.0, 1.0, events))[event] * rng.gamma(2.0, 0.5, event.size)
    noise = rng.normal(0.0, 0.3, events)[event] + rng.normal(0.0, 0.5, event.size)
    champion = 0.01 * scale
    family = np.where(event % 2 == 0, "sports", "crypto")
    return champion * (1.0 - gain + noise), champion, family, event.astype(str)


def verdict_on(rng: np.random.Generator, gain: float) -> Decision:
    paired = [
        found
        for split in ("time", "events")
        for found in differences(split, *losses(rng, gain), rng=rng)
    ]
    return decide(paired, [], HEALTHY, BOUNDS)


def test_of_two_equal_models_the_champion_is_kept() -> None:
    """400 simulations. Each split alone errs in about 2.5 %; that more than 5 % of 400 promote
    when one split decides alone has probability 0.002, and both must agree."""
    rng = np.random.default_rng(11)
    promoted = sum(verdict_on(rng, 0.0).verdict == Verdict.PROMOTE for _ in range(400))
    assert promoted / 400 <= 0.05


def test_one_split_alone_errs_as_often_as_it_says() -> None:
    """800 intervals at 95 %: at most 2.5 % lie below zero, within 4 standard errors of 0.55 %,
    and 1.5 % for the skewed losses of few events."""
    rng = np.random.default_rng(12)
    below = sum(
        differences("time", *losses(rng, 0.0), rng=rng)[0].interval.high < 0.0 for _ in range(800)
    )
    assert below / 800 <= 0.025 + 4 * 0.0055 + 0.015


def test_a_model_that_is_better_by_a_third_is_promoted() -> None:
    rng = np.random.default_rng(13)
    found = [verdict_on(rng, 0.33) for _ in range(50)]
    assert sum(one.verdict == Verdict.PROMOTE for one in found) >= 45


def better(**changes: object) -> list[Difference]:
    interval = dataclasses.replace(Interval(-0.1, -0.15, -0.05, 60), **changes)  # type: ignore[arg-type]
    return [Difference(split, ALL, interval) for split in ("time", "events")]


def coverage(value: float, low: float, high: float, metric: str = "coverage_80") -> Figure:
    return Figure("native", CONFORMAL, "sports", ALL, metric, Interval(value, low, high, 60), 600)


def test_without_a_doubt_the_candidate_is_promoted() -> None:
    found = decide(better(), [("time", coverage(0.81, 0.8, 0.82))], HEALTHY, BOUNDS)
    assert (found.verdict, found.reasons) == (Verdict.PROMOTE, ())


def test_without_live_figures_nothing_is_promoted() -> None:
    found = decide(better(), [], "not measured: no gateway was named", BOUNDS)
    assert found.verdict == Verdict.KEEP
    assert found.reasons == ("canary: not measured: no gateway was named",)


def test_one_split_that_shows_nothing_keeps_the_champion() -> None:
    time, events = better()
    unsure = dataclasses.replace(events, interval=Interval(-0.1, -0.2, 0.0, 60))
    found = decide([time, unsure], [], HEALTHY, BOUNDS)
    assert found.reasons == ("events: no improvement shown, loss -10.0 % (-20.0 to +0.0)",)


def test_too_few_events_keep_the_champion() -> None:
    found = decide(better(events=29), [], HEALTHY, BOUNDS)
    assert found.reasons[0] == "time: 29 events, 30 are needed"


def test_a_family_in_which_the_candidate_is_worse_keeps_the_champion() -> None:
    worse = Difference("time", "crypto", Interval(0.02, 0.01, 0.03, 60))
    found = decide([*better(), worse], [], HEALTHY, BOUNDS)
    assert found.reasons == ("time: worse in crypto, loss +2.0 % (+1.0 to +3.0)",)


@pytest.mark.parametrize(
    ("figure", "kept"),
    [
        (coverage(0.76, 0.74, 0.78), False),
        (coverage(0.76, 0.70, 0.82), True),  # chance explains it
        (coverage(0.78, 0.775, 0.785), True),
        (coverage(0.94, 0.93, 0.95), True),  # ticks
        (coverage(0.97, 0.96, 0.98), False),
        (coverage(0.90, 0.89, 0.91, "coverage_95"), False),
    ],
)
def test_coverage_must_stay_within_bounds(figure: Figure, kept: bool) -> None:
    found = decide(better(), [("events", figure)], HEALTHY, BOUNDS)
    assert (found.verdict == Verdict.PROMOTE) == kept


def test_a_family_with_few_events_does_not_speak_but_all_of_them_do() -> None:
    few = dataclasses.replace(coverage(0.7, 0.65, 0.75), interval=Interval(0.7, 0.65, 0.75, 18))
    assert decide(better(), [("time", few)], HEALTHY, BOUNDS).verdict == Verdict.PROMOTE
    whole = dataclasses.replace(few, family=ALL)
    assert decide(better(), [("time", whole)], HEALTHY, BOUNDS).verdict == Verdict.KEEP


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"requests": 99}, "99 requests, 100 are needed"),
        ({"p95_ms": 1_000.0}, "p95 of 1000 ms is above 500 ms"),
        ({"failures": 6}, "6 of 500 series failed"),
        ({"probes": 0}, "no answer was looked at"),
        ({"fallbacks": 1}, "of 32 answers 1 came from a baseline and 0 were errors"),
        ({"refused": 1}, "of 32 answers 0 came from a baseline and 1 were errors"),
        ({"invalid": 1}, "1 of 32 answers were malformed"),
        ({"breaker": "HALF_OPEN"}, "the breaker is HALF_OPEN"),
    ],
)
def test_the_canary_gate_names_what_is_wrong(change: dict[str, float], said: str) -> None:
    assert canary(HEALTHY, BOUNDS) == []
    assert canary(dataclasses.replace(HEALTHY, **change), BOUNDS) == [f"canary: {said}"]  # type: ignore[arg-type]
