"""``marketcal replay``: a recorded or simulated stream through the live path."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from gateway.cli import exits
from gateway.cli.loading import settings_of

STORE = Path("var/replay.db")
_SQLITE = b"SQLite format 3\0"
_OURS = "SELECT 1 FROM live_position WHERE name = 'replay'"


@click.command()
@click.argument(
    "capture", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--simulate",
    metavar="SPEC",
    help='A simulated day in place of a file: "n_conditions=20,duration_s=3600,seed=1".',
)
@click.option(
    "--into",
    type=click.Path(dir_okay=False, path_type=Path),
    default=STORE,
    show_default=True,
    help="Store of the bars and alerts; made anew.",
)
@click.option("--serve", is_flag=True, help="Serve the stream over WebSocket instead.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of --serve; 0: a free one.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Of --serve: stream seconds per second; 0 is as fast as it is read.",
)
@click.option("--faults", default="", help='Of --serve: "disconnect=0.001,duplicate=0.05,seed=3".')
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def replay(
    capture: Path | None,
    simulate: str | None,
    into: Path,
    serve: bool,
    port: int,
    speed: float,
    faults: str,
    as_json: bool,
) -> None:
    """Play CAPTURE through bars, triggers and alerts, and show what came out.

    Nothing is asked of any venue or gateway: bands come from a baseline, and what is known of the
    markets from the lake of the settings. With --serve the stream is
    served as the venues serve theirs, for `marketcal stream` to follow.
    """
    if (capture is None) == (simulate is None):
        raise exits.BadSetting("give a capture or --simulate, and not both")
    if serve:
        _serve(capture, simulate, port, speed, faults)
        return
    shown = asyncio.run(_play(_source(capture, simulate), into))
    if as_json:
        click.echo(json.dumps(shown))
        return
    for name in ("frames", "seconds", "events", "rejected", "bars", "triggers"):
        click.echo(f"{name:<10} {shown[name]}")
    click.echo(f"{'alerts':<10} {len(shown['alerts'])}")
    for alert in shown["alerts"]:
        click.echo(f"\n{alert['time']}  {alert['severity']}  {alert['market_id']}")
        for line in alert["explanation"]:
            click.echo(f"  {line}")


def _make_room(into: Path) -> None:
    """Removes the store of an earlier replay.

    Raises:
        BadSetting: something else has this name.
    """
    import sqlite3

    if into.exists():
        with into.open("rb") as file:
            is_database = file.read(len(_SQLITE)) == _SQLITE
        ours: object = None
        if is_database:
            with (
                contextlib.suppress(sqlite3.DatabaseError),  # a database, and none of ours
                contextlib.closing(sqlite3.connect(into)) as connection,
            ):
                ours = connection.execute(_OURS).fetchone()
        if ours is None:
            raise exits.BadSetting(f"--into: {into} is no store of an earlier replay; it stays")
    into.parent.mkdir(parents=True, exist_ok=True)
    for file_name in (into, Path(f"{into}-wal"), Path(f"{into}-shm")):
        file_name.unlink(missing_ok=True)


def _source(capture: Path | None, simulate: str | None) -> Callable[[], Iterable[Any]]:
    """What gives all records, each time from the beginning."""
    from market_data.errors import CaptureError
    from market_data.replay.stream_capture import read_capture
    from market_data.replay.stream_simulate import StreamDay, simulate_records

    try:
        if capture is not None:
            return read_capture(capture)
        day = StreamDay.parse(simulate or "")
    except (CaptureError, ValueError) as error:
        raise exits.BadSetting(str(error)) from None
    return lambda: simulate_records(day)


async def _play(source: Callable[[], Iterable[Any]], into: Path) -> dict[str, Any]:
    from calibration_service.alerts import store as alert_store
    from flows.live_replay import markets_of, replay
    from gateway.live import replaying
    from market_data.errors import CaptureError
    from market_data.streaming import live_store

    _make_room(into)
    began = time.monotonic()
    try:
        markets = markets_of(source())
        async with replaying(settings_of(), into, markets) as (worker, bus, engine):
            done = await replay(source(), markets, worker, bus)
            with engine.connect() as connection:
                alerts = alert_store.after(connection, 0, limit=1_000_000)
                bars = live_store.latest_bar_sequence(connection)
                triggers = len(live_store.read_triggers(connection, 1_000_000))
    except CaptureError as error:
        raise exits.Failed(str(error)) from None
    return {
        "frames": done.records,
        "seconds": round(time.monotonic() - began, 2),
        "events": done.events,
        "rejected": dict(done.rejected),
        "bars": bars,
        "triggers": triggers,
        "alerts": [_shown(one.alert) for one in alerts],
    }


def _shown(alert: Any) -> dict[str, Any]:
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(alert.at_ms / 1_000))
    return {
        "time": at,
        "market_id": alert.market_id,
        "severity": alert.severity.name,
        "reasons": [str(one) for one in alert.reason_codes],
        "explanation": list(alert.explanation_lines),
    }


def _serve(
    capture: Path | None, simulate: str | None, port: int, speed: float, faults: str
) -> None:
    from market_data.replay import stream_server

    source = ["--capture", str(capture)] if capture else ["--simulate", simulate or ""]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    options = ["--port", str(port), "--speed", str(speed), "--faults", faults]
    status = stream_server.main(list(itertools.chain(source, options)))
    if status:
        raise SystemExit(status)
