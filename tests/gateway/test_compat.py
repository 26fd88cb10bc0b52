"""The paths of the API before v1 answer in their old form, with v1's answers and v1's rules."""

from __future__ import annotations

import doctest
import json
from typing import Any

import pytest
from google.protobuf import json_format

from gateway.compat import translation
from marketcal.v1 import forecast_pb2, market_pb2, scoreboard_pb2
from marketcal.v1 import legacy_pb2 as pb

PRICES = [0.4 + 0.001 * (i % 60) for i in range(96)]


def old_request(**fields: Any) -> pb.TsfmForecastRequest:
    """A good request in the old form, bent by the given fields."""
    given: dict[str, Any] = {"market_id": "polymarket:1", "y": PRICES, "freq": "5m"}
    return json_format.ParseDict(given | fields, pb.TsfmForecastRequest())


def test_the_examples_of_the_translation_hold() -> None:
    result = doctest.testmod(translation)
    assert result.attempted > 0
    assert result.failed == 0


def a_market(stubs: Any, as_viewer: Any) -> str:
    """A market with scores."""
    scores = stubs.scores.ListScores(scoreboard_pb2.ListScoresRequest(), metadata=as_viewer)
    return str(scores.scores[0].market_id)


def test_a_forecast_has_the_bands_of_v1_by_level(
    stubs: Any, as_forecaster: Any, make_request: Any
) -> None:
    answer = stubs.compat.TsfmForecast(
        old_request(horizon_steps=3, quantiles=[0.05, 0.5], model={"model_name": "ewma"}),
        metadata=as_forecaster,
    )
    asked = make_request(values=PRICES, horizon_steps=3, quantiles=[0.05, 0.5],
                         model={"name": "ewma"})  # fmt: skip
    v1 = stubs.forecasts.Forecast(asked, metadata=as_forecaster)

    assert answer.market_id == "polymarket:1"
    assert set(answer.yhat_q) == {"0.05", "0.5"}
    for path in v1.quantile_paths:
        assert list(answer.yhat_q[repr(path.level)].values) == list(path.values)
    assert answer.meta.model_name == "ewma"
    assert not answer.meta.fallback_used
    assert answer.meta.fallback_reason == ""


def test_a_horizon_of_nought_is_twelve_steps(stubs: Any, as_forecaster: Any) -> None:
    answer = stubs.compat.TsfmForecast(old_request(), metadata=as_forecaster)
    assert {len(path.values) for path in answer.yhat_q.values()} == {12}
    assert set(answer.yhat_q) == {"0.1", "0.5", "0.9"}


def test_a_fallback_and_its_warnings_are_said_in_words(stubs: Any, as_forecaster: Any) -> None:
    answer = stubs.compat.TsfmForecast(
        old_request(y=[0.5, 0.6], x_past={"volume": [1, None]}), metadata=as_forecaster
    )
    asked = forecast_pb2.ForecastRequest(market_id="polymarket:1", values=[0.5, 0.6])
    v1 = stubs.forecasts.Forecast(asked, metadata=as_forecaster).meta

    assert answer.meta.fallback_used == v1.fallback_used
    assert f"FALLBACK_REASON_{answer.meta.fallback_reason or 'UNSPECIFIED'}" == (
        forecast_pb2.FallbackReason.Name(v1.fallback_reason)
    )
    assert any("covariates" in warning for warning in answer.meta.warnings)


BAD = [
    ({"y": [0.5, 1.5, 0.5]}, "y[1]"),
    ({"as_of_ts": "yesterday"}, "as_of_ts"),
    ({"as_of_ts": "2026-13-45T00:00:00Z"}, "as_of_ts"),
    ({"freq": "5 minutes"[:8]}, "freq"),
    ({"quantiles": [0.5, 0.1]}, "quantiles[1]"),
    ({"quantiles": [1.0]}, "quantiles[0]"),
    ({"transform": {"space": "sqrt"}}, "transform.space"),
    ({"transform": {"eps": 0.5}}, "transform.eps"),
    ({"x_past": {"volume": [1.0]}}, "x_past.volume"),
    ({"x_past": {"volume": 1.0}}, "x_past.volume"),
    ({"x_past": {"volume": [1.0, "a"]}}, "x_past.volume[1]"),
    ({"x_future": {"day": [1.0]}}, "x_future.day"),
    ({"y": [0.5]}, "y"),
    ({"market_id": ""}, "market_id"),
]


