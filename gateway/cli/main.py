"""The command line. Commands are imported when they are called, so that ``--help`` is instant."""

from __future__ import annotations

import importlib

import click

from gateway.cli import exits

_COMMANDS = {
    "up": ("gateway.cli.up", "up", "Start everything on this machine and serve."),
    "serve": ("gateway.cli.roles", "serve", "Run one part as a process of its own."),
    "stream": (
        "gateway.cli.stream",
        "stream",
        "Follow venues live: bars, triggers and alerts.",
    ),
    "replay": (
        "gateway.cli.replay",
        "replay",
        "Play a recorded stream through bars and alerts.",
    ),
    "ingest": ("gateway.cli.pipeline", "ingest", "Read a venue into the lake."),
    "calibrate": (
        "gateway.cli.pipeline",
        "calibrate",
        "Score the lake, publish the scoreboard.",
    ),
    "conformal": (
        "gateway.cli.pipeline",
        "conformal",
        "Correct bands by what happened.",
    ),
    "refit": ("gateway.cli.upkeep", "refit", "Fit recalibration and bands anew."),
    "recalibration": (
        "gateway.cli.recalibration",
        "recalibration",
        "List fits, choose one, go back.",
    ),
    "backfill": ("gateway.cli.upkeep", "backfill", "Score days of the past."),
    "postmortems": ("gateway.cli.upkeep", "postmortems", "Look back on resolved markets."),
    "alert-quality": (
        "gateway.cli.upkeep",
        "alert_quality",
        "How often alerts come, and what comes of them.",
    ),
    "retention": ("gateway.cli.upkeep", "retention", "Remove what is old, tidy the lake."),
    "dead-letters": (
        "gateway.cli.dead_letters",
        "dead_letters",
        "List rejected records, try them again.",
    ),
    "evaluate": (
        "gateway.cli.evaluation",
        "evaluate",
        "Score models, decide on promotion.",
    ),
    "forecast": ("gateway.cli.queries", "forecast", "Forecast a market's price."),
    "compare": ("gateway.cli.models", "compare", "Forecast a market with several models."),
    "models": ("gateway.cli.models", "models", "List the models, or show one."),
    "scores": ("gateway.cli.queries", "scores", "List markets with their trust and scores."),
    "trust": ("gateway.cli.queries", "trust", "Explain a market's trust."),
    "markets": ("gateway.cli.queries", "markets", "List markets."),
    "alerts": (
        "gateway.cli.alerts",
        "alerts",
        "List alerts, follow new ones, acknowledge one.",
    ),
    "postmortem": (
        "gateway.cli.postmortem",
        "postmortem",
        "Show what happened in a resolved market.",
    ),
    "keys": ("gateway.cli.keys", "keys", "Make, list, rotate and revoke API keys."),
    "audit": ("gateway.cli.audit", "audit", "List who changed what, when and from where."),
    "config": ("gateway.cli.config", "config", "Show the settings and where they come from."),
    "doctor": ("gateway.cli.doctor", "doctor", "Check this machine and this folder."),
}
_CODES = (exits.__doc__ or "").split("\n", 2)[2]


class _Lazy(click.Group):
    """Imports a command when it is used; its line in ``--help`` stands in the table above."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in _COMMANDS.items()])

    def format_epilog(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit codes"):
            rows = [line.split(None, 1) for line in _CODES.splitlines() if line[:1].isdigit()]
            formatter.write_dl([(code, meaning) for code, meaning in rows])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="marketcal-platform", prog_name="marketcal")
def main() -> None:
    """How far can a prediction market's price be trusted, and where may it go next?"""


if __name__ == "__main__":
    main(prog_name="marketcal")
