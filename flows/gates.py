"""Which series a model answers in service: the others get a baseline, so they say nothing of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forecast_service.batch import Query
from forecast_service.models.catalog import Family, ModelCard
from forecast_service.policy.decision import Ask, FallbackReason
from forecast_service.policy.gates import closed_gate
from forecast_service.policy.settings import PolicySettings
from forecast_service.segment import UNSPECIFIED_SEGMENT, Liquidity, Tte, segment_of
from forecast_service.series import Series
from forecast_service.transform import LOGIT, FloatArray

_SEGMENTS = {
    str(name): segment_of(number, Tte.UNSPECIFIED, "") for number, name in enumerate(Liquidity)
}


def answered(
    card: ModelCard,
    policy: PolicySettings,
    values: FloatArray,
    step: NDArray[np.int64],
    liquidity: NDArray[np.str_] | None = None,
) -> NDArray[np.bool_]:
    """[N] whether the policy lets a model answer; a baseline always.

    Args:
        card: the model.
        policy: whose gates.
        values: [N, T] float64 contexts, NaN = missing; each has a price.
        step: [N] int64, seconds between values.
        liquidity: [N] buckets; None where nobody says.
    """
    if card.family is Family.BASELINE:
        return np.ones(len(values), dtype=bool)
    query = Query(card.name, 1, (0.5,), LOGIT)
    buckets = [""] * len(values) if liquidity is None else liquidity.tolist()
    found = []
    for row, seconds, bucket in zip(values[:, -card.max_context :], step, buckets, strict=True):
        segment = _SEGMENTS.get(bucket, UNSPECIFIED_SEGMENT)
        ask = Ask("", card, query, _series(row, int(seconds)), segment)
        found.append(closed_gate(policy, ask) is FallbackReason.NONE)
    return np.array(found, dtype=bool)


def _series(values: FloatArray, seconds: int) -> Series:
    known = np.isfinite(values)
    kept = values[int(known.argmax()) :]
    return Series(kept, seconds, kept.size, 1.0 - float(known.sum()) / kept.size)
