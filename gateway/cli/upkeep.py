"""``marketcal backfill|refit|postmortems|retention``: what is done beside the daily run."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import click

from gateway.cli.loading import settings_of
from gateway.cli.output import output_option, write_rows
from gateway.cli.pipeline import AS_OF, PREFECT, carried_out, prepare_prefect, utc

DAY = click.DateTime(["%Y-%m-%d"])


@click.command()
@click.argument("first_day", type=DAY)
@click.argument("last_day", type=DAY)
@click.option("--ingest", "with_ingestion", is_flag=True, help="Ask the venues first.")
@click.option("--only-failed", is_flag=True,
              help="Leave days alone whose run succeeded.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would run and why; write nothing.")
@PREFECT
@output_option
def backfill(
    first_day: datetime, last_day: datetime, with_ingestion: bool, only_failed: bool,
    dry_run: bool, prefect_url: str, output: str,
) -> None:  # fmt: skip
    """Score each day from FIRST_DAY to LAST_DAY as of its end, such as 2026-09-01 2026-09-05."""
    prepare_prefect(prefect_url)
    chosen = settings_of()
    from flows import artifacts
    from flows.backfill import backfill as flow

    run = carried_out(
        "backfill", flow, prefect_url, first_day=_day(first_day), last_day=_day(last_day),
        flow_settings=chosen.flows, with_ingestion=with_ingestion, only_failed=only_failed,
        dry_run=dry_run,
    )  # fmt: skip
    write_rows(artifacts.stage_table(run), output)


@click.command()
@AS_OF
@PREFECT
@output_option
def refit(as_of: datetime | None, prefect_url: str, output: str) -> None:
    """Fit recalibration and the correction of bands anew, due or not.

    The scoreboard of the next `marketcal calibrate` or daily run serves what comes of it.
    """
    prepare_prefect(prefect_url)
    chosen = settings_of()
    from flows import artifacts
    from flows.refit import refit as flow

    run = carried_out(
        "refit", flow, prefect_url, as_of=utc(as_of), flow_settings=chosen.flows,
        forecast_settings=chosen.forecast,
    )  # fmt: skip
    write_rows(artifacts.stage_table(run), output)


@click.command()
@AS_OF
@PREFECT
@output_option
def retention(as_of: datetime | None, prefect_url: str, output: str) -> None:
    """Remove what the settings `flows.retention` let go, and tidy every table."""
    prepare_prefect(prefect_url)
    chosen = settings_of()
    from flows import artifacts
    from flows.retention import retention as flow

    run = carried_out("retention", flow, prefect_url, as_of=utc(as_of), flow_settings=chosen.flows)
    write_rows(artifacts.stage_table(run), output)


@click.command()
@AS_OF
@click.option(
    "--days",
    type=click.IntRange(min=1),
    help="Markets resolved in so many days; the longest window of the scores by default.",
)
@click.option(
    "--export-to",
    type=click.Path(file_okay=False, path_type=Path),
    help="Also write each as files into this folder.",
)
@PREFECT
@output_option
def postmortems(
    as_of: datetime | None, days: int | None, export_to: Path | None, prefect_url: str, output: str
) -> None:  # fmt: skip
    """Make the post-mortems of resolved markets that are missing or outdated."""
    prepare_prefect(prefect_url)
    chosen = settings_of()
    from flows import artifacts
    from flows.postmortem import postmortem as flow

    run = carried_out(
        "postmortem", flow, prefect_url, as_of=utc(as_of), flow_settings=chosen.flows,
        export_to=export_to, days=days,
    )  # fmt: skip
    write_rows(artifacts.stage_table(run), output)


@click.command("alert-quality")
@AS_OF
@click.option(
    "--days",
    type=click.IntRange(1, 366),
    default=7,
    show_default=True,
    help="Days that are looked back on.",
)
@click.option(
    "--policy",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Thresholds to try on the recorded bars; by default the alerts as raised.",
)
@PREFECT
@output_option
def alert_quality(
    as_of: datetime | None, days: int, policy: Path | None, prefect_url: str, output: str
) -> None:
    """Show how often alerts come, and how often prices go on or come back after them."""
    prepare_prefect(prefect_url)
    chosen = settings_of()
    import polars as pl

    from flows.alert_quality import alert_quality as flow
    from market_data.lake import Lake

    run = carried_out(
        "alert-quality", flow, prefect_url, as_of=utc(as_of), flow_settings=chosen.flows,
        days=days, policy_file=policy, steps=chosen.stream.forecast_steps,
        stream_policy=Path(chosen.stream.policy_file) if chosen.stream.policy_file else None,
    )  # fmt: skip
    rows = Lake(chosen.flows.lake).read("alert_quality", pl.col("run_id") == run.run_id)
    shown = rows.drop("run_id", "as_of", "schema_version", "policy_version")
    write_rows(shown.to_dicts(), output)


def _day(moment: datetime) -> date:
    return moment.date()
