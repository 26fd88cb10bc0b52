"""Why a market has the trust it has: each component's part of the score, and what it rests on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from calibration_service.trust import (
    COMPONENTS,
    DECADES,
    EXTREME_Z,
    MIN_MOVES,
    SHALLOW_USD,
    UNSTABLE,
    USUAL_Z,
)

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Contribution:
    """A component's part of a score.

    Attributes:
        component: its name.
        value: in [0, 1].
        weight: in the formula.
        points: of the score, 0 to 100; the points of all components add up to it.
        evidence: what the value was computed from, one sentence.
    """

    component: str
    value: float
    weight: float
    points: float
    evidence: str


def explain(row: Row) -> list[Contribution]:
    """The components of a row of ``trust_score``, most points first.

    Suspicion takes points away: what it leaves is counted.
    """
    weights = json.loads(row["weights"])
    found = []
    for name in COMPONENTS:
        value = row[name]
        trusted = 1.0 - value if name == "manipulation_suspect" else value
        unknown = name in (row["unknown_components"] or ())
        evidence = f"{_UNKNOWN[name]}; it stands at {value:g}." if unknown else _evidence(name, row)
        points = 100.0 * weights[name] * trusted
        found.append(Contribution(name, value, weights[name], points, evidence))
    return sorted(found, key=lambda part: (-part.points, part.component))


def _evidence(name: str, row: Row) -> str:
    sentence, needs = _KNOWN[name]
    if all(row[column] is None for column in needs):
        return "What it was computed from was not kept."
    return sentence(row)


def _depth(row: Row) -> str:
    most = SHALLOW_USD * 10**DECADES
    return (
        f"The larger of 24-hour volume and open interest is {row['depth_usd']:,.0f} USD; "
        f"{SHALLOW_USD:,.0f} USD count as 0 and {most:,.0f} USD as 1."
    )


def _stability(row: Row) -> str:
    return (
        f"Over {row['price_moves']:,} moves the log-odds of the price changed by "
        f"{row['volatility']:.3g} per root hour; 0 counts as 1 and {UNSTABLE:g} as 0.37."
    )


def _quality(row: Row) -> str:
    who, why = row["question_scored_by"], row["question_note"]
    said = f"The wording of the question was scored {row['question_quality']:.2f}"
    by = f" by {who}" if who else ""
    return f"{said}{by}: {why.rstrip('.')}." if why else f"{said}{by}."


def _suspicion(row: Row) -> str:
    moves = [
        f"of {what} by {row[name]:.1f}"
        for what, name in (("volume", "volume_z"), ("open interest", "open_interest_z"))
        if row[name] is not None
    ]
    return (
        f"The last move {' and '.join(moves)} robust standard deviations differs from the "
        f"market's usual ones; up to {USUAL_Z:g} count as 0 and {EXTREME_Z:g} as 1."
    )


_KNOWN: Mapping[str, tuple[Callable[[Row], str], tuple[str, ...]]] = {
    "liquidity_depth": (_depth, ("depth_usd",)),
    "stability": (_stability, ("volatility",)),
    "question_quality": (_quality, ("question_quality",)),
    "manipulation_suspect": (_suspicion, ("volume_z", "open_interest_z")),
}
_UNKNOWN: Mapping[str, str] = {
    "liquidity_depth": "Neither volume nor open interest is known",
    "stability": f"There are fewer than {MIN_MOVES} moves of the price",
    "question_quality": "Nobody has read the question yet",
    "manipulation_suspect": f"Neither volume nor open interest has {MIN_MOVES} earlier moves",
}
