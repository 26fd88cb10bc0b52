"""``marketcal serve ROLE``: one part of the platform as a process of its own."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli import exits
from gateway.cli.loading import control_store, settings_of
from gateway.supervisor.child import write_ready

if TYPE_CHECKING:
    from gateway.settings import Settings


FRONT, BEHIND = ("gateway",), ("forecast-service", "calibration-service")
"""Roles that answer gRPC: the front door, and what may stand behind it."""
_HOSTS = {
    "forecast-service": ("forecast",),
    "calibration-service": ("scoreboard", "market", "alert"),
}


@click.command()
@click.argument("role", type=click.Choice([*FRONT, *BEHIND, "forecast", "prefect"]))
@click.option("--port", type=click.IntRange(0, 65535),
              help="Port of the role; 0 takes a free one.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1, 64),
              help="Processes on one port; the setting gateway.workers by default.")  # fmt: skip
@click.option("--ready-file", type=click.Path(path_type=Path), help="Facts are written there.")
def serve(role: str, port: int | None, workers: int | None, ready_file: Path | None) -> None:
    """Run one part in the foreground until SIGTERM or Ctrl-C.

    gateway answers gRPC calls; forecast-service and calibration-service answer those that a gateway
    forwards to them (settings upstream.*); forecast holds a local Ray with the deployments; prefect
    is the Prefect server. With --workers, SIGHUP replaces the role's processes one by one.
    """
    from gateway.telemetry import logs

    logs.set_up(settings_of().telemetry, sys.stderr)
    if role in (*FRONT, *BEHIND):
        _gateway(role, port, workers, ready_file)
    else:
        {"forecast": _forecast, "prefect": _prefect}[role](port, ready_file)


def _announce(ready_file: Path | None, facts: dict[str, Any]) -> None:
    print(" ".join(f"{name}={value}" for name, value in facts.items()), flush=True)
    if ready_file is not None:
        write_ready(ready_file, facts)


def _gateway(role: str, port: int | None, workers: int | None, ready_file: Path | None) -> None:
    from forecast_service.serving import prepare_environment

    prepare_environment()
    behind = True if role in BEHIND else None
    given = {"port": port, "workers": workers, "hosts": _HOSTS.get(role), "behind": behind}
    loaded = settings_of({"gateway": {k: v for k, v in given.items() if v is not None}})
    if loaded.gateway.behind and loaded.upstream.secret is None:
        raise exits.BadSetting(f"setting upstream.secret: {role} needs it to know who calls")
    if loaded.gateway.plaintext and loaded.gateway.allow_plaintext:
        logging.getLogger("gateway").warning(
            "gateway.allow_plaintext is set: keys and answers on %s can be read on the way",
            loaded.gateway.host,
        )

    def announce(chosen: int) -> None:
        _announce(ready_file, {"address": loaded.gateway.address(chosen)})

    try:
        with control_store():
            if loaded.gateway.workers > 1:
                _share_port(loaded, announce, role)
            else:
                _serve_alone(loaded, announce, role)
    except OSError as error:
        raise exits.PortTaken(str(error)) from None


def _share_port(loaded: Settings, announce: Callable[[int], None], role: str) -> None:
    from gateway.supervisor import workers
    from gateway.supervisor.child import ChildError

    try:
        workers.run(loaded, announce, logging.getLogger("gateway").info, role)
    except ChildError as error:
        raise exits.Failed(str(error)) from None


def _serve_alone(loaded: Settings, announce: Callable[[int], None], role: str) -> None:
    import uvloop

    from gateway import wiring
    from gateway.tls import TlsError

    def settled(chosen: int) -> None:
        # What start-up made stays: a collection need not walk through Ray's and polars' modules.
        gc.collect()
        gc.freeze()
        announce(chosen)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(wiring.serve(loaded, settled, role))
    except TlsError as error:
        raise exits.BadSetting(f"setting {error}") from None


def _forecast(_port: int | None, ready_file: Path | None) -> None:
    from forecast_service import serving
    from forecast_service.models.errors import ModelError

    os.umask(0o077)  # Ray writes a token and logs: for this user alone
    loaded = settings_of()
    try:
        serving.verify_weights(loaded.forecast)
    except ModelError as error:
        raise exits.BadSetting(f"setting forecast.models: {error}") from None
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    address, folder = serving.start_cluster()
    try:
        # Ray installs its own handlers while it starts.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        serving.deploy(loaded.forecast, loaded.telemetry)
        _announce(ready_file, {"address": address})
        stop.wait()
    finally:
        serving.stop_cluster(folder)


def _prefect(port: int | None, ready_file: Path | None) -> None:
    from gateway.supervisor.ports import free_port

    chosen = port or free_port()
    os.environ.update(
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        DO_NOT_TRACK="1",
        PREFECT_SERVER_API_HOST="127.0.0.1",
        PREFECT_SERVER_API_PORT=str(chosen),
        PREFECT_UI_API_URL=f"http://127.0.0.1:{chosen}/api",
    )
    os.environ.setdefault("PREFECT_HOME", str(Path("var/prefect").resolve()))
    if ready_file is not None:
        write_ready(ready_file, {"url": f"http://127.0.0.1:{chosen}"})
    os.execv(
        sys.executable,
        [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app",
         "--host", "127.0.0.1", "--port", str(chosen), "--log-level", "warning"],
    )  # fmt: skip
