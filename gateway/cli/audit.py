"""``marketcal audit``: who changed what, when and from where."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from gateway.cli.loading import control_store, is_there, key_store, settings_of
from gateway.cli.output import output_option, write_rows

_MOST_ROWS = 100_000


def _utc(
    _context: click.Context, _parameter: click.Parameter, value: datetime | None
) -> datetime | None:
    return None if value is None else value.replace(tzinfo=value.tzinfo or UTC)


@click.group()
def audit() -> None:
    """List who changed what, when and from where."""


@audit.command(name="list")
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]),
    callback=_utc,
    help="Leave out what was done before; UTC unless it says otherwise.",
)
@click.option("--limit", type=click.IntRange(1, _MOST_ROWS), default=100, show_default=True,
              help="Rows at most.")  # fmt: skip
@output_option
def list_rows(since: datetime | None, limit: int, output: str) -> None:
    """List calls that may change something and changes of keys, the newest first.

    An outcome is the name of a gRPC code, "done" for a command, and missing where a process or the
    store went away before the end.
    """
    write_rows(_rows(since, limit) if is_there(settings_of().control.url) else [], output)


def _rows(since: datetime | None, limit: int) -> list[dict[str, object]]:
    store = key_store()
    with control_store():
        found = store.audit.rows(since=since, limit=limit)
    return [
        {
            "at": row.at, "who": row.actor, "role": row.role, "what": row.action,
            "resource": row.resource, "from": row.address, "request": row.request_id,
            "outcome": row.outcome,
        }
        for row in found
    ]  # fmt: skip
