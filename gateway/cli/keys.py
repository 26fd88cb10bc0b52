"""``marketcal keys``: make, list, rotate and revoke API keys."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from gateway.cli import exits
from gateway.cli.output import output_option, write_rows


def _store() -> Any:
    from gateway import settings, wiring

    try:
        return wiring.open_keys(settings.load().control.url)
    except settings.SettingsError as error:
        raise exits.BadSetting(str(error)) from None


@click.group()
def keys() -> None:
    """Make, list, rotate and revoke API keys."""


@keys.command()
@click.option("--role", type=click.Choice(["viewer", "forecaster", "operator", "admin"]),
              required=True, help="What the key may do.")  # fmt: skip
@click.option("--note", default="", help="What the key is for.")
@click.option("--days", type=float, help="Days until it expires; never by default.")
@click.option("--rate", type=float, help="Calls per minute; the role's limit by default.")
@click.option("--burst", type=int, help="Calls at once; the role's limit by default.")
def create(role: str, note: str, days: float | None, rate: float | None, burst: int | None) -> None:
    """Make a key and print it; it is not shown again."""
    from gateway.contract import read_methods
    from gateway.roles import smallest_burst

    least = smallest_burst(role, read_methods().values())
    if burst is not None and burst < least:
        raise exits.BadSetting(
            f"--burst: one call of a {role} may cost {least}; give at least that"
        )
    lifetime = timedelta(days=days) if days else None
    text, _ = _store().create(role, note=note, lifetime=lifetime, rate_per_minute=rate, burst=burst)
    click.echo(text)


@keys.command(name="list")
@output_option
def list_keys(output: str) -> None:
    """List the keys; secrets are not kept."""
    rows = [
        {
            "id": row.key_id, "role": row.role, "note": row.note,
            "rate/min": row.rate_per_minute, "burst": row.burst,
            "created": row.created_at, "expires": row.expires_at, "revoked": row.revoked_at,
        }
        for row in _store().rows()
    ]  # fmt: skip
    write_rows(rows, output)


@keys.command()
@click.argument("key_id")
@click.option("--overlap-hours", type=float, default=24.0, show_default=True,
              help="How long the old key goes on working.")  # fmt: skip
def rotate(key_id: str, overlap_hours: float) -> None:
    """Make a successor with the same role and limits, and print it."""
    try:
        text, _ = _store().rotate(key_id, timedelta(hours=overlap_hours))
    except KeyError:
        raise exits.Failed(f"there is no valid key {key_id}") from None
    click.echo(text)


@keys.command()
@click.argument("key_id")
def revoke(key_id: str) -> None:
    """End a key now; gateways notice within a second."""
    try:
        _store().revoke(key_id)
    except KeyError:
        raise exits.Failed(f"there is no key {key_id}") from None
    click.echo(f"revoked {key_id}")
