"""The conformal flow: bands made as they would have been, corrections fitted once, figures kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from flows import conformal_stages, history
from flows.conformal import conformal
from flows.conformal_settings import ConformalSettings
from flows.runs import NoDataError, Run
from flows.settings import FlowSettings
from flows.settled import by_model, settled_rows
from forecast_service.band_log import IssuedBand, band_rows
from forecast_service.conformal.fit import FIT_LEVELS
from forecast_service.corrections import StoredCorrections
from forecast_service.models.errors import CatalogError
from forecast_service.policy.settings import PolicySettings
from forecast_service.processes import random_walk
from forecast_service.segment import segment_of, tte_bucket
from forecast_service.settings import ForecastSettings
from forecast_service.transform import expit
from market_data.lake import Lake, empty

UNTIL = datetime(2026, 6, 15, tzinfo=UTC)
STEP = timedelta(minutes=5)
MODELS = ForecastSettings(default_model="last_value")
TABLES = ("forecast_band", "conformal_state", "conformal_coverage", "conformal_adaptive")


def registry_of(markets: list[str], **columns: Any) -> pl.DataFrame:
    """Rows of the registry that say no more than they must."""
    known = {
        "market_id": markets, "event_id": [f"event {m}" for m in markets],
        "category": ["sports"] * len(markets), "end_at": [UNTIL + timedelta(days=9)] * len(markets),
    } | columns  # fmt: skip
    blank = empty("market_registry").drop("schema_version")
    return pl.concat([blank, pl.DataFrame(known)], how="diagonal_relaxed")


def snapshots_of(market: str, times: list[datetime], prices: Any) -> pl.DataFrame:
    """Rows of snapshots that say no more than they must."""
    blank = empty("market_snapshot").drop("schema_version", "dt")
    rows = pl.DataFrame(
        {"market_id": market, "ts": times, "p_yes": prices, "liquidity_bucket": "LOW"},
        schema_overrides={"ts": pl.Datetime("us", "UTC"), "p_yes": pl.Float64},
    )
    return pl.concat([blank, rows], how="diagonal_relaxed")


def filled(folder: Path, *, markets: int = 40, days: int = 4, seed: int = 5) -> Lake:
    """A lake of random walks that end at `UNTIL`, one price each five minutes."""
    lake = Lake(folder)
    names = [f"m:{i:03}" for i in range(markets)]
    count = days * 288
    paths = expit(random_walk(np.random.default_rng(seed), series=markets, length=count))
    times = [UNTIL - STEP * (count - 1 - i) for i in range(count)]
    lake.upsert("market_registry", registry_of(names))
    rows = [snapshots_of(m, times, p) for m, p in zip(names, paths, strict=True)]
    lake.upsert("market_snapshot", pl.concat(rows))
    return lake


def chosen(lake: Lake, **fields: Any) -> FlowSettings:
    usual = {"max_steps": 24, "days": 3, "min_samples": 40, "min_events": 20, "every_steps": 17}
    return FlowSettings(
        lake=lake.url("forecast_band").removesuffix("/derived/forecast_band"),
        conformal=ConformalSettings(**(usual | fields)),
    )


def performed(lake: Lake, until: datetime = UNTIL, **fields: Any) -> Run:
    return conformal.fn(as_of=until, flow_settings=chosen(lake, **fields), forecast_settings=MODELS)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return performed(filled(tmp_path_factory.mktemp("walks") / "lake"))


def test_a_run_makes_bands_fits_a_state_and_measures_it(done: Run) -> None:
    assert list(done.stages) == ["bands", "corrections", "coverage"]
    assert all(count.rows_out > 0 for count in done.stages.values())
    (row,) = done.lake.read("run_metadata").to_dicts()
    assert (row["pipeline"], row["status"]) == ("conformal", "SUCCESS")
    state = done.lake.read("conformal_state")
    assert set(state["model"]) == {"last_value", "ewma"}
    assert state["version"].n_unique() == 1
    assert (state["samples"] >= state["events"]).all()
    assert state["horizon_step"].max() == 24


def test_the_corrected_bands_of_a_point_forecast_cover_what_they_promise(done: Run) -> None:
    rows = done.lake.read("conformal_coverage", pl.col("model") == "last_value")
    everywhere = rows.filter(pl.col("segment") == "category=*|liquidity=*|tte=*")
    assert set(everywhere["horizon_third"]) == {"short", "middle"}
    # The minimum width, 0.02, covers more than 0.8 of the first steps by itself.
    middle = everywhere.filter(pl.col("horizon_third") == "middle").to_dicts()[0]
    assert middle["before"] < 0.65
    assert middle["after_lo"] - 0.02 < 0.8 < middle["after_hi"] + 0.02
    assert middle["events"] == 40


def test_a_second_run_changes_nothing_and_makes_no_commit(done: Run) -> None:
    versions = {name: done.lake.version(name) for name in TABLES}
    before = {name: done.lake.read(name) for name in TABLES}
    again = performed(done.lake)
    assert {name: count.rows_written for name, count in again.stages.items()} == dict.fromkeys(
        again.stages, 0
    )
    assert {name: done.lake.version(name) for name in TABLES} == versions
    for name, rows in before.items():
        assert done.lake.read(name).sort(rows.columns[:9]).equals(rows.sort(rows.columns[:9]))
    assert again.run_id == done.run_id


def test_a_run_over_the_past_leaves_a_newer_state(done: Run) -> None:
    version = done.lake.version("conformal_state"), done.lake.version("conformal_coverage")
    past = performed(done.lake, UNTIL - timedelta(hours=6))
    assert "is newer and stays" in past.stages["corrections"].note
    assert version == (
        done.lake.version("conformal_state"), done.lake.version("conformal_coverage"),
    )  # fmt: skip


def test_a_later_run_makes_a_new_version_and_keeps_as_many_as_it_is_told(tmp_path: Path) -> None:
    lake = filled(tmp_path / "lake", days=3)
    for hours in (9, 6, 3, 0):
        performed(lake, UNTIL - timedelta(hours=hours), days=2, keep_versions=2, max_steps=6)
    fitted = lake.read("conformal_state")["fitted_at"].unique().sort().to_list()
    assert fitted[-1] == UNTIL
    assert len(fitted) == 3  # two before, and the one in force
    stored = StoredCorrections(lake)
    assert stored.refresh()
    assert stored.current is not None
    assert stored.current.version.startswith("20260615T000000Z-")


def test_no_prices_are_no_success(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    with pytest.raises(NoDataError, match="no price before"):
        performed(lake)
    (row,) = lake.read("run_metadata").to_dicts()
    assert (row["status"], row["error_stage"]) == ("FAILED", "bands")


def test_too_few_prices_are_no_success_and_the_run_says_what_is_needed(tmp_path: Path) -> None:
    lake = filled(tmp_path / "lake", markets=2, days=1)
    with pytest.raises(NoDataError, match="40 independent windows of 20 events"):
        performed(lake)
    assert lake.version("conformal_state") is None


def test_a_model_that_cannot_be_loaded_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    lake = filled(tmp_path / "lake", markets=25, days=2)
    missing = ForecastSettings(
        models=("chronos-bolt-tiny",), environment="research", default_model="ewma",
        weights_folder=str(tmp_path), weights_digests={"chronos-bolt-tiny": "sha256:" + "0" * 64},
        policy=PolicySettings(low_liquidity_to_baseline=False),
    )  # fmt: skip
    run = conformal.fn(
        as_of=UNTIL, forecast_settings=missing,
        flow_settings=chosen(lake, models=("ewma", "chronos-bolt-tiny"), days=2, max_steps=2),
    )  # fmt: skip
    assert run.stages["bands"].failures == 1
    assert run.failures[0].startswith("bands: no bands of chronos-bolt-tiny (")
    assert lake.read("run_metadata")["status"].to_list() == ["PARTIAL_SUCCESS"]


# What is made afterwards knows nothing of what came later


@given(cut=st.integers(300, 560), seed=st.integers(0, 99))
@examples(max_examples=25)
def test_a_band_made_afterwards_rests_on_no_later_price(cut: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    t = np.cumsum(rng.integers(200, 400, 600)) + 1_750_000_000
    p = rng.random(600)
    told = {"since": int(t[200]), "until": int(t[-1]), "every_steps": 7, "context_steps": 64}
    whole = history.contexts("m", t, p, **told)
    other = history.contexts("m", t, np.where(np.arange(600) > cut, rng.random(600), p), **told)
    assert whole is not None
    assert other is not None
    before = whole.origin < t[cut + 1]
    assert before.any()
    np.testing.assert_array_equal(whole.values[before], other.values[before])
    for origin, values in zip(whole.origin, whole.values, strict=True):
        assert values[-1] == p[np.searchsorted(t, origin, side="right") - 1]


# What happened


def band_row(**fields: Any) -> dict[str, Any]:
    usual = {
        "ts": UNTIL - timedelta(hours=2), "market_id": "m", "method": "ewma", "horizon_step": 6,
        "step_seconds": 300, "levels": list(FIT_LEVELS), "values": [0.5] * 11,
        "model_id": "ewma@1", "band_calibration": "raw", "source": "history",
        "origin_price": 0.5, "conformal_version": None,
    }  # fmt: skip
    return usual | fields


def judged(prices: pl.DataFrame, **fields: Any) -> pl.DataFrame:
    bands = pl.DataFrame([band_row(**fields)]).with_columns(
        pl.col("ts").cast(pl.Datetime("us", "UTC"))
    )
    registry = registry_of(["m"]).select("market_id", "event_id", "category", "end_at")
    kept = prices.select("market_id", "ts", "p_yes", "liquidity_bucket")
    return settled_rows(bands, kept, registry, until=UNTIL, max_price_gap=0.05)


def prices_at(minutes: list[int], prices: list[float]) -> pl.DataFrame:
    origin = UNTIL - timedelta(hours=2)
    return snapshots_of("m", [origin + timedelta(minutes=m) for m in minutes], prices)


def test_a_price_of_zero_is_a_price() -> None:
    assert judged(prices_at([0, 30], [0.5, 0.0]))["actual"].to_list() == [0.0]


@pytest.mark.parametrize(
    ("minutes", "prices"),
    [
        ([0, 29], [0.5, 0.4]),  # the recording ends before: who knows what came
        ([-40, 200], [0.5, 0.4]),  # the last price is more than an hour old
        ([31], [0.5]),  # nothing before
    ],
)
def test_what_nobody_recorded_is_missing(minutes: list[int], prices: list[float]) -> None:
    assert judged(prices_at(minutes, prices))["actual"].to_list() == [None]


def test_a_price_is_carried_to_the_step_while_the_market_goes_on() -> None:
    assert judged(prices_at([0, 20, 31], [0.5, 0.4, 0.9]))["actual"].to_list() == [0.4]


@pytest.mark.parametrize(("price", "counts"), [(0.54, True), (0.56, False), (None, False)])
def test_a_band_on_prices_that_were_never_recorded_does_not_count(
    price: float | None, counts: bool
) -> None:
    found = judged(prices_at([0, 30], [0.5, 0.4]), source="request", origin_price=price)
    assert (found.height == 1) == counts


@pytest.mark.parametrize("hours", [0, 6, 6.5, 24, 72, 100, None])
def test_segments_are_written_like_those_of_requests(hours: float | None) -> None:
    registry = registry_of(["m"], category=["a|b"]).with_columns(
        end_at=pl.lit(
            None if hours is None else UNTIL - timedelta(hours=2) + timedelta(hours=hours),
            pl.Datetime("us", "UTC"),
        )
    )
    bands = pl.DataFrame([band_row()]).with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))
    kept = prices_at([0, 30], [0.5, 0.4]).select("market_id", "ts", "p_yes", "liquidity_bucket")
    rows = settled_rows(
        bands, kept, registry.select("market_id", "event_id", "category", "end_at"),
        until=UNTIL, max_price_gap=0.05,
    )  # fmt: skip
    seconds = None if hours is None else hours * 3600
    assert rows["segment"].to_list() == [segment_of(1, tte_bucket(seconds), "a|b").key]


def test_bands_at_other_levels_count_at_the_levels_that_they_have() -> None:
    fields: dict[str, Any] = {"levels": [0.1, 0.5, 0.9], "values": [0.3, 0.5, 0.7]}
    (found,) = by_model(judged(prices_at([0, 30], [0.5, 0.4]), **fields))
    quantiles = found.by_step[6].quantiles[0]
    known = np.isfinite(quantiles)
    assert [level for level, has in zip(FIT_LEVELS, known, strict=True) if has] == [
        0.1, 0.5, 0.9,
    ]  # fmt: skip
    assert quantiles[known].tolist() == [0.3, 0.5, 0.7]


def test_what_callers_ask_for_takes_nothing_from_what_is_made_afterwards(
    done: Run, tmp_path: Path
) -> None:
    lake = filled(tmp_path / "lake")
    grid = [UNTIL - 17 * STEP * i for i in range(60)]
    asked = [
        IssuedBand(
            int(at.timestamp() * 1e6), f"m:{i:03}", "last_value", "1", 300, (0.1, 0.5, 0.9),
            np.array([1, 2]), np.tile([0.4, 0.5, 0.6], (2, 1)), 0.5,
        )
        for at in grid for i in range(40)
    ]  # fmt: skip
    lake.upsert("forecast_band", band_rows(asked, source="request"))
    performed(lake)
    of, key = pl.col("source") == "history", ["ts", "market_id", "method", "horizon_step"]
    of &= pl.col("ts") >= UNTIL - timedelta(days=3)
    found, usual = (one.read("forecast_band", of).sort(key) for one in (lake, done.lake))
    assert found.equals(usual)
    columns = ["model", "segment", "width_class", "horizon_step", "level"]
    assert (
        lake.read("conformal_state")
        .sort(columns)
        .equals(done.lake.read("conformal_state").sort(columns))
    )
    assert lake.read("forecast_band", pl.col("source") == "request").height == 2 * len(asked)


def test_an_adaptive_share_is_counted_once_however_often_the_flow_runs(tmp_path: Path) -> None:
    lake = filled(tmp_path / "lake", markets=25, days=2)
    told = {"adaptive": True, "gamma": 0.05, "days": 2, "max_steps": 2}
    performed(lake, **told)
    first = lake.read("conformal_adaptive").sort("model", "segment", "horizon_step")
    assert first.height > 0
    assert (first["alpha"] != first["target"]).any()
    version = lake.version("conformal_adaptive")
    performed(lake, **told)
    assert lake.version("conformal_adaptive") == version
    again = lake.read("conformal_adaptive").sort("model", "segment", "horizon_step")
    assert again.equals(first)


def test_the_coverage_told_is_that_of_the_shares_in_force(tmp_path: Path) -> None:
    lake = filled(tmp_path / "lake", markets=40, days=3)
    told = {"days": 3, "max_steps": 2, "models": ("last_value",)}
    performed(lake, **told)
    usual = lake.read("conformal_coverage").sort("segment", "horizon_third")
    performed(lake, UNTIL + STEP, adaptive=True, gamma=0.2, **told)
    of = pl.col("as_of") == UNTIL + STEP
    found = lake.read("conformal_coverage", of).sort("segment", "horizon_third")
    assert (found["width_after"] - usual["width_after"]).abs().max() > 0.001  # type: ignore[operator]
    shares = lake.read("conformal_adaptive")
    assert set(shares["state_version"]) == set(usual["version"])


def test_a_run_that_ends_before_its_state_is_written_counts_no_outcome_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = filled(tmp_path / "lake", markets=25, days=2)
    told = {"adaptive": True, "gamma": 0.05, "days": 2, "max_steps": 2}

    def away(*_: Any) -> int:
        raise OSError("away")

    with monkeypatch.context() as broken:
        broken.setattr(conformal_stages, "_keep", away)
        with pytest.raises(OSError, match="away"):
            performed(lake, **told)
    first = lake.read("conformal_adaptive").sort("model", "segment", "horizon_step")
    assert first.height > 0
    performed(lake, **told)
    assert lake.read("conformal_adaptive").sort("model", "segment", "horizon_step").equals(first)


def test_a_cadence_of_few_events_is_told_and_no_failure(tmp_path: Path) -> None:
    lake = filled(tmp_path / "lake", markets=25, days=2)
    hours = [UNTIL - timedelta(hours=i) for i in range(48)]
    lake.upsert("market_registry", registry_of(["odd"]))
    lake.upsert("market_snapshot", snapshots_of("odd", hours, [0.4 + i / 200 for i in range(48)]))
    run = performed(lake, days=2, max_steps=2, models=("ewma",), every_steps=5)
    assert run.stages["corrections"].note == "too few settled bands, not corrected: ewma at 3600 s"
    assert run.stages["corrections"].failures == 0


def test_bands_long_before_the_window_go(tmp_path: Path) -> None:
    lake = filled(tmp_path / "lake", markets=25, days=2)
    ages = (30, 40)
    old = [
        IssuedBand(
            int((UNTIL - timedelta(days=age)).timestamp() * 1e6), "m:001", "ewma", "1", 300,
            (0.1, 0.5, 0.9), np.array([1]), np.tile([0.4, 0.5, 0.6], (1, 1)), 0.5,
        )
        for age in ages
    ]  # fmt: skip
    lake.upsert("forecast_band", band_rows(old, source="request"))
    performed(lake, days=2, max_steps=2, models=("ewma",))
    kept = lake.read("forecast_band", pl.col("source") == "request")
    assert kept["ts"].to_list() == [UNTIL - timedelta(days=30)]


def test_a_model_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="there is no model oracle"):
        conformal_stages.chosen_models(ConformalSettings(models=("oracle",)), ForecastSettings())
