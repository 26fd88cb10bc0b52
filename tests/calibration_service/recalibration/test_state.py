"""A version is applied as it was fitted, chosen by a row, and taken back by one more."""

import time
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_service.frames import empty_frame, schema_of
from calibration_service.recalibration.bands import GRID
from calibration_service.recalibration.build import build_recalibration
from calibration_service.recalibration.maps import LogitMaps
from calibration_service.recalibration.state import (
    apply,
    choose,
    identity,
    in_force,
    load,
    pools_of,
    roll_back,
    with_calibrated,
)
from market_data.calibration_tables import RECALIBRATION_CHOICE, RECALIBRATION_STATE

AS_OF = datetime(2026, 6, 1, tzinfo=UTC)
PLATT = LogitMaps(np.array([[0.2], [0.6], [0.6]]))


def state_rows(version="v1", pools=("*",), served="own"):
    """A version whose first pool is Platt's map and whose others serve ``served``."""
    platt = PLATT.at(GRID, np.zeros(GRID.size, dtype=int))
    schema = schema_of(RECALIBRATION_STATE)
    rows = [
        {
            "version": version,
            "pool": pool,
            "method": "platt",
            "served": "own" if pool == "*" else served,
            "price": GRID.tolist(),
            "value": (GRID if pool != "*" and served == "price" else platt).tolist(),
            "lo": (0.9 * platt).tolist(),
            "hi": (0.5 + 0.5 * platt).tolist(),
        }
        for pool in pools
    ]
    return pl.DataFrame(rows).select(
        (pl.col(n).cast(kind) if n in rows[0] else pl.lit(None, dtype=kind).alias(n))
        for n, kind in schema.items()
    )


def chosen(*versions, states):
    frames = [
        choose(version, states, at=AS_OF + timedelta(hours=k), by="test", reason="because")
        for k, version in enumerate(versions)
    ]
    return pl.concat(frames) if frames else empty_frame(RECALIBRATION_CHOICE)


def test_between_grid_points_the_map_is_interpolated_in_log_odds():
    p = np.random.default_rng(1).uniform(0.001, 0.999, 5_000)
    found = apply(load(state_rows()), p, np.zeros(p.size, dtype=int))
    np.testing.assert_allclose(found.value, PLATT.at(p, np.zeros(p.size, dtype=int)), atol=2e-5)
    assert (found.version, found.methods) == ("v1", ("platt",))


@given(st.floats(0, 1), st.floats(0, 1))
def test_values_are_ordered_monotone_probabilities(one, other):
    p = np.array(sorted([one, other]))
    found = apply(load(state_rows()), p, np.zeros(2, dtype=int))
    for values in (found.lo, found.value, found.hi):
        assert 0.0 <= values[0] <= values[1] + 1e-12 <= 1.0 + 1e-12
    assert (found.lo <= found.value + 1e-12).all()
    assert (found.value <= found.hi + 1e-12).all()


def test_the_ends_of_the_grid_are_met():
    found = apply(load(state_rows()), np.array([0.0, 1.0, np.nan]), np.zeros(3, dtype=int))
    ends = PLATT.at(np.array([0.0, 1.0]), np.zeros(2, dtype=int))
    np.testing.assert_allclose(found.value[:2], ends)
    assert np.isnan(found.value[2])


def test_the_identity_is_the_price_and_has_no_interval():
    p = np.array([0.0, 0.0003, 0.123456, 1.0])
    found = apply(identity(), p, np.zeros(4, dtype=int))
    np.testing.assert_allclose(found.value, p, atol=1e-15)
    assert np.isnan(found.lo).all()


def test_categories_without_a_pool_are_served_by_the_whole():
    state = load(state_rows(pools=("sports", "*"), served="price"))
    assert state.methods == ("platt", "identity")
    category = pl.Series(["sports", "unheard of", None])
    pool = pools_of(state, category)
    assert pool.tolist() == [1, 0, 0]
    found = apply(state, np.full(3, 0.1), pool)
    whole = PLATT.at(np.array([0.1]), np.array([0]))[0]
    np.testing.assert_allclose(found.value, [0.1, whole, whole], atol=2e-5)


