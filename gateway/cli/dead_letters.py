"""``marketcal dead-letters``: records that were rejected, and reading them again."""

from __future__ import annotations

import click

from gateway.cli.loading import settings_of
from gateway.cli.output import output_option, write_rows
from gateway.cli.pipeline import PREFECT, carried_out, prepare_prefect

_SOURCE = click.option("--source", default="",
                       help="Of one source, such as polymarket/gamma/markets.")  # fmt: skip
_REASON = click.option("--reason", default="", help="Of one reason.")


@click.group(name="dead-letters")
def dead_letters() -> None:
    """List rejected records, and read them again.

    A letter whose request failed needs nothing: the next ingestion asks again.
    """


@dead_letters.command(name="list")
@_SOURCE
@_REASON
@output_option
def list_letters(source: str, reason: str, output: str) -> None:
    """Count letters by source and reason."""
    prepare_prefect("")
    chosen = settings_of()
    from flows.dead_letters import listed
    from market_data.lake import Lake

    write_rows(listed(Lake(chosen.flows.lake), source=source, reason=reason), output)


@dead_letters.command()
@_SOURCE
@_REASON
@PREFECT
@output_option
def replay(source: str, reason: str, prefect_url: str, output: str) -> None:
    """Read open letters with today's parsers; what can be read becomes rows."""
    prepare_prefect(prefect_url)
    chosen = settings_of()
    from flows import artifacts
    from flows.dead_letters import replay as flow

    run = carried_out(
        "replay", flow, prefect_url, source=source, reason=reason, flow_settings=chosen.flows
    )
    write_rows(artifacts.stage_table(run), output)
