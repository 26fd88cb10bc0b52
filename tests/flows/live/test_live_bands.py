"""Bands for gates: asked for, waited for, and stood in for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from calibration_service.alerts.policy import load_policy
from flows.live_bands import LATE, REFUSED, BandBook, BaselineBands, Issued, levels_of
from market_data.streaming.bars import FIVE_MS
from marketcal.errors import NotReady

POLICY = load_policy()
END = 1_790_000_100_000 // FIVE_MS * FIVE_MS
SERIES = {"a": np.full(40, 0.5), "b": np.linspace(0.3, 0.4, 40), "short": np.array([0.5])}
BASELINE = BaselineBands(POLICY, 14, "ewma")


class Slow:
    """Answers when it is told to."""

    def __init__(self, fails: bool = False) -> None:
        self.go = asyncio.Event()
        self.fails = fails

    async def issue(self, issued_ms: int, series: Mapping[str, Any]) -> dict[str, Issued]:
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
    assert (found.band.issued_ms, found.band.fallback_reason) == (END, "")
    assert len(found.band.low) == 14
    assert all(low < high for low, high in zip(found.band.low, found.band.high, strict=True))


async def test_a_market_that_the_model_did_not_answer_has_a_baseline_that_says_so() -> None:
    slow = Slow()
    book = BandBook(slow, BASELINE, 5.0)
    book.begin(END, dict(SERIES))
    slow.go.set()
    await book.settle()
    found = book.before("b", END + 1)
    assert found is not None
    assert found.band.fallback_reason == REFUSED
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
        assert found.band.fallback_reason == reason
        assert book.late == 2


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
    assert later.band.issued_ms == END + FIVE_MS
    assert book.before("a", END + FIVE_MS) is None
    assert book.age_ms("a", END + 3 * FIVE_MS) == FIVE_MS


async def test_ends_of_bands_are_rounded_to_a_millionth() -> None:
    found = BASELINE.issue(END, {"b": SERIES["b"]}, "")["b"].band
    assert all(value == pytest.approx(round(value, 6), abs=0) for value in found.low + found.high)
