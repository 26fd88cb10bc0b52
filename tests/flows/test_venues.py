"""A run over several venues: their markets side by side, and each failing for itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import Response

from flows import daily
from flows.settings import FlowSettings
from market_data.errors import VenueError
from market_data.replay.archive import Archive
from market_data.replay.server import RunningReplay, create_app, run_app, serve
from market_data.replay.simulate import SimulationConfig
from market_data.replay.simulate_records import simulate

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

MakeSettings = Callable[..., FlowSettings]
ALL = ("polymarket", "kalshi", "manifold")
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def mirrored() -> Archive:
    return simulate(
        SimulationConfig(
            seed=23, n_markets=90, snapshots_per_market=12, span_days=12, mirror_share=0.4
        )
    )


@pytest.fixture(scope="module")
def venues(mirrored: Archive) -> Iterator[RunningReplay]:
    with serve(mirrored) as running:
        yield running


class WithoutMerges:
    """A subgraph that refuses every question about merges."""

    def __init__(self, archive: Archive) -> None:
        self._app = create_app(archive)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = await receive()

        async def again() -> Message:
            return asked

        hit = json.loads(asked["body"])["variables"]["withMerges"]
        await (Response(status_code=400) if hit else self._app)(scope, again, send)


def everywhere(build: MakeSettings, base_url: str, **changes: Any) -> FlowSettings:
    places = {"kalshi_url": f"{base_url}/kalshi", "manifold_url": f"{base_url}/manifold"}
    return build(base_url, **({"venues": ALL} | places | changes))


def test_markets_of_all_venues_are_calibrated_and_matched(
    mirrored: Archive, venues: RunningReplay, settings_for: MakeSettings, run_row: Any
) -> None:
    settings = everywhere(settings_for, venues.base_url)
    run = daily.daily.fn(as_of=mirrored.as_of, flow_settings=settings)
    assert run_row(run)["status"] == "SUCCESS"
    for table in ("market_registry", "scoreboard"):
        assert set(run.lake.read(table)["platform"]) == set(ALL), table
    snapshots = run.lake.read("market_snapshot")
    assert set(snapshots["market_id"].str.split(":").list.first()) == set(ALL)
    found = set(run.lake.read("market_match").select("market_id", "other_id").iter_rows())
    questions = (mirrored.truth or {})["questions"]
    assert found == {(a, b) for ids in questions for a in ids for b in ids if a != b}


def test_a_venue_that_is_down_is_named_and_takes_no_other_with_it(
    mirrored: Archive, venues: RunningReplay, settings_for: MakeSettings, run_row: Any
) -> None:
    settings = everywhere(settings_for, venues.base_url, kalshi_url=NOWHERE, venue_attempts=1)
    run = daily.daily.fn(as_of=mirrored.as_of, flow_settings=settings)
    row = run_row(run)
    assert row["status"] == "PARTIAL_SUCCESS"
    assert "markets: kalshi failed for good" in row["error"]
    assert set(run.lake.read("market_registry")["platform"]) == {"polymarket", "manifold"}
    back = daily.daily.fn(
        as_of=mirrored.as_of, flow_settings=everywhere(settings_for, venues.base_url)
    )
    assert set(back.lake.read("market_registry")["platform"]) == set(ALL)


def test_a_run_without_a_single_venue_fails(
    mirrored: Archive, venues: RunningReplay, settings_for: MakeSettings
) -> None:
    settings = everywhere(
        settings_for, venues.base_url, venues=("kalshi", "manifold"),
        kalshi_url=NOWHERE, manifold_url=NOWHERE, venue_attempts=1,
    )  # fmt: skip
    with pytest.raises(VenueError, match="no answer"):
        daily.daily.fn(as_of=mirrored.as_of, flow_settings=settings)


def test_an_entity_of_the_subgraph_that_fails_is_named_in_the_run(
    mirrored: Archive, venues: RunningReplay, settings_for: MakeSettings, run_row: Any
) -> None:
    with run_app(WithoutMerges(mirrored)) as port:
        subgraph = f"http://127.0.0.1:{port}/subgraph/activity"
        settings = settings_for(venues.base_url, subgraph_url=subgraph, venue_attempts=1)
        run = daily.daily.fn(as_of=mirrored.as_of, flow_settings=settings)
    row = run_row(run)
    assert (row["status"], row["error"]) == (
        "PARTIAL_SUCCESS",
        "open_interest: failed for good: merges (VenueRefused)",
    )


def test_a_subgraph_that_is_down_is_named_and_takes_no_price_with_it(
    mirrored: Archive, venues: RunningReplay, settings_for: MakeSettings, run_row: Any
) -> None:
    settings = settings_for(venues.base_url, subgraph_url=NOWHERE, venue_attempts=1)
    run = daily.daily.fn(as_of=mirrored.as_of, flow_settings=settings)
    row = run_row(run)
    assert row["status"] == "PARTIAL_SUCCESS"
    assert row["error"] == "open_interest: failed for good: " + ", ".join(
        f"{entity} (VenueUnreachable)" for entity in ("splits", "merges", "redemptions")
    )
    assert not run.lake.read("market_snapshot").is_empty()


def test_open_interest_stays_unknown_where_polymarket_is_not_ingested(
    mirrored: Archive, venues: RunningReplay, settings_for: MakeSettings, run_row: Any
) -> None:
    settings = everywhere(settings_for, venues.base_url, venues=("manifold", "kalshi"))
    run = daily.ingest.fn(as_of=mirrored.as_of, flow_settings=settings)
    stages = json.loads(run_row(run)["stage_rows"])
    assert "no subgraph" in stages["open_interest"]["note"]
    assert set(run.lake.read("market_registry")["platform"]) == {"kalshi", "manifold"}


def test_a_venue_that_lists_nothing_is_named_beside_those_that_do(
    mirrored: Archive, settings_for: MakeSettings, run_row: Any
) -> None:
    alone = simulate(
        SimulationConfig(seed=23, n_markets=60, snapshots_per_market=12, span_days=12)
    )  # no mirrors: Kalshi and Manifold have no market
    with serve(alone) as running:
        settings = everywhere(settings_for, running.base_url)
        run = daily.ingest.fn(as_of=mirrored.as_of, flow_settings=settings)
    row = run_row(run)
    assert row["status"] == "PARTIAL_SUCCESS"
    assert "kalshi and manifold listed no market" in row["error"]
