"""Settings and stores as commands open them: what is wrong with one ends the program in a line."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.cli import exits

if TYPE_CHECKING:
    from gateway.audit import Actor
    from gateway.keys import KeyStore
    from gateway.settings import Settings


def settings_of(overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Settings:
    """The settings of this process.

    Raises:
        BadSetting: one is unknown or wrong.
    """
    from gateway import settings

    try:
        return settings.load(overrides)
    except settings.SettingsError as error:
        raise exits.BadSetting(str(error)) from None


@contextlib.contextmanager
def control_store() -> Iterator[None]:
    """Turns what the control store refuses into one line.

    Raises:
        BadSetting: ``control.url`` is no URL, or its driver is not installed.
        Failed: the store does not answer.
    """
    from sqlalchemy import exc

    try:
        yield
    except ModuleNotFoundError as error:
        raise exits.BadSetting(
            f"setting control.url: the driver {error.name} is not installed"
        ) from None
    except exc.NoSuchModuleError as error:
        raise exits.BadSetting(f"setting control.url: {error}") from None
    except exc.ArgumentError:
        raise exits.BadSetting("setting control.url: this is no SQLAlchemy URL") from None
    except exc.DBAPIError as error:
        raise exits.Failed(f"the control store does not answer: {error.orig}") from None


def key_store() -> KeyStore:
    """The keys of this folder's control store; made where there is none.

    Raises:
        BadSetting, Failed: see `control_store`.
    """
    from gateway import wiring

    url, actor = settings_of().control.url, operator()
    with control_store():
        return wiring.open_keys(url, actor)


def operator() -> Actor:
    """Who runs this command: the user of this system that the process belongs to."""
    from gateway.audit import Actor

    number = os.getuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:
        name = f"user {number}"
    return Actor(name, "", "cli")


def is_there(url: str) -> bool:
    """Whether there can be a store: looking into it must not make a SQLite file.

    Raises:
        BadSetting: see `control_store`.
    """
    import sqlalchemy as sa

    with control_store():
        parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return True
    return Path(parsed.database).exists()
