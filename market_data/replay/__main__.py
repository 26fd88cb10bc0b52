"""Write a simulated archive: ``python -m market_data.replay --out DIR --markets 600``."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from market_data.replay.archive import write_archive
from market_data.replay.simulate import SimulationConfig
from market_data.replay.simulate_records import simulate


def main(argv: list[str] | None = None) -> int:
    """Draw an archive and write it; returns an exit status."""
    defaults = SimulationConfig()
    parser = argparse.ArgumentParser(prog="python -m market_data.replay")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--markets", type=int, default=defaults.n_markets)
    parser.add_argument("--snapshots", type=int, default=defaults.snapshots_per_market)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--as-of", default=defaults.as_of.isoformat(), help="ISO time, UTC")
    options = parser.parse_args(argv)
    try:
        as_of = datetime.fromisoformat(options.as_of)
        config = SimulationConfig(
            seed=options.seed,
            n_markets=options.markets,
            snapshots_per_market=options.snapshots,
            as_of=as_of if as_of.tzinfo else as_of.replace(tzinfo=UTC),
        )
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    archive = simulate(config)
    write_archive(archive, options.out)
    print(f"{len(archive.markets)} markets, {len(archive.events)} events in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
