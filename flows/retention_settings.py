"""Settings of the retention pipeline."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class RetentionSettings(BaseModel):
    """Section ``flows.retention``; 0 is for ever throughout.

    Cutoffs of old markets are derived from their prices: what is gone there is gone from every
    score to come. Features come back with the next daily run as long as their prices are there, so
    both go together. Open interest is a running sum and loses no day.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    market_snapshot_days: int = Field(
        0, ge=0, description="Days that prices and features stay; scores of older ones end."
    )
    trust_score_days: int = Field(
        0, ge=0, description="Days that trust scores stay; that of a market's last price is "
        "computed by every daily run."
    )  # fmt: skip
    forecast_band_days: int = Field(
        0, ge=0, description="Days that issued bands stay beyond what their correction needs."
    )
    runs: int = Field(
        0, ge=0, description="Newest runs whose scores, curves and drift stay; the one that is "
        "published stays too."
    )  # fmt: skip
    raw_days: int = Field(
        0, ge=0, description="Days that answers of venues stay as they were received."
    )
    version_days: int = Field(
        7, ge=1, description="Days that files of earlier versions of tables stay for readers."
    )
