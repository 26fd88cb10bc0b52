"""Exit codes, one class each; `marketcal --help` prints this table.

====  =================================================================
code  meaning
====  =================================================================
0     done
1     the call was refused, or a part failed; the message says why
2     the command line or a setting is wrong
3     the port is taken
4     marketcal already runs in this folder
5     a run found no data, or failed
130   interrupted
====  =================================================================
"""

from __future__ import annotations

import click


class Failed(click.ClickException):
    """The call was refused, or a part failed."""

    exit_code = 1


class BadSetting(click.ClickException):
    """A setting is wrong."""

    exit_code = 2


class PortTaken(click.ClickException):
    """The port is taken."""

    exit_code = 3


class AlreadyRunning(click.ClickException):
    """Another supervisor runs in this folder."""

    exit_code = 4


class RunFailed(click.ClickException):
    """A run found no data, or failed."""

    exit_code = 5
