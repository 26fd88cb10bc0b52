"""What stands beside a forecast: who answered, why not who was asked, and what to know."""

from __future__ import annotations

from typing import Any


def meta_lines(answer: Any) -> list[str]:
    """One line for the model that answered, and one for each thing out of the ordinary."""
    from marketcal.v1 import forecast_pb2 as pb

    meta = answer.meta
    lines = [f"served by {meta.served_by}, model {meta.model_name} {meta.model_version}".rstrip()]
    if meta.fallback_used:
        reason = pb.FallbackReason.Name(meta.fallback_reason).removeprefix("FALLBACK_REASON_")
        lines.append(f"a baseline stands in: {reason}")
    for name, value in (("route", meta.route), ("segment", meta.segment)):
        if value:
            lines.append(f"{name} {value}")
    if meta.conformal_version:
        lines.append(f"corrected by conformal version {meta.conformal_version}")
    states = (
        ("breaker", pb.BreakerState.Name(meta.breaker_state), "BREAKER_STATE_"),
        ("service", pb.DegradationState.Name(meta.degradation_state), "DEGRADATION_STATE_"),
        ("answer", pb.CacheState.Name(meta.cache), "CACHE_STATE_"),
    )
    for name, state, prefix in states:
        if (short := state.removeprefix(prefix)) not in _ORDINARY:
            lines.append(f"{name} {short}")
    for warning in meta.warnings:
        code = pb.WarningCode.Name(warning.code).removeprefix("WARNING_CODE_")
        lines.append(f"warning {code} ({warning.count}): {warning.message}")
    return lines


_ORDINARY = {"UNSPECIFIED", "CLOSED", "NORMAL", "MISS"}
