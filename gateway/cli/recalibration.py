"""``marketcal recalibration``: which fit turns prices into probabilities, and going back."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from gateway.cli import exits
from gateway.cli.loading import settings_of
from gateway.cli.output import output_option, write_rows

_SERVED = "the next scoreboard serves it: `marketcal calibrate`, or the next daily run"
_REASON = click.option("--reason", required=True, help="Why; it stands beside the choice.")


@click.group()
def recalibration() -> None:
    """List fits of recalibration, choose one, or go back to the one before."""


@recalibration.command(name="list")
@output_option
def list_versions(output: str) -> None:
    """List the fits with what was found in each pool, the newest first."""
    write_rows(version_rows(_lake()), output)


@recalibration.command()
@click.argument("version")
@_REASON
def use(version: str, reason: str) -> None:
    """Bring VERSION into force; `identity` is the price itself."""
    from calibration_service.recalibration.state import choose

    _record(lambda _choices, states, **said: choose(version, states, **said), reason)


@recalibration.command()
@_REASON
def back(reason: str) -> None:
    """Bring back what was in force before; a second time in a row undoes the first."""
    from calibration_service.recalibration.state import roll_back

    _record(roll_back, reason)


def version_rows(lake: Any) -> list[dict[str, Any]]:
    """One row per fit and pool, and whether the fit is in force."""
    from calibration_service.recalibration.state import IDENTITY_VERSION

    choices = lake.read("recalibration_choice").sort("chosen_at").to_dicts()
    states = lake.read("recalibration_state").sort("as_of", "pool", descending=[True, False])
    in_force = choices[-1] if choices else {"version": IDENTITY_VERSION, "by": "", "reason": ""}
    if in_force["version"] == IDENTITY_VERSION:
        rows = [_row(IDENTITY_VERSION, in_force, pool="*", served="price", verdict="")]
    else:
        rows = []
    for row in states.iter_rows(named=True):
        verdict = "promoted" if row["promoted"] else "; ".join(row["reasons"] or [])
        chosen = in_force if row["version"] == in_force["version"] else None
        rows.append(
            _row(
                row["version"], chosen, pool=row["pool"], method=row["method"],
                served=row["served"], events=row["event_count"], verdict=verdict,
            )
        )  # fmt: skip
    return rows


def _row(version: str, chosen: dict[str, Any] | None, **found: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"pool": None, "method": None, "served": None, "events": None}
    said = f"{chosen['by']}: {chosen['reason']}" if chosen and chosen["by"] else ""
    return {
        "version": version, "in force": chosen is not None, **empty, **found, "chosen": said,
    }  # fmt: skip


def _lake() -> Any:
    from market_data.lake import Lake

    return Lake(settings_of().flows.lake)


def _record(choosing: Callable[..., Any], reason: str) -> None:
    """Adds a choice behind all earlier ones, and says what is in force now."""
    if not reason.strip():
        raise exits.BadSetting("--reason: say why")
    lake = _lake()
    choices, states = lake.read("recalibration_choice"), lake.read("recalibration_state")
    last = choices["chosen_at"].max()
    now = datetime.now(UTC)
    at = now if last is None else max(now, last + timedelta(microseconds=1))
    try:
        row = choosing(choices, states, at=at, by=getpass.getuser(), reason=reason.strip())
    except ValueError as error:
        raise exits.Failed(str(error)) from None
    lake.upsert("recalibration_choice", row)
    click.echo(f"{row['version'][0]} is in force; {_SERVED}")
