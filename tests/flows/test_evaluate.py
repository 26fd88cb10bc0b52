"""The evaluation flow: the same scores and files each time, no promotion without live figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import SecretStr

from flows import canary, evaluation_report
from flows.evaluate import chosen, evaluate
from flows.evaluation_settings import EvaluationSettings
from flows.evaluation_sources import digest, from_lake
from flows.evaluation_stages import Order
from flows.runs import NoDataError, Run
from flows.settings import FlowSettings
from forecast_service.evaluation.promotion import Bounds, LiveFigures
from forecast_service.evaluation.promotion import canary as canary_reasons
from forecast_service.evaluation.scoring import METRICS
from forecast_service.evaluation.windows import Cut, PricePath, windows_of
from forecast_service.models.catalog import CATALOG, configured
from forecast_service.models.errors import CatalogError
from forecast_service.policy.settings import PolicySettings
from forecast_service.settings import ForecastSettings
from market_data.lake import Lake

ORDER = Order(models=("random_walk",), champion="ewma")
STAGES = ["histories", "forecasts", "scores", "promotion", "report"]
SMALL = EvaluationSettings(
    context_steps=24, horizon_steps=3, stride_steps=3, time_share=0.6, canary_probes=4
)


def settings_of(published: Any, folder: Path, **changes: Any) -> FlowSettings:
    small = SMALL.model_copy(update={"reports": str(folder / "reports"), **changes})
    return FlowSettings(lake=str(published.lake), evaluation=small)


@pytest.fixture(scope="module")
def own(publish: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A lake that this module may write to."""
    return publish(tmp_path_factory.mktemp("evaluated"), markets=150, seed=4)


@pytest.fixture(scope="module")
def run(own: Any) -> Run:
    return evaluate.fn(ORDER, as_of=own.as_of, flow_settings=settings_of(own, own.folder))


def rows(run: Run, table: str) -> pl.DataFrame:
    return run.lake.read(table, pl.col("run_id") == run.run_id)


def test_every_stage_runs_and_every_metric_has_its_interval(run: Run) -> None:
    assert list(run.stages) == STAGES
    scores = rows(run, "evaluation")
    assert set(scores["metric"]) == set(METRICS)
    assert set(scores["split"]) == {"time", "events"}
    assert set(scores["model"]) == {"ewma", "random_walk"}
    assert set(scores["steps"]) == {"all", "1", "2", "3"}
    known = scores.drop_nulls("value")
    slack = 1e-9
    assert (known["low"] <= known["value"] + slack).all()
    assert (known["value"] <= known["high"] + slack).all()


def test_the_verdict_without_a_gateway_is_to_keep(run: Run) -> None:
    (row,) = rows(run, "promotion").to_dicts()
    assert (row["candidate"], row["champion"], row["verdict"]) == ("random_walk", "ewma", "KEEP")
    assert row["reasons"][-1] == "canary: not measured: no gateway was named"
    assert {one["split"] for one in json.loads(row["differences"])} == {"time", "events"}


def test_the_report_holds_json_pictures_and_one_page_with_all_in_it(run: Run) -> None:
    folder = evaluation_report.folder_of(run)
    names = {path.name for path in folder.iterdir()}
    assert names == {"report.json", "report.html", "fan.png", "coverage.png", "pinball.png"}
    for picture in folder.glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "http" not in page
    record = json.loads((folder / "report.json").read_text())
    assert record["decisions"]["random_walk"]["verdict"] == "KEEP"
    assert record["resampled_block"].startswith("event")
    assert record["splits"]["events"]["scored"] > 0


def test_a_second_run_writes_nothing(own: Any, run: Run) -> None:
    versions = {table: run.lake.version(table) for table in ("evaluation", "promotion")}
    again = evaluate.fn(ORDER, as_of=own.as_of, flow_settings=settings_of(own, own.folder))
    assert again.run_id == run.run_id
    assert [again.stages[name].rows_written for name in STAGES] == [0] * len(STAGES)
    assert {table: run.lake.version(table) for table in versions} == versions


