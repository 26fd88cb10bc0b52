"""Child processes of a benchmark: started, measured through /proc, ended by their id."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_START_SECONDS, _END_SECONDS = 90.0, 30.0


@dataclass(frozen=True, slots=True)
class Serving:
    """A server in a process of its own.

    Attributes:
        pid: its process; address: where it listens; key: what a caller shows, may be empty.
    """

    pid: int
    address: str
    key: str


@contextmanager
def serving(kind: str, folder: Path, *arguments: str) -> Iterator[Serving]:
    """Runs ``benchmarks.servers kind`` while the body runs.

    Raises:
        RuntimeError: it ended, or did not serve within 90 s; the message holds the end of its log.
    """
    log = folder / f"server-{kind}.log"
    command = [sys.executable, "-m", "benchmarks.servers", kind, str(folder), *arguments]
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    assert process.stdin is not None
    assert process.stdout is not None
    too_late = threading.Timer(_START_SECONDS, process.kill)
    too_late.start()
    try:
        for line in process.stdout:  # whatever a library prints comes before
            if line.startswith("{"):
                facts = json.loads(line)
                break
        else:
            raise RuntimeError(f"the server '{kind}' did not start: {log.read_text()[-2000:]}")
        too_late.cancel()
        yield Serving(process.pid, facts["address"], facts["key"])
    finally:
        too_late.cancel()
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdin.close()
        process.stdout.close()


def answer_of(module: str, arguments: Sequence[str], *, timeout: float = 600.0) -> Any:
    """The JSON on the last line of what a module prints, run in a process of its own.

    Raises:
        RuntimeError: it failed; the message holds the end of its log.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{module} failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time of processes so far; one that is gone counts nothing."""
    return sum(int(stat[11]) + int(stat[12]) for stat in map(_stat, pids) if stat) / _TICK


def rss_mib(pid: int) -> float:
    """Resident memory of a process in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 2**20


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))):
            children.setdefault(int(stat[1]), []).append(int(entry.name))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the third on; none when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
