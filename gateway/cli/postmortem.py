"""``marketcal postmortem``: what happened in a resolved market, from a running gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gateway.cli import exits
from gateway.cli.calling import connected, connection_options
from gateway.cli.output import output_option, write_rows


@click.command()
@click.argument("market_id")
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path),
              help="Write the price's path to this PNG file.")  # fmt: skip
@output_option
@connection_options
def postmortem(
    market_id: str, picture: Path | None, output: str, address: str, key: str | None
) -> None:
    """Show what happened in a resolved market, and what it teaches."""
    with connected(address, key) as client:
        found = client.get_postmortem(market_id)
    if picture is not None:
        _write_picture(picture, found)
    if output == "json":
        write_rows([as_row(found)], output)
        return
    click.echo("\n".join([found.question, found.summary, ""]).lstrip())
    write_rows([cutoff_row(one) for one in found.cutoffs], output)
    for lesson in found.lessons:
        click.echo(f"- {lesson}")


def cutoff_row(cutoff: Any) -> dict[str, Any]:
    """A price at a cutoff as a row."""
    has = cutoff.HasField
    return {
        "cutoff": cutoff.cutoff,
        "time": cutoff.time.ToJsonString(),
        "price": cutoff.p_yes,
        "brier": cutoff.brier,
        "right": cutoff.right if has("right") else None,
        "calibrated": cutoff.calibrated_probability if has("calibrated_probability") else None,
    }


def as_row(found: Any) -> dict[str, Any]:
    """A post-mortem without path and picture."""
    risk = found.question_risk
    return {
        "market": found.market_id,
        "question": found.question,
        "resolved": found.resolved_time.ToJsonString(),
        "winner": found.winner or None,
        "summary": found.summary,
        "cutoffs": [cutoff_row(one) for one in found.cutoffs],
        "lessons": list(found.lessons),
        "ambiguity": risk.ambiguity if found.HasField("question_risk") else None,
        "resolution_risk": risk.resolution_risk if found.HasField("question_risk") else None,
        "scored_by": risk.scored_by or None,
        "rules_version": found.rules_version,
    }


def _write_picture(path: Path, found: Any) -> None:
    if not found.price_picture:
        raise exits.Failed(f"{found.market_id}: no price was recorded, so there is no picture")
    try:
        path.write_bytes(found.price_picture)
    except OSError as error:
        raise exits.Failed(f"{path}: {error.strerror}") from None
