"""``marketcal ingest``, ``calibrate`` and ``conformal``: the flows from the command line."""

from __future__ import annotations

import importlib
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from gateway.cli import exits
from gateway.cli.loading import settings_of
from gateway.cli.output import output_option, write_rows

_MODULES = {"conformal": "flows.conformal"}
"""Where flows are that are no part of the daily one; they are told which models there are."""
AS_OF = click.option(
    "--as-of", type=click.DateTime(["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%d"]),
    help="End of the data interval, UTC; now by default.")  # fmt: skip
PREFECT = click.option(
    "--prefect-url", envvar="PREFECT_API_URL", default="",
    help="API of a Prefect server that shows the run. Empty: it runs without one.")  # fmt: skip


@click.command()
@AS_OF
@PREFECT
@output_option
def ingest(as_of: datetime | None, prefect_url: str, output: str) -> None:
    """Read markets, open interest and prices of a venue into the lake."""
    _run("ingest", as_of, prefect_url, output)


@click.command()
@click.option("--ingest", "pipeline", flag_value="daily", default=None,
              help="Ingest first: the whole daily pipeline.")  # fmt: skip
@AS_OF
@PREFECT
@output_option
def calibrate(pipeline: str | None, as_of: datetime | None, prefect_url: str, output: str) -> None:
    """Label, score and publish the scoreboard from what is in the lake."""
    _run(pipeline or "calibrate", as_of, prefect_url, output)


@click.command()
@AS_OF
@PREFECT
@output_option
def conformal(as_of: datetime | None, prefect_url: str, output: str) -> None:
    """Hold forecasts against what happened, and correct the bands to come."""
    _run("conformal", as_of, prefect_url, output)


def _run(name: str, as_of: datetime | None, prefect_url: str, output: str) -> None:
    prepare_prefect(prefect_url)
    chosen = settings_of()
    from flows import artifacts

    flow: Any = getattr(importlib.import_module(_MODULES.get(name, "flows.daily")), name)
    more = {"forecast_settings": chosen.forecast} if name in _MODULES else {}
    run = carried_out(name, flow, prefect_url, as_of=utc(as_of), flow_settings=chosen.flows, **more)
    write_rows(artifacts.stage_table(run), output)


def prepare_prefect(prefect_url: str) -> None:
    """What Prefect reads when it is imported."""
    os.environ.update(DO_NOT_TRACK="1", PREFECT_SERVER_ANALYTICS_ENABLED="false")
    os.environ.setdefault("PREFECT_HOME", str(Path("var/prefect").resolve()))
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    if prefect_url:
        os.environ["PREFECT_API_URL"] = prefect_url


def carried_out(name: str, flow: Any, prefect_url: str, **arguments: Any) -> Any:
    """The finished run of a flow, as a Prefect run where there is a server.

    Raises:
        RunFailed: it found no data, or failed.
    """
    from gateway.cli.progress import Bars

    call = flow if prefect_url else flow.fn
    try:
        return call(progress=Bars(sys.stderr), **arguments)
    except Exception as error:
        raise exits.RunFailed(f"{name}: {type(error).__name__}: {error}") from error


def utc(moment: datetime | None) -> datetime | None:
    """The moment in UTC where it names no time zone."""
    if moment is None or moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=UTC)
