"""How commands call a running gateway, and what they say when it does not answer."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from gateway.cli import exits

DEV_KEY = Path("var/dev.key")
DEFAULT_ADDRESS = "127.0.0.1:50051"
_TLS = "marketcal.tls"
_OWN_VARIABLES = {"MARKETCAL_ADDRESS", "MARKETCAL_KEY"}


def connection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--address``, ``--key`` and ``--tls/--insecure``."""
    for option in (
        click.option("--tls/--insecure", default=None, expose_value=False, callback=_remember,
                     help="With TLS, or in clear to another machine. By default in clear, to this "
                          "one alone."),
        click.option("--key", envvar="MARKETCAL_KEY", default=None,
                     help=f"API key; the one in {DEV_KEY} by default."),
        click.option("--address", envvar="MARKETCAL_ADDRESS", default=DEFAULT_ADDRESS,
                     show_default=True, help="Gateway to call."),
    ):  # fmt: skip
        command = option(command)
    return command


def _remember(context: click.Context, _: click.Parameter, tls: bool | None) -> None:
    """Keeps the choice for `connected`, so that commands need not hand it on."""
    context.meta[_TLS] = tls


@contextlib.contextmanager
def connected(address: str, key: str | None) -> Iterator[Any]:
    """A client; a refused call ends the program with one clear line.

    Raises:
        BadSetting: the key, or a variable with our prefix, is wrong, or the key would leave this
            machine in clear.
        Failed: the call was refused, or nobody answers.
    """
    _refuse_unknown_variables()
    used = key_of(key)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from marketcal import Client
    from marketcal.errors import MarketcalError

    tls = click.get_current_context().meta.get(_TLS)
    try:
        opened = Client(address, key=used, tls=tls is True, insecure=tls is False)
    except ValueError:
        raise exits.BadSetting(
            f"{address} is not on this machine, and keys must not travel in clear; say --tls, or "
            "--insecure where the network itself is trusted"
        ) from None
    try:
        with opened as client:
            yield client
    except MarketcalError as error:
        if error.code == "UNAVAILABLE" and error.reason is None:
            raise exits.Failed(
                f"no gateway answers at {address}; start one with `make run` "
                "or name another with --address"
            ) from None
        name = error.reason or error.code
        raise exits.Failed(f"{name}: {error.message} ({address})") from None


def key_of(given: str | None) -> str | None:
    """The key to send: the given one, else that of this folder, else none."""
    text = given
    if text is None and DEV_KEY.exists():
        try:
            text = DEV_KEY.read_text(encoding="ascii", errors="replace")
        except OSError as error:
            raise exits.Failed(f"{DEV_KEY} cannot be read: {error.strerror}") from None
    if text is None:
        return None
    text = text.strip()
    if not all("!" <= letter <= "~" for letter in text):
        raise exits.BadSetting("the API key is malformed: it is one word of plain letters")
    return text


def _refuse_unknown_variables() -> None:
    """The classes that know all settings are imported only where there is one to look up."""
    ours = {name for name in os.environ if name.upper().startswith("MARKETCAL_")}
    if not ours - _OWN_VARIABLES:
        return
    from gateway.settings import unknown_environment

    unknown = unknown_environment(os.environ)
    if unknown:
        raise exits.BadSetting(f"unknown setting in the environment: {', '.join(unknown)}")
