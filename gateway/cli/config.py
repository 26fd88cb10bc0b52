"""``marketcal config``: the settings and where they come from."""

from __future__ import annotations

import click

from gateway.cli.loading import settings_of
from gateway.cli.output import output_option, write_rows


@click.group()
def config() -> None:
    """Show the settings and where they come from."""


@config.command()
@output_option
def show(output: str) -> None:
    """Print every setting with its value, source and meaning."""
    loaded = settings_of()
    from gateway import settings

    rows = [
        {"key": key, "value": value, "source": source, "meaning": meaning}
        for key, value, source, meaning in settings.describe(loaded)
    ]
    write_rows(rows, output)
