"""Whose address it is: of the connection, unless something trusted names another."""

from __future__ import annotations

import doctest
import ipaddress
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import addresses, placeholder_passwords
from gateway.addresses import caller_network, forwarded_address, parse_address
from gateway.call import Call, Identity
from gateway.contract import read_methods
from gateway.interceptors.client_address import ClientAddress
from gateway.keys import new_key
from gateway.settings import SettingsError, load
from marketcal.v1 import forecast_pb2 as pb

METHOD = read_methods()["/marketcal.v1.ForecastService/ListModels"]
PROXIES = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))
MODELS = pb.ListModelsRequest()


@dataclass(frozen=True)
class Context:
    """A connection from somewhere."""

    at: str

    def peer(self) -> str:
        return self.at


def located(peer: str, header: str | bytes | None, trusted: Any = PROXIES) -> str:
    context: Any = Context(peer)
    call = Call(METHOD, context, {} if header is None else {"x-forwarded-for": header}, 0.0)
    ClientAddress(trusted)(call)
    return call.address


@pytest.mark.parametrize("module", [addresses, placeholder_passwords])
def test_the_examples_are_true(module: Any) -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("header", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, 10.1.1.1", "192.0.2.1"),
        ("198.51.100.9, 192.0.2.1, 10.1.1.1", "192.0.2.1"),  # what stands further left is claimed
        ("10.9.9.9, 192.0.2.1", "192.0.2.1"),
        ("2001:DB8::7", "2001:db8::7"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        ("192.0.2.1:5000", "192.0.2.1"),
        ("::ffff:192.0.2.1, fd00::1", "192.0.2.1"),
        ("10.1.1.1, 10.2.2.2", "10.1.1.1"),
        ("192.0.2.1, nonsense, 10.1.1.1", "10.1.1.1"),  # nothing is believed behind nonsense
        ("nonsense", "10.0.0.1"),
        ("", "10.0.0.1"),
        (b"192.0.2.1", "10.0.0.1"),
        (None, "10.0.0.1"),
    ],
)
def test_a_trusted_proxy_names_the_caller(header: Any, address: str) -> None:
    assert located("ipv4:10.0.0.1:4711", header) == address


@pytest.mark.parametrize("peer", ["ipv4:192.0.2.200:1", "ipv6:%5B2001:db8::1%5D:1", "unix:/x"])
def test_nobody_else_is_believed(peer: str) -> None:
    assert located(peer, "203.0.113.5") == located(peer, None)
    assert located("ipv4:10.0.0.1:1", "203.0.113.5", trusted=()) == "10.0.0.1"


def test_a_gateway_in_front_whose_handover_was_accepted_is_believed() -> None:
    context: Any = Context("ipv4:192.0.2.200:1")
    call = Call(METHOD, context, {"x-forwarded-for": "203.0.113.5"}, 0.0)
    call.identity = Identity("k", "viewer", frozenset(), 0.0, 0, unlimited=True)
    ClientAddress(())(call)
    assert (call.address, call.network) == ("203.0.113.5", "203.0.113.5")


def test_a_proxy_over_ipv6_is_known_by_its_network() -> None:
    assert located("ipv6:%5Bfd00::5%5D:4711", "192.0.2.1") == "192.0.2.1"
    assert located("ipv6:%5B::ffff:10.0.0.1%5D:4711", "192.0.2.1") == "192.0.2.1"


def test_ipv6_callers_are_one_per_network_of_64_bits() -> None:
    assert caller_network("2001:db8::1") == caller_network("2001:db8::ffff:1") == "2001:db8::/64"
    assert caller_network("2001:db8:0:1::1") != caller_network("2001:db8::1")
    assert caller_network("192.0.2.1") == "192.0.2.1"
    assert caller_network("unix:/run/x") == "unix:/run/x"


@given(header=st.text(max_size=400))
def test_whatever_a_header_holds_gives_an_address_or_none(header: str) -> None:
    found = forwarded_address(header, PROXIES)
    assert found is None or parse_address(found) == found


@given(claimed=st.text(alphabet="0123456789abcdef:., []%", max_size=60))
def test_what_a_stranger_writes_to_the_left_changes_nothing(claimed: str) -> None:
    assert forwarded_address(f"{claimed},192.0.2.1,10.0.0.9", PROXIES) == "192.0.2.1"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as open_things:
        yield open_things


def failures(own: Any, stubs_on: Any, refused: Any, header: str, count: int) -> list[str]:
    stubs = stubs_on(own.channel)
    return [
        refused(
            stubs.forecasts.ListModels,
            MODELS,
            (("x-api-key", new_key()[0]), ("x-forwarded-for", header)),
        ).reason
        for _ in range(count)
    ]


def test_behind_a_trusted_proxy_each_caller_has_a_limit_of_its_own(
    serve_gateway: Any, stack: ExitStack, stubs_on: Any, refused: Any
) -> None:
    own = serve_gateway(stack, identity={"trusted_proxies": ("127.0.0.1",)})
    assert failures(own, stubs_on, refused, "2001:db8::1", 62)[-1] == "TOO_MANY_FAILED_CREDENTIALS"
    assert failures(own, stubs_on, refused, "192.0.2.8", 1) == ["CREDENTIAL_INVALID"]
    neighbour = failures(own, stubs_on, refused, "2001:db8::2", 1)
    assert neighbour == ["TOO_MANY_FAILED_CREDENTIALS"], "of the same /64"


def test_without_one_a_new_address_in_the_header_is_no_new_limit(
    serve_gateway: Any, stack: ExitStack, stubs_on: Any, refused: Any
) -> None:
    own = serve_gateway(stack)
    reasons = [
        reason
        for number in range(62)
        for reason in failures(own, stubs_on, refused, f"192.0.2.{number}", 1)
    ]
    assert reasons[-1] == "TOO_MANY_FAILED_CREDENTIALS"


@pytest.mark.parametrize("bad", ["everyone", "10.0.0.1/8", "0.0.0.0/0", "::/0", "10.0.0.300", ""])
def test_a_proxy_that_is_none_or_everybody_is_an_error(bad: str) -> None:
    with pytest.raises(SettingsError, match=r"identity\.trusted_proxies"):
        load({"identity": {"trusted_proxies": (bad,)}})
