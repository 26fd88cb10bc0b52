"""The log of issued bands: what it keeps, that it never grows, and that it loses nothing twice."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from forecast_service.band_log import BandLog
from forecast_service.batch import Bands
from forecast_service.models.catalog import CATALOG, Family, ModelCard
from forecast_service.policy.decision import Answer, CacheState, Made
from forecast_service.policy.routing import Router
from forecast_service.policy.settings import PolicySettings
from forecast_service.settings import BandLogSettings
from forecast_service.wire import Question, decode
from market_data.errors import LakeError
from market_data.lake import Lake, empty
from marketcal.v1 import forecast_pb2 as pb

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
ROUTER = Router(PolicySettings(), "ewma", CATALOG)
THINKER = ModelCard(
    **(CATALOG["ewma"].model_dump() | {"name": "thinker", "family": Family.NATIVE, "version": "3"})
)


def issued(
    market: str = "m",
    at: datetime | None = NOW,
    card: ModelCard = THINKER,
    transform: pb.Transform | None = None,
    **state: Any,
) -> tuple[Question, Answer]:
    request = pb.ForecastRequest(
        market_id=market, values=[0.5, 0.6], horizon_steps=5, transform=transform
    )
    if at is not None:
        request.as_of_time.FromDatetime(at)
    question = decode(request, ROUTER)
    quantiles = np.tile([0.4, 0.5, 0.6], (5, 1))
    bands = Bands(quantiles, 0, np.zeros(4, dtype=np.int64), 5, "test")
    return question, Answer(Made(bands, card), question.ask.series, **state)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(tmp_path / "lake")
    known = pl.DataFrame({"market_id": ["m", "other", *(f"m{i}" for i in range(5))]})
    blank = empty("market_registry").drop("schema_version")
    made.upsert("market_registry", pl.concat([blank, known], how="diagonal_relaxed"))
    return made


def log_of(lake: Any, **fields: Any) -> BandLog:
    return BandLog(lake, BandLogSettings(**fields), lambda: NOW)


def test_a_forecast_of_a_model_is_kept_at_the_fitted_steps(lake: Lake) -> None:
    log = log_of(lake)
    log.note(*issued())
    assert log.write() == 4
    rows = lake.read("forecast_band").sort("horizon_step")
    assert rows["horizon_step"].to_list() == [1, 2, 3, 4]
    assert rows.select("method", "model_id", "source", "band_calibration").row(0) == (
        "thinker", "thinker@3", "request", "raw",
    )  # fmt: skip
    assert (len(log), log.write(), lake.version("forecast_band")) == (0, 0, 1)


@pytest.mark.parametrize(
    "told",
    [
        {"at": None},
        {"card": CATALOG["ewma"]},
        {"cache": CacheState.STALE},
    ],
)
def test_what_rests_on_no_known_instant_or_on_earlier_prices_is_not_kept(
    told: dict[str, Any], lake: Lake
) -> None:
    log = log_of(lake)
    log.note(*issued(**told))
    assert len(log) == 0


@pytest.mark.parametrize("days", [-15, 1, -300_000])
def test_an_instant_that_nothing_can_be_held_against_is_not_kept(days: int, lake: Lake) -> None:
    log = log_of(lake)
    log.note(*issued(at=NOW + timedelta(days=days)))
    log.note(*issued(market="other"))
    assert log.write() == 4
    assert set(lake.read("forecast_band")["market_id"]) == {"other"}


@pytest.mark.parametrize("minutes", [-6, 6])
def test_a_forecast_of_another_time_than_now_is_not_kept(minutes: int, lake: Lake) -> None:
    log = log_of(lake)
    log.note(*issued(at=NOW + timedelta(minutes=minutes)))
    assert len(log) == 0
    log.note(*issued(at=NOW - timedelta(minutes=4)))
    assert len(log) == 1


@pytest.mark.parametrize(
    "told",
    [{"space": pb.TRANSFORM_SPACE_IDENTITY}, {"space": pb.TRANSFORM_SPACE_LOGIT, "eps": 0.2}],
)
def test_a_forecast_in_another_space_is_not_kept(told: Any, lake: Lake) -> None:
    log = log_of(lake)
    log.note(*issued(transform=pb.Transform(**told)))
    assert len(log) == 0


def test_a_band_that_was_asked_for_stands_beside_one_made_afterwards(lake: Lake) -> None:
    log = log_of(lake)
    log.note(*issued())
    log.write()
    asked = lake.read("forecast_band")
    lake.upsert("forecast_band", asked.drop("dt").with_columns(source=pl.lit("history")))
    log.note(*issued())
    log.write()
    assert lake.read("forecast_band")["source"].value_counts().sort("source").rows() == [
        ("history", 4), ("request", 4),
    ]  # fmt: skip


def test_bands_of_markets_that_the_lake_does_not_know_are_not_kept(lake: Lake) -> None:
    log = log_of(lake)
    for market in ("made up", "m", "another"):
        log.note(*issued(market=market))
    assert log.write() == 4
    assert set(lake.read("forecast_band")["market_id"]) == {"m"}
    log.note(*issued(market="made up"))
    assert (log.write(), len(log)) == (0, 0)


def test_settings_decide_about_baselines_and_about_everything(lake: Lake) -> None:
    log = log_of(lake, baselines=True)
    log.note(*issued(card=CATALOG["ewma"]))
    assert len(log) == 1
    silent = log_of(lake, enabled=False)
    silent.note(*issued())
    assert len(silent) == 0


def test_the_oldest_leaves_a_full_queue_and_is_counted(lake: Lake, caplog: Any) -> None:
    log = log_of(lake, queue=3)
    for i in range(5):
        log.note(*issued(market=f"m{i}"))
    assert (len(log), log.dropped) == (3, 2)
    log.write()
    assert set(lake.read("forecast_band")["market_id"]) == {"m2", "m3", "m4"}
    assert "2 forecasts left a full queue unwritten" in caplog.text


class Away:
    """A lake that is away for a while."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.there = False

    def read(self, *asked: Any, **told: Any) -> Any:
        return self.lake.read(*asked, **told)

    def upsert(self, table: str, frame: Any) -> Any:
        if not self.there:
            raise LakeError("away")
        return self.lake.upsert(table, frame)


def test_while_the_lake_is_away_forecasts_wait_as_far_as_there_is_room(lake: Lake) -> None:
    away = Away(lake)
    log = log_of(away, queue=3)
    for i in range(3):
        log.note(*issued(market=f"m{i}"))
    with pytest.raises(LakeError):
        log.write()
    log.note(*issued(market="m3"))
    assert (len(log), log.dropped) == (3, 1)
    away.there = True
    assert log.write() == 12
    assert set(lake.read("forecast_band")["market_id"]) == {"m1", "m2", "m3"}


def test_two_answers_for_one_instant_are_one_row_per_step(lake: Lake) -> None:
    log = log_of(lake)
    for _ in range(2):
        log.note(*issued())
    assert log.write() == 4


def test_taking_a_forecast_in_costs_a_request_microseconds(lake: Lake) -> None:
    log = log_of(lake, queue=50)
    one = issued()
    best = min(_seconds(log, one) for _ in range(20))
    assert best < 50e-6  # about 4 µs where nothing else runs


def _seconds(log: BandLog, one: tuple[Question, Answer]) -> float:
    began = time.perf_counter()
    for _ in range(100):
        log.note(*one)
    return (time.perf_counter() - began) / 100
