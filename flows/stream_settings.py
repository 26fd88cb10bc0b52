"""Settings of the live path."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

Symbol = Annotated[str, Field(pattern=r"^[A-Z0-9]{2,30}(_[A-Z0-9]{2,20})?$")]


class VolatilitySettings(BaseModel):
    """Section ``stream.volatility``: when a market counts as moving."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    window_seconds: int = Field(60, ge=1, le=3600, description="Length of the sliding window.")
    min_move: float = Field(
        0.03, gt=0, le=1, description="Range within the window that fires, in probability."
    )
    min_move_logit: float = Field(
        0.15, ge=0, le=20, description="The same in log-odds; both must be passed."
    )
    min_relative: float = Field(
        0.01, gt=0, le=1, description="Relative range that fires for futures contracts."
    )
    bar_range: float = Field(
        0.03, gt=0, le=1, description="Range within a closed minute that fires."
    )
    volume_ratio: float = Field(
        5.0, gt=1, le=1000, description="Volume of a minute over the mean before it that fires."
    )
    min_history: int = Field(10, ge=1, le=60, description="Minutes that such a ratio needs.")
    min_samples: int = Field(3, ge=1, le=1000, description="Quotes that a move needs.")
    max_spread: float = Field(0.05, gt=0, le=1, description="Widest spread whose mid counts.")
    min_depth: float = Field(
        10.0, ge=0, description="Contracts at the best prices below which a book counts as empty."
    )
    cooldown_seconds: int = Field(
        300, ge=0, le=86_400, description="Market time in which triggers of one market merge."
    )


class StreamSettings(BaseModel):
    """Section ``stream``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    polymarket_url: str = Field(
        "wss://ws-subscriptions-clob.polymarket.com/ws/market",
        description="Address of the market channel. Empty: it is not followed.",
    )
    binance_url: str = Field(
        "wss://fstream.binance.com/market", description="Base of the futures market streams."
    )
    binance_symbols: tuple[Symbol, ...] = Field(
        (), max_length=500, description="Futures contracts that are followed, such as BTCUSDT."
    )
    shard_size: int = Field(500, ge=2, le=5000, description="Tokens on one connection.")
    bus_url: str = Field(
        "memory:",
        description="What carries events: `memory:` within one process, `redis://…`, "
        "`kafka://host:port/topic` or `pubsub://project/topic`.",
    )
    bus_partitions: int = Field(
        8, ge=1, le=256, description="Streams that symbols are spread over, where the bus has them."
    )
    bus_bound: int = Field(
        50_000, ge=100, description="Events that may wait before the venue is read more slowly."
    )
    clock: Literal["wall", "venue"] = Field(
        "wall",
        description="What closes minutes in which nothing comes: the wall clock, or nothing, for "
        "recordings, whose result must not hang on the machine.",
    )
    lateness_seconds: float = Field(
        2.0, ge=0, le=60, description="How long after its end a minute waits for late events."
    )
    reopen_seconds: int = Field(
        300, ge=60, le=3600, description="How long a closed bar may still be revised."
    )
    stale_seconds: float = Field(
        30.0, gt=0, description="Silence of a connection after which its markets fire nothing."
    )
    max_lag_seconds: float = Field(
        10.0,
        ge=0,
        description="Age of waiting or received events above which nothing fires; 0: any.",
    )
    max_ahead_seconds: float = Field(
        60.0,
        gt=0,
        description="How far in the future an event may say that it happened, until the "
        "usual difference of the clocks is known.",
    )
    checkpoint_seconds: float = Field(
        1.0, gt=0, le=60, description="Longest time between two checkpoints."
    )
    address: str = Field(
        "127.0.0.1:50051", description="Gateway that forecasts. Empty: a baseline alone."
    )
    key: SecretStr | None = Field(None, description="API key for it; MARKETCAL_KEY otherwise.")
    model: str = Field("", description="Model of the bands. Empty: the gateway's default.")
    forecast_steps: int = Field(
        14, ge=13, le=288, description="Steps of five minutes that a band reaches ahead."
    )
    forecast_wait_seconds: float = Field(
        10.0, gt=0, le=55, description="How long gates wait for a band before a baseline stands in."
    )
    policy_file: str = Field(
        "", description="File of the thresholds of alerts. Empty: the one that comes with it."
    )
    poll_seconds: float = Field(
        60.0, gt=0, description="How often the venue is asked what the stream may not have said."
    )
    facts_seconds: float = Field(
        300.0, gt=0, description="How often trust, wording and the choice of markets are read."
    )
    keep_days: int = Field(
        3, ge=2, le=90, description="Days of bars in the control store; the lake keeps them all."
    )
    lake_seconds: float = Field(
        300.0, gt=0, description="How often closed bars are written to the lake."
    )
    webhook_url: str = Field("", description="Where alerts are posted. Empty: nowhere.")
    webhook_secret: SecretStr | None = Field(None, description="Signs what is posted.")
    log_alerts: bool = Field(False, description="Write alerts to the log, a JSON line each.")
    sink_min_severity: Literal["FYI", "MED", "HIGH"] = Field(
        "MED", description="Lowest severity that webhook and log are told of."
    )
    metrics_port: int = Field(
        9466, ge=-1, le=65535, description="Port of the metrics page; 0 a free one, -1 none."
    )
    volatility: VolatilitySettings = Field(
        VolatilitySettings(), description="When a market counts as moving."
    )
