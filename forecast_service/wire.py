"""Protobuf to domain values and back; nothing else in this package knows both."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from forecast_service.bands import QuantileSource
from forecast_service.baselines.context import BaselineFlag
from forecast_service.batch import Query
from forecast_service.models.catalog import MAX_HORIZON, ModelCard
from forecast_service.policy.decision import Answer, Ask, BandKind, FallbackReason, inputs_of
from forecast_service.policy.routing import Router
from forecast_service.policy.statistics import Bar, ModelStatistics
from forecast_service.postprocess import Adjustment
from forecast_service.segment import segment_of, tte_bucket
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
_SHORT_HISTORY = "too few increments for the horizon; the longest usable step was scaled"
_BEYOND = "later steps continue the scale of the last step that the model gives itself"
_CLAMPED = "levels beyond the model's own were set to its outermost"
_ADJUSTMENTS = tuple(_WARNING_OF_ADJUSTMENT[kind] for kind in Adjustment)


_BANDS = tuple(BandKind)
_ANY_VERSION = pb.ModelSpec()


@dataclass(frozen=True, slots=True)
class Question:
    """A checked request.

    Attributes:
        ask: what the policy decides on.
        freq: cadence as text.
        given: prices in the request.
        covariates: series that came along.
        as_of: instant of the last price in microseconds since the epoch; None when unknown.
    """

    ask: Ask
    freq: str
    given: int
    covariates: int
    as_of: int | None = None


def decode(request: pb.ForecastRequest, router: Router, caller: str = "") -> Question:
    """The checked question in a request whose contract rules hold.

    Raises:
        InvalidArgument: what the rules cannot express: prices outside [0, 1], no finite price,
            levels out of order, times or covariates of the wrong length.
        ModelNotFound: no such model.
    """
    horizon = request.horizon_steps or DEFAULT_HORIZON
    tte = _tte_seconds(request) if request.HasField("time_to_event") else None
    segment = segment_of(request.liquidity_bucket, tte_bucket(tte), request.category)
    route = router.choose(request.model.name, segment, horizon)
    card = find_model(router.models, route.model, request.model)
    freq = request.freq or DEFAULT_FREQ
    levels = tuple(request.quantiles) or DEFAULT_LEVELS
    for i in range(1, len(levels)):
        if levels[i] <= levels[i - 1]:
            raise InvalidArgument.of(f"quantiles[{i}]", "levels must be strictly increasing")
    series = _series(request, freq, card.max_context)
    if tte is not None:
        series = dataclasses.replace(series, steps_to_event=tte / series.freq_seconds)
    _check_covariates(request, len(request.values), horizon)
    transform = _transform(request.transform) if request.HasField("transform") else LOGIT
    query = Query(card.name, horizon, levels, transform, series.freq_seconds, route.limits)
    band = _BANDS[request.band]
    return Question(
        Ask(request.market_id, card, query, series, segment, route.name, band, caller),
        freq,
        len(request.values),
        len(request.past_covariates) + len(request.future_covariates),
        _microseconds(request) if request.HasField("as_of_time") else None,
    )


def _series(request: pb.ForecastRequest, freq: str, context_steps: int) -> Series:
    """The prices of a request, at most ``context_steps`` of them."""
    count = len(request.values)
    values = np.fromiter(request.values, dtype=np.float64, count=count)
    try:
        series = series_of(values, freq, context_steps=context_steps)
        if request.value_times:
            seconds, steps = series.freq_seconds, context_steps
            grid = on_grid(values, _times(request, count), freq_seconds=seconds, steps=steps)
            series = series_of(np.append(np.nan, grid), freq, context_steps=steps)
    except InvalidFieldError as error:
        raise InvalidArgument.of(error.field, error.reason) from error
    return series


def _microseconds(request: pb.ForecastRequest) -> int:
    """Instant of the last price since the epoch."""
    return int(request.as_of_time.seconds * 1_000_000 + request.as_of_time.nanos // 1_000)


def _tte_seconds(request: pb.ForecastRequest) -> float:
    """Seconds to the deciding event; 0 when it is over."""
    time = request.time_to_event
    return max(0.0, time.seconds + time.nanos / 1e9)


def check_totals(items: Iterable[pb.ForecastRequest], *, corrects: bool = False) -> None:
    """Refuses a call above the product's limits before anything is allocated for it.

    Args:
        items: the series of the call.
        corrects: whether answers hold corrected bands too, unless raw ones alone are wanted.

    Raises:
        TooLarge: too many input or answer values in all.
    """
    given = wanted = 0
    for item in items:
        given += len(item.values)
        wanted += answer_values(item, corrects=corrects)
    for name, total in (("values", given), ("answer values", wanted)):
        if total > MAX_CALL_VALUES:
            raise TooLarge(
                f"the call has {total} {name} in all, at most {MAX_CALL_VALUES} are taken",
                metadata={"limit": name.replace(" ", "_"), "maximum": str(MAX_CALL_VALUES)},
            )


def answer_values(item: pb.ForecastRequest, *, corrects: bool = False) -> int:
    """Numbers that the answer to ``item`` would hold; an invalid horizon counts as one step."""
    horizon = item.horizon_steps or DEFAULT_HORIZON
    horizon = horizon if 0 < horizon <= MAX_HORIZON else 1
    both = item.band == pb.BAND_KIND_BOTH or (corrects and item.band != pb.BAND_KIND_RAW)
    kinds = 2 if both else 1
    return int(horizon * (len(item.quantiles) or len(DEFAULT_LEVELS)) * kinds)


def encode(
    request: pb.ForecastRequest, question: Question, answer: Answer, seconds: float
) -> pb.ForecastResponse:
    """The answer."""
    query, made = question.ask.query, answer.made
    response = pb.ForecastResponse(
        market_id=request.market_id,
        freq=question.freq,
        horizon_steps=query.horizon_steps,
        meta=_meta(question, answer),
    )
    if request.HasField("as_of_time"):
        response.as_of_time.CopyFrom(request.as_of_time)
    response.meta.latency.FromNanoseconds(int(seconds * 1e9))
    for level, path in zip(query.levels, made.bands.quantiles.T.tolist(), strict=True):
        response.quantile_paths.add(level=level, values=path)
    if made.corrected is not None:
        response.meta.conformal_version = made.corrected.version
        for level, path in zip(query.levels, made.corrected.quantiles.T.tolist(), strict=True):
            response.conformal_paths.add(level=level, values=path)
    return response


def _meta(question: Question, answer: Answer) -> pb.ForecastMeta:
    ask, made = question.ask, answer.made
    bands, card = made.bands, made.card
    length, missing = answer.earlier or inputs_of(answer.series)
    meta = pb.ForecastMeta(
        model_name=card.name,
        model_version=card.version,
        runtime=card.runtime,
        served_by=bands.served_by,
        input_length=length,
        missing_ratio=missing,
        transform=_encode_transform(ask.query.transform),
        cache=int(answer.cache),  # type: ignore[arg-type]
        route=ask.route,
        segment=ask.segment.key,
        quantile_source=_SOURCES[bands.source],
        effective_horizon=bands.effective_horizon,
        warnings=_warnings(question, answer),
    )
    if made.reason is not FallbackReason.NONE:
        meta.fallback_used = True
        meta.fallback_reason = int(made.reason)  # type: ignore[assignment]
    if answer.breaker is not None and answer.degradation is not None:
        meta.breaker_state = int(answer.breaker)  # type: ignore[assignment]
        meta.degradation_state = int(answer.degradation)  # type: ignore[assignment]
    return meta


def encode_statistics(statistics: ModelStatistics) -> pb.ModelStatistics:
    """What a model has done, as callers see it."""
    return pb.ModelStatistics(
        requests=statistics.requests,
        failures=statistics.failures,
        batch_sizes=_histogram(statistics.batch_sizes.bars()),
        latencies_ms=_histogram(statistics.latencies_ms.bars()),
    )


def _histogram(bars: list[Bar]) -> list[pb.HistogramBucket]:
    return [pb.HistogramBucket(upper_bound=bar.upper_bound, count=bar.count) for bar in bars]


def compared(request: pb.CompareForecastsRequest) -> list[pb.ForecastRequest]:
    """The request of a comparison, once for each model."""
    items = []
    for spec in request.models:
        item = pb.ForecastRequest()
        item.CopyFrom(request.request)
        item.market_id = request.market_id
        item.model.CopyFrom(spec)
        items.append(item)
    return items


def at_bar(request: pb.WatchForecastRequest, closes: FloatArray, end_ms: int) -> pb.ForecastRequest:
    """The request for the band of a watched market at a closed bar.

    Args:
        request: what is watched.
        closes: [N] float64, prices of five-minute steps, the last of the bar; NaN is missing.
        end_ms: end of the bar, UTC milliseconds.
    """
    item = pb.ForecastRequest(
        market_id=request.market_id, freq=DEFAULT_FREQ, quantiles=request.quantiles, values=closes
    )
    if request.HasField("horizon_steps"):
        item.horizon_steps = request.horizon_steps
    item.model.CopyFrom(request.model)
    item.as_of_time.FromMilliseconds(end_ms)
    return item


def check_watched(request: pb.WatchForecastRequest, router: Router) -> None:
    """Refuses at once what would be refused at every bar; raises as `decode` does."""
    if "\0" in request.market_id:
        raise InvalidArgument.of("market_id", "holds a NUL character")
    decode(at_bar(request, np.array([0.5, 0.5]), 0), router)


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
        weights_digest=card.digest,
        is_default=card.name == default_model,
    )


def find_model(
    models: Mapping[str, ModelCard], name: str, spec: pb.ModelSpec = _ANY_VERSION
) -> ModelCard:
    """The model ``name`` in the version and with the parameters of ``spec``.

    Raises:
        ModelNotFound: there is none.
        InvalidArgument: it takes no parameters.
    """
    card = models.get(name)
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


def _warnings(question: Question, answer: Answer) -> list[pb.ForecastWarning]:
    bands, card = answer.made.bands, answer.made.card
    found: list[tuple[pb.WarningCode, int, str]] = []
    if bands.flags & BaselineFlag.SHORT_HISTORY:
        found.append((pb.WARNING_CODE_SHORT_HISTORY, 1, _SHORT_HISTORY))
    beyond = question.ask.query.horizon_steps - bands.effective_horizon
    if beyond > 0:
        found.append((pb.WARNING_CODE_HORIZON_BEYOND_MODEL, beyond, _BEYOND))
    if bands.source is QuantileSource.CLAMPED:
        found.append((pb.WARNING_CODE_LEVEL_CLAMPED, 1, _CLAMPED))
    adjusted = bands.adjusted.tolist()
    if any(adjusted):
        found.extend(
            (code, moved, message)
            for (code, message), moved in zip(_ADJUSTMENTS, adjusted, strict=True)
            if moved
        )
    truncated = question.given - card.max_context
    if truncated > 0:
        seen = f"the model sees the last {card.max_context} values"
        found.append((pb.WARNING_CODE_CONTEXT_TRUNCATED, truncated, seen))
    if question.covariates:
        unused = f"the model {card.name} uses no covariates"
        found.append((pb.WARNING_CODE_COVARIATES_IGNORED, question.covariates, unused))
    return [
        pb.ForecastWarning(code=code, count=count, message=message)
        for code, count, message in found
    ]