def test_a_category_may_be_served_by_the_map_of_the_whole():
    state = load(state_rows(pools=("*", "sports"), served="pool"))
    assert state.methods == ("platt", "platt")


def test_rows_gain_their_columns_and_unknown_prices_stay_unknown():
    rows = pl.DataFrame(
        {"category": ["sports", None], "p_yes": [0.1, None], "market_id": ["a", "b"]}
    )
    found = with_calibrated(rows, load(state_rows()))
    assert found.columns == [
        *rows.columns, "calibrated_probability", "calibrated_lo", "calibrated_hi"
    ]  # fmt: skip
    assert found["calibrated_probability"].null_count() == 1
    assert with_calibrated(rows, identity())["calibrated_lo"].null_count() == 2


def test_several_versions_at_once_are_refused():
    with pytest.raises(ValueError, match="not one whole version"):
        load(pl.concat([state_rows("v1"), state_rows("v2")]))
    with pytest.raises(ValueError, match="not one whole version"):
        load(state_rows(pools=("sports",)))


def test_the_latest_choice_is_in_force_and_before_any_the_identity():
    states = pl.concat([state_rows("v1"), state_rows("v2")])
    assert in_force(chosen(states=states), states).version == "identity"
    assert in_force(chosen("v1", "v2", states=states), states).version == "v2"
    assert in_force(chosen("v2", "identity", states=states), states).version == "identity"
    shuffled = chosen("v1", "v2", states=states).reverse()
    assert in_force(shuffled, states).version == "v2"


@pytest.mark.parametrize(
    ("history", "back"),
    [((), "identity"), (("v1",), "identity"), (("v1", "v2"), "v1"), (("v1", "v2", "v2"), "v1"),
     (("v1", "v2", "v1"), "v2")],
)  # fmt: skip
def test_going_back_is_one_more_row(history, back):
    states = pl.concat([state_rows("v1"), state_rows("v2")])
    choices = chosen(*history, states=states)
    row = roll_back(choices, states, at=AS_OF + timedelta(days=1), by="me", reason="worse")
    assert row.schema == schema_of(RECALIBRATION_CHOICE)
    assert row["version"].to_list() == [back]
    assert in_force(pl.concat([choices, row]), states).version == back


def test_a_version_that_does_not_exist_cannot_be_chosen():
    with pytest.raises(ValueError, match="no version v9"):
        choose("v9", state_rows(), at=AS_OF, by="me", reason="")


def test_what_is_built_can_be_loaded_in_any_row_order(draw):
    rows = draw(np.random.default_rng(1), 800, slope=0.6).frame()
    one, other = (
        build_recalibration(
            part, version="v", run_id="r", as_of=AS_OF, rng=np.random.default_rng(1)
        )
        for part in (rows, rows.sample(fraction=1.0, shuffle=True, seed=2))
    )
    assert one.schema == schema_of(RECALIBRATION_STATE)
    assert one["pool"].to_list() == other["pool"].to_list() == ["*", "politics", "sports"]
    for name in ("value", "lo", "hi"):
        np.testing.assert_allclose(one[name].to_list(), other[name].to_list(), atol=1e-6)
    served = [[one[name][k].to_list() for name in ("lo", "value", "hi")] for k in range(3)]
    for low, value, high in served:
        assert (np.array(low) <= value).all()
        assert (np.array(value) <= high).all()
        assert (np.diff(value) >= 0).all()
    assert load(one).version == "v"


def test_no_rows_have_no_state(draw):
    rows = draw(np.random.default_rng(1), 10).frame()
    empty = build_recalibration(
        rows.clear(), version="v", run_id="r", as_of=AS_OF, rng=np.random.default_rng(1)
    )
    assert empty.equals(empty_frame(RECALIBRATION_STATE))


def test_five_million_prices_a_second_are_calibrated():
    rng, state = np.random.default_rng(1), load(state_rows(pools=("*", "sports")))
    p, pool, taken = rng.random(1_000_000), rng.integers(0, 2, 1_000_000), []
    for _ in range(5):
        started = time.perf_counter()
        apply(state, p, pool)
        taken.append(time.perf_counter() - started)
    assert min(taken) < 1 / 5
