"""Which model answers a request that names none: the first rule that fits its segment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from forecast_service.models.catalog import CATALOG, ModelCard
from forecast_service.policy.settings import PolicySettings, RouteRule, Width
from forecast_service.postprocess import WidthLimits
from forecast_service.segment import Liquidity, Segment


class Route(NamedTuple):
    """Where a request goes.

    Attributes:
        name: name of the rule; "asked" when the request names the model, else "default".
        model: name of the model.
        limits: width limits of the bands.
    """

    name: str
    model: str
    limits: WidthLimits


class Router:
    """Chooses by the rules in the settings.

    Attributes:
        models: the models that there are, by name.
        default_model: the one that answers where no rule fits.

    Raises:
        ValueError: a rule or the settings name a model that there is not.
    """

    def __init__(
        self, settings: PolicySettings, default_model: str, models: Mapping[str, ModelCard]
    ) -> None:
        named = [default_model, *(rule.model for rule in settings.routes)]
        if unknown := [name for name in named if name not in models]:
            raise ValueError(f"forecast.policy.routes: there is no model {', '.join(unknown)}")
        if settings.fallback_model not in CATALOG:
            raise ValueError(
                f"forecast.policy.fallback_model: there is no baseline {settings.fallback_model!r}"
            )
        self.models = models
        self.default_model = default_model
        self._rules = [(rule, _limits(rule.width)) for rule in settings.routes]
        self._limits = {bucket: _limits(settings.widths.get(bucket)) for bucket in Liquidity}
        self._defaults = {
            bucket: Route("default", default_model, self._limits[bucket] or WidthLimits())
            for bucket in Liquidity
        }

    def choose(self, asked: str, segment: Segment, horizon_steps: int) -> Route:
        """The route of a request that asks for the model ``asked``, "" for none."""
        default = self._defaults[segment.liquidity]
        if asked:
            return Route("asked", asked, default.limits)
        for rule, limits in self._rules:
            if _fits(rule, segment, horizon_steps):
                return Route(rule.name, rule.model, limits or default.limits)
        return default


def _limits(width: Width | None) -> WidthLimits | None:
    return None if width is None else WidthLimits(width.minimum, width.maximum)


def _fits(rule: RouteRule, segment: Segment, horizon_steps: int) -> bool:
    longest = rule.max_horizon_steps
    return (
        rule.liquidity in (None, segment.liquidity)
        and rule.category in (None, segment.category)
        and rule.tte in (None, segment.tte)
        and rule.min_horizon_steps <= horizon_steps
        and (longest is None or horizon_steps <= longest)
    )
