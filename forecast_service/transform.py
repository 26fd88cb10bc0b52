"""Between probability space and the space in which a model works.

``LOGIT`` maps a price to its log-odds after clipping it to ``[eps, 1 - eps]``; ``IDENTITY`` leaves
it as it is. Both directions keep NaN (missing) as NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import special

FloatArray = NDArray[np.float64]

DEFAULT_EPS = 1e-6
"""Clip of the logit: prices of exactly 0 and 1 stand at ±13.8 log-odds."""


class Space(StrEnum):
    """The space in which bands are computed."""

    LOGIT = "logit"
    IDENTITY = "identity"


def logit(p: FloatArray, *, eps: float = DEFAULT_EPS) -> FloatArray:
    """Log-odds of clipped probabilities, ``log(p / (1 - p))``.

    Args:
        p: [...] float64 in [0, 1]; NaN stays NaN.
        eps: clip, in (0, 0.5); values are moved into ``[eps, 1 - eps]`` first.

    Returns:
        [...] float64, finite wherever p is finite.

    >>> logit(np.array([0.5, 1.0, np.nan])).round(3).tolist()
    [0.0, 13.816, nan]
    """
    return np.asarray(special.logit(np.clip(p, eps, 1.0 - eps)), dtype=np.float64)


def expit(z: FloatArray) -> FloatArray:
    """Inverse of the log-odds, ``1 / (1 + exp(-z))``; neither overflows nor warns at ±1000.

    >>> expit(np.array([-1000.0, 0.0, 1000.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    return np.asarray(special.expit(z), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Transform:
    """A pair of maps between probabilities and the working space.

    Attributes:
        space: LOGIT or IDENTITY.
        eps: clip of the logit, in (0, 0.5); unused by IDENTITY.
    """

    space: Space = Space.LOGIT
    eps: float = DEFAULT_EPS

    def __post_init__(self) -> None:
        if not 0.0 < self.eps < 0.5:
            raise ValueError(f"transform.eps must lie in (0, 0.5), got {self.eps!r}")

    def forward(self, p: FloatArray) -> FloatArray:
        """Map probabilities [...] in [0, 1] into the working space."""
        if self.space is Space.IDENTITY:
            return np.asarray(p, dtype=np.float64)
        return logit(p, eps=self.eps)

    def inverse(self, z: FloatArray) -> FloatArray:
        """Map working values [...] back to probabilities in [0, 1]."""
        if self.space is Space.IDENTITY:
            return np.clip(z, 0.0, 1.0)
        return expit(z)


LOGIT = Transform()
IDENTITY = Transform(space=Space.IDENTITY)
