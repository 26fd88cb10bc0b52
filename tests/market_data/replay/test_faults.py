"""Faults are decided by the seed and bounded for each request."""

from __future__ import annotations

import dataclasses

import httpx
import pytest

from market_data.replay.archive import Archive
from market_data.replay.faults import FaultPlan
from market_data.replay.server import serve


def outcomes(archive: Archive, plan: FaultPlan, requests: int) -> list[str]:
    """What one request and its repetitions meet."""
    met = []
    with serve(archive, faults=plan) as venue:
        for _ in range(requests):
            try:
                answer = httpx.get(f"{venue.base_url}/gamma/markets", params={"limit": 2})
                met.append(f"{answer.status_code}:{len(answer.content)}")
            except httpx.RemoteProtocolError:
                met.append("dropped")
    return met


def test_the_same_seed_meets_the_same_faults(archive: Archive) -> None:
    plan = dataclasses.replace(FaultPlan.everything(0.5, seed=2), latency_ms=1.0)
    assert outcomes(archive, plan, 6) == outcomes(archive, plan, 6)


@pytest.mark.parametrize("kind", ["rate_limit", "server_error", "drop", "truncate"])
def test_each_fault_harms_a_request_at_most_as_often_as_allowed(
    archive: Archive, kind: str
) -> None:
    plan = dataclasses.replace(FaultPlan(max_per_request=2), **{kind: 1.0})
    met = outcomes(archive, plan, 4)
    assert met[0] == met[1] != met[2] == met[3]
    assert met[2].startswith("200:")


def test_a_repeated_page_is_the_one_before(archive: Archive) -> None:
    with serve(archive, faults=FaultPlan(repeat=1.0)) as venue, httpx.Client() as client:
        pages = [
            client.get(
                f"{venue.base_url}/gamma/markets", params={"limit": 2, "offset": offset}
            ).json()
            for offset in (0, 2, 2)
        ]
    assert pages[0] == pages[1]
    assert pages[2] == archive.markets[2:4]


def test_a_plan_is_read_from_text_and_unknown_faults_are_refused() -> None:
    plan = FaultPlan.parse("drop=0.5, max_per_request=3, seed=9")
    assert (plan.drop, plan.max_per_request, plan.seed) == (0.5, 3, 9)
    with pytest.raises(ValueError, match="unknown fault 'flood'"):
        FaultPlan.parse("flood=1")
