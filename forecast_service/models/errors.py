"""What a model says when it cannot answer.

::

    ModelError
    ├── CatalogError        there is no such model, or it may not be used here
    ├── WeightsError        its weights are missing or are not those that are expected
    ├── ModelLate           its time was over before it had answered; a TimeoutError as well
    ├── ModelAway           it cannot be reached, or rests; a ConnectionError as well
    ├── ModelBroke          it answered with an error of its own
    └── ModelRefused        it refused the question; asking again changes nothing

`forecast_service.batch.InvalidAnswerError` says that it answered with something that is no set of
quantiles. Each of these comes from the model: whoever carried the question there and back is well.
"""

from __future__ import annotations


class ModelError(Exception):
    """A model cannot answer."""


class CatalogError(ModelError, ValueError):
    """There is no such model, or it may not be used here."""


class WeightsError(ModelError):
    """The weights are missing or are not those that are expected."""


class ModelLate(ModelError, TimeoutError):
    """The model's time was over before it had answered."""


class ModelAway(ModelError, ConnectionError):
    """The model cannot be reached, or asked to be left alone; later it may answer."""


class ModelBroke(ModelError):
    """The model answered with an error of its own; another time it may do better."""


class ModelRefused(ModelError):
    """The model refused the question; asking again changes nothing."""
