"""Bands for gates: asked for, waited for, and stood in for."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from calibration_service.alerts.policy import load_policy
from calibration_service.alerts.values import Band
from flows.live_bands import (
    ITEMS,
    LATE,
    REFUSED,
    BandBook,
    BaselineBands,
    GatewayBands,
    levels_of,
)
from market_data.streaming.bars import FIVE_MS
from marketcal.errors import NotReady
from marketcal.v1 import forecast_pb2 as pb

POLICY = load_policy()
END = 1_790_000_100_000 // FIVE_MS * FIVE_MS
SERIES = {"a": np.full(40, 0.5), "b": np.linspace(0.3, 0.4, 40), "short": np.array([0.5])}
BASELINE = BaselineBands(POLICY, 14, "ewma")


class Slow:
    """Answers when it is told to."""

    def __init__(self, fails: bool = False) -> None:
        self.go = asyncio.Event()
        self.fails = fails

    async def issue(self, issued_ms: int, series: Mapping[str, Any]) -> dict[str, Band]:
        await self.go.wait()
        if self.fails:
            raise NotReady("not now", retry_after=1.0)
        found = BASELINE.issue(issued_ms, series, "")
        return {name: found[name] for name in found if name != "b"}


def test_levels_are_those_of_the_policy_with_the_median() -> None:
    assert levels_of(POLICY) == (0.005, 0.1, 0.5, 0.9, 0.995)


async def test_a_gate_waits_for_the_band_and_uses_none_from_its_own_bar() -> None:
    slow = Slow()
    book = BandBook(slow, BASELINE, 5.0)
    book.begin(END, dict(SERIES))
    slow.go.set()
    await book.settle()
    assert book.before("a", END) is None
    found = book.before("a", END + 1)
    assert found is not None
    assert (found.issued_ms, found.fallback_reason) == (END, "")
    assert len(found.low) == 14
    assert all(low < high for low, high in zip(found.low, found.high, strict=True))


async def test_a_market_that_the_model_did_not_answer_has_a_baseline_that_says_so() -> None:
    slow = Slow()
    book = BandBook(slow, BASELINE, 5.0)
    book.begin(END, dict(SERIES))
    slow.go.set()
    await book.settle()
    found = book.before("b", END + 1)
    assert found is not None
    assert found.fallback_reason == REFUSED
    assert not found.is_corrected
    assert book.late == 1


async def test_what_comes_too_late_or_not_at_all_is_stood_in_for() -> None:
    late = BandBook(Slow(), BASELINE, 0.01)
    late.begin(END, dict(SERIES))
    await late.settle()
    refused = BandBook(Slow(fails=True), BASELINE, 5.0)
    refused.bands.go.set()  # type: ignore[attr-defined]
    refused.begin(END, dict(SERIES))
    await refused.settle()
    for book, reason in ((late, LATE), (refused, REFUSED)):
        found = book.before("a", END + 1)
        assert found is not None
        assert found.fallback_reason == reason
        assert book.late == 2


class Parts:
    """Answers each call as it is told to."""

    def __init__(self, answers: list[str]) -> None:
        self.answers = answers
        self.asked: list[int] = []

    async def issue(self, issued_ms: int, series: Mapping[str, Any]) -> dict[str, Band]:
        self.asked.append(len(series))
        answer = self.answers[len(self.asked) - 1]
        if answer == "refuses":
            raise NotReady("not now", retry_after=1.0)
        if answer == "hangs":
            await asyncio.Event().wait()
        return BASELINE.issue(issued_ms, series, "")


@pytest.mark.parametrize(("answer", "reason"), [("refuses", REFUSED), ("hangs", LATE)])
async def test_a_part_that_fails_does_not_cost_those_that_came(answer: str, reason: str) -> None:
    parts = Parts(["answers", answer, "answers"])
    book = BandBook(parts, BASELINE, 0.2)
    names = [f"m{number:04}" for number in range(2 * ITEMS + 1)]
    book.begin(END, dict.fromkeys(names, np.linspace(0.3, 0.4, 40)))
    await book.settle()
    assert parts.asked == [ITEMS, ITEMS, 1]
    reasons = [book.issued[name][0].fallback_reason for name in names]
    assert reasons == [""] * ITEMS + [reason] * ITEMS + [""]
    assert book.late == ITEMS


class Gateway:
    """Answers with the given results, whatever it is asked."""

    def __init__(self, *answers: pb.BatchForecastResult) -> None:
        self.answer = pb.BatchForecastResponse(results=answers)

    async def batch_forecast(self, items: Any, timeout: float) -> pb.BatchForecastResponse:
        return self.answer


def answered(paths: int, steps: int, value: float = 0.5, corrected: int = 0) -> Any:
    def several(count: int) -> list[pb.QuantilePath]:
        return [pb.QuantilePath(values=[value] * steps) for _ in range(count)]

    forecast = pb.ForecastResponse(
        quantile_paths=several(paths), conformal_paths=several(corrected)
    )
    forecast.meta.model_name = "asked"
    return pb.BatchForecastResult(forecast=forecast)


async def test_what_a_gateway_answers_otherwise_than_asked_is_refused_market_by_market() -> None:
    gateway = Gateway(
        answered(5, 14), answered(4, 14), answered(5, 13), answered(5, 14, math.nan),
        answered(0, 0), answered(5, 14, corrected=5),
    )  # fmt: skip
    bands = GatewayBands(gateway, POLICY, 14, "", 5.0)  # type: ignore[arg-type]
    book = BandBook(bands, BASELINE, 5.0)
    names = ["good", "few", "short", "holes", "none", "corrected", "unanswered"]
    book.begin(END, dict.fromkeys(names, np.linspace(0.3, 0.4, 40)))
    await book.settle()
    found = {name: book.issued[name][0] for name in names}
    refused = [name for name, band in found.items() if band.fallback_reason == REFUSED]
    assert refused == ["few", "short", "holes", "none", "unanswered"]
    assert found["good"].model == "asked"
    assert [name for name, band in found.items() if band.is_corrected] == ["corrected"]


async def test_bands_of_markets_that_are_gone_are_given_up() -> None:
    book = BandBook(Slow(), BASELINE, 0.01)
    book.begin(END, dict(SERIES))
    await book.settle()
    book.forget(["a", "never"])
    assert set(book.issued) == {"b"}


async def test_a_series_that_is_too_short_has_no_band() -> None:
    book = BandBook(Slow(), BASELINE, 0.01)
    book.begin(END, dict(SERIES))
    await book.settle()
    assert book.before("short", END + 1) is None


async def test_the_last_two_bands_are_kept() -> None:
    book = BandBook(Slow(), BASELINE, 0.01)
    for n in range(3):
        book.begin(END + n * FIVE_MS, dict(SERIES))
        await book.settle()
    later = book.before("a", END + 2 * FIVE_MS)
    assert later is not None
    assert later.issued_ms == END + FIVE_MS
    assert book.before("a", END + FIVE_MS) is None
    assert book.age_ms("a", END + 3 * FIVE_MS) == FIVE_MS


async def test_ends_of_bands_are_rounded_to_a_millionth() -> None:
    found = BASELINE.issue(END, {"b": SERIES["b"]}, "")["b"]
    assert all(value == pytest.approx(round(value, 6), abs=0) for value in found.low + found.high)
