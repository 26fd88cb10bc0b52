"""What reads say of calibration beside scores: trust explained, isotonic curves, recalibration."""

from __future__ import annotations

from typing import Any

import pytest

from marketcal.v1 import market_pb2, scoreboard_pb2


def scores(stubs: Any, metadata: Any) -> list[Any]:
    """The first page of the scoreboard."""
    request = scoreboard_pb2.ListScoresRequest(page_size=500)
    return list(stubs.scores.ListScores(request, metadata=metadata, timeout=20).scores)


def test_the_trust_of_a_market_is_explained_by_parts_that_add_up(
    stubs: Any, as_viewer: Any
) -> None:
    shown = scores(stubs, as_viewer)[0]
    answer = stubs.scores.ExplainTrust(
        scoreboard_pb2.ExplainTrustRequest(market_id=shown.market_id),
        metadata=as_viewer,
        timeout=20,
    )
    assert answer.trust == shown.trust
    assert sum(part.points for part in answer.contributions) == pytest.approx(shown.trust.score)
    assert all(part.evidence.endswith(".") for part in answer.contributions)
    assert answer.formula_version


def test_an_unknown_market_has_no_trust_to_explain(
    stubs: Any, as_viewer: Any, refused: Any
) -> None:
    request = scoreboard_pb2.ExplainTrustRequest(market_id="nobody:1")
    refusal = refused(stubs.scores.ExplainTrust, request, as_viewer)
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "MARKET_NOT_FOUND")


def test_reliability_comes_with_bins_and_with_blocks_of_isotonic_regression(
    stubs: Any, as_viewer: Any
) -> None:
    request = scoreboard_pb2.GetReliabilityRequest()
    answer = stubs.scores.GetReliability(request, metadata=as_viewer, timeout=20)
    rates = [block.observed_rate for block in answer.isotonic]
    assert len(rates) > 1
    assert rates == sorted(rates)
    scored = sum(block.sample_size for block in answer.isotonic)
    assert scored == sum(one.sample_size for one in answer.bins) == answer.scores.sample_size
    for block in answer.isotonic:
        assert 0 <= block.consistency_lower <= block.consistency_upper <= 1
    parts = answer.scores.brier_decomposition
    assert answer.scores.brier.value == pytest.approx(
        parts.miscalibration - parts.discrimination + parts.uncertainty, abs=1e-4
    )


def test_a_calibrated_probability_stands_beside_the_price_with_its_interval(
    stubs: Any, as_viewer: Any
) -> None:
    priced = [s for s in scores(stubs, as_viewer) if s.HasField("p_yes")]
    assert priced
    for shown in priced:
        found = shown.calibrated_probability
        assert 0 <= found.lower <= found.value <= found.upper <= 1
        assert shown.recalibration_version
        if shown.recalibration_method == "identity":
            assert found.value == pytest.approx(shown.p_yes)
    first = priced[0]
    request = market_pb2.GetMarketRequest(market_id=first.market_id)
    market = stubs.markets.GetMarket(request, metadata=as_viewer, timeout=20).market
    assert market.calibrated_probability == first.calibrated_probability


def test_the_quality_of_calibration_names_drift_and_the_recalibration_in_force(
    stubs: Any, as_viewer: Any
) -> None:
    request = scoreboard_pb2.GetCalibrationQualityRequest()
    answer = stubs.scores.GetCalibrationQuality(request, metadata=as_viewer, timeout=20)
    assert answer.recalibrations[0].category == ""
    assert answer.recalibrations[0].version == scores(stubs, as_viewer)[0].recalibration_version
    p_values = [one.p_value for one in answer.drift_tests]
    assert p_values == sorted(p_values)
    assert all(one.p_value_adjusted >= one.p_value for one in answer.drift_tests)
    assert answer.drift_detected == any(one.drifted for one in answer.drift_tests)
