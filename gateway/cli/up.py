"""``marketcal up``: everything on this machine under one supervisor."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import click

from gateway.cli import exits
from gateway.cli.loading import control_store, key_store, settings_of
from gateway.cli.showing import show
from gateway.supervisor.child import ChildError
from gateway.supervisor.ports import is_free
from gateway.supervisor.source import SIMULATED, SourceError, places_of, read_manifest
from gateway.supervisor.stack import VENUES, Plan, Stack, running
from marketcal.errors import MarketcalError

FOLDER = Path("var")
POLL_SECONDS = 0.2


class _Interrupted(Exception):
    """SIGTERM, SIGINT or SIGHUP."""


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=None,
              help="Port of the gateway; the setting gateway.port by default.")  # fmt: skip
@click.option("--archive", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Archive to replay; a simulated one is made by default.")  # fmt: skip
@click.option("--venue", type=click.Choice(VENUES), default="replay", show_default=True,
              help="Where markets come from.")  # fmt: skip
@click.option("--once", is_flag=True, help="Stop cleanly once everything is ready.")
def up(port: int | None, archive: Path | None, venue: str, once: bool) -> None:
    """Start venue, Ray Serve, Prefect and gateway; ingest, calibrate, and serve until Ctrl-C."""
    with _only_one(), _signals():
        plan = _plan(port, archive, venue)
        try:
            with running(plan, _say) as stack:
                _serve(stack, once)
        except ChildError as error:
            raise exits.Failed(str(error)) from None
        except MarketcalError as error:
            raise exits.Failed(f"the gateway refused: {error.message}") from None
        except (_Interrupted, KeyboardInterrupt):
            _say("stopped")
            if once:
                raise SystemExit(130) from None


def _serve(stack: Stack, once: bool) -> None:
    _say("starting; the first start takes about half a minute")
    for name, place in stack.plan.places.items():
        _say(f"{name.rpartition('__')[2].lower():<13} {place}")
    stack.start_parts()
    key = dev_key()
    address = stack.start_gateway()
    _say(f"gateway       {address}")
    stack.run_daily()
    stack.start_stream(key, address)
    show(address, key, _say)
    _say(f"\nPrefect UI  {stack.prefect_url}\nREADY")
    while not once:
        stack.revive()
        time.sleep(POLL_SECONDS)


def _plan(port: int | None, archive: Path | None, venue: str) -> Plan:
    loaded = settings_of()
    chosen = loaded.gateway.port if port is None else port
    if chosen and not is_free(loaded.gateway.host, chosen):
        raise exits.PortTaken(
            f"port {chosen} on {loaded.gateway.host} is taken; choose another with --port or PORT="
        )
    given = loaded.flows.model_fields_set
    if venue != "replay" and archive is not None:
        raise exits.BadSetting("--archive is served by the replay venue: leave --venue out")
    if venue != "replay":
        return Plan(FOLDER, chosen, None, None, places_of(FOLDER, venue, given))
    folder = (archive or _simulated()).resolve()
    try:
        name, as_of = read_manifest(folder)
    except SourceError as error:
        raise exits.BadSetting(f"--archive: {error}") from None
    places = places_of(FOLDER, name if archive else SIMULATED, given)
    return Plan(FOLDER, chosen, folder, as_of, places)


def _simulated() -> Path:
    """The simulated archive of this folder, made on the first start."""
    from market_data.replay.archive import write_archive
    from market_data.replay.simulate import SimulationConfig
    from market_data.replay.simulate_records import simulate

    folder = FOLDER / "archive"
    if not (folder / "manifest.json").exists():
        config = SimulationConfig(n_markets=2000, snapshots_per_market=300, mirror_share=0.05)
        write_archive(simulate(config), folder)
    return folder


def dev_key() -> str:
    """A key for this folder, readable by its owner alone; made once, and again when it ends."""
    from gateway.cli.calling import DEV_KEY

    store = key_store()
    with control_store():
        if DEV_KEY.exists():
            text = DEV_KEY.read_text().strip()
            rows = store.rows()
            lasting = {row.key_id for row in rows if (row.revoked_at or row.expires_at) is None}
            if text.split("_")[1:2] and text.split("_")[1] in lasting:
                return text
        text, _ = store.create("forecaster", note="development")
    DEV_KEY.unlink(missing_ok=True)
    with os.fdopen(os.open(DEV_KEY, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{text}\n")
    return text


@contextlib.contextmanager
def _only_one() -> Iterator[None]:
    """Holds this folder's lock; it falls with the process, however that ends."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise exits.AlreadyRunning(
                f"marketcal already runs in this folder (process {lock.read().strip()})"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # stopping has begun
        raise _Interrupted

    before = {
        number: signal.signal(number, interrupt)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    click.echo(text)
    sys.stdout.flush()
