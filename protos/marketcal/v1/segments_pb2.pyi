from marketcal._vendor.buf.validate import validate_pb2 as _validate_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LiquidityBucket(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LIQUIDITY_BUCKET_UNSPECIFIED: _ClassVar[LiquidityBucket]
    LIQUIDITY_BUCKET_LOW: _ClassVar[LiquidityBucket]
    LIQUIDITY_BUCKET_MID: _ClassVar[LiquidityBucket]
    LIQUIDITY_BUCKET_HIGH: _ClassVar[LiquidityBucket]

class TteBucket(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TTE_BUCKET_UNSPECIFIED: _ClassVar[TteBucket]
    TTE_BUCKET_LE_6H: _ClassVar[TteBucket]
    TTE_BUCKET_LE_24H: _ClassVar[TteBucket]
    TTE_BUCKET_LE_72H: _ClassVar[TteBucket]
    TTE_BUCKET_GT_72H: _ClassVar[TteBucket]
LIQUIDITY_BUCKET_UNSPECIFIED: LiquidityBucket
LIQUIDITY_BUCKET_LOW: LiquidityBucket
LIQUIDITY_BUCKET_MID: LiquidityBucket
LIQUIDITY_BUCKET_HIGH: LiquidityBucket
TTE_BUCKET_UNSPECIFIED: TteBucket
TTE_BUCKET_LE_6H: TteBucket
TTE_BUCKET_LE_24H: TteBucket
TTE_BUCKET_LE_72H: TteBucket
TTE_BUCKET_GT_72H: TteBucket

class Estimate(_message.Message):
    __slots__ = ("value", "lower", "upper")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LOWER_FIELD_NUMBER: _ClassVar[int]
    UPPER_FIELD_NUMBER: _ClassVar[int]
    value: float
    lower: float
    upper: float
    def __init__(self, value: _Optional[float] = ..., lower: _Optional[float] = ..., upper: _Optional[float] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("category", "liquidity_bucket", "tte_bucket")
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    LIQUIDITY_BUCKET_FIELD_NUMBER: _ClassVar[int]
    TTE_BUCKET_FIELD_NUMBER: _ClassVar[int]
    category: str
    liquidity_bucket: LiquidityBucket
    tte_bucket: TteBucket
    def __init__(self, category: _Optional[str] = ..., liquidity_bucket: _Optional[_Union[LiquidityBucket, str]] = ..., tte_bucket: _Optional[_Union[TteBucket, str]] = ...) -> None: ...

class BrierDecomposition(_message.Message):
    __slots__ = ("miscalibration", "discrimination", "uncertainty")
    MISCALIBRATION_FIELD_NUMBER: _ClassVar[int]
    DISCRIMINATION_FIELD_NUMBER: _ClassVar[int]
    UNCERTAINTY_FIELD_NUMBER: _ClassVar[int]
    miscalibration: float
    discrimination: float
    uncertainty: float
    def __init__(self, miscalibration: _Optional[float] = ..., discrimination: _Optional[float] = ..., uncertainty: _Optional[float] = ...) -> None: ...

class SegmentScores(_message.Message):
    __slots__ = ("segment", "sample_size", "event_count", "low_confidence", "base_rate", "brier", "log_loss", "ece", "ece_bias_corrected", "ece_if_calibrated", "slope", "intercept", "max_calibration_error", "ece_equal_mass", "sharpness", "brier_decomposition")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_SIZE_FIELD_NUMBER: _ClassVar[int]
    EVENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    LOW_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    BASE_RATE_FIELD_NUMBER: _ClassVar[int]
    BRIER_FIELD_NUMBER: _ClassVar[int]
    LOG_LOSS_FIELD_NUMBER: _ClassVar[int]
    ECE_FIELD_NUMBER: _ClassVar[int]
    ECE_BIAS_CORRECTED_FIELD_NUMBER: _ClassVar[int]
    ECE_IF_CALIBRATED_FIELD_NUMBER: _ClassVar[int]
    SLOPE_FIELD_NUMBER: _ClassVar[int]
    INTERCEPT_FIELD_NUMBER: _ClassVar[int]
    MAX_CALIBRATION_ERROR_FIELD_NUMBER: _ClassVar[int]
    ECE_EQUAL_MASS_FIELD_NUMBER: _ClassVar[int]
    SHARPNESS_FIELD_NUMBER: _ClassVar[int]
    BRIER_DECOMPOSITION_FIELD_NUMBER: _ClassVar[int]
    segment: Segment
    sample_size: int
    event_count: int
    low_confidence: bool
    base_rate: float
    brier: Estimate
    log_loss: Estimate
    ece: float
    ece_bias_corrected: float
    ece_if_calibrated: Estimate
    slope: Estimate
    intercept: Estimate
    max_calibration_error: float
    ece_equal_mass: float
    sharpness: float
    brier_decomposition: BrierDecomposition
    def __init__(self, segment: _Optional[_Union[Segment, _Mapping]] = ..., sample_size: _Optional[int] = ..., event_count: _Optional[int] = ..., low_confidence: bool = ..., base_rate: _Optional[float] = ..., brier: _Optional[_Union[Estimate, _Mapping]] = ..., log_loss: _Optional[_Union[Estimate, _Mapping]] = ..., ece: _Optional[float] = ..., ece_bias_corrected: _Optional[float] = ..., ece_if_calibrated: _Optional[_Union[Estimate, _Mapping]] = ..., slope: _Optional[_Union[Estimate, _Mapping]] = ..., intercept: _Optional[_Union[Estimate, _Mapping]] = ..., max_calibration_error: _Optional[float] = ..., ece_equal_mass: _Optional[float] = ..., sharpness: _Optional[float] = ..., brier_decomposition: _Optional[_Union[BrierDecomposition, _Mapping]] = ...) -> None: ...
