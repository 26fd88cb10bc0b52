"""``marketcal stream``: follows venues, folds what they say into bars, and raises alerts."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from gateway.cli import exits
from gateway.cli.calling import key_of
from gateway.cli.loading import control_store, settings_of
from gateway.supervisor.child import write_ready


@click.command()
@click.option("--role", type=click.Choice(["all", "ingest", "work"]), default="all",
              show_default=True,
              help="Listen and work in one process, or one of the two; two processes need a bus "
                   "that both reach (stream.bus_url).")  # fmt: skip
@click.option("--ready-file", type=click.Path(path_type=Path), help="Facts are written there.")
def stream(role: str, ready_file: Path | None) -> None:
    """Follow the markets that are worth it, until SIGTERM or Ctrl-C.

    Bars, triggers and alerts go to the control store; a restart goes on where the last checkpoint
    ended. Forecasts come from the gateway at stream.address.
    """
    import uvloop

    from calibration_service.alerts.errors import PolicyError
    from flows.live_checkpoint import StateUnreadable
    from gateway import live
    from gateway.telemetry import logs
    from market_data.errors import BusError, StreamRefused

    settings = settings_of()
    if role != "all" and settings.stream.bus_url.startswith("memory:"):
        raise exits.BadSetting("setting stream.bus_url: `memory:` ends with the process; the roles "
                               "ingest and work need a bus that both reach")  # fmt: skip
    logs.set_up(settings.telemetry, sys.stderr)
    given = settings.stream.key
    key = key_of(given.get_secret_value() if given else None)

    def announce(facts: dict[str, object]) -> None:
        print(" ".join(f"{name}={value}" for name, value in facts.items()), flush=True)
        if ready_file is not None:
            write_ready(ready_file, facts)

    try:
        with control_store(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(live.follow(settings, role, key, announce))  # type: ignore[arg-type]
    except (PolicyError, ValueError) as error:
        raise exits.BadSetting(str(error)) from None
    except (BusError, StateUnreadable, StreamRefused) as error:
        raise exits.Failed(str(error)) from None
