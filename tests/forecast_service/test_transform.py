"""The maps between probability and log-odds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecast_service.transform import DEFAULT_EPS, IDENTITY, LOGIT, Transform, expit, logit


def test_expit_is_safe_at_a_thousand():
    assert expit(np.array([-1000.0, 1000.0])).tolist() == [0.0, 1.0]


@given(st.floats(DEFAULT_EPS, 1 - DEFAULT_EPS))
def test_logit_and_expit_undo_each_other(p):
    assert expit(logit(np.array([p])))[0] == pytest.approx(p, abs=1e-12)


def test_certain_prices_stay_finite():
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()


@pytest.mark.parametrize("transform", [LOGIT, IDENTITY])
def test_missing_stays_missing(transform):
    assert np.isnan(transform.inverse(transform.forward(np.array([np.nan])))).all()


def test_identity_returns_into_the_unit_interval():
    assert IDENTITY.inverse(np.array([-0.2, 0.3, 1.7])).tolist() == [0.0, 0.3, 1.0]


@pytest.mark.parametrize("eps", [0.0, 0.5, -1.0, float("nan")])
def test_refuses_an_eps_outside_its_range(eps):
    with pytest.raises(ValueError, match=r"transform\.eps"):
        Transform(eps=eps)
