"""Settings of every process that the platform starts.

Sources, strongest first: ``MARKETCAL_<SECTION>__<FIELD>`` in the environment,
``marketcal.toml`` in the working directory, the defaults below. A key that nothing reads is an
error. ``marketcal config show`` prints each value with its source.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import SettingsConfigDict

from flows.settings import FileAndEnvironment, FlowSettings
from flows.stream_settings import StreamSettings
from forecast_service.models.catalog import served
from forecast_service.policy.routing import Router
from forecast_service.settings import ForecastSettings
from forecast_service.telemetry.settings import TelemetrySettings
from gateway.identity_settings import IdentitySettings
from gateway.placeholder_passwords import has_placeholder_password
from gateway.server_settings import GatewaySettings, UpstreamSettings, is_loopback

PREFIX = "MARKETCAL_"
CLIENT_VARIABLES = frozenset({"MARKETCAL_ADDRESS", "MARKETCAL_KEY"})
"""Variables of the command line's client commands; no setting of a server."""
FILE = "marketcal.toml"
_AUTHORITY = re.compile(r"([^/?#]*)(.*)", re.DOTALL)
_TOKEN = re.compile(r"[^/?#]{16,}")
"""A part of a path that is too long to be a word."""


class SettingsError(Exception):
    """A setting is unknown or wrong; the message names it and its source."""


class ControlSettings(BaseModel):
    """Section ``control``: the control store."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field("sqlite:///var/control.db", description="SQLAlchemy URL of the store.")
    last_used_seconds: float = Field(
        5.0, gt=0, description="How often it is written down which keys were used."
    )


class Settings(FileAndEnvironment):
    """All sections."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    gateway: GatewaySettings = GatewaySettings()
    upstream: UpstreamSettings = UpstreamSettings()
    identity: IdentitySettings = IdentitySettings()
    control: ControlSettings = ControlSettings()
    forecast: ForecastSettings = ForecastSettings()
    flows: FlowSettings = FlowSettings()
    stream: StreamSettings = StreamSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @model_validator(mode="after")
    def _forecasts_can_be_made(self) -> Self:
        """What the section cannot check by itself: the models are not its to know."""
        forecast = self.forecast
        Router(forecast.policy, forecast.default_model, served(forecast))
        if forecast.min_replicas > forecast.max_replicas:
            raise ValueError(
                f"forecast.min_replicas: {forecast.min_replicas} is above "
                f"forecast.max_replicas, {forecast.max_replicas}"
            )
        return self

    @model_validator(mode="after")
    def _certificates_are_asked_for(self) -> Self:
        if self.identity.certificate_roles and self.gateway.tls_client_ca is None:
            raise ValueError("identity.certificate_roles: needs gateway.tls_client_ca")
        return self

    @model_validator(mode="after")
    def _passwords_are_chosen(self) -> Self:
        """Of every setting that is a URL; the message does not hold the password."""
        for path, _ in fields():
            value: Any = self
            for name in path:
                value = getattr(value, name)
            if isinstance(value, str) and "://" in value and has_placeholder_password(value):
                raise ValueError(f"{'.'.join(path)}: its password is one that nobody chose")
        return self


def load(overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Settings:
    """Reads the settings; ``overrides`` are values from the command line by section and field.

    Raises:
        SettingsError: a key is unknown, a value is wrong, or the file cannot be read.
    """
    unknown = unknown_environment(os.environ)
    if unknown:
        raise SettingsError(f"unknown setting in the environment: {', '.join(unknown)}")
    given: Any = {section: dict(fields) for section, fields in (overrides or {}).items()}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        said = first["msg"].removeprefix("Value error, ")
        raise SettingsError(
            "setting " + ": ".join(filter(None, [".".join(map(str, first["loc"])), said]))
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"{FILE} cannot be read: {error}") from error
    gateway = settings.gateway
    if gateway.plaintext and not (gateway.allow_plaintext or is_loopback(gateway.host)):
        raise SettingsError(
            f"setting gateway.host: {gateway.host} is beyond loopback, and the gateway speaks "
            "plaintext, keys included; give gateway.tls_certificate and gateway.tls_key, or, where "
            "something else encrypts, set gateway.allow_plaintext = true "
            "(MARKETCAL_GATEWAY__ALLOW_PLAINTEXT=true)"
        )
    return settings


def unknown_environment(environment: Mapping[str, str]) -> list[str]:
    """Variables with our prefix that no field reads."""
    known = {variable_of(path) for path, _ in fields()}
    known |= CLIENT_VARIABLES
    return sorted(
        name
        for name in environment
        if name.upper().startswith(PREFIX) and name.upper() not in known
    )


def describe(settings: Settings) -> list[tuple[str, str, str, str]]:
    """(key, value, source, meaning) of every setting, without the secrets in URLs."""
    in_file = _read_file(Path(FILE))
    in_environment = {name.upper() for name in os.environ}
    rows = []
    for path, info in fields():
        value: Any = settings
        written: Any = in_file
        for name in path:
            value = getattr(value, name)
            written = written.get(name, {}) if isinstance(written, dict) else {}
        if variable_of(path) in in_environment:
            source = "environment"
        elif written != {}:
            source = FILE
        else:
            source = "default" if value == info.default else "command line"
        shown = without_secrets(str(value))
        rows.append((".".join(path), shown, source, info.description or ""))
    return rows


def without_secrets(value: str) -> str:
    """A value to print: URLs without who calls, keys in paths and queries.

    Of an HTTP URL with any of them scheme and host alone are left.

    >>> without_secrets("postgresql://marketcal:geheim@db:5432/control")
    'postgresql://***@db:5432/control'
    >>> without_secrets("https://gateway.thegraph.com/api/0123456789abcdef0123456789abcdef/x")
    'https://gateway.thegraph.com/…'
    >>> without_secrets("sqlite:///var/control.db"), without_secrets("https://clob.polymarket.com")
    ('sqlite:///var/control.db', 'https://clob.polymarket.com')
    """
    scheme, separator, rest = value.partition("://")
    if not separator:
        return value
    if scheme in ("http", "https"):
        authority, path = _AUTHORITY.fullmatch(rest).groups()  # type: ignore[union-attr]
        if "@" in path:  # perhaps a password with a slash in it
            return f"{scheme}://…"
        if "@" in authority or "?" in path or _TOKEN.search(path):
            return f"{scheme}://{authority.rpartition('@')[2]}/…"
        return value
    _, at, place = rest.rpartition("@")
    place, question, _ = place.partition("?")
    return f"{scheme}://{'***@' if at else ''}{place}{'?…' if question else ''}"


def fields(
    of: type[BaseModel] = Settings, above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Every setting by its path, those of sections within sections included."""
    for name, info in of.model_fields.items():
        kind, path = info.annotation, (*above, name)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from fields(kind, path)
        else:
            yield path, info


def variable_of(path: tuple[str, ...]) -> str:
    """Environment variable of a setting.

    >>> variable_of(("gateway", "port"))
    'MARKETCAL_GATEWAY__PORT'
    """
    return f"{PREFIX}{'__'.join(path)}".upper()


def _read_file(path: Path) -> dict[str, dict[str, Any]]:
    return tomllib.loads(path.read_text()) if path.exists() else {}
