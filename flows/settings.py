"""Settings of the flows: the lake, the venue and what a run does."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class FlowSettings(BaseModel):
    """Section ``flows``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lake: str = Field("var/lake", description="Folder or object-store URL of the lake.")
    gamma_url: str = Field(
        "https://gamma-api.polymarket.com", description="Base URL of the Gamma API."
    )
    clob_url: str = Field("https://clob.polymarket.com", description="Base URL of the CLOB API.")
    subgraph_url: str = Field(
        "", description="URL of the activity subgraph. Empty: open interest stays unknown."
    )
    venue_rate: float = Field(
        10.0, ge=0, description="Requests per second to a venue; 0 is no limit."
    )
    venue_concurrency: int = Field(8, ge=1, le=256, description="Requests under way at once.")
    window: str = Field(
        "90d",
        pattern=r"^[1-9][0-9]{0,3}d$",
        description="Markets resolved in this window give the scores.",
    )
    seed: int = Field(20_260_101, description="Seed of bootstrap and simulation intervals.")
