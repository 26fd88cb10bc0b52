"""Live figures of a model, read from a running gateway as any client reads them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pydantic import SecretStr

from flows.gates import answered
from forecast_service.evaluation.promotion import LiveFigures
from forecast_service.evaluation.windows import Windows
from forecast_service.models.catalog import ModelCard
from forecast_service.policy.settings import PolicySettings
from marketcal import Client
from marketcal.errors import MarketcalError

INVALID_OUTPUT = "INVALID_OUTPUT"
_WORST = {"": 0, "CLOSED": 1, "HALF_OPEN": 2, "OPEN": 3}
_LEVELS = (0.1, 0.5, 0.9)
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def measured(
    address: str,
    key: SecretStr | None,
    card: ModelCard,
    windows: Windows,
    *,
    probes: int,
    policy: PolicySettings,
    rng: np.random.Generator,
) -> LiveFigures | str:
    """What a gateway says of a model, or why nothing can be said.

    Asks for a few forecasts to look at the answers, then for the statistics since its start. Only
    windows that the policy gives to the model tell how often something else answers in its place.

    Args:
        address: ``host:port``; "" for none.
        key: API key with the right to forecast.
        card: of the model; the gateway must have this version with these weights.
        windows: whose contexts are forecast.
        probes: how many of them.
        policy: whose gates a window must pass.
        rng: draws the windows.
    """
    if not address:
        return "not measured: no gateway was named"
    chosen = _drawn(card, windows, probes, policy, rng)
    if not len(chosen):
        return "not measured: there is no window for which the policy asks a model"
    secret = key.get_secret_value() if key is not None else None
    try:
        opened = Client(address, key=secret)
    except ValueError as error:  # a key does not go to another machine in clear
        return f"not measured: {error}"
    try:
        with opened as client:
            if other := _mistaken(card, client.get_model(card.name).model):
                return other
            found = _probed(client, card.name, chosen)
            after = client.get_model(card.name)
            return _mistaken(card, after.model) or _figures(after.statistics, found)
    except MarketcalError as error:
        return f"not measured: {error.reason or error.code}: {error.message} ({address})"


def _mistaken(card: ModelCard, there: Any) -> str:
    """What to say where the gateway has another model than the one evaluated; "" elsewhere."""
    if (there.version, there.weights_digest) == (card.version, card.digest):
        return ""
    return (
        f"not measured: the gateway has {card.name}@{there.version} with the weights "
        f"{there.weights_digest or 'none'}, evaluated was @{card.version} with "
        f"{card.digest or 'none'}"
    )


def _drawn(
    card: ModelCard,
    windows: Windows,
    probes: int,
    policy: PolicySettings,
    rng: np.random.Generator,
) -> Windows:
    asked = np.flatnonzero(answered(card, policy, windows.context, windows.step))
    keep = np.zeros(len(windows), dtype=bool)
    keep[rng.choice(asked, min(probes, asked.size), replace=False)] = True
    return windows.where(keep)


def p95(bars: Any) -> float:
    """Upper end of the bar in which the 95th percentile lies; NaN of nothing observed."""
    counts = np.array([bar.count for bar in bars], dtype=np.float64)
    if not counts.sum():
        return math.nan
    place = int(np.searchsorted(np.cumsum(counts), 0.95 * counts.sum()))
    return float(bars[place].upper_bound)


def _figures(statistics: Any, probed: list[dict[str, str] | None]) -> LiveFigures:
    answers = [answer for answer in probed if answer is not None]
    breakers = [answer["breaker"] for answer in answers]
    return LiveFigures(
        requests=statistics.requests,
        failures=statistics.failures,
        p95_ms=p95(statistics.latencies_ms),
        probes=len(probed),
        fallbacks=sum(bool(answer["fallback"]) for answer in answers),
        refused=len(probed) - len(answers),
        invalid=sum(bool(answer["malformed"]) for answer in answers),
        breaker=max(breakers, key=lambda state: _WORST.get(state, 3), default=""),
    )


def _probed(client: Client, model: str, windows: Windows) -> list[dict[str, str] | None]:
    """What was said of each probe; None for an error."""
    found: list[dict[str, str] | None] = []
    for row in range(len(windows)):
        values = windows.context[row]
        try:
            answer = client.forecast(
                "evaluation",
                values[int(np.isfinite(values).argmax()) :],
                freq=freq_of(int(windows.step[row])),
                horizon_steps=windows.target.shape[1],
                quantiles=_LEVELS,
                model={"name": model},
            )
        except MarketcalError as error:
            if error.reason is None:
                raise
            found.append(None)
            continue
        found.append(_said(answer))
    return found


def _said(answer: Any) -> dict[str, str]:
    meta = answer.meta
    reason = named(meta, "fallback_reason") if meta.fallback_used else ""
    bands = np.array([path.values for path in answer.quantile_paths])
    proper = bands.size and np.isfinite(bands).all() and (np.diff(bands, axis=0) >= 0).all()
    within = bool(proper) and bands.min() >= 0.0 and bands.max() <= 1.0
    return {
        "fallback": reason or ("yes" if meta.fallback_used else ""),
        "breaker": named(meta, "breaker_state"),
        "malformed": "" if within and reason != INVALID_OUTPUT else "yes",
    }


def named(message: Any, field: str) -> str:
    """The name of an enumeration's value without its prefix; "" when it is not set."""
    kind = message.DESCRIPTOR.fields_by_name[field].enum_type
    number = getattr(message, field)
    if not number:
        return ""
    prefix = str(kind.values[0].name).removesuffix("UNSPECIFIED")
    value = kind.values_by_number.get(number)
    return str(number) if value is None else str(value.name).removeprefix(prefix)


def freq_of(seconds: int) -> str:
    """A cadence as the contract writes it.

    >>> freq_of(300), freq_of(86_400)
    ('5m', '1d')
    """
    return next(f"{seconds // size}{unit}" for size, unit in _UNITS if seconds % size == 0)
