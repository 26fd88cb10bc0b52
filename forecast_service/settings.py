"""Settings of the forecast service."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class InProcess(StrEnum):
    """Where baselines run."""

    NEVER = "never"
    WHEN_RAY_IS_AWAY = "when_ray_is_away"
    ALWAYS = "always"


class ForecastSettings(BaseModel):
    """Section ``forecast``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    in_process: InProcess = Field(
        InProcess.WHEN_RAY_IS_AWAY,
        description="Whether forecasts are computed in the gateway's process instead of Ray.",
    )
    default_model: str = Field("ewma", description="Model that answers when a request names none.")
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
    min_replicas: int = Field(1, ge=0, description="Fewest replicas of a deployment.")
    max_replicas: int = Field(2, ge=1, description="Most replicas of a deployment.")
    replica_cpus: float = Field(0.25, gt=0, description="CPUs that Ray reserves per replica.")
