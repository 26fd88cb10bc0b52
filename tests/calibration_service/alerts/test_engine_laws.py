"""Laws of the engine over any price path: resuming, row order, missing inputs."""

from __future__ import annotations

import math
import uuid
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_service.alerts.batch import alerts_of
from calibration_service.alerts.engine import step
from calibration_service.alerts.errors import BadObservation, BadState
from calibration_service.alerts.policy import AlertPolicy
from calibration_service.alerts.state import MarketState, read_state, write_state
from calibration_service.alerts.values import Observation, Severity

LEVELS = st.sampled_from([0.5, 0.5, 0.5, 0.56, 0.7, 0.3, math.nan])
BARS = st.lists(
    st.tuples(LEVELS, st.integers(1, 4), st.sampled_from([0.0, -0.3]), st.booleans()),
    min_size=5, max_size=60,
)  # fmt: skip
INPUTS = [one.name for one in fields(Observation) if one.type == "float"]


def observations(tools: Any, drawn: list[tuple[float, int, float, bool]]) -> list[Observation]:
    """Bars with runs of one price; volume bursts and suppression come and go."""
    prices = [price for price, run, _, _ in drawn for _ in range(run)]
    marks = [(change, odd) for _, run, change, odd in drawn for _ in range(run)]
    return [
        replace(one, open_interest_change_60m=change, volume_60m=900.0 if odd else 100.0)
        for one, (change, odd) in zip(tools.path(prices), marks, strict=True)
    ]


@given(drawn=BARS)
@settings(max_examples=60)
def test_a_checkpoint_at_any_bar_changes_no_alert(
    tools: Any, policy: AlertPolicy, drawn: list[Any]
) -> None:
    bars = observations(tools, drawn)
    whole = tools.fold(bars, policy)
    state, alerts = MarketState(tools.MARKET), []
    for one in bars:
        resumed = read_state(write_state(state))
        assert resumed == state
        outcome = step(resumed, one, policy)
        state = outcome.state
        alerts += outcome.alerts
    assert alerts == whole.alerts


@given(drawn=BARS, seed=st.integers(0, 99))
@settings(max_examples=30)
def test_the_order_of_rows_does_not_matter(
    tools: Any, policy: AlertPolicy, drawn: list[Any], seed: int
) -> None:
    bars = observations(tools, drawn)
    bars += [replace(one, market_id="kalshi:2") for one in bars]
    rows = [asdict(one) for one in bars]
    np.random.default_rng(seed).shuffle(rows)  # type: ignore[arg-type]
    found = alerts_of(pl.DataFrame(rows, infer_schema_length=None), policy)
    mine = tools.fold(bars[: len(bars) // 2], policy).alerts
    assert [alert for alert in found if alert.market_id == tools.MARKET] == mine
    assert len(found) == 2 * len(mine)
    assert found == sorted(found, key=lambda alert: (alert.market_id, alert.at_ms))


@given(drawn=BARS, name=st.sampled_from(INPUTS))
@settings(max_examples=100)
def test_a_missing_input_never_raises_the_severity(
    tools: Any, policy: AlertPolicy, drawn: list[Any], name: str
) -> None:
    bars = observations(tools, drawn)
    missing = tools.fold([replace(one, **{name: math.nan}) for one in bars], policy)
    if name == "price":
        assert missing.alerts == []
    elif name in ("ambiguity", "trust", "tick_size"):
        assert set(missing.severities) <= {Severity.FYI}
    elif name not in ("high", "low"):
        structure = {"open_interest_change_60m": "OPEN_INTEREST_DROP"}.get(name, "VOLUME_BURST")
        assert structure not in missing.codes()
        assert Severity.HIGH not in missing.severities
    assert all(math.isfinite(fact.value) for alert in missing.alerts for fact in alert.evidence)


@given(drawn=BARS)
@settings(max_examples=60)
def test_an_episode_raises_each_severity_once_and_only_upwards(
    tools: Any, policy: AlertPolicy, drawn: list[Any]
) -> None:
    alerts = tools.fold(observations(tools, drawn), policy).alerts
    by_episode: dict[str, list[int]] = {}
    for alert in alerts:
        by_episode.setdefault(alert.episode_id, []).append(alert.severity)
    assert all(raised == sorted(set(raised)) for raised in by_episode.values())
    ids = [uuid.UUID(alert.alert_id) for alert in alerts]
    assert len(set(ids)) == len(ids)
    assert [one.version for one in ids] == [7] * len(ids)
    assert all(one.int >> 80 < alert.at_ms for one, alert in zip(ids, alerts, strict=True))


def test_everything_missing_raises_nothing(tools: Any, policy: AlertPolicy) -> None:
    nothing = dict.fromkeys(INPUTS, math.nan)
    folded = tools.fold([replace(tools.bar(1, 0.5, None), **nothing)], policy)
    assert folded.alerts == []


def test_refuses_rows_that_contradict_each_other(tools: Any, policy: AlertPolicy) -> None:
    row = asdict(tools.bar(1, 0.5, tools.band(tools.START, 0.5)))
    with pytest.raises(BadObservation, match="at_ms"):
        alerts_of(pl.DataFrame([row, row | {"price": 0.6}]), policy)
    with pytest.raises(BadObservation, match="trust"):
        alerts_of(pl.DataFrame([row]).drop("trust"), policy)
    with pytest.raises(BadObservation, match="is_corrected"):
        alerts_of(pl.DataFrame([row | {"band": row["band"] | {"is_corrected": None}}]), policy)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "truncated"),
        ("[]", "object"),
        ("{}", "version"),
        ('{"version":1}', "state"),
        ('{"version":3,"state":{"market_id":"a"}}', "version"),
        ('{"version":1,"state":{"market_id":"a","at_ms":"b"}}', "at_ms"),
        ('{"version":1,"state":{"market_id":"a","breach":{}}}', "breach"),
        ('{"version":1,"state":{"market_id":"a","last_price":NaN}}', "invalid"),
    ],
)
def test_refuses_a_checkpoint_that_is_none_and_says_where(text: str, why: str) -> None:
    with pytest.raises(BadState, match=why):
        read_state(text)


def test_a_checkpoint_of_the_version_before_is_read_with_bands_that_are_not_corrected(
    tools: Any, policy: AlertPolicy
) -> None:
    state = tools.fold(tools.path([0.5] * 7 + [0.7]), policy).states[-1]
    assert state.breach is not None
    text = write_state(state).replace(',"is_corrected":true', "")
    before = read_state(text.replace('"version":2', '"version":1'))
    assert before.breach is not None
    assert not before.breach.reference.band.is_corrected
    assert (before.at_ms, before.breach.start_ms) == (state.at_ms, state.breach.start_ms)


def test_refuses_a_checkpoint_whose_band_cannot_be(tools: Any, policy: AlertPolicy) -> None:
    state = tools.fold(tools.path([0.5] * 3), policy).states[-1]
    with pytest.raises(BadState, match=r"step_ms"):
        read_state(write_state(state).replace('"step_ms":300000', '"step_ms":0'))
