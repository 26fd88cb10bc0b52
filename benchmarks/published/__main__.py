"""``python -m benchmarks.published --data DIR``: prints both tables, or writes the document."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.published.numbers import ACCURACY, Comparison, comparisons
from benchmarks.published.pictures import reliability_pictures
from benchmarks.published.real_markets import Horizon, horizons

DOCUMENT, PICTURE = "published_numbers.md", "pictures/real_markets.png"
FEW_GROUPS = 20
_HEAD = """# Published numbers, and real markets by horizon

Made by `python -m benchmarks.published --data ../shared/data/dev --write docs`, on recorded data
that are not part of this repository.

## What others published, and the same from our scores

Intervals are 95 % over groups of related markets: a title (Kalshi), one announced end in a
category (a day before), one day of closing (politics). Where only a part of the authors' rows is
at hand, the interval has to contain their figure; where all are, the figures have to be equal.
The groups matter: if only questions that differ in nothing but numbers hung together, dozens of
candidates for one award would count as independent, and the interval for Sports, 0.190–0.227,
would miss 0.2361.

| source | price | score | published (n) | ours | n | groups | 95 % | |
|---|---|---|---|---|---|---|---|---|
"""
_MARKETS = """
## Real markets by horizon

Daily prices of Polymarket with official resolutions (data sourced from Polymarket via Pancake,
usepancake.com, CC BY 4.0; recorded 2022-11 to 2026-06).
{rows}
Recalibration is fitted on the 60 % that resolved first and judged on the rest, a day apart.

{columns}"""
_COLUMNS = (
    "days before", "markets", "events", "Brier (95 %)", "log loss (95 %)", "ECE", "corrected",
    "if calibrated, up to", "slope (95 %)", "intercept (95 %)",
)  # fmt: skip
_RECALIBRATED = (
    "days before", "chosen map", "promoted", "Brier difference in validation (95 %)", "served",
    "later markets: served less raw (95 %)",
)  # fmt: skip
_END = """
![reliability]({picture})

{reading}
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Prints or writes the tables; returns an exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.published", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the recorded data")
    parser.add_argument("--write", type=Path, help="folder of the documents")
    options = parser.parse_args(argv)
    if not options.data.is_dir():
        print(f"--data: there is no folder {options.data}", file=sys.stderr)
        return 2
    found, by_horizon = comparisons(options.data), horizons(options.data)
    text = document(found, by_horizon)
    if options.write is None:
        print(text)
        return 0
    (options.write / PICTURE).parent.mkdir(parents=True, exist_ok=True)
    (options.write / PICTURE).write_bytes(reliability_pictures(by_horizon))
    (options.write / DOCUMENT).write_text(text)
    print(f"{options.write / DOCUMENT} and {options.write / PICTURE} are written")
    return 0


def document(found: Sequence[Comparison], by_horizon: Sequence[Horizon]) -> str:
    """Both tables as Markdown."""
    rows = (
        f"{by_horizon[0].scores['sample_size']:,} markets of "
        f"{by_horizon[0].scores['event_count']:,} events have a price a day before their end."
    )
    return "".join(
        [
            _HEAD,
            *map(_compared, found),
            _MARKETS.format(rows=rows, columns=_header(_COLUMNS)),
            *map(_scored, by_horizon),
            "\n" + _header(_RECALIBRATED),
            *map(_recalibrated, by_horizon),
            _END.format(picture=PICTURE, reading=reading(by_horizon)),
        ]
    )


def reading(by_horizon: Sequence[Horizon]) -> str:
    """What the figures say, in sentences that follow from them."""
    extreme = [h.days for h in by_horizon if h.scores["slope_hi"] < 1.0]
    off = [h.days for h in by_horizon if h.scores["ece"] > h.scores["ece_null_hi"]]
    promoted = [h.days for h in by_horizon if h.recalibration["promoted"]]
    said = [
        f"Slopes whose whole interval lies below 1, so prices are too extreme: {_days(extreme)}.",
        f"Calibration errors beyond what a calibrated source shows: {_days(off)}.",
        f"Recalibration is promoted at: {_days(promoted)}.",
    ]
    kept = [h for h in by_horizon if not h.recalibration["promoted"]]
    if kept:
        most = max(-h.recalibration["difference_lo"] for h in kept)
        said.append(
            "Where none is promoted no improvement was shown, which is not that there is none: "
            f"gains of the Brier score up to {most:.4f} lie inside these intervals."
        )
    return "\n".join(said)


def _header(columns: Sequence[str]) -> str:
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"


def _days(days: Sequence[int]) -> str:
    return ", ".join(f"{d} day{'s' if d > 1 else ''}" for d in days) if days else "none"


def _compared(row: Comparison) -> str:
    digits = 6 if row.is_whole else 4
    verdict = "equal" if row.is_whole and round(row.ours, 6) == row.published else (
        "contained" if row.agrees else "**not contained**"
    )  # fmt: skip
    if row.groups < FEW_GROUPS:
        verdict += ", but says little: few groups"
    shown = f"{row.published:.2f}" if row.metric == ACCURACY else f"{row.published}"
    interval = f"{row.lo:.4f}–{row.hi:.4f}"
    return (
        f"| {row.source} | {row.what} | {row.metric} | {shown} ({row.published_n:,}) | "
        f"{row.ours:.{digits}f} | {row.n:,} | {row.groups} | {interval} | {verdict} |\n"
    )


def _scored(row: Horizon) -> str:
    s = row.scores
    ranges = {
        name: f"{s[name]:.{d}f} ({s[f'{name}_lo']:.{d}f}–{s[f'{name}_hi']:.{d}f})"
        for name, d in (("brier", 4), ("log_loss", 3), ("slope", 2), ("intercept", 2))
    }
    return (
        f"| {row.days} | {s['sample_size']:,} | {s['event_count']:,} | {ranges['brier']} | "
        f"{ranges['log_loss']} | {s['ece']:.4f} | {s['ece_bias_corrected']:.4f} | "
        f"{s['ece_null_hi']:.4f} | {ranges['slope']} | {ranges['intercept']} |\n"
    )


def _recalibrated(row: Horizon) -> str:
    r, (value, lo, hi) = row.recalibration, row.difference
    served = "the price" if r["served"] == "price" else r["method"]
    later = "the same" if r["served"] == "price" else f"{value:+.4f} ({lo:+.4f} to {hi:+.4f})"
    return (
        f"| {row.days} | {r['method']} | {'yes' if r['promoted'] else 'no'} | "
        f"{r['difference']:+.4f} ({r['difference_lo']:+.4f} to {r['difference_hi']:+.4f}) | "
        f"{served} | {later} |\n"
    )


if __name__ == "__main__":
    sys.exit(main())
