"""Lessons: rules that would prevent a repeat, each from a condition that was measured.

========================  =========================================================================
code                      condition
========================  =========================================================================
THIN_AND_WRONG            wrong by more than 0.5 at a cutoff, liquidity LOW then
WRONG_LATE                wrong by more than 0.5 at T-1h, liquidity not LOW
MOVE_WITHOUT_VOLUME       a move of at least 0.15 at no more than the usual volume
STALE_PRICE               the price for T-1h was more than half an hour old
NO_LATE_PRICE             prices were recorded, and none stands for T-1h
WIDE_SPREAD               bid and ask were more than 0.10 apart at a cutoff
CALIBRATION_WAS_CLOSER    the calibrated probability's Brier score was better by more than 0.02
ALERT_BEFORE_MISS         a HIGH alert was raised before a cutoff that was wrong by more than 0.5
AMBIGUOUS_QUESTION        ambiguity above 0.35
RISKY_RESOLUTION          resolution risk above 0.35
ENDED_WITHOUT_OUTCOME     the market was void
========================  =========================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from calibration_service.postmortem.case import DAY_BEFORE, HOUR_BEFORE, Case, Cutoff

WRONG_BY = 0.5
BIG_MOVE, USUAL_VOLUME = 0.15, 1.0
STALE_SECONDS = 1_800.0
WIDE = 0.10
CLOSER_BY = 0.02
DOUBTFUL = 0.35
_NAMES = {DAY_BEFORE: "24 h", HOUR_BEFORE: "1 h"}


@dataclass(frozen=True, slots=True)
class Lesson:
    """A rule; ``text`` names the numbers that it follows from."""

    code: str
    text: str


def lessons_of(case: Case) -> list[Lesson]:
    """The lessons of a case in a fixed order."""
    found = ((code, says(case)) for code, says in _RULES)
    return [Lesson(code, text) for code, text in found if text is not None]


def missed_by(cutoff: Cutoff) -> float:
    """How far the price was from what happened, in [0, 1]."""
    return float(cutoff.brier**0.5)


def _thin_and_wrong(case: Case) -> str | None:
    for cutoff in case.cutoffs:
        if missed_by(cutoff) > WRONG_BY and cutoff.liquidity == "LOW":
            return (
                f"Do not rely on a price of LOW liquidity alone: {_NAMES[cutoff.name]} before the "
                f"end it was {cutoff.p_yes:.3f} and wrong by {missed_by(cutoff):.3f}."
            )
    return None


def _wrong_late(case: Case) -> str | None:
    cutoff = case.cutoff(HOUR_BEFORE)
    if cutoff is None or missed_by(cutoff) <= WRONG_BY or cutoff.liquidity == "LOW":
        return None
    return (
        f"Keep limits on positions until the resolution: 1 h before it the price was "
        f"{cutoff.p_yes:.3f} and wrong by {missed_by(cutoff):.3f}."
    )


def _move_without_volume(case: Case) -> str | None:
    for move in case.moves:
        size = abs(move.after - move.before)
        ratio = move.volume_ratio
        if size >= BIG_MOVE and ratio is not None and ratio <= USUAL_VOLUME:
            return (
                f"Wait for volume before following a move: {move.before:.3f} to {move.after:.3f} "
                f"came with {ratio:.2f} times the usual volume."
            )
    return None


def _stale_price(case: Case) -> str | None:
    cutoff = case.cutoff(HOUR_BEFORE)
    if cutoff is None or cutoff.age_seconds is None or cutoff.age_seconds <= STALE_SECONDS:
        return None
    minutes = cutoff.age_seconds / 60
    return (
        f"Take an old price as unknown: the one for 1 h before the end was {minutes:.0f} min old."
    )


def _no_late_price(case: Case) -> str | None:
    if not case.is_scored or case.prices == 0 or case.cutoff(HOUR_BEFORE) is not None:
        return None
    return f"Record prices until the end: of {case.prices:,} none stands for 1 h before it."


def _wide_spread(case: Case) -> str | None:
    for cutoff in case.cutoffs:
        if cutoff.spread is not None and cutoff.spread > WIDE:
            return (
                f"Use a range instead of one price where the spread is wide: it was "
                f"{cutoff.spread:.3f} at {_NAMES[cutoff.name]} before the end."
            )
    return None


def _calibration_was_closer(case: Case) -> str | None:
    for cutoff in case.cutoffs:
        if cutoff.calibrated is None:
            continue
        outcome = 1.0 if case.label == "RESOLVED_TRUE" else 0.0
        corrected = (cutoff.calibrated - outcome) ** 2
        if cutoff.brier - corrected > CLOSER_BY:
            return (
                f"Prefer the calibrated probability: {_NAMES[cutoff.name]} before the end its "
                f"Brier score was {corrected:.4f}, that of the price {cutoff.brier:.4f}."
            )
    return None


def _alert_before_miss(case: Case) -> str | None:
    for cutoff in case.cutoffs:
        high = [one for one in case.alerts if one.severity == "HIGH" and one.time <= cutoff.time]
        if high and missed_by(cutoff) > WRONG_BY:
            return (
                f"Act on HIGH alerts: {len(high)} came before the price of "
                f"{cutoff.p_yes:.3f} that was wrong by {missed_by(cutoff):.3f}."
            )
    return None


def _ambiguous_question(case: Case) -> str | None:
    if case.risk is None or case.risk.ambiguity <= DOUBTFUL:
        return None
    return (
        f"Ask for a wider margin where a question is ambiguous: {case.risk.scored_by} put it at "
        f"{case.risk.ambiguity:.2f}."
    )


def _risky_resolution(case: Case) -> str | None:
    if case.risk is None or case.risk.resolution_risk <= DOUBTFUL:
        return None
    return (
        f"Read how a market is resolved before trusting its price: {case.risk.scored_by} put the "
        f"risk at {case.risk.resolution_risk:.2f}."
    )


def _ended_without_outcome(case: Case) -> str | None:
    if case.label != "VOID":
        return None
    return "Find out what makes a market void before it ends: nothing of this one can be scored."


_RULES: tuple[tuple[str, Callable[[Case], str | None]], ...] = (
    ("THIN_AND_WRONG", _thin_and_wrong),
    ("WRONG_LATE", _wrong_late),
    ("MOVE_WITHOUT_VOLUME", _move_without_volume),
    ("STALE_PRICE", _stale_price),
    ("NO_LATE_PRICE", _no_late_price),
    ("WIDE_SPREAD", _wide_spread),
    ("CALIBRATION_WAS_CLOSER", _calibration_was_closer),
    ("ALERT_BEFORE_MISS", _alert_before_miss),
    ("AMBIGUOUS_QUESTION", _ambiguous_question),
    ("RISKY_RESOLUTION", _risky_resolution),
    ("ENDED_WITHOUT_OUTCOME", _ended_without_outcome),
)
CODES = tuple(code for code, _ in _RULES)
