"""One try of a backend, and what its failure means."""

from __future__ import annotations

import logging

from forecast_service.batch import Bands, InvalidAnswerError, Query
from forecast_service.policy.decision import FallbackReason, ModelFailed
from forecast_service.pool import Pool
from forecast_service.series import Series
from marketcal.errors import MarketcalError

_LOG = logging.getLogger("forecast_service")


def reason_of(error: BaseException) -> FallbackReason:
    """Why a backend that raised ``error`` gives no answer."""
    if isinstance(error, TimeoutError):
        return FallbackReason.DEADLINE
    if isinstance(error, InvalidAnswerError):
        return FallbackReason.INVALID_OUTPUT
    if isinstance(error, ConnectionError):
        return FallbackReason.BACKEND_UNAVAILABLE
    return FallbackReason.BACKEND_ERROR


async def attempt(pool: Pool, query: Query, series: Series, seconds: float) -> Bands:
    """The bands of one series within ``seconds``.

    Raises:
        MarketcalError: the fault is not the backend's: the queue is full, the input is refused.
        ModelFailed: the backend gives no answer.
    """
    try:
        return await pool.submit(query, series, seconds)
    except MarketcalError:
        raise
    except Exception as error:
        reason = reason_of(error)
        if reason is FallbackReason.BACKEND_ERROR:
            _LOG.debug("%s: %r", query.model, error)
        raise ModelFailed(reason, f"{type(error).__name__}: {error}") from error
