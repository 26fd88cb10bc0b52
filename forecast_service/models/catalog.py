"""The models that can be asked for: the baselines, and of `catalog.yaml` those that are configured.

What a model may be used for is decided here, before anything is loaded: an unknown name and a
model for research in production are refused when settings are read.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from forecast_service.baselines.registry import BASELINES
from forecast_service.models.errors import CatalogError
from forecast_service.series import DEFAULT_CONTEXT
from forecast_service.settings import Environment, ForecastSettings

MAX_HORIZON = 2016
_FILE = Path(__file__).with_name("catalog.yaml")

Level = Annotated[float, Field(gt=0.0, lt=1.0)]


class LicenceTag(StrEnum):
    """What a licence allows."""

    OPEN = "open"
    RESEARCH_ONLY = "research_only"


class Family(StrEnum):
    """Models that share their code, and a deployment."""

    BASELINE = "baseline"
    NATIVE = "native"
    TOLLAMA = "tollama"
    CHRONOS = "chronos"
    TIMESFM = "timesfm"


class ModelCard(BaseModel):
    """What is known of a model without loading it.

    Attributes:
        name: what a request calls it.
        version: its version.
        family: whose code runs it.
        description: one sentence.
        runtime: what runs it.
        max_context: longest context in steps.
        max_horizon: longest native horizon in steps.
        licence_tag: what its licence allows.
        licence: SPDX identifier.
        source: where it comes from.
        weights: file or folder of the weights; "" when this platform holds none.
        digest: "sha256:…" of the weights; "" when they have none or the setting names it.
        levels: quantile levels that it gives; none: those that are asked for.
        upstream: what the package or the other server calls it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    version: str
    family: Family
    description: str
    runtime: str
    max_context: Annotated[int, Field(ge=2, le=16_384)]
    max_horizon: Annotated[int, Field(ge=1, le=MAX_HORIZON)]
    licence_tag: LicenceTag
    licence: str = "Apache-2.0"
    source: str = ""
    weights: str = ""
    digest: Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64})?$")] = ""
    levels: tuple[Level, ...] = ()
    upstream: str = ""

    @model_validator(mode="after")
    def _levels_increase(self) -> Self:
        if any(b <= a for a, b in zip(self.levels, self.levels[1:], strict=False)):
            raise ValueError("levels must increase")
        return self


CATALOG: dict[str, ModelCard] = {
    name: ModelCard(
        name=name,
        version="1",
        family=Family.BASELINE,
        description=baseline.summary,
        runtime="numpy",
        max_context=DEFAULT_CONTEXT,
        max_horizon=MAX_HORIZON,
        licence_tag=LicenceTag.OPEN,
        source="this repository",
    )
    for name, baseline in sorted(BASELINES.items())
}
"""The baselines by name, in the order in which they are listed: they can always be asked for."""


def read_cards(path: Path) -> dict[str, ModelCard]:
    """The cards of a catalogue file by name, in the order of the file.

    Raises:
        CatalogError: a card is not what it must be, or bears the name of a baseline.
    """
    listed = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(listed, dict):
        raise CatalogError(f"{path.name} is no mapping of names to models")
    if taken := sorted(set(listed) & set(CATALOG)):
        raise CatalogError(f"{path.name}: {', '.join(taken)} are names of baselines")
    try:
        return {name: ModelCard(name=name, **fields) for name, fields in listed.items()}
    except (TypeError, ValueError) as error:
        raise CatalogError(f"{path.name}: {error}") from error


@cache
def known_models() -> dict[str, ModelCard]:
    """The cards of `catalog.yaml`: every model that could be configured."""
    return read_cards(_FILE)


def configured(settings: ForecastSettings) -> dict[str, ModelCard]:
    """The models that are deployed besides the baselines, by name.

    Raises:
        CatalogError: a name is unknown, or a model is for research and this is production.
    """
    cards: dict[str, ModelCard] = {}
    known = known_models() if settings.models else {}
    for name in settings.models:
        card = known.get(name)
        if card is None:
            raise CatalogError(
                f"forecast.models: there is no model {name!r}; there are {', '.join(known)}"
            )
        research = card.licence_tag is LicenceTag.RESEARCH_ONLY
        if research and settings.environment is Environment.PRODUCTION:
            raise CatalogError(
                f"forecast.models: {name} is licensed under {card.licence}, for research only; "
                "it is refused while forecast.environment is production"
            )
        pinned = settings.weights_digests.get(name)
        cards[name] = card if pinned is None else _pinned(card, pinned)
    return cards


def served(settings: ForecastSettings) -> dict[str, ModelCard]:
    """Every model that can be asked for: baselines first, then the configured ones.

    Raises:
        CatalogError: as `configured`, or the default model is none of them.
    """
    cards = CATALOG | configured(settings)
    if settings.default_model not in cards:
        raise CatalogError(
            f"forecast.default_model: there is no model {settings.default_model!r}; "
            f"there are {', '.join(cards)}"
        )
    return cards


def of_family(settings: ForecastSettings, family: Family) -> dict[str, ModelCard]:
    """The models of one family that can be asked for, by name."""
    return {name: card for name, card in served(settings).items() if card.family is family}


def _pinned(card: ModelCard, digest: str) -> ModelCard:
    """The card with the digest that the settings name; the catalogue's own may not be changed."""
    if card.digest and card.digest != digest:
        raise CatalogError(
            f"forecast.weights_digests: {card.name} is known with digest {card.digest}, "
            f"not {digest}"
        )
    try:
        return ModelCard(**(card.model_dump() | {"digest": digest}))
    except ValueError as error:
        raise CatalogError(
            f"forecast.weights_digests: {card.name} needs sha256: and 64 hexadecimal digits"
        ) from error
