"""``marketcal doctor``: what this machine and this folder lack."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import click

from gateway.cli import exits
from gateway.cli.loading import settings_of
from gateway.cli.output import output_option, write_rows

_LEAST_DISK_BYTES = 2 << 30
_LEAST_MEMORY_BYTES = 3 << 30


@click.command()
@output_option
def doctor(output: str) -> None:
    """Check this machine and this folder; ends with 1 when something is missing."""
    rows = [_checked(name, check) for name, check in _CHECKS.items()]
    write_rows(rows, output)
    missing = [str(row["check"]) for row in rows if not row["good"]]
    if missing:
        raise exits.Failed(f"not as it should be: {', '.join(missing)}")


def _checked(name: str, check: Callable[[], str]) -> dict[str, object]:
    try:
        return {"check": name, "good": True, "found": check()}
    except (OSError, RuntimeError, ImportError, ValueError, exits.BadSetting) as error:
        return {"check": name, "good": False, "found": str(error)}


def _python() -> str:
    return sys.version.split()[0]


def _platform() -> str:
    import platform

    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise RuntimeError(f"{platform.system()} {platform.machine()}; Linux x86_64 is locked")
    return f"{platform.system()} {platform.machine()}"


def _packages() -> str:
    for name in ("ray.serve", "prefect.server.api.server", "deltalake", "grpc", "polars"):
        import_module(name)
    return "Ray Serve, Prefect server, Delta, gRPC and polars import"


def _memory() -> str:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if total < _LEAST_MEMORY_BYTES:
        raise RuntimeError(f"{total >> 20} MiB; 3 GiB are needed")
    return f"{total >> 20} MiB, {os.cpu_count()} cores"


def _folder() -> str:
    Path("var").mkdir(exist_ok=True)
    free = shutil.disk_usage("var").free
    if free < _LEAST_DISK_BYTES:
        raise RuntimeError(f"{free >> 20} MiB free below var/; 2 GiB are needed")
    return f"var/ is writable, {free >> 20} MiB free"


def _settings() -> str:
    loaded = settings_of()
    from gateway import settings

    return f"{len(settings.describe(loaded))} settings are good"


def _port() -> str:
    from gateway.supervisor.ports import is_free

    gateway = settings_of().gateway
    if not is_free(gateway.host, gateway.port):
        return f"{gateway.host}:{gateway.port} is taken, perhaps by a running gateway"
    return f"{gateway.host}:{gateway.port} is free"


_CHECKS: dict[str, Callable[[], str]] = {
    "python": _python,
    "platform": _platform,
    "packages": _packages,
    "memory": _memory,
    "folder": _folder,
    "settings": _settings,
    "port": _port,
}
