"""TLS of the server: certificates that are read again when their files change.

A certificate is renewed while the gateway runs. Each new connection looks whether the files have
changed, and is served with what they hold now; a pair that does not fit together is named in the
log, and the one before goes on being served.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from pathlib import Path

import grpc

from gateway.server_settings import GatewaySettings

_LOG = logging.getLogger("gateway.tls")

Stamp = tuple[tuple[int, int, int], ...]


class TlsError(Exception):
    """Certificate, key or roots cannot be used; the message names the setting."""


class Certificates:
    """The files of the settings, as gRPC takes them.

    Args:
        settings: names ``tls_certificate``, ``tls_key`` and perhaps ``tls_client_ca``.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        assert settings.tls_certificate is not None
        assert settings.tls_key is not None
        self._certificate = settings.tls_certificate
        self._key = settings.tls_key
        self._roots = settings.tls_client_ca
        self._served: Stamp = ()
        self._refused: Stamp = ()

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that follow the files.

        Raises:
            TlsError: the files cannot be used now, at the start.
        """
        self._served = self._stamp()
        return grpc.dynamic_ssl_server_credentials(
            self._read(), self._changed, require_client_authentication=self._roots is not None
        )

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """What the files hold where they have changed; None leaves what is served."""
        try:
            stamp = self._stamp()
            if stamp in (self._served, self._refused):
                return None
            configuration = self._read()
        except TlsError as error:
            _LOG.error("the certificate before goes on being served: %s", error)
            return None
        self._served = stamp
        _LOG.info("serving the certificate that %s holds now", self._certificate.name)
        return configuration

    def _stamp(self) -> Stamp:
        files = (self._certificate, self._key, *filter(None, [self._roots]))
        try:
            found = [file.stat() for file in files]
        except OSError as error:
            raise TlsError(f"gateway.tls_certificate: {error}") from None
        return tuple((file.st_mtime_ns, file.st_size, file.st_ino) for file in found)

    def _read(self) -> grpc.ServerCertificateConfiguration:
        self._refused = self._stamp()
        _check_pair(self._certificate, self._key)
        chain, key = _bytes(self._certificate), _bytes(self._key)
        roots = _bytes(self._roots) if self._roots else None
        if roots is not None:
            _check_roots(roots)
        self._refused = ()
        return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=roots)


def _check_pair(certificate: Path, key: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    no_password: Callable[[], str] = lambda: ""  # noqa: E731 - else OpenSSL asks the terminal
    try:
        context.load_cert_chain(certificate, key, password=no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise TlsError(
            f"gateway.tls_certificate and gateway.tls_key cannot be used together: {error}"
        ) from None


def _check_roots(roots: bytes) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=roots.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise TlsError(f"gateway.tls_client_ca cannot be used: {error}") from None


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise TlsError(f"{file.name} cannot be read: {error.strerror}") from None