def test_other_models_are_another_run(own: Any, run: Run, tmp_path: Path) -> None:
    other = Order(models=("last_value",), champion="ewma")
    found = evaluate.fn(other, as_of=own.as_of, flow_settings=settings_of(own, tmp_path))
    assert found.run_id != run.run_id
    assert rows(run, "evaluation").height == run.stages["scores"].rows_out


def test_who_is_in_force_makes_another_run(own: Any, run: Run, tmp_path: Path) -> None:
    turned = Order(models=("ewma",), champion="random_walk")
    found = evaluate.fn(turned, as_of=own.as_of, flow_settings=settings_of(own, tmp_path))
    assert found.run_id != run.run_id
    assert rows(run, "promotion")["champion"].to_list() == ["ewma"]
    assert rows(found, "promotion")["champion"].to_list() == ["random_walk"]


def test_recorded_files_are_told_apart_by_their_names_and_content(tmp_path: Path) -> None:
    first = digest(tmp_path)
    (tmp_path / "prices").mkdir()
    (tmp_path / "prices" / "a").write_text("1")
    second = digest(tmp_path)
    (tmp_path / "prices" / "a").write_text("2")
    third = digest(tmp_path)
    (tmp_path / "prices" / "a").rename(tmp_path / "prices" / "b")
    assert len({first, second, third, digest(tmp_path)}) == 4
    (tmp_path / "prices" / "b").rename(tmp_path / "prices" / "a")
    assert digest(tmp_path) == third


def test_no_price_after_the_end_or_after_the_run_is_seen(published: Any) -> None:
    lake = Lake(published.lake)
    middle = lake.read("market_snapshot")["ts"].median()
    assert middle is not None
    found = windows_of(*_paths(lake, middle))
    assert len(found)
    assert found.settled.max() <= middle.timestamp()  # type: ignore[union-attr]
    ended = dict(
        lake.read("market_registry", pl.col("closed_at").is_not_null())
        .select("market_id", pl.col("closed_at").dt.epoch("s"))
        .iter_rows()
    )
    for market, settled in zip(found.market.tolist(), found.settled.tolist(), strict=True):
        assert settled <= ended.get(market, np.inf)


def _paths(lake: Lake, until: Any) -> Any:
    found = from_lake(lake, until, SMALL)
    return found.paths, found.cut


def test_an_empty_lake_fails_the_run(tmp_path: Path) -> None:
    settings = FlowSettings(lake=str(tmp_path / "lake"), evaluation=SMALL)
    with pytest.raises(NoDataError, match="holds no price"):
        evaluate.fn(ORDER, flow_settings=settings)
    row = Lake(tmp_path / "lake").read("run_metadata").to_dicts()[0]
    assert (row["status"], row["error_stage"]) == ("FAILED", "histories")


def test_histories_that_are_too_short_fail_the_run(own: Any, tmp_path: Path) -> None:
    settings = settings_of(own, tmp_path, stride_steps=5_000)
    with pytest.raises(NoDataError, match="nothing to evaluate"):
        evaluate.fn(ORDER, as_of=own.as_of, flow_settings=settings)


def test_a_folder_without_recorded_prices_fails_the_run(own: Any, tmp_path: Path) -> None:
    order = ORDER.model_copy(update={"recorded": tmp_path})
    with pytest.raises(NoDataError, match="no recorded prices"):
        evaluate.fn(order, as_of=own.as_of, flow_settings=settings_of(own, tmp_path))


def test_an_unknown_model_and_a_licence_that_forbids_it_are_refused() -> None:
    with pytest.raises(CatalogError, match="no model 'crystal_ball'"):
        chosen(Order(models=("crystal_ball",)), ForecastSettings())
    with pytest.raises(CatalogError, match="research"):
        chosen(Order(models=("moirai-2.0-small",)), ForecastSettings())


def test_a_model_of_the_catalogue_need_not_be_deployed() -> None:
    bare = ForecastSettings(models=(), default_model="ewma")
    cards = chosen(Order(models=("native", "random_walk")), bare)
    assert list(cards) == ["ewma", "native", "random_walk"]


