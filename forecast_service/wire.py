"""Protobuf to domain values and back; nothing else in this package knows both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forecast_service.bands import QuantileSource
from forecast_service.baselines.context import BaselineFlag
from forecast_service.batch import Bands, Query
from forecast_service.models.catalog import CATALOG, MAX_HORIZON, ModelCard
from forecast_service.postprocess import Adjustment
from forecast_service.series import InvalidFieldError, Series, on_grid, series_of
from forecast_service.transform import DEFAULT_EPS, LOGIT, FloatArray, Space, Transform
from marketcal.errors import InvalidArgument, ModelNotFound, TooLarge
from marketcal.v1 import forecast_pb2 as pb

DEFAULT_FREQ = "5m"
DEFAULT_HORIZON = 12
DEFAULT_LEVELS = (0.1, 0.5, 0.9)
MAX_CALL_VALUES = 400_000
"""Most input values, and most answer values, of one call."""
MIN_EPS = 1e-12
"""Below it 1 - eps is nearly 1 in double precision, and the log-odds of a price of 1 are lost."""

_WARNING_OF_ADJUSTMENT = {
    Adjustment.CLIPPED: (pb.WARNING_CODE_CLIPPED, "quantiles left [0, 1] and were clipped"),
    Adjustment.REARRANGED: (
        pb.WARNING_CODE_QUANTILES_REARRANGED,
        "quantiles crossed and were sorted",
    ),
    Adjustment.WIDENED: (
        pb.WARNING_CODE_WIDENED,
        "steps narrower than the minimum width were widened",
    ),
    Adjustment.NARROWED: (
        pb.WARNING_CODE_NARROWED,
        "steps wider than the maximum width were narrowed",
    ),
}
_SOURCES = {
    QuantileSource.NATIVE: pb.QUANTILE_SOURCE_NATIVE,
    QuantileSource.INTERPOLATED: pb.QUANTILE_SOURCE_INTERPOLATED,
    QuantileSource.CLAMPED: pb.QUANTILE_SOURCE_CLAMPED,
    QuantileSource.EXTRAPOLATED: pb.QUANTILE_SOURCE_EXTRAPOLATED,
}
_ADJUSTMENTS = tuple(_WARNING_OF_ADJUSTMENT[kind] for kind in Adjustment)


@dataclass(frozen=True, slots=True)
class Question:
    """A checked request."""

    query: Query
    series: Series
    freq: str
    card: ModelCard
    truncated: int
    covariates: int


def decode(request: pb.ForecastRequest, default_model: str) -> Question:
    """The checked question in a request whose contract rules hold.

    Raises:
        InvalidArgument: what the rules cannot express: prices outside [0, 1], no finite price,
            levels out of order, times or covariates of the wrong length.
        ModelNotFound: no such model.
    """
    card = _model(request.model, default_model)
    freq = request.freq or DEFAULT_FREQ
    horizon = request.horizon_steps or DEFAULT_HORIZON
    levels = tuple(request.quantiles) or DEFAULT_LEVELS
    for i in range(1, len(levels)):
        if levels[i] <= levels[i - 1]:
            raise InvalidArgument.of(f"quantiles[{i}]", "levels must be strictly increasing")
    count = len(request.values)
    values = np.fromiter(request.values, dtype=np.float64, count=count)
    try:
        series = series_of(values, freq, context_steps=card.max_context)
        if request.value_times:
            steps = card.max_context
            grid = on_grid(
                values, _times(request, count), freq_seconds=series.freq_seconds, steps=steps
            )
            series = series_of(np.append(np.nan, grid), freq, context_steps=steps)
    except InvalidFieldError as error:
        raise InvalidArgument.of(error.field, error.reason) from error
    _check_covariates(request, count, horizon)
    return Question(
        query=Query(
            card.name,
            horizon,
            levels,
            _transform(request.transform) if request.HasField("transform") else LOGIT,
        ),
        series=series,
        freq=freq,
        card=card,
        truncated=max(0, count - card.max_context),
        covariates=len(request.past_covariates) + len(request.future_covariates),
    )


def check_totals(request: pb.BatchForecastRequest) -> None:
    """Refuses a batch above the product's limits before anything is allocated for it.

    Raises:
        TooLarge: too many input or answer values in all.
    """
    given = sum(len(item.values) for item in request.items)
    wanted = sum(answer_values(item) for item in request.items)
    for name, total in (("values", given), ("answer values", wanted)):
        if total > MAX_CALL_VALUES:
            raise TooLarge(
                f"the call has {total} {name} in all, at most {MAX_CALL_VALUES} are taken",
                metadata={"limit": name.replace(" ", "_"), "maximum": str(MAX_CALL_VALUES)},
            )


def answer_values(item: pb.ForecastRequest) -> int:
    """Numbers that the answer to ``item`` would hold; an invalid horizon counts as one step."""
    horizon = item.horizon_steps or DEFAULT_HORIZON
    horizon = horizon if 0 < horizon <= MAX_HORIZON else 1
    kinds = 2 if item.band == pb.BAND_KIND_BOTH else 1
    return int(horizon * (len(item.quantiles) or len(DEFAULT_LEVELS)) * kinds)


def encode(
    request: pb.ForecastRequest, question: Question, bands: Bands, seconds: float
) -> pb.ForecastResponse:
    """The answer."""
    query, series = question.query, question.series
    response = pb.ForecastResponse(
        market_id=request.market_id,
        freq=question.freq,
        horizon_steps=query.horizon_steps,
        meta=pb.ForecastMeta(
            model_name=query.model,
            model_version=question.card.version,
            runtime=question.card.runtime,
            served_by=bands.served_by,
            input_length=series.values.size,
            missing_ratio=1.0 - series.finite_count / series.values.size,
            transform=_encode_transform(query.transform),
            cache=pb.CACHE_STATE_MISS,
            quantile_source=_SOURCES[bands.source],
            effective_horizon=bands.effective_horizon,
            warnings=_warnings(question, bands),
        ),
    )
    if request.HasField("as_of_time"):
        response.as_of_time.CopyFrom(request.as_of_time)
    response.meta.latency.FromNanoseconds(int(seconds * 1e9))
    for level, path in zip(query.levels, bands.quantiles.T.tolist(), strict=True):
        response.quantile_paths.add(level=level, values=path)
    return response


def encode_model(card: ModelCard, default_model: str) -> pb.Model:
    """A model as callers see it."""
    return pb.Model(
        name=card.name,
        version=card.version,
        family=card.family,
        description=card.description,
        max_context_length=card.max_context,
        max_native_horizon=card.max_horizon,
        licence_tag=card.licence_tag,
        is_default=card.name == default_model,
    )


def _model(spec: pb.ModelSpec, default_model: str) -> ModelCard:
    name = spec.name or default_model
    card = CATALOG.get(name)
    if card is None or spec.version not in ("", card.version):
        wanted = f"{name} version {spec.version}" if spec.version else name
        raise ModelNotFound(
            f"there is no model {wanted[:128]}; ListModels names those there are",
            resource=("marketcal.v1.Model", name),
        )
    if spec.params:
        raise InvalidArgument.of("model.params", f"the model {name} takes no parameters")
    return card


def _transform(message: pb.Transform) -> Transform:
    if 0 < message.eps < MIN_EPS:
        raise InvalidArgument.of("transform.eps", f"must be 0 or at least {MIN_EPS:g}")
    space = Space.IDENTITY if message.space == pb.TRANSFORM_SPACE_IDENTITY else Space.LOGIT
    return Transform(space=space, eps=message.eps or DEFAULT_EPS)


def _encode_transform(transform: Transform) -> pb.Transform:
    identity = transform.space is Space.IDENTITY
    space = pb.TRANSFORM_SPACE_IDENTITY if identity else pb.TRANSFORM_SPACE_LOGIT
    return pb.Transform(space=space, eps=transform.eps)


def _times(request: pb.ForecastRequest, count: int) -> FloatArray:
    """[N] float64, seconds since the first of the given times."""
    if len(request.value_times) != count:
        raise InvalidArgument.of(
            "value_times", f"has {len(request.value_times)} entries for {count} values"
        )
    times = [(time.seconds, time.nanos) for time in request.value_times]
    for i in range(1, count):
        if times[i] <= times[i - 1]:
            raise InvalidArgument.of(f"value_times[{i}]", "times must be strictly increasing")
    first = times[0][0]
    return np.array([seconds - first + nanos / 1e9 for seconds, nanos in times])


def _check_covariates(request: pb.ForecastRequest, count: int, horizon: int) -> None:
    for name, covariates, length in (
        ("past_covariates", request.past_covariates, count),
        ("future_covariates", request.future_covariates, horizon),
    ):
        for i, covariate in enumerate(covariates):
            if len(covariate.values) != length:
                raise InvalidArgument.of(
                    f"{name}[{i}].values",
                    f"has {len(covariate.values)} entries instead of {length}",
                )


def _warnings(question: Question, bands: Bands) -> list[pb.ForecastWarning]:
    found: list[tuple[pb.WarningCode, int, str]] = []
    if bands.flags & BaselineFlag.SHORT_HISTORY:
        found.append(
            (
                pb.WARNING_CODE_SHORT_HISTORY,
                1,
                "too few increments for the horizon; the longest usable step was scaled",
            )
        )
    found.extend(
        (code, moved, message)
        for (code, message), moved in zip(_ADJUSTMENTS, bands.adjusted.tolist(), strict=True)
        if moved
    )
    if question.truncated:
        found.append(
            (
                pb.WARNING_CODE_CONTEXT_TRUNCATED,
                question.truncated,
                f"the model sees the last {question.card.max_context} values",
            )
        )
    if question.covariates:
        found.append(
            (
                pb.WARNING_CODE_COVARIATES_IGNORED,
                question.covariates,
                f"the model {question.card.name} uses no covariates",
            )
        )
    return [
        pb.ForecastWarning(code=code, count=count, message=message)
        for code, count, message in found
    ]