@pytest.mark.parametrize(("fields", "path"), BAD, ids=[json.dumps(b[0])[:40] for b in BAD])
def test_refuses_a_bad_field_by_its_old_name(
    fields: dict[str, Any], path: str, stubs: Any, refused: Any, as_forecaster: Any
) -> None:
    refusal = refused(stubs.compat.TsfmForecast, old_request(**fields), as_forecaster)
    assert (refusal.code, refusal.fields) == ("INVALID_ARGUMENT", [path])
    assert refusal.message.startswith(f"{path}:")


def test_refuses_a_model_that_does_not_exist(stubs: Any, refused: Any, as_forecaster: Any) -> None:
    request = old_request(model={"model_name": "no-such"})
    assert refused(stubs.compat.TsfmForecast, request, as_forecaster).reason == "MODEL_NOT_FOUND"


def test_a_viewer_may_not_forecast_by_the_old_path(
    stubs: Any, refused: Any, as_viewer: Any
) -> None:
    assert refused(stubs.compat.TsfmForecast, old_request(), as_viewer).reason == "SCOPE_MISSING"


def test_a_comparison_holds_the_model_against_the_baseline(stubs: Any, as_forecaster: Any) -> None:
    asked = old_request()
    answer = stubs.compat.MarketComparison(
        pb.MarketComparisonRequest(id="polymarket:1", forecast=asked), metadata=as_forecaster
    )
    assert answer.baseline.meta.model_name == "ewma"
    assert set(answer.tollama.yhat_q) == set(answer.baseline.yhat_q) == {"0.1", "0.5", "0.9"}


@pytest.mark.parametrize(
    ("fields", "path"),
    [({"y": [0.5, 2.0]}, "forecast.y[1]"), ({"market_id": "another"}, "forecast.market_id"),
     ({"as_of_ts": "never"}, "forecast.as_of_ts"), ({"transform": {"eps": 1.0}},
      "forecast.transform.eps")],
)  # fmt: skip
def test_refuses_a_comparison_by_the_old_names(
    fields: dict[str, Any], path: str, stubs: Any, refused: Any, as_forecaster: Any
) -> None:
    request = pb.MarketComparisonRequest(id="polymarket:1", forecast=old_request(**fields))
    refusal = refused(stubs.compat.MarketComparison, request, as_forecaster)
    assert (refusal.code, refusal.fields) == ("INVALID_ARGUMENT", [path])


def test_the_scoreboard_lists_what_v1_lists(stubs: Any, as_viewer: Any) -> None:
    v1 = stubs.scores.ListScores(
        scoreboard_pb2.ListScoresRequest(page_size=7, min_trust_score=20), metadata=as_viewer
    )
    old = stubs.compat.Scoreboard(
        pb.ScoreboardRequest(limit=7, min_trust_score=20), metadata=as_viewer
    )
    assert old.total == v1.total_size > 7
    assert [row["market_id"] for row in old.items] == [one.market_id for one in v1.scores]
    for row, score in zip(old.items, v1.scores, strict=True):
        assert row["trust_score"] == score.trust.score
        assert row["p_yes"] == (score.p_yes if score.HasField("p_yes") else None)
        assert row["liquidity_bucket"] in {"UNSPECIFIED", "LOW", "MID", "HIGH"}
        assert str(row["as_of_ts"]).endswith("Z")


