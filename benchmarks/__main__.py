"""``python -m benchmarks``: measures, prints a table and writes JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import (
    calibration,
    daily_flow,
    front_door,
    gateway_forecast,
    lake_scale,
    live_path,
    models,
    reads,
    stream,
)
from benchmarks.figures import FULL, QUICK, Figure, as_record, surroundings, table

SUITES = {
    module.SUITE: module.run
    for module in (
        front_door,
        gateway_forecast,
        models,
        calibration,
        daily_flow,
        lake_scale,
        reads,
        stream,
        live_path,
    )
}
RESULTS = Path(__file__).parent / "results" / "latest.json"
BUSY = 0.5
"""Load average per core above which a machine is not quiet."""


def main(argv: list[str] | None = None) -> int:
    """Runs the chosen suites; returns an exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, shorter loads")
    parser.add_argument("--only", choices=SUITES, action="append", help="this suite; repeatable")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="PATH", help="results file")
    options = parser.parse_args(argv)
    around = surroundings()
    if os.getloadavg()[0] > BUSY * around["cores"]:
        load = around["load_average"]
        print(f"busy machine (load {load}): it can do better than these figures", file=sys.stderr)
    figures: list[Figure] = []
    for name in options.only or SUITES:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            found = SUITES[name](QUICK if options.quick else FULL, Path(folder))
        figures += found
        print(f"{table(found)}\n  ({time.monotonic() - began:.0f} s)\n", flush=True)
    record = {
        "scale": "quick" if options.quick else "full",
        "surroundings": around,
        "load_average_at_the_end": [round(load, 2) for load in os.getloadavg()],
        "figures": [as_record(figure) for figure in figures],
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(figures)} figures in {options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