def test_live_figures_are_those_of_the_gateway(published: Any, gateway: Any) -> None:
    windows = windows_of(*_paths(Lake(published.lake), published.as_of))
    key = SecretStr(gateway.key("forecaster", rate_per_minute=1e7, burst=1_000_000))
    found = measured(gateway.address, key, CATALOG["random_walk"], windows)
    assert isinstance(found, LiveFigures)
    assert (found.probes, found.fallbacks, found.refused, found.invalid) == (4, 0, 0, 0)
    assert found.requests >= 1
    assert 0.0 < found.p95_ms < 2_000.0


def test_only_windows_that_the_policy_gives_to_a_model_are_probed(gateway: Any) -> None:
    prices = 0.5 + 0.2 * np.sin(np.arange(400) / 9.0)
    paths = [PricePath("f", f"m{i}", f"e{i}", 0, 300, prices + i / 1e3) for i in range(40)]
    windows = windows_of(paths, Cut())
    card = configured(ForecastSettings(models=("native",)))["native"]
    few = np.isfinite(windows.context).sum(axis=1) < 32
    assert few.sum() == 40
    key = SecretStr(gateway.key("forecaster", rate_per_minute=1e7, burst=1_000_000))
    found = measured(gateway.address, key, card, windows, probes=12)
    assert isinstance(found, LiveFigures)
    assert (found.probes, found.fallbacks, found.refused) == (12, 0, 0)
    none = measured(gateway.address, key, card, windows.where(few))
    assert none == "not measured: there is no window for which the policy asks a model"


def test_another_version_or_other_weights_than_those_evaluated_are_not_measured(
    published: Any, gateway: Any
) -> None:
    windows = windows_of(*_paths(Lake(published.lake), published.as_of))
    key = SecretStr(gateway.key("forecaster"))
    for other in ({"version": "2"}, {"digest": "sha256:" + "0" * 64}):
        card = CATALOG["ewma"].model_copy(update=other)
        found = measured(gateway.address, key, card, windows)
        assert isinstance(found, str)
        assert found.startswith("not measured: the gateway has ewma@1 with the weights none")


def measured(address: str, key: Any, card: Any, windows: Any, probes: int = 4) -> Any:
    return canary.measured(
        address, key, card, windows, probes=probes, policy=PolicySettings(),
        rng=np.random.default_rng(1),
    )  # fmt: skip


def test_a_gateway_that_does_not_know_the_model_or_does_not_answer_measures_nothing(
    published: Any, gateway: Any
) -> None:
    windows = windows_of(*_paths(Lake(published.lake), published.as_of))
    key = SecretStr(gateway.key("forecaster"))
    strange = CATALOG["ewma"].model_copy(update={"name": "crystal_ball"})
    unknown = measured(gateway.address, key, strange, windows)
    assert isinstance(unknown, str)
    assert unknown.startswith("not measured: MODEL_NOT_FOUND")
    silent = measured("127.0.0.1:9", key, CATALOG["ewma"], windows)
    assert isinstance(silent, str)
    assert silent.startswith("not measured: UNAVAILABLE")
    away = measured("gateway:50051", key, CATALOG["ewma"], windows)
    assert isinstance(away, str)
    assert away.startswith("not measured: address: gateway:50051 is not on this machine")


def test_a_latency_beyond_all_bars_is_no_number_in_the_record() -> None:
    live = LiveFigures(200, 0, np.inf, 4, 0, 0, 0, "CLOSED")
    assert evaluation_report.live_record(live)["p95_ms"] is None
    assert canary_reasons(live, Bounds()) == ["canary: p95 of inf ms is above 500 ms"]


def test_the_95th_percentile_is_the_upper_end_of_its_bar() -> None:
    class Bar:
        def __init__(self, upper_bound: float, count: int) -> None:
            self.upper_bound, self.count = upper_bound, count

    assert canary.p95([Bar(1.0, 94), Bar(5.0, 6), Bar(np.inf, 0)]) == 5.0
    assert canary.p95([Bar(1.0, 95), Bar(5.0, 5)]) == 1.0
    assert np.isnan(canary.p95([Bar(1.0, 0)]))