@pytest.mark.parametrize("limit", [0, 3])
def test_a_limit_of_nought_is_the_default_page(limit: int, stubs: Any, as_viewer: Any) -> None:
    old = stubs.compat.Markets(pb.MarketsRequest(limit=limit), metadata=as_viewer)
    assert len(old.items) == (limit or 50)
    assert old.total > 50


def test_markets_are_filtered_by_platform_and_status(stubs: Any, as_viewer: Any) -> None:
    answer = stubs.compat.Markets(
        pb.MarketsRequest(platform="polymarket", status="RESOLVED"), metadata=as_viewer
    )
    assert answer.total > 0
    assert {row["status"] for row in answer.items} == {"RESOLVED"}
    none = stubs.compat.Markets(pb.MarketsRequest(platform="elsewhere"), metadata=as_viewer)
    assert (none.total, len(none.items)) == (0, 0)


@pytest.mark.parametrize(
    ("method", "request_", "path"),
    [
        ("Scoreboard", pb.ScoreboardRequest(liquidity_bucket="HUGE"), "liquidity_bucket"),
        ("Scoreboard", pb.ScoreboardRequest(window="soon"), "window"),
        ("Scoreboard", pb.ScoreboardRequest(window="9999d"), "window"),
        ("Scoreboard", pb.ScoreboardRequest(min_trust_score=101), "min_trust_score"),
        ("Scoreboard", pb.ScoreboardRequest(limit=-1), "limit"),
        ("Markets", pb.MarketsRequest(status="OPEN"), "status"),
        ("Alerts", pb.AlertsRequest(severity="LOUD"), "severity"),
        ("Alerts", pb.AlertsRequest(since="lately"), "since"),
        ("MarketById", pb.MarketByIdRequest(), "id"),
    ],
)
def test_refuses_an_unknown_text_by_its_old_name(
    method: str, request_: Any, path: str, stubs: Any, refused: Any, as_viewer: Any
) -> None:
    refusal = refused(getattr(stubs.compat, method), request_, as_viewer)
    assert (refusal.code, refusal.fields) == ("INVALID_ARGUMENT", [path])


def test_one_market_and_its_metrics_are_those_of_v1(stubs: Any, as_viewer: Any) -> None:
    market_id = a_market(stubs, as_viewer)
    market = stubs.compat.MarketById(pb.MarketByIdRequest(id=market_id), metadata=as_viewer).market
    v1 = stubs.markets.GetMarket(
        market_pb2.GetMarketRequest(market_id=market_id), metadata=as_viewer
    ).market
    assert (market["market_id"], market["question"]) == (market_id, v1.question)
    assert list(market["outcomes"]) == list(v1.outcomes)
    metrics = stubs.compat.MarketMetrics(
        pb.MarketMetricsRequest(id=market_id), metadata=as_viewer
    ).metrics
    assert metrics["market_id"] == market_id
    assert 0 <= metrics["trust_score"] <= 100


def test_a_post_mortem_is_told_as_a_text(stubs: Any, as_viewer: Any) -> None:
    listed = stubs.markets.ListPostmortems(
        market_pb2.ListPostmortemsRequest(page_size=1), metadata=as_viewer
    ).postmortems[0]
    answer = stubs.compat.PostmortemById(
        pb.PostmortemByIdRequest(id=listed.market_id), metadata=as_viewer
    )
    assert answer.market_id == listed.market_id
    assert answer.content.startswith(f"# {listed.question}\n")
    assert listed.summary in answer.content
    assert all(lesson in answer.content for lesson in listed.lessons)


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("MarketById", pb.MarketByIdRequest(id="mkt-1")),
        ("MarketMetrics", pb.MarketMetricsRequest(id="mkt-1")),
        ("PostmortemById", pb.PostmortemByIdRequest(id="mkt-1")),
    ],
)
def test_nothing_is_invented_for_a_market_that_does_not_exist(
    method: str, request_: Any, stubs: Any, refused: Any, as_viewer: Any
) -> None:
    refusal = refused(getattr(stubs.compat, method), request_, as_viewer)
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "MARKET_NOT_FOUND")
