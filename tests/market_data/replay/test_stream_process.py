"""The streaming venue as a process."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest
from websockets.sync.client import connect

from market_data.replay.stream_capture import write_capture
from market_data.replay.stream_server import main
from market_data.replay.stream_simulate import StreamDay, simulate_records

DEADLINE = 20.0
COMMAND = [sys.executable, "-m", "market_data.replay.stream_server"]
SPEC = "n_conditions=2,duration_s=20,n_jumps=0,seed=1"


def port_of(path: Path, process: subprocess.Popen[bytes]) -> int:
    end = time.monotonic() + DEADLINE
    while not path.exists():
        assert process.poll() is None, "the process ended"
        assert time.monotonic() < end, "no port in time"
        time.sleep(0.02)
    return int(path.read_text())


@pytest.mark.parametrize("source", ["--simulate", "--capture"])
def test_serves_until_it_is_asked_to_stop(tmp_path: Path, source: str) -> None:
    day = StreamDay.parse(SPEC)
    write_capture(tmp_path / "day.jsonl.gz", simulate_records(day))
    what = SPEC if source == "--simulate" else str(tmp_path / "day.jsonl.gz")
    port_file = tmp_path / "port"
    process = subprocess.Popen([*COMMAND, source, what, "--port-file", str(port_file)])
    try:
        url = f"ws://127.0.0.1:{port_of(port_file, process)}/market/ws/btcusdt@kline_1m"
        with connect(url, proxy=None) as socket:
            frames = [orjson.loads(frame) for frame in socket]
            assert socket.close_reason == "end of capture"
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
        process.wait(DEADLINE)

    assert len(frames) == 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--capture", "absent.jsonl.gz"], "absent.jsonl.gz: no such file"),
        (["--simulate", "markets=3"], "unknown field 'markets'"),
        (["--simulate", SPEC, "--faults", "rain=1"], "unknown fault 'rain'"),
        (["--simulate", SPEC, "--clients", "kalshi=1"], "--clients: 'kalshi=1'"),
        (["--simulate", SPEC, "--speed", "-1"], "speed must not be negative"),
    ],
)
def test_refuses_what_it_cannot_serve(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
