"""From the cards of a family to its loaded models.

Packages of third parties are imported here and only when one of their models is configured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from forecast_service.batch import Batch, Query
from forecast_service.models.baselines import BASELINE_MODEL
from forecast_service.models.catalog import Family, ModelCard, of_family
from forecast_service.models.digests import verified
from forecast_service.models.port import Model
from forecast_service.settings import ForecastSettings
from forecast_service.transform import LOGIT

Models = dict[str, Model]
Cards = Mapping[str, ModelCard]


def load(settings: ForecastSettings, family: Family) -> Models:
    """The configured models of a family by name, ready to be asked.

    Raises:
        WeightsError: weights are missing or are not those that are expected.
        ModuleNotFoundError: the package that runs them is not installed.
    """
    return _LOADERS[family](settings, of_family(settings, family))


def canaries(settings: ForecastSettings, family: Family) -> list[Batch]:
    """Small batches, one per model, that a healthy replica answers; none for another's server."""
    if family is Family.TOLLAMA:
        return []
    return [
        Batch(Query(name, 12, (0.1, 0.5, 0.9), LOGIT), np.full((1, 64), 0.5))
        for name in of_family(settings, family)
    ]


def verify_weights(settings: ForecastSettings, family: Family) -> None:
    """Checks the weights of a family without loading them.

    Raises:
        WeightsError: weights are missing or are not those that are expected.
    """
    for card in of_family(settings, family).values():
        if card.weights:
            verified(card, settings.weights_folder)


def _baselines(_settings: ForecastSettings, cards: Cards) -> Models:
    return dict.fromkeys(cards, BASELINE_MODEL)


def _native(settings: ForecastSettings, cards: Cards) -> Models:
    from forecast_service.models.native import Native

    return {
        name: Native(verified(card, settings.weights_folder), threads=settings.model_threads)
        for name, card in cards.items()
    }


def _tollama(settings: ForecastSettings, cards: Cards) -> Models:
    from forecast_service.models.tollama.adapter import Tollama
    from forecast_service.models.tollama.transport import Server, Transport

    key = settings.tollama_key
    server = Server(
        url=settings.tollama_url.rstrip("/") + settings.tollama_path,
        key=key.get_secret_value() if key is not None else "",
    )
    transport = Transport(server)
    return {
        name: Tollama(card, transport, max_series=settings.tollama_max_series)
        for name, card in cards.items()
    }


def _chronos(settings: ForecastSettings, cards: Cards) -> Models:
    from forecast_service.models.chronos import Chronos

    return {
        name: Chronos(card, verified(card, settings.weights_folder), threads=settings.model_threads)
        for name, card in cards.items()
    }


def _timesfm(settings: ForecastSettings, cards: Cards) -> Models:
    from forecast_service.models.timesfm import TimesFM

    return {
        name: TimesFM(card, verified(card, settings.weights_folder), threads=settings.model_threads)
        for name, card in cards.items()
    }


_LOADERS: dict[Family, Callable[[ForecastSettings, Cards], Models]] = {
    Family.BASELINE: _baselines,
    Family.NATIVE: _native,
    Family.TOLLAMA: _tollama,
    Family.CHRONOS: _chronos,
    Family.TIMESFM: _timesfm,
}
