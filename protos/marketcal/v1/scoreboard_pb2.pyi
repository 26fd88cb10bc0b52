from marketcal._vendor.buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from marketcal.v1 import options_pb2 as _options_pb2
from marketcal.v1 import segments_pb2 as _segments_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ScoreOrder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCORE_ORDER_UNSPECIFIED: _ClassVar[ScoreOrder]
    SCORE_ORDER_TRUST_DESC: _ClassVar[ScoreOrder]
    SCORE_ORDER_TRUST_ASC: _ClassVar[ScoreOrder]
    SCORE_ORDER_MARKET_ID: _ClassVar[ScoreOrder]
    SCORE_ORDER_BRIER_ASC: _ClassVar[ScoreOrder]
SCORE_ORDER_UNSPECIFIED: ScoreOrder
SCORE_ORDER_TRUST_DESC: ScoreOrder
SCORE_ORDER_TRUST_ASC: ScoreOrder
SCORE_ORDER_MARKET_ID: ScoreOrder
SCORE_ORDER_BRIER_ASC: ScoreOrder

class Trust(_message.Message):
    __slots__ = ("score", "liquidity_depth", "stability", "question_quality", "manipulation_suspect", "unknown_components")
    SCORE_FIELD_NUMBER: _ClassVar[int]
    LIQUIDITY_DEPTH_FIELD_NUMBER: _ClassVar[int]
    STABILITY_FIELD_NUMBER: _ClassVar[int]
    QUESTION_QUALITY_FIELD_NUMBER: _ClassVar[int]
    MANIPULATION_SUSPECT_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    score: float
    liquidity_depth: float
    stability: float
    question_quality: float
    manipulation_suspect: float
    unknown_components: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, score: _Optional[float] = ..., liquidity_depth: _Optional[float] = ..., stability: _Optional[float] = ..., question_quality: _Optional[float] = ..., manipulation_suspect: _Optional[float] = ..., unknown_components: _Optional[_Iterable[str]] = ...) -> None: ...

class Score(_message.Message):
    __slots__ = ("market_id", "event_id", "platform", "question", "category", "tags", "liquidity_bucket", "tte_bucket", "p_yes", "price_time", "calibrated_probability", "trust", "segment_scores", "as_of_time", "recalibration_method", "recalibration_version")
    MARKET_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    LIQUIDITY_BUCKET_FIELD_NUMBER: _ClassVar[int]
    TTE_BUCKET_FIELD_NUMBER: _ClassVar[int]
    P_YES_FIELD_NUMBER: _ClassVar[int]
    PRICE_TIME_FIELD_NUMBER: _ClassVar[int]
    CALIBRATED_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    TRUST_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_SCORES_FIELD_NUMBER: _ClassVar[int]
    AS_OF_TIME_FIELD_NUMBER: _ClassVar[int]
    RECALIBRATION_METHOD_FIELD_NUMBER: _ClassVar[int]
    RECALIBRATION_VERSION_FIELD_NUMBER: _ClassVar[int]
    market_id: str
    event_id: str
    platform: str
    question: str
    category: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    liquidity_bucket: _segments_pb2.LiquidityBucket
    tte_bucket: _segments_pb2.TteBucket
    p_yes: float
    price_time: _timestamp_pb2.Timestamp
    calibrated_probability: _segments_pb2.Estimate
    trust: Trust
    segment_scores: _segments_pb2.SegmentScores
    as_of_time: _timestamp_pb2.Timestamp
    recalibration_method: str
    recalibration_version: str
    def __init__(self, market_id: _Optional[str] = ..., event_id: _Optional[str] = ..., platform: _Optional[str] = ..., question: _Optional[str] = ..., category: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ..., liquidity_bucket: _Optional[_Union[_segments_pb2.LiquidityBucket, str]] = ..., tte_bucket: _Optional[_Union[_segments_pb2.TteBucket, str]] = ..., p_yes: _Optional[float] = ..., price_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., calibrated_probability: _Optional[_Union[_segments_pb2.Estimate, _Mapping]] = ..., trust: _Optional[_Union[Trust, _Mapping]] = ..., segment_scores: _Optional[_Union[_segments_pb2.SegmentScores, _Mapping]] = ..., as_of_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., recalibration_method: _Optional[str] = ..., recalibration_version: _Optional[str] = ...) -> None: ...

