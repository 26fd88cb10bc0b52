"""Tests talk to this machine alone."""

from __future__ import annotations

import socket

import pytest


@pytest.mark.parametrize("host", ["192.0.2.1", "example.invalid", "10.0.0.1"])
def test_a_connection_beyond_loopback_fails_the_test(host: str) -> None:
    with socket.socket() as sock, pytest.raises(AssertionError, match="beyond loopback"):
        sock.connect((host, 80))


def test_a_connection_on_loopback_passes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as sock:
        sock.connect(server.getsockname())
