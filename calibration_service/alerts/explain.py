"""Five lines that say why an alert was raised, from its evidence alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal

from calibration_service.alerts.values import Direction, Fact, Reason
from calibration_service.questions.evidence import Facts, facts_of, why_refused

ADVICE = "Not investment advice."
UNEXPLAINED = "The evidence of this alert says why it was raised."
"""Stands for a line that the evidence does not bear out."""


def explain(
    direction: Direction, codes: Collection[Reason], evidence: Sequence[Fact]
) -> tuple[str, ...]:
    """At most five lines of at most 140 characters; every number in them occurs in the evidence."""
    by_name = {fact.name: fact for fact in evidence}
    lines = (
        _band(direction, by_name),
        _move(by_name),
        f"{_open_interest(by_name)} {_volume(codes, by_name)}",
        _question(codes, by_name),
    )
    known = numbers_of(evidence)
    held = (line if why_refused(line, known) is None else UNEXPLAINED for line in lines)
    return (*dict.fromkeys(held), ADVICE)


def numbers_of(evidence: Sequence[Fact]) -> Facts:
    """The numbers that an explanation may name: values and thresholds, and nothing of the names."""
    said = (number for fact in evidence for number in (fact.value, fact.threshold))
    return facts_of(" ; ".join(_plain(number) for number in said if number is not None))


def _band(direction: Direction, facts: dict[str, Fact]) -> str:
    price, bars = facts["price"], facts["bars_outside"]
    where = "above" if direction is Direction.UP else "below"
    return (
        f"The price {_plain(price.value)} is {where} {_plain(price.threshold)}, the end of its "
        f"alert band, for {_plain(bars.value)} closed bars in a row."
    )


def _move(facts: dict[str, Fact]) -> str:
    move = facts["move"]
    return (
        f"It stands {_plain(move.value)} away from where the forecast stood; "
        f"{_plain(move.threshold)} is the smallest move that counts."
    )


def _open_interest(facts: dict[str, Fact]) -> str:
    change = facts.get("open_interest_change_60m")
    if change is None:
        return "The change of open interest is not known."
    moved, counts = _percent(change.value), _percent(change.threshold)
    return f"Open interest changed by {moved} in an hour; {counts} counts."


def _volume(codes: Collection[Reason], facts: dict[str, Fact]) -> str:
    ratio = facts.get("volume_ratio_60m")
    if ratio is None or Reason.VOLUME_UNKNOWN in codes:
        return "The usual volume is not known."
    if Reason.VOLUME_HISTORY_SHORT in codes:
        return "The volume has too short a history."
    return f"Volume is {_plain(ratio.value)} times the usual; {_plain(ratio.threshold)} counts."


def _question(codes: Collection[Reason], facts: dict[str, Fact]) -> str:
    parts = [
        f"{name} is {_plain(facts[key].value)} ({bound} {_plain(facts[key].threshold)})"
        if key in facts
        else f"{name} is not known"
        for name, key, bound in (
            ("Ambiguity", "ambiguity", "at most"),
            ("trust", "trust", "at least"),
        )
    ]
    few = "; no measured outcomes stand behind the band" if Reason.LOW_CONFIDENCE in codes else ""
    return f"{' and '.join(parts)}{few}."


def _plain(number: float | None) -> str:
    """A number without exponent and trailing zeros."""
    text = f"{0.0 if number is None else number:.6f}"
    return text.rstrip("0").rstrip(".")


def _percent(number: float | None) -> str:
    return f"{Decimal(_plain(number)).scaleb(2).normalize():f}%"
