"""Requests become questions, and answers become messages; what cannot be is refused by field."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from forecast_service import wire
from forecast_service.bands import QuantileSource
from forecast_service.batch import Bands
from forecast_service.models.catalog import CATALOG
from forecast_service.policy.breaker import BreakerState
from forecast_service.policy.decision import Answer, BandKind, CacheState, FallbackReason, Made
from forecast_service.policy.degradation import DegradationState
from forecast_service.policy.routing import Router
from forecast_service.policy.settings import PolicySettings
from forecast_service.segment import UNSPECIFIED_SEGMENT, Liquidity, Tte
from forecast_service.transform import Space
from marketcal.errors import InvalidArgument, ModelNotFound, TooLarge
from marketcal.v1 import forecast_pb2 as pb
from marketcal.v1 import segments_pb2

ROUTER = Router(PolicySettings(), "ewma", CATALOG)


def request(**fields: Any) -> pb.ForecastRequest:
    return pb.ForecastRequest(**({"market_id": "m", "values": [0.4, 0.5, 0.6]} | fields))


def answer_to(question: wire.Question, **fields: Any) -> Answer:
    shape = (question.ask.query.horizon_steps, len(question.ask.query.levels))
    given_fields: dict[str, Any] = {
        "quantiles": np.linspace(0.1, 0.9, shape[0] * shape[1]).reshape(shape),
        "flags": 0, "adjusted": np.zeros(4, dtype=np.int64), "effective_horizon": shape[0],
        "served_by": "test",
    }  # fmt: skip
    bands = Bands(**(given_fields | fields))
    return Answer(Made(bands, question.ask.card), question.ask.series, CacheState.MISS)


def test_unset_fields_have_the_defaults_of_the_contract() -> None:
    question = wire.decode(request(), ROUTER)

    assert question.ask.query.model == "ewma"
    assert question.ask.query.horizon_steps == 12
    assert question.ask.query.levels == (0.1, 0.5, 0.9)
    assert (question.ask.query.transform.space, question.ask.query.transform.eps) == (
        Space.LOGIT,
        1e-6,
    )
    assert question.freq == "5m"


@given(name=st.sampled_from(sorted(CATALOG)), horizon=st.integers(1, 2_016))
def test_paths_come_level_by_level(name: str, horizon: int) -> None:
    asked = request(model=pb.ModelSpec(name=name), horizon_steps=horizon, quantiles=[0.2, 0.8])
    question = wire.decode(asked, ROUTER)
    given = answer_to(question)

    answer = wire.encode(asked, question, given, 0.25)

    paths = np.array([path.values for path in answer.quantile_paths])
    np.testing.assert_array_equal(paths, given.made.bands.quantiles.T)
    assert [path.level for path in answer.quantile_paths] == [0.2, 0.8]
    assert (answer.meta.model_name, answer.meta.served_by) == (name, "test")
    assert answer.meta.latency.ToMilliseconds() == 250


def test_leading_gaps_are_dropped_and_others_counted() -> None:
    asked = request(values=[math.nan, math.nan, 0.5, math.nan, 0.5, 0.5])
    question = wire.decode(asked, ROUTER)

    meta = wire.encode(asked, question, answer_to(question), 0.0).meta

    assert (meta.input_length, meta.missing_ratio) == (4, 0.25)


def test_every_adjustment_has_its_own_warning() -> None:
    question = wire.decode(request(), ROUTER)
    given = answer_to(question, adjusted=np.array([4, 3, 2, 1]), flags=1)

    found = wire.encode(request(), question, given, 0.0).meta.warnings

    assert {w.code: w.count for w in found} == {
        pb.WARNING_CODE_CLIPPED: 4,
        pb.WARNING_CODE_QUANTILES_REARRANGED: 3,
        pb.WARNING_CODE_WIDENED: 2,
        pb.WARNING_CODE_NARROWED: 1,
        pb.WARNING_CODE_SHORT_HISTORY: 1,
    }
    assert all(warning.message for warning in found)


@pytest.mark.parametrize(
    ("eps", "good"), [(0.0, True), (1e-12, True), (0.01, True), (9e-13, False)]
)
def test_a_clip_that_rounding_would_lose_is_refused(eps: float, good: bool) -> None:
    asked = request(transform=pb.Transform(eps=eps))
    if good:
        assert wire.decode(asked, ROUTER).ask.query.transform.eps == (eps or 1e-6)
        return
    with pytest.raises(InvalidArgument) as caught:
        wire.decode(asked, ROUTER)
    assert caught.value.violations[0].field == "transform.eps"


def test_the_name_of_an_unknown_model_is_short_in_the_message_and_whole_in_the_details() -> None:
    with pytest.raises(ModelNotFound) as caught:
        wire.decode(request(model=pb.ModelSpec(name="x" * 64, version="7")), ROUTER)
    assert caught.value.resource == ("marketcal.v1.Model", "x" * 64)
    assert len(caught.value.message) < 250


@pytest.mark.parametrize("count", [39, 40, 41])
def test_the_totals_of_a_batch_are_bounded_exactly(count: int) -> None:
    batch = pb.BatchForecastRequest(items=[request(values=[0.5] * 10_000)] * count)
    if count <= 40:
        wire.check_totals(batch.items)
        return
    with pytest.raises(TooLarge) as caught:
        wire.check_totals(batch.items)
    assert caught.value.metadata == {"limit": "values", "maximum": "400000"}


@pytest.mark.parametrize(
    ("fields", "numbers"),
    [
        ({}, 36),
        ({"horizon_steps": 10, "quantiles": [0.1, 0.9]}, 20),
        ({"horizon_steps": 10, "band": pb.BAND_KIND_BOTH}, 60),
        ({"horizon_steps": 2_000_000}, 3),
        ({"horizon_steps": -5}, 3),
    ],
)
def test_the_size_of_an_answer_is_known_before_it_is_made(fields: Any, numbers: int) -> None:
    assert wire.answer_values(request(**fields)) == numbers


@pytest.mark.parametrize(
    ("band", "kinds"),
    [
        (pb.BAND_KIND_UNSPECIFIED, 2),
        (pb.BAND_KIND_CONFORMAL, 2),
        (pb.BAND_KIND_BOTH, 2),
        (pb.BAND_KIND_RAW, 1),
    ],
)
def test_where_bands_are_corrected_an_answer_holds_both(band: Any, kinds: int) -> None:
    assert wire.answer_values(request(band=band), corrects=True) == 36 * kinds


def test_a_model_is_shown_with_its_limits_and_licence() -> None:
    for card in CATALOG.values():
        model = wire.encode_model(card, "ewma")
        assert (model.name, model.max_context_length) == (card.name, card.max_context)
        assert model.max_native_horizon == card.max_horizon
        assert model.licence_tag
        assert model.is_default == (card.name == "ewma")


def test_what_is_known_of_the_market_is_its_segment() -> None:
    asked = request(
        liquidity_bucket=segments_pb2.LIQUIDITY_BUCKET_HIGH,
        category="sports",
        time_to_event=Duration(seconds=7_200),
        band=pb.BAND_KIND_RAW,
        freq="1m",
    )
    ask = wire.decode(asked, ROUTER, "key-1").ask

    assert ask.segment.key == "category=sports|liquidity=HIGH|tte=LE_6H"
    assert (ask.series.steps_to_event, ask.query.freq_seconds) == (120.0, 60)
    assert (ask.band, ask.caller, ask.market_id) == (BandKind.RAW, "key-1", "m")
    unknown = wire.decode(request(), ROUTER).ask
    assert unknown.segment == UNSPECIFIED_SEGMENT
    assert math.isnan(unknown.series.steps_to_event)


def test_an_event_that_is_over_is_near() -> None:
    ask = wire.decode(request(time_to_event=Duration(seconds=-60)), ROUTER).ask
    assert (ask.segment.tte, ask.series.steps_to_event) == ("LE_6H", 0.0)


def test_a_rule_chooses_the_model_and_the_answer_names_the_rule() -> None:
    rule = {"name": "thin", "liquidity": "LOW", "model": "auto", "width": {"minimum": 0.2}}
    router = Router(PolicySettings.model_validate({"routes": [rule]}), "ewma", CATALOG)
    asked = request(liquidity_bucket=segments_pb2.LIQUIDITY_BUCKET_LOW)
    question = wire.decode(asked, router)

    meta = wire.encode(asked, question, answer_to(question), 0.0).meta

    assert (meta.model_name, meta.route) == ("auto", "thin")
    assert meta.segment == "category=UNSPECIFIED|liquidity=LOW|tte=UNSPECIFIED"
    assert question.ask.query.limits.minimum == 0.2
    named = request(model=pb.ModelSpec(name="ewma"))
    assert wire.decode(named, router).ask.route == "asked"
    assert wire.decode(request(), router).ask.route == "default"


def test_a_stand_in_is_named_with_the_reason_and_the_states() -> None:
    question = wire.decode(request(model=pb.ModelSpec(name="auto")), ROUTER)
    given = answer_to(question)
    stood_in = given.made._replace(card=CATALOG["ewma"], reason=FallbackReason.GAP)
    answer = given._replace(
        made=stood_in,
        cache=CacheState.HIT,
        breaker=BreakerState.HALF_OPEN,
        degradation=DegradationState.BASELINE_ONLY,
    )

    meta = wire.encode(request(), question, answer, 0.0).meta

    assert (meta.model_name, meta.fallback_used) == ("ewma", True)
    assert meta.fallback_reason == pb.FALLBACK_REASON_GAP
    assert meta.cache == pb.CACHE_STATE_HIT
    assert meta.breaker_state == pb.BREAKER_STATE_HALF_OPEN
    assert meta.degradation_state == pb.DEGRADATION_STATE_BASELINE_ONLY
    alone = wire.encode(request(), question, given, 0.0).meta
    assert (alone.fallback_used, alone.fallback_reason) == (False, 0)
    assert (alone.breaker_state, alone.degradation_state) == (0, 0)


@pytest.mark.parametrize(
    ("ours", "contract", "prefix"),
    [
        (FallbackReason, pb.FallbackReason, "FALLBACK_REASON_"),
        (CacheState, pb.CacheState, "CACHE_STATE_"),
        (BandKind, pb.BandKind, "BAND_KIND_"),
        (BreakerState, pb.BreakerState, "BREAKER_STATE_"),
        (DegradationState, pb.DegradationState, "DEGRADATION_STATE_"),
    ],
)
def test_our_numbers_are_those_of_the_contract(ours: Any, contract: Any, prefix: str) -> None:
    theirs = {number: name.removeprefix(prefix) for name, number in contract.items() if number}
    assert {int(kind): kind.name for kind in ours if int(kind)} == theirs


def test_our_buckets_are_in_the_order_of_the_contract() -> None:
    liquidity = [name.rpartition("_")[2] for name, _ in segments_pb2.LiquidityBucket.items()]
    tte = [name.partition("BUCKET_")[2] for name, _ in segments_pb2.TteBucket.items()]
    assert (list(Liquidity), list(Tte)) == (liquidity, tte)


def test_steps_and_levels_beyond_the_model_are_said() -> None:
    question = wire.decode(request(), ROUTER)
    given = answer_to(question, effective_horizon=5, source=QuantileSource.CLAMPED)

    found = wire.encode(request(), question, given, 0.0).meta.warnings

    assert {w.code: w.count for w in found} == {
        pb.WARNING_CODE_HORIZON_BEYOND_MODEL: 7,
        pb.WARNING_CODE_LEVEL_CLAMPED: 1,
    }


def test_as_many_prices_are_kept_as_the_model_sees() -> None:
    card = CATALOG["ewma"].model_copy(update={"name": "long", "max_context": 512})
    router = Router(PolicySettings(), "long", CATALOG | {"long": card})
    asked = request(values=[0.5] * 600)
    assert wire.decode(asked, router).ask.series.values.size == 512
    named = request(values=[0.5] * 600, model=pb.ModelSpec(name="ewma"))
    assert wire.decode(named, router).ask.series.values.size == 288


def test_a_comparison_is_one_request_for_each_model() -> None:
    models = [pb.ModelSpec(name="a"), pb.ModelSpec(name="b", version="1")]
    asked = pb.CompareForecastsRequest(market_id="other", request=request(), models=models)
    items = wire.compared(asked)
    assert [item.model for item in items] == models
    assert {item.market_id for item in items} == {"other"}
    assert [list(item.values) for item in items] == [[0.4, 0.5, 0.6]] * 2


def test_an_earlier_answer_says_which_prices_it_rests_on() -> None:
    question = wire.decode(request(values=[0.4, 0.5, math.nan, 0.6]), ROUTER)
    answer = answer_to(question)
    now = wire.encode(request(), question, answer, 0.0).meta
    assert (now.input_length, now.missing_ratio) == (4, 0.25)
    stale = answer._replace(cache=CacheState.STALE, earlier=(9, 0.5))
    then = wire.encode(request(), question, stale, 0.0).meta
    assert (then.input_length, then.missing_ratio) == (9, 0.5)
