"""``marketcal evaluate``: how well models forecast, and whether one may replace the default."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from gateway.cli.loading import settings_of
from gateway.cli.output import output_option, table, write_rows
from gateway.cli.pipeline import AS_OF, PREFECT, carried_out, prepare_prefect, utc


def _names(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    """Names by commas."""
    return tuple(name.strip() for name in value.split(",") if name.strip())


@click.command()
@click.option("--models", "names", callback=_names, default="",
              help="Models, by commas; all that are served by default.")  # fmt: skip
@click.option("--champion", default="",
              help="Model in force, with which the others are compared; the default model by "
                   "default.")  # fmt: skip
@click.option("--recorded", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="Folder of recorded markets; the lake by default.")  # fmt: skip
@click.option("--gateway", default="", metavar="HOST:PORT",
              help="Gateway with live figures; without one nothing is promoted.")  # fmt: skip
@click.option("--key", envvar="MARKETCAL_KEY", help="API key for it.")
@AS_OF
@PREFECT
@output_option
def evaluate(
    names: tuple[str, ...], champion: str, recorded: Path | None, gateway: str, key: str | None,
    as_of: datetime | None, prefect_url: str, output: str,
) -> None:  # fmt: skip
    """Score models on held-back prices, and say whether one should be promoted."""
    prepare_prefect(prefect_url)
    chosen = settings_of()
    from pydantic import SecretStr

    from flows import evaluation_report
    from flows.evaluate import evaluate as flow
    from flows.evaluation_stages import Order
    from gateway.cli.calling import key_of

    used = key_of(key) if gateway else None
    order = Order(
        models=names, champion=champion, recorded=recorded, gateway=gateway,
        key=None if used is None else SecretStr(used),
    )  # fmt: skip
    run = carried_out(
        "evaluate", flow, prefect_url, order=order, as_of=utc(as_of), flow_settings=chosen.flows,
        forecast_settings=chosen.forecast,
    )  # fmt: skip
    folder = evaluation_report.folder_of(run)
    record = json.loads((folder / "report.json").read_text())
    write(record, output)
    click.echo(f"report {folder / 'report.html'}", err=output != "table")


def write(record: dict[str, Any], output: str) -> None:
    """Prints verdicts with their reasons and, for people, the scores they rest on."""
    decisions = record["decisions"]
    if output == "json":
        write_rows([{"candidate": name, **found} for name, found in decisions.items()], output)
        return
    click.echo(
        f"{record['windows']:,} windows of {record['events']:,} events from the "
        f"{record['source']}; intervals resample events"
    )
    click.echo(f"\n{table(score_rows(record))}\n")
    for name, found in decisions.items():
        click.echo(f"{found['verdict']}: {name} in place of {record['champion']}")
        for reason in found["reasons"]:
            click.echo(f"  {reason}")


def score_rows(record: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per model and split, over all families and steps, corrected bands."""
    families = {score["family"] for score in record["scores"]}
    overall = "all" if "all" in families else min(families)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for score in record["scores"]:
        if (score["band"], score["family"], score["steps"]) != ("conformal", overall, "all"):
            continue
        key = (score["split"], score["model"])
        row = rows.setdefault(key, {"split": key[0], "model": key[1]})
        if score["metric"] in ("pinball", "wis", "coverage_80", "coverage_95", "width_80"):
            low, high = score["low"], score["high"]
            row[score["metric"]] = f"{score['value']:.4f} ({low:.4f}–{high:.4f})"
    return list(rows.values())
