"""A process whose children run a flow until they are killed; started by the tests.

It reads jobs as JSON from its standard input and forks once per job, so that the modules are
imported once. A job names the flow's settings and its instant, or for a backfill its first and last
day as ``days``, and either a point (``[stage, nth call of the progress callback for that stage]``)
at which the child sends itself SIGKILL, or the seconds after which the kernel ends it by SIGALRM.
For each job one line says by which signal the child ended (0: it ran to its end) and after how many
seconds.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from datetime import datetime
from typing import Any

from flows import backfill, daily
from flows.settings import FlowSettings


def run(job: dict[str, Any]) -> None:
    """Runs the flow of a job; does not return when the job's end is a kill."""
    calls: Counter[str] = Counter()

    def progress(stage: str, _done: int, _total: int | None) -> None:
        calls[stage] += 1
        if [stage, calls[stage]] == job.get("point"):
            os.kill(os.getpid(), signal.SIGKILL)

    if "seconds" in job:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, job["seconds"])
    settings = FlowSettings(**job["settings"])
    if "days" in job:
        backfill.backfill.fn(*job["days"], settings, progress)
    else:
        daily.daily.fn(datetime.fromisoformat(job["as_of"]), settings, progress)


def main() -> None:
    """Forks for each job and reports how the child ended."""
    for line in sys.stdin:
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            run(json.loads(line))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), time.monotonic() - began, flush=True)


if __name__ == "__main__":
    main()
