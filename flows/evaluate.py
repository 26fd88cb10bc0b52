"""The evaluation flow: how well models forecast, and whether one may replace the default.

Both splits refit what is fitted on the part that they do not score. A run with the same data and
order writes the same rows and the same files again.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow
from prefect.context import FlowRunContext

from flows import evaluation_report, pipeline
from flows.evaluation_sources import digest
from flows.evaluation_stages import Assessment, Order
from flows.runs import Run
from flows.settings import FlowSettings
from forecast_service.models.catalog import ModelCard, configured, served
from forecast_service.settings import ForecastSettings
from market_data.intake import Progress


@flow(
    name="evaluate",
    flow_run_name=pipeline.flow_run_title,
    validate_parameters=False,
    persist_result=False,
)
def evaluate(
    order: Order | None = None,
    as_of: datetime | None = None,
    flow_settings: FlowSettings | None = None,
    forecast_settings: ForecastSettings | None = None,
    progress: Progress | None = None,
) -> Run:
    """Scores models on everything known up to ``as_of`` (now by default), and decides.

    Raises:
        NoDataError: there are no windows, or a split has none to score.
        CatalogError: a model is unknown, or may not be used.
        WeightsError: its weights are missing.
    """
    wanted, settings = order or Order(), forecast_settings or ForecastSettings()
    cards = chosen(wanted, settings)
    run = pipeline.begin(as_of, flow_settings, pipeline="evaluate", progress=progress)
    run.parameters = _shaping(wanted, cards, run.settings)
    assessment = Assessment(cards, _allowing(settings, cards), wanted)
    stages = (
        assessment.histories, assessment.forecasts, assessment.scores, assessment.promotion,
        assessment.report,
    )  # fmt: skip
    result = pipeline.carry_out(run, [pipeline.as_task(stage) for stage in stages])
    if FlowRunContext.get() is not None:
        evaluation_report.publish(run, assessment.results)
    return result


def chosen(order: Order, settings: ForecastSettings) -> dict[str, ModelCard]:
    """The cards of the models to evaluate, the champion first.

    Models of the catalogue need not be deployed; licences hold all the same.

    Raises:
        CatalogError: a model is unknown, or is for research and this is production.
    """
    champion = order.champion or settings.default_model
    names = dict.fromkeys([champion, *(order.models or served(settings))])
    known = served(settings)
    missing = tuple(name for name in names if name not in known)
    known |= configured(settings.model_copy(update={"models": missing}))
    return {name: known[name] for name in names}


def _allowing(settings: ForecastSettings, cards: dict[str, ModelCard]) -> ForecastSettings:
    """The settings as if all these models were deployed."""
    missing = tuple(name for name in cards if name not in served(settings))
    return settings.model_copy(update={"models": (*settings.models, *missing)})


def _shaping(order: Order, cards: dict[str, ModelCard], settings: FlowSettings) -> dict[str, Any]:
    return {
        "champion": next(iter(cards)),
        "models": {name: [card.version, card.digest] for name, card in cards.items()},
        "source": "lake" if order.recorded is None else digest(order.recorded),
        "gateway": bool(order.gateway),
        "evaluation": settings.evaluation.model_dump(exclude={"reports"}),
    }
