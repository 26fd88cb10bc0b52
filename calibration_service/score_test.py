"""The score test that a logistic law holds, over events, exact enough for few of them.

Each event brings the score ``Σ (y - μ) (1, x)`` of intercept and slope, which has mean 0 if the law
is true. The statistic is the quadratic form of their sum in the inverse of their summed squares.
Flipping the sign of an event's score changes that sum and not the squares, and gives its law
without assuming one (score wild bootstrap: Kline and Santos, J. Econom. Methods 1, 2012,
doi:10.1515/2156-6674.1006; Rademacher weights: Davidson and Flachaire, J. Econometrics 146, 2008,
doi:10.1016/j.jeconom.2008.08.003).

Prices near 0 or 1 make scores so skewed that flipping misleads: where the rare outcome has not come
yet all scores look alike. So the same sum is also held against the variance that the law itself
implies, and the larger of the two p-values counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

FloatArray = NDArray[np.float64]

FLIPS = 1_999
FLIPPED_EVENTS = 300
"""With more events the chi-squared limit serves."""


@dataclass(frozen=True, slots=True)
class ScoreTest:
    """A test with two degrees of freedom.

    Attributes:
        statistic: quadratic form in the spread over events, ≥ 0; NaN where nothing can be tested.
        p: p-value in (0, 1]; NaN where nothing can be tested.
    """

    statistic: float
    p: float


def draw_flips(rng: np.random.Generator) -> FloatArray:
    """[FLIPS, FLIPPED_EVENTS] float64 of -1 and 1, shared by all segments."""
    return np.where(rng.random((FLIPS, FLIPPED_EVENTS)) < 0.5, -1.0, 1.0)


def score_test(scores: FloatArray, implied: FloatArray, *, flips: FloatArray) -> ScoreTest:
    """Test that the scores of events have mean zero.

    Args:
        scores: [E, 2] float64, the score of each event; events in a fixed order.
        implied: [2, 2] float64, variance of their sum if the law is true.
        flips: see `draw_flips`.
    """
    squares = scores.T @ scores
    if not (regular(squares) and regular(implied)):
        return ScoreTest(np.nan, np.nan)
    total, inverse = scores.sum(axis=0), np.linalg.inv(squares)
    statistic = float(total @ inverse @ total)
    if scores.shape[0] <= FLIPPED_EVENTS:
        drawn = flips[:, : scores.shape[0]] @ scores
        beyond = ((drawn @ inverse) * drawn).sum(axis=1) >= statistic * (1.0 - 1e-9)
        p = (1.0 + float(beyond.sum())) / (1.0 + FLIPS)
    else:
        p = float(special.chdtrc(2.0, statistic))
    by_law = float(special.chdtrc(2.0, total @ np.linalg.inv(implied) @ total))
    return ScoreTest(statistic, max(p, by_law))


def regular(matrix: FloatArray) -> bool:
    """Whether a [2, 2] matrix of squares can be inverted."""
    product = matrix[0, 0] * matrix[1, 1]
    return bool(np.isfinite(product) and product - matrix[0, 1] ** 2 > 1e-9 * product > 0.0)
