from marketcal._vendor.buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from marketcal.v1 import options_pb2 as _options_pb2
from marketcal.v1 import segments_pb2 as _segments_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TransformSpace(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRANSFORM_SPACE_UNSPECIFIED: _ClassVar[TransformSpace]
    TRANSFORM_SPACE_LOGIT: _ClassVar[TransformSpace]
    TRANSFORM_SPACE_IDENTITY: _ClassVar[TransformSpace]

class BandKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BAND_KIND_UNSPECIFIED: _ClassVar[BandKind]
    BAND_KIND_RAW: _ClassVar[BandKind]
    BAND_KIND_CONFORMAL: _ClassVar[BandKind]
    BAND_KIND_BOTH: _ClassVar[BandKind]

class FallbackReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FALLBACK_REASON_UNSPECIFIED: _ClassVar[FallbackReason]
    FALLBACK_REASON_BACKEND_UNAVAILABLE: _ClassVar[FallbackReason]
    FALLBACK_REASON_DEADLINE: _ClassVar[FallbackReason]
    FALLBACK_REASON_INVALID_OUTPUT: _ClassVar[FallbackReason]
    FALLBACK_REASON_BREAKER_OPEN: _ClassVar[FallbackReason]
    FALLBACK_REASON_TOO_FEW_POINTS: _ClassVar[FallbackReason]
    FALLBACK_REASON_GAP: _ClassVar[FallbackReason]
    FALLBACK_REASON_LOW_LIQUIDITY: _ClassVar[FallbackReason]
    FALLBACK_REASON_DEGRADED: _ClassVar[FallbackReason]
    FALLBACK_REASON_BACKEND_ERROR: _ClassVar[FallbackReason]

class WarningCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WARNING_CODE_UNSPECIFIED: _ClassVar[WarningCode]
    WARNING_CODE_SHORT_HISTORY: _ClassVar[WarningCode]
    WARNING_CODE_HORIZON_BEYOND_MODEL: _ClassVar[WarningCode]
    WARNING_CODE_QUANTILES_REARRANGED: _ClassVar[WarningCode]
    WARNING_CODE_CLIPPED: _ClassVar[WarningCode]
    WARNING_CODE_WIDENED: _ClassVar[WarningCode]
    WARNING_CODE_NARROWED: _ClassVar[WarningCode]
    WARNING_CODE_LEVEL_CLAMPED: _ClassVar[WarningCode]
    WARNING_CODE_CONTEXT_TRUNCATED: _ClassVar[WarningCode]
    WARNING_CODE_COVARIATES_IGNORED: _ClassVar[WarningCode]

class CacheState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CACHE_STATE_UNSPECIFIED: _ClassVar[CacheState]
    CACHE_STATE_MISS: _ClassVar[CacheState]
    CACHE_STATE_HIT: _ClassVar[CacheState]
    CACHE_STATE_STALE: _ClassVar[CacheState]

class BreakerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BREAKER_STATE_UNSPECIFIED: _ClassVar[BreakerState]
    BREAKER_STATE_CLOSED: _ClassVar[BreakerState]
    BREAKER_STATE_OPEN: _ClassVar[BreakerState]
    BREAKER_STATE_HALF_OPEN: _ClassVar[BreakerState]

class DegradationState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEGRADATION_STATE_UNSPECIFIED: _ClassVar[DegradationState]
    DEGRADATION_STATE_NORMAL: _ClassVar[DegradationState]
    DEGRADATION_STATE_DEGRADED: _ClassVar[DegradationState]
    DEGRADATION_STATE_BASELINE_ONLY: _ClassVar[DegradationState]

class QuantileSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    QUANTILE_SOURCE_UNSPECIFIED: _ClassVar[QuantileSource]
    QUANTILE_SOURCE_NATIVE: _ClassVar[QuantileSource]
    QUANTILE_SOURCE_INTERPOLATED: _ClassVar[QuantileSource]
    QUANTILE_SOURCE_CLAMPED: _ClassVar[QuantileSource]
    QUANTILE_SOURCE_EXTRAPOLATED: _ClassVar[QuantileSource]
TRANSFORM_SPACE_UNSPECIFIED: TransformSpace
TRANSFORM_SPACE_LOGIT: TransformSpace
TRANSFORM_SPACE_IDENTITY: TransformSpace
BAND_KIND_UNSPECIFIED: BandKind
BAND_KIND_RAW: BandKind
BAND_KIND_CONFORMAL: BandKind
BAND_KIND_BOTH: BandKind
FALLBACK_REASON_UNSPECIFIED: FallbackReason
FALLBACK_REASON_BACKEND_UNAVAILABLE: FallbackReason
FALLBACK_REASON_DEADLINE: FallbackReason
FALLBACK_REASON_INVALID_OUTPUT: FallbackReason
FALLBACK_REASON_BREAKER_OPEN: FallbackReason
FALLBACK_REASON_TOO_FEW_POINTS: FallbackReason
FALLBACK_REASON_GAP: FallbackReason
FALLBACK_REASON_LOW_LIQUIDITY: FallbackReason
FALLBACK_REASON_DEGRADED: FallbackReason
FALLBACK_REASON_BACKEND_ERROR: FallbackReason
WARNING_CODE_UNSPECIFIED: WarningCode
WARNING_CODE_SHORT_HISTORY: WarningCode
WARNING_CODE_HORIZON_BEYOND_MODEL: WarningCode
WARNING_CODE_QUANTILES_REARRANGED: WarningCode
WARNING_CODE_CLIPPED: WarningCode
WARNING_CODE_WIDENED: WarningCode
WARNING_CODE_NARROWED: WarningCode
WARNING_CODE_LEVEL_CLAMPED: WarningCode
WARNING_CODE_CONTEXT_TRUNCATED: WarningCode
WARNING_CODE_COVARIATES_IGNORED: WarningCode
CACHE_STATE_UNSPECIFIED: CacheState
CACHE_STATE_MISS: CacheState
CACHE_STATE_HIT: CacheState
CACHE_STATE_STALE: CacheState
BREAKER_STATE_UNSPECIFIED: BreakerState
BREAKER_STATE_CLOSED: BreakerState
BREAKER_STATE_OPEN: BreakerState
BREAKER_STATE_HALF_OPEN: BreakerState
DEGRADATION_STATE_UNSPECIFIED: DegradationState
DEGRADATION_STATE_NORMAL: DegradationState
DEGRADATION_STATE_DEGRADED: DegradationState
DEGRADATION_STATE_BASELINE_ONLY: DegradationState
QUANTILE_SOURCE_UNSPECIFIED: QuantileSource
QUANTILE_SOURCE_NATIVE: QuantileSource
QUANTILE_SOURCE_INTERPOLATED: QuantileSource
QUANTILE_SOURCE_CLAMPED: QuantileSource
QUANTILE_SOURCE_EXTRAPOLATED: QuantileSource

class Transform(_message.Message):
    __slots__ = ("space", "eps")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    EPS_FIELD_NUMBER: _ClassVar[int]
    space: TransformSpace
    eps: float
    def __init__(self, space: _Optional[_Union[TransformSpace, str]] = ..., eps: _Optional[float] = ...) -> None: ...

class ModelSpec(_message.Message):
    __slots__ = ("name", "version", "params")
    class ParamsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    params: _containers.ScalarMap[str, float]
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., params: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Covariate(_message.Message):
    __slots__ = ("name", "values")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    name: str
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, name: _Optional[str] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...

class ForecastRequest(_message.Message):
    __slots__ = ("market_id", "as_of_time", "freq", "horizon_steps", "quantiles", "values", "value_times", "past_covariates", "future_covariates", "transform", "model", "liquidity_bucket", "category", "time_to_event", "band")
    MARKET_ID_FIELD_NUMBER: _ClassVar[int]
    AS_OF_TIME_FIELD_NUMBER: _ClassVar[int]
    FREQ_FIELD_NUMBER: _ClassVar[int]
    HORIZON_STEPS_FIELD_NUMBER: _ClassVar[int]
    QUANTILES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    VALUE_TIMES_FIELD_NUMBER: _ClassVar[int]
    PAST_COVARIATES_FIELD_NUMBER: _ClassVar[int]
    FUTURE_COVARIATES_FIELD_NUMBER: _ClassVar[int]
    TRANSFORM_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LIQUIDITY_BUCKET_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    TIME_TO_EVENT_FIELD_NUMBER: _ClassVar[int]
    BAND_FIELD_NUMBER: _ClassVar[int]
    market_id: str
    as_of_time: _timestamp_pb2.Timestamp
    freq: str
    horizon_steps: int
    quantiles: _containers.RepeatedScalarFieldContainer[float]
    values: _containers.RepeatedScalarFieldContainer[float]
    value_times: _containers.RepeatedCompositeFieldContainer[_timestamp_pb2.Timestamp]
    past_covariates: _containers.RepeatedCompositeFieldContainer[Covariate]
    future_covariates: _containers.RepeatedCompositeFieldContainer[Covariate]
    transform: Transform
    model: ModelSpec
    liquidity_bucket: _segments_pb2.LiquidityBucket
    category: str
    time_to_event: _duration_pb2.Duration
    band: BandKind
    def __init__(self, market_id: _Optional[str] = ..., as_of_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., freq: _Optional[str] = ..., horizon_steps: _Optional[int] = ..., quantiles: _Optional[_Iterable[float]] = ..., values: _Optional[_Iterable[float]] = ..., value_times: _Optional[_Iterable[_Union[_timestamp_pb2.Timestamp, _Mapping]]] = ..., past_covariates: _Optional[_Iterable[_Union[Covariate, _Mapping]]] = ..., future_covariates: _Optional[_Iterable[_Union[Covariate, _Mapping]]] = ..., transform: _Optional[_Union[Transform, _Mapping]] = ..., model: _Optional[_Union[ModelSpec, _Mapping]] = ..., liquidity_bucket: _Optional[_Union[_segments_pb2.LiquidityBucket, str]] = ..., category: _Optional[str] = ..., time_to_event: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., band: _Optional[_Union[BandKind, str]] = ...) -> None: ...

class QuantilePath(_message.Message):
    __slots__ = ("level", "values")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    level: float
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, level: _Optional[float] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...

class ForecastWarning(_message.Message):
    __slots__ = ("code", "count", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: WarningCode
    count: int
    message: str
    def __init__(self, code: _Optional[_Union[WarningCode, str]] = ..., count: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class ForecastMeta(_message.Message):
    __slots__ = ("model_name", "model_version", "runtime", "served_by", "latency", "input_length", "missing_ratio", "transform", "fallback_used", "fallback_reason", "warnings", "cache", "breaker_state", "degradation_state", "route", "segment", "conformal_version", "quantile_source", "effective_horizon")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    INPUT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MISSING_RATIO_FIELD_NUMBER: _ClassVar[int]
    TRANSFORM_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_USED_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_REASON_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    BREAKER_STATE_FIELD_NUMBER: _ClassVar[int]
    DEGRADATION_STATE_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    CONFORMAL_VERSION_FIELD_NUMBER: _ClassVar[int]
    QUANTILE_SOURCE_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_HORIZON_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_version: str
    runtime: str
    served_by: str
    latency: _duration_pb2.Duration
    input_length: int
    missing_ratio: float
    transform: Transform
    fallback_used: bool
    fallback_reason: FallbackReason
    warnings: _containers.RepeatedCompositeFieldContainer[ForecastWarning]
    cache: CacheState
    breaker_state: BreakerState
    degradation_state: DegradationState
    route: str
    segment: str
    conformal_version: str
    quantile_source: QuantileSource
    effective_horizon: int
    def __init__(self, model_name: _Optional[str] = ..., model_version: _Optional[str] = ..., runtime: _Optional[str] = ..., served_by: _Optional[str] = ..., latency: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., input_length: _Optional[int] = ..., missing_ratio: _Optional[float] = ..., transform: _Optional[_Union[Transform, _Mapping]] = ..., fallback_used: bool = ..., fallback_reason: _Optional[_Union[FallbackReason, str]] = ..., warnings: _Optional[_Iterable[_Union[ForecastWarning, _Mapping]]] = ..., cache: _Optional[_Union[CacheState, str]] = ..., breaker_state: _Optional[_Union[BreakerState, str]] = ..., degradation_state: _Optional[_Union[DegradationState, str]] = ..., route: _Optional[str] = ..., segment: _Optional[str] = ..., conformal_version: _Optional[str] = ..., quantile_source: _Optional[_Union[QuantileSource, str]] = ..., effective_horizon: _Optional[int] = ...) -> None: ...

class ForecastResponse(_message.Message):
    __slots__ = ("market_id", "as_of_time", "freq", "horizon_steps", "quantile_paths", "conformal_paths", "meta")
    MARKET_ID_FIELD_NUMBER: _ClassVar[int]
    AS_OF_TIME_FIELD_NUMBER: _ClassVar[int]
    FREQ_FIELD_NUMBER: _ClassVar[int]
    HORIZON_STEPS_FIELD_NUMBER: _ClassVar[int]
    QUANTILE_PATHS_FIELD_NUMBER: _ClassVar[int]
    CONFORMAL_PATHS_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    market_id: str
    as_of_time: _timestamp_pb2.Timestamp
    freq: str
    horizon_steps: int
    quantile_paths: _containers.RepeatedCompositeFieldContainer[QuantilePath]
    conformal_paths: _containers.RepeatedCompositeFieldContainer[QuantilePath]
    meta: ForecastMeta
    def __init__(self, market_id: _Optional[str] = ..., as_of_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., freq: _Optional[str] = ..., horizon_steps: _Optional[int] = ..., quantile_paths: _Optional[_Iterable[_Union[QuantilePath, _Mapping]]] = ..., conformal_paths: _Optional[_Iterable[_Union[QuantilePath, _Mapping]]] = ..., meta: _Optional[_Union[ForecastMeta, _Mapping]] = ...) -> None: ...

class BatchForecastRequest(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[ForecastRequest]
    def __init__(self, items: _Optional[_Iterable[_Union[ForecastRequest, _Mapping]]] = ...) -> None: ...

class BatchForecastResult(_message.Message):
    __slots__ = ("forecast", "error")
    FORECAST_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    forecast: ForecastResponse
    error: _status_pb2.Status
    def __init__(self, forecast: _Optional[_Union[ForecastResponse, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class BatchForecastResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[BatchForecastResult]
    def __init__(self, results: _Optional[_Iterable[_Union[BatchForecastResult, _Mapping]]] = ...) -> None: ...

class CompareForecastsRequest(_message.Message):
    __slots__ = ("market_id", "request", "models")
    MARKET_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    market_id: str
    request: ForecastRequest
    models: _containers.RepeatedCompositeFieldContainer[ModelSpec]
    def __init__(self, market_id: _Optional[str] = ..., request: _Optional[_Union[ForecastRequest, _Mapping]] = ..., models: _Optional[_Iterable[_Union[ModelSpec, _Mapping]]] = ...) -> None: ...

class CompareForecastsResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[BatchForecastResult]
    def __init__(self, results: _Optional[_Iterable[_Union[BatchForecastResult, _Mapping]]] = ...) -> None: ...

class WatchForecastRequest(_message.Message):
    __slots__ = ("market_id", "horizon_steps", "quantiles", "model")
    MARKET_ID_FIELD_NUMBER: _ClassVar[int]
    HORIZON_STEPS_FIELD_NUMBER: _ClassVar[int]
    QUANTILES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    market_id: str
    horizon_steps: int
    quantiles: _containers.RepeatedScalarFieldContainer[float]
    model: ModelSpec
    def __init__(self, market_id: _Optional[str] = ..., horizon_steps: _Optional[int] = ..., quantiles: _Optional[_Iterable[float]] = ..., model: _Optional[_Union[ModelSpec, _Mapping]] = ...) -> None: ...

class WatchForecastResponse(_message.Message):
    __slots__ = ("forecast",)
    FORECAST_FIELD_NUMBER: _ClassVar[int]
    forecast: ForecastResponse
    def __init__(self, forecast: _Optional[_Union[ForecastResponse, _Mapping]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "next_page_token")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    next_page_token: str
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model", "statistics")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    model: Model
    statistics: ModelStatistics
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ..., statistics: _Optional[_Union[ModelStatistics, _Mapping]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "version", "family", "description", "max_context_length", "max_native_horizon", "licence_tag", "weights_digest", "is_default")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    MAX_CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MAX_NATIVE_HORIZON_FIELD_NUMBER: _ClassVar[int]
    LICENCE_TAG_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    IS_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    family: str
    description: str
    max_context_length: int
    max_native_horizon: int
    licence_tag: str
    weights_digest: str
    is_default: bool
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., family: _Optional[str] = ..., description: _Optional[str] = ..., max_context_length: _Optional[int] = ..., max_native_horizon: _Optional[int] = ..., licence_tag: _Optional[str] = ..., weights_digest: _Optional[str] = ..., is_default: bool = ...) -> None: ...

class HistogramBucket(_message.Message):
    __slots__ = ("upper_bound", "count")
    UPPER_BOUND_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    upper_bound: float
    count: int
    def __init__(self, upper_bound: _Optional[float] = ..., count: _Optional[int] = ...) -> None: ...

class ModelStatistics(_message.Message):
    __slots__ = ("requests", "failures", "batch_sizes", "latencies_ms")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZES_FIELD_NUMBER: _ClassVar[int]
    LATENCIES_MS_FIELD_NUMBER: _ClassVar[int]
    requests: int
    failures: int
    batch_sizes: _containers.RepeatedCompositeFieldContainer[HistogramBucket]
    latencies_ms: _containers.RepeatedCompositeFieldContainer[HistogramBucket]
    def __init__(self, requests: _Optional[int] = ..., failures: _Optional[int] = ..., batch_sizes: _Optional[_Iterable[_Union[HistogramBucket, _Mapping]]] = ..., latencies_ms: _Optional[_Iterable[_Union[HistogramBucket, _Mapping]]] = ...) -> None: ...
