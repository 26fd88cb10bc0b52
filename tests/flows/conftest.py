"""What the tests of the flows share: an archive, its venue, settings, and what the tables hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flows import daily
from flows.runs import Run
from flows.settings import FlowSettings
from market_data.lake import VOLATILE, Lake
from market_data.replay.archive import Archive
from market_data.replay.server import RunningReplay, serve
from market_data.replay.simulate import SimulationConfig
from market_data.replay.simulate_records import simulate
from market_data.schemas import TABLES

MakeSettings = Callable[..., FlowSettings]
Contents = dict[str, pl.DataFrame]

_NOT_DATA = ("run_metadata", "raw_file", "stage_input")
"""When a run was, in which answers its data came, in which files they lie: no two runs share it."""


@pytest.fixture(scope="session")
def archive() -> Archive:
    """More than 250 histories, so that prices come in more than one batch; few days, few files."""
    return simulate(SimulationConfig(seed=21, n_markets=280, snapshots_per_market=16, span_days=12))


@pytest.fixture(scope="session")
def replay(archive: Archive) -> Iterator[RunningReplay]:
    with serve(archive) as running:
        yield running


@pytest.fixture(scope="session")
def settings_in() -> Callable[..., FlowSettings]:
    """Settings of a flow that reads the venue at a URL into the lake below a folder."""

    def build(folder: Path, base_url: str, **changes: Any) -> FlowSettings:
        values: dict[str, Any] = {
            "lake": str(folder / "lake"),
            "raw": str(folder / "raw"),
            "gamma_url": f"{base_url}/gamma",
            "clob_url": f"{base_url}/clob",
            "subgraph_url": f"{base_url}/subgraph/activity",
            "venue_rate": 0,
            "venue_concurrency": 16,
            "venue_backoff_seconds": 0.01,
        }
        return FlowSettings(**(values | changes))

    return build


@pytest.fixture
def settings_for(tmp_path: Path, settings_in: Callable[..., FlowSettings]) -> MakeSettings:
    """Settings of a flow that reads the venue at a URL into a lake of this test."""

    def build(base_url: str, lake: str = "lake", **changes: Any) -> FlowSettings:
        places = {"lake": str(tmp_path / lake), "raw": str(tmp_path / lake / "raw")}
        return settings_in(tmp_path, base_url, **(places | changes))

    return build


def read_tables(settings: FlowSettings) -> Contents:
    """Every table of data in a fixed order of rows, without what says where a row was seen."""
    lake = Lake(settings.lake)
    found: Contents = {}
    for name, table in TABLES.items():
        if name not in _NOT_DATA:
            rows = lake.read(name).drop(VOLATILE.get(name, ()))
            found[name] = rows.sort(table.key)
    return found


@pytest.fixture(scope="session")
def contents() -> Callable[[FlowSettings], Contents]:
    """Reads the tables that a flow with these settings has filled."""
    return read_tables


@pytest.fixture(scope="session")
def expected(undisturbed: Run) -> Contents:
    """The tables of the undisturbed run."""
    return read_tables(undisturbed.settings)


@pytest.fixture(scope="session")
def undisturbed(
    archive: Archive,
    replay: RunningReplay,
    settings_in: Callable[..., FlowSettings],
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """A run that nothing got in the way of; its lake is read only."""
    settings = settings_in(tmp_path_factory.mktemp("undisturbed"), replay.base_url)
    return daily.daily.fn(as_of=archive.as_of, flow_settings=settings)


@pytest.fixture
def run_row() -> Callable[[Run | FlowSettings], dict[str, Any]]:
    """The one row of ``run_metadata`` in a lake."""

    def read(where: Run | FlowSettings) -> dict[str, Any]:
        lake = where.lake if isinstance(where, Run) else Lake(where.lake)
        rows = lake.read("run_metadata").to_dicts()
        assert len(rows) == 1
        return rows[0]

    return read
