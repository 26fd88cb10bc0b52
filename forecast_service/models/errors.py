"""What a model says when it cannot answer.

::

    ModelError
    ├── CatalogError        there is no such model, or it may not be used here
    ├── WeightsError        its weights are missing or are not those that are expected
    ├── ModelAway           it cannot be reached, or asked to be left alone; later it may answer
    └── ModelRefused        it refused the question; asking again changes nothing

``TimeoutError`` says that the budget was spent, `forecast_service.batch.InvalidAnswerError` that
the model answered with something that is no set of quantiles.
"""

from __future__ import annotations


class ModelError(Exception):
    """A model cannot answer."""


class CatalogError(ModelError, ValueError):
    """There is no such model, or it may not be used here."""


class WeightsError(ModelError):
    """The weights are missing or are not those that are expected."""


class ModelAway(ModelError, ConnectionError):
    """The model cannot be reached, or asked to be left alone; later it may answer."""


class ModelRefused(ModelError):
    """The model refused the question; asking again changes nothing."""
