from marketcal._vendor.buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from marketcal.v1 import options_pb2 as _options_pb2
from marketcal.v1 import scoreboard_pb2 as _scoreboard_pb2
from marketcal.v1 import segments_pb2 as _segments_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MarketStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MARKET_STATUS_UNSPECIFIED: _ClassVar[MarketStatus]
    MARKET_STATUS_ACTIVE: _ClassVar[MarketStatus]
    MARKET_STATUS_RESOLVED: _ClassVar[MarketStatus]
    MARKET_STATUS_VOID: _ClassVar[MarketStatus]
    MARKET_STATUS_UNRESOLVED: _ClassVar[MarketStatus]
MARKET_STATUS_UNSPECIFIED: MarketStatus
MARKET_STATUS_ACTIVE: MarketStatus
MARKET_STATUS_RESOLVED: MarketStatus
MARKET_STATUS_VOID: MarketStatus
MARKET_STATUS_UNRESOLVED: MarketStatus

class Market(_message.Message):
    __slots__ = ("market_id", "event_id", "platform", "slug", "question", "outcomes", "category", "tags", "neg_risk", "status", "winner", "status_reason", "created_time", "end_time", "resolved_time", "p_yes", "price_time", "liquidity_bucket", "tte_bucket", "volume_total_usd", "calibrated_probability", "structure", "matching_market_ids")
    MARKET_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_FIELD_NUMBER: _ClassVar[int]
    SLUG_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    NEG_RISK_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    WINNER_FIELD_NUMBER: _ClassVar[int]
    STATUS_REASON_FIELD_NUMBER: _ClassVar[int]
    CREATED_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    RESOLVED_TIME_FIELD_NUMBER: _ClassVar[int]
    P_YES_FIELD_NUMBER: _ClassVar[int]
    PRICE_TIME_FIELD_NUMBER: _ClassVar[int]
    LIQUIDITY_BUCKET_FIELD_NUMBER: _ClassVar[int]
    TTE_BUCKET_FIELD_NUMBER: _ClassVar[int]
    VOLUME_TOTAL_USD_FIELD_NUMBER: _ClassVar[int]
    CALIBRATED_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    STRUCTURE_FIELD_NUMBER: _ClassVar[int]
    MATCHING_MARKET_IDS_FIELD_NUMBER: _ClassVar[int]
    market_id: str
    event_id: str
    platform: str
    slug: str
    question: str
    outcomes: _containers.RepeatedScalarFieldContainer[str]
    category: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    neg_risk: bool
    status: MarketStatus
    winner: str
    status_reason: str
    created_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    resolved_time: _timestamp_pb2.Timestamp
    p_yes: float
    price_time: _timestamp_pb2.Timestamp
    liquidity_bucket: _segments_pb2.LiquidityBucket
    tte_bucket: _segments_pb2.TteBucket
    volume_total_usd: float
    calibrated_probability: _segments_pb2.Estimate
    structure: str
    matching_market_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, market_id: _Optional[str] = ..., event_id: _Optional[str] = ..., platform: _Optional[str] = ..., slug: _Optional[str] = ..., question: _Optional[str] = ..., outcomes: _Optional[_Iterable[str]] = ..., category: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ..., neg_risk: bool = ..., status: _Optional[_Union[MarketStatus, str]] = ..., winner: _Optional[str] = ..., status_reason: _Optional[str] = ..., created_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., resolved_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., p_yes: _Optional[float] = ..., price_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., liquidity_bucket: _Optional[_Union[_segments_pb2.LiquidityBucket, str]] = ..., tte_bucket: _Optional[_Union[_segments_pb2.TteBucket, str]] = ..., volume_total_usd: _Optional[float] = ..., calibrated_probability: _Optional[_Union[_segments_pb2.Estimate, _Mapping]] = ..., structure: _Optional[str] = ..., matching_market_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ListMarketsRequest(_message.Message):
    __slots__ = ("platform", "category", "status", "event_id", "query", "page_size", "page_token")
    PLATFORM_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    platform: str
    category: str
    status: MarketStatus
    event_id: str
    query: str
    page_size: int
    page_token: str
    def __init__(self, platform: _Optional[str] = ..., category: _Optional[str] = ..., status: _Optional[_Union[MarketStatus, str]] = ..., event_id: _Optional[str] = ..., query: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListMarketsResponse(_message.Message):
    __slots__ = ("markets", "next_page_token", "total_size")
    MARKETS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    markets: _containers.RepeatedCompositeFieldContainer[Market]
    next_page_token: str
    total_size: int
    def __init__(self, markets: _Optional[_Iterable[_Union[Market, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...

class GetMarketRequest(_message.Message):
    __slots__ = ("market_id",)
    MARKET_ID_FIELD_NUMBER: _ClassVar[int]
    market_id: str
    def __init__(self, market_id: _Optional[str] = ...) -> None: ...

class GetMarketResponse(_message.Message):
    __slots__ = ("market",)
    MARKET_FIELD_NUMBER: _ClassVar[int]
    market: Market
    def __init__(self, market: _Optional[_Union[Market, _Mapping]] = ...) -> None: ...

class GetMarketMetricsRequest(_message.Message):
    __slots__ = ("market_id", "window")
    MARKET_ID_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    market_id: str
    window: str
    def __init__(self, market_id: _Optional[str] = ..., window: _Optional[str] = ...) -> None: ...

class GetMarketMetricsResponse(_message.Message):
    __slots__ = ("score",)
    SCORE_FIELD_NUMBER: _ClassVar[int]
    score: _scoreboard_pb2.Score
    def __init__(self, score: _Optional[_Union[_scoreboard_pb2.Score, _Mapping]] = ...) -> None: ...

class GetPriceHistoryRequest(_message.Message):
    __slots__ = ("market_id", "start_time", "end_time", "page_size", "page_token")
    MARKET_ID_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    market_id: str
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    page_size: int
    page_token: str
    def __init__(self, market_id: _Optional[str] = ..., start_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class PricePoint(_message.Message):
    __slots__ = ("time", "p_yes", "bid", "ask")
    TIME_FIELD_NUMBER: _ClassVar[int]
    P_YES_FIELD_NUMBER: _ClassVar[int]
    BID_FIELD_NUMBER: _ClassVar[int]
    ASK_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    p_yes: float
    bid: float
    ask: float
    def __init__(self, time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., p_yes: _Optional[float] = ..., bid: _Optional[float] = ..., ask: _Optional[float] = ...) -> None: ...

class GetPriceHistoryResponse(_message.Message):
    __slots__ = ("points", "next_page_token")
    POINTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    points: _containers.RepeatedCompositeFieldContainer[PricePoint]
    next_page_token: str
    def __init__(self, points: _Optional[_Iterable[_Union[PricePoint, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class Postmortem(_message.Message):
    __slots__ = ("market_id", "resolved_time", "winner", "summary", "cutoffs", "lessons", "question", "price_path", "price_picture", "moves", "question_risk", "alerts", "rules_version")
    MARKET_ID_FIELD_NUMBER: _ClassVar[int]
    RESOLVED_TIME_FIELD_NUMBER: _ClassVar[int]
    WINNER_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    CUTOFFS_FIELD_NUMBER: _ClassVar[int]
    LESSONS_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    PRICE_PATH_FIELD_NUMBER: _ClassVar[int]
    PRICE_PICTURE_FIELD_NUMBER: _ClassVar[int]
    MOVES_FIELD_NUMBER: _ClassVar[int]
    QUESTION_RISK_FIELD_NUMBER: _ClassVar[int]
    ALERTS_FIELD_NUMBER: _ClassVar[int]
    RULES_VERSION_FIELD_NUMBER: _ClassVar[int]
    market_id: str
    resolved_time: _timestamp_pb2.Timestamp
    winner: str
    summary: str
    cutoffs: _containers.RepeatedCompositeFieldContainer[PostmortemCutoff]
    lessons: _containers.RepeatedScalarFieldContainer[str]
    question: str
    price_path: _containers.RepeatedCompositeFieldContainer[PricePoint]
    price_picture: bytes
    moves: _containers.RepeatedCompositeFieldContainer[PostmortemMove]
    question_risk: QuestionRisk
    alerts: _containers.RepeatedCompositeFieldContainer[PostmortemAlert]
    rules_version: str
    def __init__(self, market_id: _Optional[str] = ..., resolved_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., winner: _Optional[str] = ..., summary: _Optional[str] = ..., cutoffs: _Optional[_Iterable[_Union[PostmortemCutoff, _Mapping]]] = ..., lessons: _Optional[_Iterable[str]] = ..., question: _Optional[str] = ..., price_path: _Optional[_Iterable[_Union[PricePoint, _Mapping]]] = ..., price_picture: _Optional[bytes] = ..., moves: _Optional[_Iterable[_Union[PostmortemMove, _Mapping]]] = ..., question_risk: _Optional[_Union[QuestionRisk, _Mapping]] = ..., alerts: _Optional[_Iterable[_Union[PostmortemAlert, _Mapping]]] = ..., rules_version: _Optional[str] = ...) -> None: ...

class PostmortemCutoff(_message.Message):
    __slots__ = ("cutoff", "p_yes", "brier", "time", "right", "calibrated_probability")
    CUTOFF_FIELD_NUMBER: _ClassVar[int]
    P_YES_FIELD_NUMBER: _ClassVar[int]
    BRIER_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    RIGHT_FIELD_NUMBER: _ClassVar[int]
    CALIBRATED_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    cutoff: str
    p_yes: float
    brier: float
    time: _timestamp_pb2.Timestamp
    right: bool
    calibrated_probability: float
    def __init__(self, cutoff: _Optional[str] = ..., p_yes: _Optional[float] = ..., brier: _Optional[float] = ..., time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., right: bool = ..., calibrated_probability: _Optional[float] = ...) -> None: ...

class PostmortemMove(_message.Message):
    __slots__ = ("start_time", "end_time", "from_p_yes", "to_p_yes", "volume_ratio", "open_interest_change")
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    FROM_P_YES_FIELD_NUMBER: _ClassVar[int]
    TO_P_YES_FIELD_NUMBER: _ClassVar[int]
    VOLUME_RATIO_FIELD_NUMBER: _ClassVar[int]
    OPEN_INTEREST_CHANGE_FIELD_NUMBER: _ClassVar[int]
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    from_p_yes: float
    to_p_yes: float
    volume_ratio: float
    open_interest_change: float
    def __init__(self, start_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., from_p_yes: _Optional[float] = ..., to_p_yes: _Optional[float] = ..., volume_ratio: _Optional[float] = ..., open_interest_change: _Optional[float] = ...) -> None: ...

class QuestionRisk(_message.Message):
    __slots__ = ("ambiguity", "resolution_risk", "scored_by", "notes")
    AMBIGUITY_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_RISK_FIELD_NUMBER: _ClassVar[int]
    SCORED_BY_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    ambiguity: float
    resolution_risk: float
    scored_by: str
    notes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, ambiguity: _Optional[float] = ..., resolution_risk: _Optional[float] = ..., scored_by: _Optional[str] = ..., notes: _Optional[_Iterable[str]] = ...) -> None: ...

class PostmortemAlert(_message.Message):
    __slots__ = ("alert_id", "time", "severity")
    ALERT_ID_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    alert_id: str
    time: _timestamp_pb2.Timestamp
    severity: str
    def __init__(self, alert_id: _Optional[str] = ..., time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., severity: _Optional[str] = ...) -> None: ...

class GetPostmortemRequest(_message.Message):
    __slots__ = ("market_id",)
    MARKET_ID_FIELD_NUMBER: _ClassVar[int]
    market_id: str
    def __init__(self, market_id: _Optional[str] = ...) -> None: ...

class GetPostmortemResponse(_message.Message):
    __slots__ = ("postmortem",)
    POSTMORTEM_FIELD_NUMBER: _ClassVar[int]
    postmortem: Postmortem
    def __init__(self, postmortem: _Optional[_Union[Postmortem, _Mapping]] = ...) -> None: ...

class ListPostmortemsRequest(_message.Message):
    __slots__ = ("since", "page_size", "page_token")
    SINCE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    since: _timestamp_pb2.Timestamp
    page_size: int
    page_token: str
    def __init__(self, since: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListPostmortemsResponse(_message.Message):
    __slots__ = ("postmortems", "next_page_token")
    POSTMORTEMS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    postmortems: _containers.RepeatedCompositeFieldContainer[Postmortem]
    next_page_token: str
    def __init__(self, postmortems: _Optional[_Iterable[_Union[Postmortem, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
