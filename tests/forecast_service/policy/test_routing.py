"""The first rule that fits the segment chooses the model of a request that names none."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from forecast_service.models.catalog import CATALOG
from forecast_service.policy.routing import Router
from forecast_service.policy.settings import PolicySettings
from forecast_service.postprocess import WidthLimits
from forecast_service.segment import UNSPECIFIED_SEGMENT, Segment, Tte, segment_of, tte_bucket


def router(**fields: Any) -> Router:
    return Router(PolicySettings(**fields), "ewma", CATALOG)


def segment(liquidity: int = 3, tte: Tte = Tte.LE_24H, category: str = "sports") -> Segment:
    return segment_of(liquidity, tte, category)


RULES = [
    {"name": "soon", "tte": "LE_6H", "model": "last_value"},
    {"name": "thin-sports", "liquidity": "LOW", "category": "sports", "model": "random_walk"},
    {"name": "long", "min_horizon_steps": 100, "max_horizon_steps": 200, "model": "local_level"},
    {"name": "sports", "category": "sports", "model": "auto"},
]


@pytest.mark.parametrize(
    ("kind", "horizon", "wanted"),
    [
        (segment(tte=Tte.LE_6H), 12, ("soon", "last_value")),
        (segment(liquidity=1), 12, ("thin-sports", "random_walk")),
        (segment(liquidity=1, category="politics"), 12, ("default", "ewma")),
        (segment(), 99, ("sports", "auto")),
        (segment(), 100, ("long", "local_level")),
        (segment(), 200, ("long", "local_level")),
        (segment(), 201, ("sports", "auto")),
        (UNSPECIFIED_SEGMENT, 12, ("default", "ewma")),
    ],
)
def test_the_first_rule_that_fits_wins(
    kind: Segment, horizon: int, wanted: tuple[str, str]
) -> None:
    assert router(routes=RULES).choose("", kind, horizon)[:2] == wanted


def test_a_request_that_names_a_model_gets_it_whatever_the_rules_say() -> None:
    assert router(routes=RULES).choose("ewma", segment(), 12)[:2] == ("asked", "ewma")


def test_width_limits_come_from_the_rule_else_from_the_liquidity() -> None:
    made = router(
        widths={"LOW": {"minimum": 0.1, "maximum": 0.8}},
        routes=[{"name": "r", "category": "crypto", "model": "auto", "width": {"minimum": 0.3}}],
    )
    assert made.choose("", segment(1), 12).limits == WidthLimits(0.1, 0.8)
    assert made.choose("ewma", segment(1), 12).limits == WidthLimits(0.1, 0.8)
    assert made.choose("", segment(3), 12).limits == WidthLimits()
    assert made.choose("", segment(1, category="crypto"), 12).limits == WidthLimits(0.3, 0.9)


@pytest.mark.parametrize(
    "fields",
    [
        {"routes": [{"name": "default", "model": "ewma"}]},
        {"routes": [RULES[0], RULES[0]]},
        {"routes": [{"name": "r", "model": "ewma", "liqidity": "LOW"}]},
        {"widths": {"LOW": {"minimum": 0.9, "maximum": 0.1}}},
        {"degraded_rate": 0.8},
    ],
)
def test_contradictory_settings_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PolicySettings(**fields)


@pytest.mark.parametrize(
    "fields", [{"routes": [{"name": "r", "model": "none"}]}, {"fallback_model": "none"}]
)
def test_a_model_that_there_is_not_is_refused_at_the_start(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="none"):
        router(**fields)


@pytest.mark.parametrize(
    ("hours", "bucket"),
    [(None, Tte.UNSPECIFIED), (0, Tte.LE_6H), (6, Tte.LE_6H), (6.01, Tte.LE_24H),
     (24, Tte.LE_24H), (72, Tte.LE_72H), (72.01, Tte.GT_72H)],
)  # fmt: skip
def test_the_time_to_the_event_falls_into_its_bucket(hours: float | None, bucket: Tte) -> None:
    assert tte_bucket(None if hours is None else hours * 3_600.0) is bucket


def test_a_category_cannot_forge_a_segment() -> None:
    forged = segment_of(0, Tte.UNSPECIFIED, "x|liquidity=HIGH").key
    assert forged.count("|") == 2