class ListScoresRequest(_message.Message):
    __slots__ = ("window", "platform", "category", "tag", "liquidity_bucket", "tte_bucket", "min_trust_score", "order_by", "page_size", "page_token")
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    LIQUIDITY_BUCKET_FIELD_NUMBER: _ClassVar[int]
    TTE_BUCKET_FIELD_NUMBER: _ClassVar[int]
    MIN_TRUST_SCORE_FIELD_NUMBER: _ClassVar[int]
    ORDER_BY_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    window: str
    platform: str
    category: str
    tag: str
    liquidity_bucket: _segments_pb2.LiquidityBucket
    tte_bucket: _segments_pb2.TteBucket
    min_trust_score: float
    order_by: ScoreOrder
    page_size: int
    page_token: str
    def __init__(self, window: _Optional[str] = ..., platform: _Optional[str] = ..., category: _Optional[str] = ..., tag: _Optional[str] = ..., liquidity_bucket: _Optional[_Union[_segments_pb2.LiquidityBucket, str]] = ..., tte_bucket: _Optional[_Union[_segments_pb2.TteBucket, str]] = ..., min_trust_score: _Optional[float] = ..., order_by: _Optional[_Union[ScoreOrder, str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListScoresResponse(_message.Message):
    __slots__ = ("scores", "next_page_token", "total_size")
    SCORES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    scores: _containers.RepeatedCompositeFieldContainer[Score]
    next_page_token: str
    total_size: int
    def __init__(self, scores: _Optional[_Iterable[_Union[Score, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...

class GetReliabilityRequest(_message.Message):
    __slots__ = ("window", "segment")
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    window: str
    segment: _segments_pb2.Segment
    def __init__(self, window: _Optional[str] = ..., segment: _Optional[_Union[_segments_pb2.Segment, _Mapping]] = ...) -> None: ...

class ReliabilityBin(_message.Message):
    __slots__ = ("lower", "upper", "mean_price", "observed_rate", "sample_size", "event_count", "consistency_lower", "consistency_upper")
    LOWER_FIELD_NUMBER: _ClassVar[int]
    UPPER_FIELD_NUMBER: _ClassVar[int]
    MEAN_PRICE_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_RATE_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_SIZE_FIELD_NUMBER: _ClassVar[int]
    EVENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_LOWER_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_UPPER_FIELD_NUMBER: _ClassVar[int]
    lower: float
    upper: float
    mean_price: float
    observed_rate: float
    sample_size: int
    event_count: int
    consistency_lower: float
    consistency_upper: float
    def __init__(self, lower: _Optional[float] = ..., upper: _Optional[float] = ..., mean_price: _Optional[float] = ..., observed_rate: _Optional[float] = ..., sample_size: _Optional[int] = ..., event_count: _Optional[int] = ..., consistency_lower: _Optional[float] = ..., consistency_upper: _Optional[float] = ...) -> None: ...

class GetReliabilityResponse(_message.Message):
    __slots__ = ("bins", "scores", "as_of_time", "isotonic")
    BINS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    AS_OF_TIME_FIELD_NUMBER: _ClassVar[int]
    ISOTONIC_FIELD_NUMBER: _ClassVar[int]
    bins: _containers.RepeatedCompositeFieldContainer[ReliabilityBin]
    scores: _segments_pb2.SegmentScores
    as_of_time: _timestamp_pb2.Timestamp
    isotonic: _containers.RepeatedCompositeFieldContainer[ReliabilityBin]
    def __init__(self, bins: _Optional[_Iterable[_Union[ReliabilityBin, _Mapping]]] = ..., scores: _Optional[_Union[_segments_pb2.SegmentScores, _Mapping]] = ..., as_of_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., isotonic: _Optional[_Iterable[_Union[ReliabilityBin, _Mapping]]] = ...) -> None: ...

class GetCalibrationQualityRequest(_message.Message):
    __slots__ = ("window",)
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    window: str
    def __init__(self, window: _Optional[str] = ...) -> None: ...

class DriftTest(_message.Message):
    __slots__ = ("segment", "drifted", "p_value", "p_value_adjusted", "slope_change", "intercept_change", "event_count", "reference_event_count")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    DRIFTED_FIELD_NUMBER: _ClassVar[int]
    P_VALUE_FIELD_NUMBER: _ClassVar[int]
    P_VALUE_ADJUSTED_FIELD_NUMBER: _ClassVar[int]
    SLOPE_CHANGE_FIELD_NUMBER: _ClassVar[int]
    INTERCEPT_CHANGE_FIELD_NUMBER: _ClassVar[int]
    EVENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_EVENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    segment: _segments_pb2.Segment
    drifted: bool
    p_value: float
    p_value_adjusted: float
    slope_change: _segments_pb2.Estimate
    intercept_change: _segments_pb2.Estimate
    event_count: int
    reference_event_count: int
    def __init__(self, segment: _Optional[_Union[_segments_pb2.Segment, _Mapping]] = ..., drifted: bool = ..., p_value: _Optional[float] = ..., p_value_adjusted: _Optional[float] = ..., slope_change: _Optional[_Union[_segments_pb2.Estimate, _Mapping]] = ..., intercept_change: _Optional[_Union[_segments_pb2.Estimate, _Mapping]] = ..., event_count: _Optional[int] = ..., reference_event_count: _Optional[int] = ...) -> None: ...

class Recalibration(_message.Message):
    __slots__ = ("version", "category", "method", "brier_difference", "event_count", "reason")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    BRIER_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    EVENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    version: str
    category: str
    method: str
    brier_difference: _segments_pb2.Estimate
    event_count: int
    reason: str
    def __init__(self, version: _Optional[str] = ..., category: _Optional[str] = ..., method: _Optional[str] = ..., brier_difference: _Optional[_Union[_segments_pb2.Estimate, _Mapping]] = ..., event_count: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class GetCalibrationQualityResponse(_message.Message):
    __slots__ = ("overall", "segments", "as_of_time", "coverage", "drift_detected", "drift_tests", "recalibrations")
    OVERALL_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_TIME_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    DRIFT_DETECTED_FIELD_NUMBER: _ClassVar[int]
    DRIFT_TESTS_FIELD_NUMBER: _ClassVar[int]
    RECALIBRATIONS_FIELD_NUMBER: _ClassVar[int]
    overall: _segments_pb2.SegmentScores
    segments: _containers.RepeatedCompositeFieldContainer[_segments_pb2.SegmentScores]
    as_of_time: _timestamp_pb2.Timestamp
    coverage: _segments_pb2.Estimate
    drift_detected: bool
    drift_tests: _containers.RepeatedCompositeFieldContainer[DriftTest]
    recalibrations: _containers.RepeatedCompositeFieldContainer[Recalibration]
    def __init__(self, overall: _Optional[_Union[_segments_pb2.SegmentScores, _Mapping]] = ..., segments: _Optional[_Iterable[_Union[_segments_pb2.SegmentScores, _Mapping]]] = ..., as_of_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., coverage: _Optional[_Union[_segments_pb2.Estimate, _Mapping]] = ..., drift_detected: bool = ..., drift_tests: _Optional[_Iterable[_Union[DriftTest, _Mapping]]] = ..., recalibrations: _Optional[_Iterable[_Union[Recalibration, _Mapping]]] = ...) -> None: ...

class ExplainTrustRequest(_message.Message):
    __slots__ = ("market_id",)
    MARKET_ID_FIELD_NUMBER: _ClassVar[int]
    market_id: str
    def __init__(self, market_id: _Optional[str] = ...) -> None: ...

class TrustContribution(_message.Message):
    __slots__ = ("component", "value", "weight", "points", "evidence")
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    component: str
    value: float
    weight: float
    points: float
    evidence: str
    def __init__(self, component: _Optional[str] = ..., value: _Optional[float] = ..., weight: _Optional[float] = ..., points: _Optional[float] = ..., evidence: _Optional[str] = ...) -> None: ...

class ExplainTrustResponse(_message.Message):
    __slots__ = ("trust", "contributions", "formula_version")
    TRUST_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    FORMULA_VERSION_FIELD_NUMBER: _ClassVar[int]
    trust: Trust
    contributions: _containers.RepeatedCompositeFieldContainer[TrustContribution]
    formula_version: str
    def __init__(self, trust: _Optional[_Union[Trust, _Mapping]] = ..., contributions: _Optional[_Iterable[_Union[TrustContribution, _Mapping]]] = ..., formula_version: _Optional[str] = ...) -> None: ...
