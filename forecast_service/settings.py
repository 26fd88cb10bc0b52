"""Settings of the forecast service."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from forecast_service.policy.settings import PolicySettings


class InProcess(StrEnum):
    """What the gateway's own process computes.

    NEVER: nothing. WHEN_RAY_IS_AWAY: baselines, which also stand in for the models that are away.
    ALWAYS: everything, models too; Ray is not asked.
    """

    NEVER = "never"
    WHEN_RAY_IS_AWAY = "when_ray_is_away"
    ALWAYS = "always"


class Environment(StrEnum):
    """What the platform is used for, as far as licences care."""

    PRODUCTION = "production"
    RESEARCH = "research"


class BandLogSettings(BaseModel):
    """Section ``forecast.band_log``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(
        True, description="Whether issued bands with an as_of_time are kept in the lake."
    )
    baselines: bool = Field(
        False, description="Those of baselines too; the flow can make them again at any time."
    )
    seconds: float = Field(
        30.0, gt=0, description="How often they are written; a crash loses so much."
    )
    queue: int = Field(
        20_000, ge=1, description="Forecasts that may wait; of more the oldest are not kept."
    )


class ForecastSettings(BaseModel):
    """Section ``forecast``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: PolicySettings = Field(
        PolicySettings(), description="Which model answers, and what stands in for it."
    )
    band_log: BandLogSettings = Field(
        BandLogSettings(), description="Bands that are kept to be held against what happens."
    )
    in_process: InProcess = Field(
        InProcess.WHEN_RAY_IS_AWAY,
        description="What the gateway's process computes itself: never anything, baselines "
        "when_ray_is_away (they stand in for models too), or always everything, without Ray.",
    )
    default_model: str = Field(
        "native", description="Model that answers when a request names none."
    )
    models: tuple[str, ...] = Field(
        ("native",), description="Models of the catalogue that are deployed besides the baselines."
    )
    environment: Environment = Field(
        Environment.PRODUCTION,
        description="Use of the platform; models for research only are refused in production.",
    )
    weights_folder: str = Field(
        "", description="Folder of weights that do not come with the package."
    )
    weights_digests: dict[str, str] = Field(
        {}, description="Digest, sha256:…, of the weights of models whose card names none."
    )
    model_threads: int = Field(
        2, ge=1, le=64, description="Threads of a replica that compute one call of a model."
    )
    tollama_url: str = Field(
        "http://127.0.0.1:11435", description="Where the tollama server is, if a model needs it."
    )
    tollama_path: str = Field("/v1/forecast", description="Path of its forecasts.")
    tollama_key: SecretStr | None = Field(None, description="Its API key, if it wants one.")
    tollama_max_series: int = Field(64, ge=1, description="Series per request to it.")
    ray_address: str = Field(
        "", description="Address of the Ray cluster, host:port. Empty: no Ray."
    )
    ray_seconds: float = Field(
        1.0, gt=0, description="How long Ray is waited for before this process forecasts itself."
    )
    app_name: str = Field("marketcal", description="Name of the Ray Serve application.")
    max_batch: int = Field(512, ge=1, le=4096, description="Series per call to a deployment.")
    max_queue: int = Field(
        4096, ge=1, description="Series that may wait; more are refused with UNAVAILABLE."
    )
    parallel_batches: int = Field(
        1,
        ge=1,
        le=64,
        description="Batches under way at once; more than one pays with several replicas.",
    )
    min_replicas: int = Field(
        1, ge=0, description="Fewest replicas of the baselines and of the native model."
    )
    max_replicas: int = Field(2, ge=1, description="Most replicas of a deployment.")
    replica_cpus: float = Field(0.25, gt=0, description="CPUs that Ray reserves per replica.")
    replica_threads: int = Field(
        2, ge=1, le=64, description="Calls that a replica computes at once, beside its event loop."
    )
    upscale_seconds: float = Field(
        5.0, ge=0, description="How long a deployment is busy before it gets a further replica."
    )
    downscale_seconds: float = Field(
        60.0, ge=0, description="How long a deployment has idle replicas before it loses one."
    )
    load_window_seconds: float = Field(
        10.0, gt=0, description="Over how long the load of a deployment is averaged."
    )

    @field_validator("ray_address")
    @classmethod
    def _host_and_port(cls, address: str) -> str:
        host, _, port = address.rpartition(":")
        whole = host and port.isascii() and port.isdigit() and 0 < int(port) < 65_536
        if address and not whole:
            raise ValueError(f"{address!r} is no address as host:port, such as 127.0.0.1:6379")
        return address
