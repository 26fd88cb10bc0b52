"""A case in a few sentences; every number in them comes from its tables."""

from __future__ import annotations

from collections.abc import Iterator

from calibration_service.postmortem.case import WITHOUT_SCORE, Case, Cutoff
from calibration_service.postmortem.price_path import Move

_NAMES = {"T-24h": "24 h", "T-1h": "1 h"}
_RESOLVED = {"RESOLVED_TRUE": "YES", "RESOLVED_FALSE": "NO"}


def summary_of(case: Case) -> str:
    """At most six sentences."""
    return " ".join(_sentences(case))


def _sentences(case: Case) -> Iterator[str]:
    when = f"{case.resolved_at:%Y-%m-%d %H:%M} UTC"
    if not case.is_scored:
        yield f"It ended on {when}."
        yield WITHOUT_SCORE[case.label]
        if case.reason:
            yield f"The reason on record is {case.reason}."
    else:
        yield f"It resolved {_RESOLVED[case.label]} on {when}."
        yield _scores(case)
    if not case.prices:
        yield "No price was recorded before."
    elif case.moves:
        yield _largest(case.moves[0])
    if case.risk is not None:
        yield (
            f"{case.risk.scored_by} put the ambiguity of the question at "
            f"{case.risk.ambiguity:.2f} and the risk of its resolution at "
            f"{case.risk.resolution_risk:.2f}."
        )
    if case.alerts:
        yield f"Alerts before the resolution: {len(case.alerts)}."


def _scores(case: Case) -> str:
    if not case.cutoffs:
        return "No price stands for 24 h or 1 h before the end, so none is scored."
    return f"The price of YES was {' and '.join(_score(one) for one in case.cutoffs)} before it."


def _score(cutoff: Cutoff) -> str:
    return f"{cutoff.p_yes:.3f} (Brier {cutoff.brier:.4f}) {_NAMES[cutoff.name]}"


def _largest(move: Move) -> str:
    hours = (move.end - move.start) / 3.6e9
    volume = f" at {move.volume_ratio:.2f} times the usual volume" if move.volume_ratio else ""
    return (
        f"The largest move went from {move.before:.3f} to {move.after:.3f} within "
        f"{hours:.2g} h{volume}."
    )
