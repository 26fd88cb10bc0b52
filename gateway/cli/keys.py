"""``marketcal keys``: make, list, rotate and revoke API keys."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import click

from gateway.cli import exits
from gateway.cli.loading import control_store, is_there, key_store, settings_of
from gateway.cli.output import output_option, write_rows

_MOST_DAYS = 36_500
_MOST_HOURS = 24 * _MOST_DAYS
_MOST_NOTE = 200


def _finite(_context: click.Context, _parameter: click.Parameter, value: float | None) -> Any:
    """NaN is in no range, and in none that a comparison refuses."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter("must be a finite number")
    return value


def _short(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if len(value) > _MOST_NOTE:
        raise click.BadParameter(f"must not be longer than {_MOST_NOTE} characters")
    return value


@click.group()
def keys() -> None:
    """Make, list, rotate and revoke API keys."""


@keys.command()
@click.option("--role", type=click.Choice(["viewer", "forecaster", "operator", "admin"]),
              required=True, help="What the key may do.")  # fmt: skip
@click.option("--note", default="", callback=_short, help="What the key is for.")
@click.option(
    "--days",
    type=click.FloatRange(min=0, min_open=True, max=_MOST_DAYS),
    callback=_finite,
    help="Days until it expires; never by default.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    callback=_finite,
    help="Calls per minute; the role's limit by default.",
)
@click.option("--burst", type=click.IntRange(min=1, max=2**31 - 1),
              help="Calls at once; the role's limit by default.")  # fmt: skip
def create(role: str, note: str, days: float | None, rate: float | None, burst: int | None) -> None:
    """Make a key and print it; it is not shown again."""
    from gateway.contract import read_methods
    from gateway.roles import smallest_burst

    least = smallest_burst(role, read_methods().values())
    if burst is not None and burst < least:
        raise exits.BadSetting(
            f"--burst: one call of a {role} may cost {least}; give at least that"
        )
    lifetime = None if days is None else max(timedelta(days=days), timedelta.resolution)
    store = key_store()
    with control_store():
        text, _ = store.create(
            role, note=note, lifetime=lifetime, rate_per_minute=rate, burst=burst
        )
    click.echo(text)


@keys.command(name="list")
@output_option
def list_keys(output: str) -> None:
    """List the keys; secrets are not kept."""
    write_rows(_rows() if is_there(settings_of().control.url) else [], output)


def _rows() -> list[dict[str, object]]:
    store = key_store()
    with control_store():
        found = store.rows()
    return [
        {
            "id": row.key_id, "role": row.role, "note": row.note,
            "rate/min": row.rate_per_minute, "burst": row.burst,
            "created": row.created_at, "expires": row.expires_at, "revoked": row.revoked_at,
            "last used": row.last_used_at,
        }
        for row in found
    ]  # fmt: skip


@keys.command()
@click.argument("key_id")
@click.option("--overlap-hours", type=click.FloatRange(min=0, max=_MOST_HOURS), callback=_finite,
              default=24.0, show_default=True,
              help="How long the old key goes on working.")  # fmt: skip
def rotate(key_id: str, overlap_hours: float) -> None:
    """Make a successor with the same role, limits and lifetime, and print it.

    The old key ends after the overlap, and cannot be rotated again.
    """
    from gateway.keys import KeyIsRotated

    store = key_store()
    try:
        with control_store():
            text, _ = store.rotate(key_id, timedelta(hours=overlap_hours))
    except KeyError:
        raise exits.Failed(f"there is no valid key {key_id}") from None
    except KeyIsRotated as error:
        raise exits.Failed(str(error)) from None
    click.echo(text)


@keys.command()
@click.argument("key_id")
def revoke(key_id: str) -> None:
    """End a key now; gateways notice within a second."""
    store = key_store()
    try:
        with control_store():
            store.revoke(key_id)
    except KeyError:
        raise exits.Failed(f"there is no key {key_id}") from None
    click.echo(f"revoked {key_id}")
