"""Settings of the flows: the lake, the venue and what a run does."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from flows.conformal_settings import ConformalSettings
from flows.evaluation_settings import EvaluationSettings
from flows.questions_settings import QuestionSettings
from flows.retention_settings import RetentionSettings
from forecast_service.settings import ForecastSettings
from forecast_service.telemetry.settings import TelemetrySettings


class FlowSettings(BaseModel):
    """Section ``flows``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lake: str = Field("var/lake", description="Folder or object-store URL of the lake.")
    raw: str = Field("var/raw", description="Folder of the answers as received.")
    venues: tuple[Literal["polymarket", "kalshi", "manifold"], ...] = Field(
        ("polymarket",), min_length=1, description="Venues that are ingested, each once."
    )
    gamma_url: str = Field(
        "https://gamma-api.polymarket.com", description="Base URL of the Gamma API."
    )
    clob_url: str = Field("https://clob.polymarket.com", description="Base URL of the CLOB API.")
    subgraph_url: str = Field(
        "", description="URL of the activity subgraph. Empty: open interest stays unknown."
    )
    kalshi_url: str = Field(
        "https://api.elections.kalshi.com/trade-api/v2",
        description="Base URL of Kalshi's trade API, with its version.",
    )
    manifold_url: str = Field(
        "https://api.manifold.markets/v0",
        description="Base URL of Manifold's API, with its version.",
    )
    kalshi_parlays: bool = Field(
        False, description="Also list Kalshi's parlays: thousands a day, hardly traded."
    )
    manifold_answers: bool = Field(
        False,
        description="Also list Manifold's markets with several answers: one request for each.",
    )
    venue_rate: float = Field(
        10.0, ge=0, description="Requests per second to a venue; 0 is no limit."
    )
    venue_concurrency: int = Field(8, ge=1, le=256, description="Requests under way at once.")
    venue_attempts: int = Field(
        8, ge=1, le=20, description="Tries of one request before it counts as failed."
    )
    venue_backoff_seconds: float = Field(
        0.2, ge=0, description="Wait before the second try of a request; doubles each time."
    )
    retry_seconds: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (2.0, 10.0, 30.0),
        description="Waits before Prefect tries a failed stage again, one for each retry.",
    )
    windows: tuple[Annotated[str, Field(pattern=r"^[1-9][0-9]{0,3}d$")], ...] = Field(
        ("30d", "90d"),
        min_length=1,
        description="Markets resolved in these windows give the scores.",
    )
    drift_recent_days: int = Field(
        30, ge=1, le=366, description="Length of the period that is tested for drift."
    )
    drift_reference_days: int = Field(
        180, ge=1, le=3660, description="Length of the period before it that it is held against."
    )
    refit_days: int = Field(
        7, ge=1, le=366, description="Age at which recalibration is fitted anew without drift."
    )
    catch_up_days: int = Field(
        3, ge=0, le=366, description="Days back in which a daily run looks for days without one."
    )
    backfill_concurrency: int = Field(
        1,
        ge=1,
        le=64,
        description="Days that are scored at once in a backfill; one keeps two processors busy.",
    )
    ray_address: str = Field(
        "",
        description="Ray cluster over which parts of stages are spread; `local` starts one for "
        "the run. Empty: they are computed in the flow's own process.",
    )
    forecast_steps: int = Field(
        12, ge=1, le=2016, description="Steps that a daily run forecasts ahead for open markets."
    )
    conformal: ConformalSettings = Field(
        ConformalSettings(), description="Correction of bands by what happened."
    )
    seed: int = Field(20_260_101, ge=0, description="Seed of the simulated consistency ranges.")
    questions: QuestionSettings = Field(
        QuestionSettings(), description="Who judges how questions are worded."
    )
    retention: RetentionSettings = Field(
        RetentionSettings(), description="How long what is old stays."
    )
    evaluation: EvaluationSettings = Field(
        EvaluationSettings(), description="How models are evaluated and promoted."
    )


class FileAndEnvironment(BaseSettings):
    """Settings from arguments, environment and file, in this order; nothing else is read."""

    model_config = SettingsConfigDict(
        env_prefix="MARKETCAL_", env_nested_delimiter="__", toml_file="marketcal.toml"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments over environment over file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


class _Process(FileAndEnvironment):
    """The sections of a flow that Prefect starts by itself; others are not its business."""

    model_config = SettingsConfigDict(extra="ignore")

    flows: FlowSettings = FlowSettings()
    forecast: ForecastSettings = ForecastSettings()
    telemetry: TelemetrySettings = TelemetrySettings()


def load() -> FlowSettings:
    """The section ``flows`` from environment and file."""
    return _Process().flows


def load_forecast() -> ForecastSettings:
    """The section ``forecast`` from environment and file: which models there are."""
    return _Process().forecast


def load_telemetry() -> TelemetrySettings:
    """The section ``telemetry`` from environment and file: where spans go."""
    return _Process().telemetry
