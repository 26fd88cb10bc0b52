"""Nothing of a whole run leaves this machine: not ours, not Ray's, not Prefect's.

Two observers look at a `marketcal up --once` with ingestion, calibration and forecasts on Ray: an
audit hook inside every Python process sees each connection and each look-up of a name that Python
makes, and the kernel's tables show every socket of every process, also of native ones, several
times a second. A third run under strace, where that is installed, shows what native code does in
between: the one who looked up a name of its maker there was seen by nobody else.
"""

from __future__ import annotations

import ipaddress
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.ray

HOOK = """
import json, os, sys

_FILE = os.environ["EGRESS_LOG"]
_WATCHED = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1, "socket.getaddrinfo": 0,
            "socket.gethostbyname": 0, "socket.gethostbyaddr": 0}


def _watch(event, arguments):
    place = _WATCHED.get(event)
    if place is None or len(arguments) <= place:
        return
    what = arguments[place]
    if place and (what is None or getattr(arguments[0], "family", 0) not in (2, 10)):
        return
    host = what[0] if isinstance(what, tuple) else what
    host = host.decode() if isinstance(host, bytes) else host
    _write(event, host)


def _write(event, host):
    line = json.dumps([event, host, " ".join(sys.orig_argv)[-800:]]) + "\\n"
    place = os.open(_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(place, line.encode())
    os.close(place)


_write("begun", None)
sys.addaudithook(_watch)
"""
_ANYWHERE = {"0.0.0.0", "::"}
"""As a destination these mean this machine."""


def stays(host: str | None) -> bool:
    """Whether a name or an address is of this machine."""
    if not host or host in ("localhost", socket.gethostname(), *_ANYWHERE):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


@dataclass
class Sampler:
    """Looks at the sockets of a platform again and again until it is told to end."""

    platform: Any
    found: set[str] = field(default_factory=set)
    processes: set[str] = field(default_factory=set)
    looks: int = 0
    _end: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Sampler:
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_ending: object) -> None:
        self._end.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._end.wait(0.25):
            alive = self.platform.alive()
            self.processes |= {line.partition(" ")[2] for line in alive}
            self.found |= set(beyond(sockets_of(alive)))
            self.looks += 1


def sockets_of(alive: list[str]) -> set[str]:
    """Inodes of the sockets of processes."""
    found = set()
    for process in alive:
        try:
            found |= {
                one.readlink().name for one in Path(f"/proc/{process.split()[0]}/fd").glob("*")
            }
        except OSError:
            continue  # it ended, or closed one, while we looked
    return {name.removeprefix("socket:[").rstrip("]") for name in found if "socket:" in name}


def beyond(inodes: set[str]) -> Iterator[str]:
    """Peers of these sockets on other machines."""
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            parts = line.split()
            peer = address_of(parts[2].partition(":")[0])
            if parts[9] in inodes and not stays(peer):
                yield f"{table} {peer}"


def address_of(hexadecimal: str) -> str:
    """The address in the form of the kernel's tables: words of four bytes, each turned round.

    >>> address_of("0100007F"), address_of("00000000000000000000000001000000")
    ('127.0.0.1', '::1')
    """
    words = [bytes.fromhex(hexadecimal[at : at + 8])[::-1] for at in range(0, len(hexadecimal), 8)]
    return str(ipaddress.ip_address(b"".join(words)))


def hooked(log: Path) -> list[tuple[str, str, str]]:
    """(event, host, process) of each thing that the hook saw."""
    return [tuple(json.loads(line)) for line in log.read_text().splitlines()]


@pytest.fixture
def hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts the hook into every Python process that is started from now on; where it writes."""
    (tmp_path / "sitecustomize.py").write_text(HOOK)
    log = tmp_path / "seen"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("EGRESS_LOG", str(log))
    return log


@pytest.mark.parametrize(
    "code",
    [
        "s = socket.socket(); s.settimeout(.01); s.connect_ex(('192.0.2.1', 80))",
        "s = socket.socket(type=socket.SOCK_DGRAM); s.sendto(b'', ('192.0.2.1', 53))",
        "socket.getaddrinfo('telemetry.example', 443)",
        "socket.gethostbyname('telemetry.example')",
    ],
)
def test_the_hook_sees_whatever_would_leave(hook: Path, code: str) -> None:
    program = f"import socket\ntry:\n    {code}\nexcept OSError:\n    pass\n"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert [host for _, host, _ in hooked(hook) if not stays(host)]


def test_a_cluster_that_starts_asks_nobody_where_it_is(hook: Path) -> None:
    program = (
        "import time\n"
        "from forecast_service import serving\n"
        "_, folder = serving.start_cluster()\n"
        "deadline = time.monotonic() + 30\n"
        "def said():\n"
        "    logs = folder.glob('session_2*/logs/dashboard*.log')\n"
        "    return any('Usage reporting is disabled' in log.read_text() for log in logs)\n"
        "while not said():\n"
        "    assert time.monotonic() < deadline\n"
        "    time.sleep(0.1)\n"
        "serving.stop_cluster(folder)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
    seen = hooked(hook)
    assert {(event, host) for event, host, _ in seen if not stays(host)} == set()
    assert any("UsageStatsHead" in process for _, _, process in seen)


@pytest.mark.soak
def test_a_whole_run_stays_on_this_machine(new_platform: Any, hook: Path) -> None:
    platform = new_platform()
    with Sampler(platform) as sampler:
        platform.start("--once")
        platform.wait_until_said("READY")
        assert platform.process.wait(60) == 0
    assert platform.wait_until_gone() == []

    seen = hooked(hook)
    assert {(event, host) for event, host, _ in seen if not stays(host)} == set()
    assert sampler.found == set()
    everybody = " ".join(sampler.processes)
    for part in ("serve gateway", "serve forecast", "prefect.server", "raylet", "gcs_server",
                 "ServeReplica", "calibrate", "market_data.replay"):  # fmt: skip
        assert part in everybody, f"{part} was not looked at"
    assert sampler.looks > 20
    programs = " ".join({process for _, _, process in seen})
    assert all(part in programs for part in ("serve gateway", "prefect.server", "calibrate"))


@pytest.mark.soak
def test_no_system_call_of_a_whole_run_goes_beyond_this_machine(new_platform: Any) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    platform = new_platform()
    trace = platform.folder / "trace"
    command = [strace, "-f", "-qq", "--seccomp-bpf", "-s", "200", "-o", trace,
               "-e", "trace=connect,sendto,sendmsg,sendmmsg"]  # fmt: skip

    done = subprocess.run(
        [*command, *platform.command("up", "--once", "--port", "0", "--archive",
                                     str(platform.archive))],
        cwd=platform.folder, env=platform.environment, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip

    assert "READY" in done.stdout, done.stdout + done.stderr
    called = trace.read_text(errors="replace")
    addresses = re.findall(r'inet_(?:addr|pton)\((?:AF_INET6, )?"([^"]+)"', called)
    assert len(addresses) > 50
    assert {address for address in addresses if not stays(address)} == set()
