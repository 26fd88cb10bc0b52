"""Old requests to v1 requests, v1 answers to old answers, and the names of fields in refusals."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from google.protobuf.struct_pb2 import Struct, Value

from marketcal import status
from marketcal.errors import InvalidArgument
from marketcal.v1 import alert_pb2, forecast_pb2, legacy_pb2, market_pb2, scoreboard_pb2
from marketcal.v1 import segments_pb2 as segments

E = TypeVar("E")
Rename = Callable[[str], str]
"""Path of a v1 field to the path of the old field that it came from."""

_SPACES = {
    "": forecast_pb2.TRANSFORM_SPACE_UNSPECIFIED,
    "logit": forecast_pb2.TRANSFORM_SPACE_LOGIT,
    "identity": forecast_pb2.TRANSFORM_SPACE_IDENTITY,
}
_LIQUIDITY = {
    "LOW": segments.LIQUIDITY_BUCKET_LOW,
    "MID": segments.LIQUIDITY_BUCKET_MID,
    "HIGH": segments.LIQUIDITY_BUCKET_HIGH,
}
_STATUSES = {
    "ACTIVE": market_pb2.MARKET_STATUS_ACTIVE,
    "RESOLVED": market_pb2.MARKET_STATUS_RESOLVED,
    "VOID": market_pb2.MARKET_STATUS_VOID,
    "UNRESOLVED": market_pb2.MARKET_STATUS_UNRESOLVED,
}
_SEVERITIES = {
    "FYI": alert_pb2.ALERT_SEVERITY_FYI,
    "MED": alert_pb2.ALERT_SEVERITY_MED,
    "HIGH": alert_pb2.ALERT_SEVERITY_HIGH,
}
_OLD_NAMES = {
    "values": "y", "as_of_time": "as_of_ts", "model.name": "model.model_name",
    "model.version": "model.model_version", "market_id": "id", "page_size": "limit",
    "min_severity": "severity",
}  # fmt: skip
_HEAD = re.compile(r"(model\.name|model\.version|[a-z_]+)(.*)", re.DOTALL)
_COVARIATE = re.compile(r"(past|future)_covariates\[(\d+)\](?:\.(?:name|values))?(.*)", re.DOTALL)


def forecast_request(old: legacy_pb2.TsfmForecastRequest) -> forecast_pb2.ForecastRequest:
    """The v1 request.

    Raises:
        InvalidArgument: a covariate is no list of numbers, or the instant is no RFC 3339 text.
    """
    request = forecast_pb2.ForecastRequest(
        market_id=old.market_id,
        freq=old.freq,
        quantiles=old.quantiles,
        values=old.y,
        past_covariates=_covariates("x_past", old.x_past),
        future_covariates=_covariates("x_future", old.x_future),
    )
    if old.horizon_steps:
        request.horizon_steps = old.horizon_steps
    if old.as_of_ts:
        read_instant("as_of_ts", old.as_of_ts, request.as_of_time.FromJsonString)
    if old.HasField("transform"):
        request.transform.space = _SPACES[old.transform.space]
        request.transform.eps = old.transform.eps
    if old.HasField("model"):
        request.model.name = old.model.model_name
        request.model.version = old.model.model_version
    return request


def comparison_request(
    old: legacy_pb2.MarketComparisonRequest, baseline: str
) -> forecast_pb2.CompareForecastsRequest:
    """The v1 comparison of the asked model with a baseline.

    Raises:
        InvalidArgument: as in `forecast_request`, or the body names another market than the path.
    """
    if old.forecast.market_id != old.id:
        raise InvalidArgument.of("forecast.market_id", "is another market than the id in the path")
    try:
        item = forecast_request(old.forecast)
    except InvalidArgument as error:
        raise renamed(error, below("forecast")) from error
    models = [item.model, forecast_pb2.ModelSpec(name=baseline)]
    return forecast_pb2.CompareForecastsRequest(market_id=old.id, request=item, models=models)


def scores_request(old: legacy_pb2.ScoreboardRequest) -> scoreboard_pb2.ListScoresRequest:
    """The v1 list of scores.

    Raises:
        InvalidArgument: there is no such liquidity bucket.
    """
    request = scoreboard_pb2.ListScoresRequest(
        window=old.window,
        tag=old.tag,
        min_trust_score=old.min_trust_score,
        page_size=old.limit,
    )
    if old.liquidity_bucket:
        request.liquidity_bucket = _of("liquidity_bucket", old.liquidity_bucket, _LIQUIDITY)
    return request


def markets_request(old: legacy_pb2.MarketsRequest) -> market_pb2.ListMarketsRequest:
    """The v1 list of markets.

    Raises:
        InvalidArgument: there is no such status.
    """
    request = market_pb2.ListMarketsRequest(platform=old.platform, page_size=old.limit)
    if old.status:
        request.status = _of("status", old.status, _STATUSES)
    return request


def alerts_request(old: legacy_pb2.AlertsRequest, page: int) -> alert_pb2.ListAlertsRequest:
    """The first of the v1 pages that hold what was asked for; `severity` is exact in the old form.

    Raises:
        InvalidArgument: there is no such severity, or the instant is no RFC 3339 text.
    """
    request = alert_pb2.ListAlertsRequest(page_size=page)
    if old.since:
        read_instant("since", old.since, request.since.FromJsonString)
    if old.severity:
        request.min_severity = _of("severity", old.severity, _SEVERITIES)
    return request


def forecast_response(new: forecast_pb2.ForecastResponse) -> legacy_pb2.TsfmForecastResponse:
    """The old answer: paths by level as text, and the corrected quantiles of the last step."""
    meta = new.meta
    reason = forecast_pb2.FallbackReason.Name(meta.fallback_reason)
    answer = legacy_pb2.TsfmForecastResponse(
        market_id=new.market_id,
        meta=legacy_pb2.TsfmMeta(
            model_name=meta.model_name,
            runtime=meta.runtime,
            fallback_used=meta.fallback_used,
            fallback_reason=reason.removeprefix("FALLBACK_REASON_") if meta.fallback_reason else "",
            warnings=[warning.message for warning in meta.warnings],
        ),
    )
    for path in new.quantile_paths:
        answer.yhat_q[repr(path.level)].values.extend(path.values)
    for path in new.conformal_paths:
        answer.conformal_last_step[repr(path.level)] = path.values[-1]
    return answer


def compared(result: forecast_pb2.BatchForecastResult) -> legacy_pb2.TsfmForecastResponse:
    """One side of a comparison.

    Raises:
        MarketcalError: the error that stands in its place; the old form has none for a side.
    """
    if result.WhichOneof("result") == "error":
        raise status.decode_status(result.error)
    return forecast_response(result.forecast)


def read_instant(field: str, text: str, read: Callable[[str], None]) -> None:
    """Reads an instant in place.

    Raises:
        InvalidArgument: it is no RFC 3339 text.
    """
    try:
        read(text)
    except (ValueError, OverflowError) as error:
        said = "must be an RFC 3339 instant such as 2026-01-31T12:00:00Z"
        raise InvalidArgument.of(field, said) from error


def renamed(error: InvalidArgument, rename: Rename) -> InvalidArgument:
    """The same refusal with the old names of its fields."""
    violations = [
        replace(violation, field=rename(violation.field)) for violation in error.violations
    ]
    message = error.message
    if error.violations and message.startswith(f"{error.violations[0].field}:"):
        message = violations[0].field + message[len(error.violations[0].field) :]
    return type(error)(message, metadata=error.metadata, violations=violations)


def old_name(path: str) -> str:
    """The old path of a field of the v1 lists and reads.

    >>> old_name("market_id"), old_name("page_size"), old_name("window")
    ('id', 'limit', 'window')
    """
    return _renamed_head(path, _OLD_NAMES)


def names_of(request: forecast_pb2.ForecastRequest) -> Rename:
    """The old paths of the fields of a forecast, covariates by their names.

    >>> names_of(forecast_pb2.ForecastRequest())("values[3]")
    'y[3]'
    >>> asked = forecast_pb2.ForecastRequest(past_covariates=[{"name": "volume"}])
    >>> names_of(asked)("past_covariates[0].values")
    'x_past.volume'
    """
    names = {name: old for name, old in _OLD_NAMES.items() if name != "market_id"}

    def rename(path: str) -> str:
        found = _COVARIATE.fullmatch(path)
        if found is None:
            return _renamed_head(path.removeprefix("request."), names)
        kind, index, rest = found[1], int(found[2]), found[3]
        given = request.past_covariates if kind == "past" else request.future_covariates
        return f"x_{kind}.{given[index].name}{rest}"

    return rename


def below(prefix: str, rename: Rename = str) -> Rename:
    """The old paths of a message that stands in another one's field."""
    return lambda path: f"{prefix}.{rename(path)}"


def _renamed_head(path: str, names: Mapping[str, str]) -> str:
    found = _HEAD.fullmatch(path)
    return names.get(found[1], found[1]) + found[2] if found else path


def _of(field: str, text: str, values: Mapping[str, E]) -> E:
    if text not in values:
        raise InvalidArgument.of(field, f"must be one of {', '.join(values)}")
    return values[text]


def _covariates(field: str, given: Struct) -> list[forecast_pb2.Covariate]:
    return [
        forecast_pb2.Covariate(name=name, values=_numbers(f"{field}.{name}", value))
        for name, value in sorted(given.fields.items())
    ]


def _numbers(field: str, value: Value) -> list[float]:
    if value.WhichOneof("kind") != "list_value":
        raise InvalidArgument.of(field, "must be a list of numbers")
    numbers = []
    for index, one in enumerate(value.list_value.values):
        kind = one.WhichOneof("kind")
        if kind not in ("number_value", "null_value"):
            raise InvalidArgument.of(f"{field}[{index}]", "must be a number, or null where missing")
        numbers.append(float("nan") if kind == "null_value" else one.number_value)
    return numbers
