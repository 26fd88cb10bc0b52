"""Addresses of callers: how gRPC and proxies write them, and what counts as one caller.

One caller is one IPv4 address, or one /64 of IPv6: whoever has an address there has all of them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import unquote

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
_IPV6_CALLER = 64
"""Length of the prefix that one IPv6 caller has to itself."""
_MOST_ENTRIES = 64
"""Entries of a header that are looked at; a chain of that many proxies is none of ours."""
_LONGEST_ENTRY = 64


@lru_cache(maxsize=4096)
def address_of_peer(peer: str) -> str:
    """The address of a peer as gRPC writes it; the text itself where it is no internet address.

    >>> address_of_peer("ipv4:192.0.2.7:5000"), address_of_peer("ipv6:%5B2001:db8::1%5D:5000")
    ('192.0.2.7', '2001:db8::1')
    >>> address_of_peer("ipv6:%5B::ffff:192.0.2.7%5D:5000"), address_of_peer("unix:/run/gateway")
    ('192.0.2.7', 'unix:/run/gateway')
    """
    family, _, place = peer.partition(":")
    if family not in ("ipv4", "ipv6"):
        return peer
    return parse_address(unquote(place)) or peer


def parse_address(text: str) -> str | None:
    """An address in its shortest form, without brackets, port and zone; None where it is none.

    >>> parse_address(" [2001:DB8:0::1]:443 "), parse_address("192.0.2.7:80"), parse_address("me")
    ('2001:db8::1', '192.0.2.7', None)
    """
    text = text.strip()[:_LONGEST_ENTRY]
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def caller_network(address: str) -> str:
    """What is limited as one caller: the address, or its /64 where it is IPv6.

    >>> caller_network("192.0.2.7"), caller_network("2001:db8:1:2:3::4")
    ('192.0.2.7', '2001:db8:1:2::/64')
    """
    try:
        return str(ipaddress.IPv6Network(f"{address}/{_IPV6_CALLER}", strict=False))
    except ValueError:
        return address


def forwarded_address(header: str, trusted: Sequence[IpNetwork]) -> str | None:
    """The caller that a trusted proxy names in ``x-forwarded-for``; None where it names none.

    Each proxy adds the address that it sees at the right, so what a stranger wrote stands further
    left: the answer is the right-most address that is no trusted proxy, and the left-most of all
    where every one is. Behind something that is no address nothing is believed.
    """
    nearest = None
    for entry in reversed(header.split(",")[-_MOST_ENTRIES:]):
        address = parse_address(entry)
        if address is None:
            return nearest
        nearest = address
        if not is_within(address, trusted):
            return address
    return nearest


def is_within(address: str, networks: Sequence[IpNetwork]) -> bool:
    """Whether an address lies in one of the networks; what is no address lies in none."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)
