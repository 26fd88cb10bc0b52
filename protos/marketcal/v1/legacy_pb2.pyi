from marketcal._vendor.buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from marketcal.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TsfmTransform(_message.Message):
    __slots__ = ("space", "eps")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    EPS_FIELD_NUMBER: _ClassVar[int]
    space: str
    eps: float
    def __init__(self, space: _Optional[str] = ..., eps: _Optional[float] = ...) -> None: ...

class TsfmModel(_message.Message):
    __slots__ = ("model_name", "model_version")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_version: str
    def __init__(self, model_name: _Optional[str] = ..., model_version: _Optional[str] = ...) -> None: ...

class TsfmForecastRequest(_message.Message):
    __slots__ = ("market_id", "as_of_ts", "freq", "horizon_steps", "quantiles", "y", "x_past", "x_future", "transform", "model")
    MARKET_ID_FIELD_NUMBER: _ClassVar[int]
    AS_OF_TS_FIELD_NUMBER: _ClassVar[int]
    FREQ_FIELD_NUMBER: _ClassVar[int]
    HORIZON_STEPS_FIELD_NUMBER: _ClassVar[int]
    QUANTILES_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    X_PAST_FIELD_NUMBER: _ClassVar[int]
    X_FUTURE_FIELD_NUMBER: _ClassVar[int]
    TRANSFORM_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    market_id: str
    as_of_ts: str
    freq: str
    horizon_steps: int
    quantiles: _containers.RepeatedScalarFieldContainer[float]
    y: _containers.RepeatedScalarFieldContainer[float]
    x_past: _struct_pb2.Struct
    x_future: _struct_pb2.Struct
    transform: TsfmTransform
    model: TsfmModel
    def __init__(self, market_id: _Optional[str] = ..., as_of_ts: _Optional[str] = ..., freq: _Optional[str] = ..., horizon_steps: _Optional[int] = ..., quantiles: _Optional[_Iterable[float]] = ..., y: _Optional[_Iterable[float]] = ..., x_past: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., x_future: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., transform: _Optional[_Union[TsfmTransform, _Mapping]] = ..., model: _Optional[_Union[TsfmModel, _Mapping]] = ...) -> None: ...

class YhatQ(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class TsfmMeta(_message.Message):
    __slots__ = ("model_name", "runtime", "fallback_used", "fallback_reason", "warnings")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_USED_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_REASON_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    runtime: str
    fallback_used: bool
    fallback_reason: str
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model_name: _Optional[str] = ..., runtime: _Optional[str] = ..., fallback_used: bool = ..., fallback_reason: _Optional[str] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class TsfmForecastResponse(_message.Message):
    __slots__ = ("market_id", "yhat_q", "meta", "conformal_last_step")
    class YhatQEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: YhatQ
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[YhatQ, _Mapping]] = ...) -> None: ...
    class ConformalLastStepEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    MARKET_ID_FIELD_NUMBER: _ClassVar[int]
    YHAT_Q_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    CONFORMAL_LAST_STEP_FIELD_NUMBER: _ClassVar[int]
    market_id: str
    yhat_q: _containers.MessageMap[str, YhatQ]
    meta: TsfmMeta
    conformal_last_step: _containers.ScalarMap[str, float]
    def __init__(self, market_id: _Optional[str] = ..., yhat_q: _Optional[_Mapping[str, YhatQ]] = ..., meta: _Optional[_Union[TsfmMeta, _Mapping]] = ..., conformal_last_step: _Optional[_Mapping[str, float]] = ...) -> None: ...

class ScoreboardRequest(_message.Message):
    __slots__ = ("window", "tag", "liquidity_bucket", "min_trust_score", "limit")
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    LIQUIDITY_BUCKET_FIELD_NUMBER: _ClassVar[int]
    MIN_TRUST_SCORE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    window: str
    tag: str
    liquidity_bucket: str
    min_trust_score: float
    limit: int
    def __init__(self, window: _Optional[str] = ..., tag: _Optional[str] = ..., liquidity_bucket: _Optional[str] = ..., min_trust_score: _Optional[float] = ..., limit: _Optional[int] = ...) -> None: ...

class ScoreboardResponse(_message.Message):
    __slots__ = ("items", "total")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[_struct_pb2.Struct]
    total: int
    def __init__(self, items: _Optional[_Iterable[_Union[_struct_pb2.Struct, _Mapping]]] = ..., total: _Optional[int] = ...) -> None: ...

class AlertsRequest(_message.Message):
    __slots__ = ("since", "severity", "limit")
    SINCE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    since: str
    severity: str
    limit: int
    def __init__(self, since: _Optional[str] = ..., severity: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class AlertsResponse(_message.Message):
    __slots__ = ("items", "total")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[_struct_pb2.Struct]
    total: int
    def __init__(self, items: _Optional[_Iterable[_Union[_struct_pb2.Struct, _Mapping]]] = ..., total: _Optional[int] = ...) -> None: ...

class MarketsRequest(_message.Message):
    __slots__ = ("platform", "status", "limit")
    PLATFORM_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    platform: str
    status: str
    limit: int
    def __init__(self, platform: _Optional[str] = ..., status: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class MarketsResponse(_message.Message):
    __slots__ = ("items", "total")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[_struct_pb2.Struct]
    total: int
    def __init__(self, items: _Optional[_Iterable[_Union[_struct_pb2.Struct, _Mapping]]] = ..., total: _Optional[int] = ...) -> None: ...

class MarketByIdRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class MarketByIdResponse(_message.Message):
    __slots__ = ("market",)
    MARKET_FIELD_NUMBER: _ClassVar[int]
    market: _struct_pb2.Struct
    def __init__(self, market: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class MarketMetricsRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class MarketMetricsResponse(_message.Message):
    __slots__ = ("metrics",)
    METRICS_FIELD_NUMBER: _ClassVar[int]
    metrics: _struct_pb2.Struct
    def __init__(self, metrics: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class PostmortemByIdRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class PostmortemByIdResponse(_message.Message):
    __slots__ = ("market_id", "content")
    MARKET_ID_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    market_id: str
    content: str
    def __init__(self, market_id: _Optional[str] = ..., content: _Optional[str] = ...) -> None: ...

class MarketComparisonRequest(_message.Message):
    __slots__ = ("id", "forecast")
    ID_FIELD_NUMBER: _ClassVar[int]
    FORECAST_FIELD_NUMBER: _ClassVar[int]
    id: str
    forecast: TsfmForecastRequest
    def __init__(self, id: _Optional[str] = ..., forecast: _Optional[_Union[TsfmForecastRequest, _Mapping]] = ...) -> None: ...

class MarketComparisonResponse(_message.Message):
    __slots__ = ("tollama", "baseline")
    TOLLAMA_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    tollama: TsfmForecastResponse
    baseline: TsfmForecastResponse
    def __init__(self, tollama: _Optional[_Union[TsfmForecastResponse, _Mapping]] = ..., baseline: _Optional[_Union[TsfmForecastResponse, _Mapping]] = ...) -> None: ...
