"""How far our labels agree with outcomes that somebody else recorded.

    python -m market_data.label_agreement FOLDER_OF_GAMMA_RECORDS docs/label_agreement.md

reads ``resolved_markets_johnstew.parquet`` and ``gamma_markets.parquet`` and writes figures alone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from market_data.errors import RecordRejected
from market_data.labels import build_labels
from market_data.registry import registry_frame, update_registry
from market_data.venues.polymarket.parse import parse_market
from market_data.venues.rows import MarketRow

RESOLVED = "resolved_markets_johnstew.parquet"
MARKETS = "gamma_markets.parquet"
_FINAL = ('["0", "1"]', '["1", "0"]')


def agreement(resolved: pl.DataFrame) -> pl.DataFrame:
    """Rows by (prices, reason, verdict) with their number.

    Args:
        resolved: raw_json text (reduced Gamma records of closed markets), outcome_prices text and
            resolved_outcome text.
    """
    records = [
        orjson.loads(text) | {"id": str(place), "closed": True}
        for place, text in enumerate(resolved["raw_json"])
    ]
    labels, _ = _labels(records)
    place = pl.col("market_id").str.split(":").list.last().cast(pl.UInt32).alias("place")
    joined = labels.select(place, "winner", "reason").join(
        resolved.with_row_index("place"), on="place"
    )
    is_same = pl.col("winner") == pl.col("resolved_outcome")
    verdict = (
        pl.when(pl.col("winner").is_null())
        .then(pl.lit("no label"))
        .when(is_same)
        .then(pl.lit("agrees"))
        .otherwise(pl.lit("differs"))
    )
    prices = (
        pl.when(pl.col("outcome_prices").is_null())
        .then(pl.lit("absent"))
        .when(pl.col("outcome_prices").is_in(_FINAL))
        .then(pl.lit("0 and 1"))
        .otherwise(pl.lit("between"))
    )
    return (
        joined.select(prices.alias("prices"), "reason", verdict.alias("verdict"))
        .group_by("prices", "reason", "verdict")
        .len("rows")
        .sort("prices", "reason", "verdict")
    )


def reasons(markets: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """(Markets by reason and label, rejected records) of whole Gamma records in ``raw_json``."""
    labels, rejected = _labels([orjson.loads(text) for text in markets["raw_json"]])
    counted = labels.group_by("reason", "label").len("markets").sort("reason", "label")
    return counted, rejected


def share_agreeing(table: pl.DataFrame) -> float:
    """Share of rows with final 0/1 prices on which the label agrees, in [0, 1]."""
    final = table.filter(pl.col("prices") == "0 and 1")
    agreeing = final.filter(pl.col("verdict") == "agrees")["rows"].sum()
    return float(agreeing) / float(final["rows"].sum())


def render(folder: Path) -> str:
    """The whole document."""
    table = agreement(pl.read_parquet(folder / RESOLVED))
    markets = pl.read_parquet(folder / MARKETS)
    counted, rejected = reasons(markets)
    return "\n".join(
        [
            "# Labels against recorded outcomes",
            "",
            "Written by `python -m market_data.label_agreement`; a test writes it again.",
            "Figures only: the recorded data is not part of this repository.",
            "",
            "## Reduced Gamma records with an outcome computed by another project",
            "",
            f"{int(table['rows'].sum())} rows. On rows whose final prices are 0 and 1 the winner "
            f"agrees on {share_agreeing(table):.4%}. The other rows get no label from us: their "
            "prices are absent or interior, which is no final state.",
            "",
            *_markdown(table),
            "",
            "## Whole Gamma records, by the rule that decided",
            "",
            f"{markets.height} records, {rejected} rejected; a market recorded several times "
            "counts once, by its newest record.",
            "",
            *_markdown(counted),
            "",
        ]
    )


def main(argv: Sequence[str]) -> int:
    """Write the document; returns an exit status."""
    if len(argv) != 2:
        print("usage: python -m market_data.label_agreement FOLDER DOCUMENT", file=sys.stderr)
        return 2
    Path(argv[1]).write_text(render(Path(argv[0])))
    return 0


def _labels(records: Sequence[Any]) -> tuple[pl.DataFrame, int]:
    rows: list[MarketRow] = []
    for record in records:
        try:
            rows.append(parse_market(record))
        except RecordRejected:
            continue
    epoch = datetime.fromtimestamp(0, tz=UTC)
    incoming = registry_frame(rows, [""] * len(rows), epoch)
    registry = update_registry(incoming.clear(), incoming).rows
    return build_labels(registry), len(records) - len(rows)


def _markdown(table: pl.DataFrame) -> list[str]:
    head = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * table.width]
    return head + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in table.iter_rows()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
