"""Where requests come from, as far as limits go by it."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Final

_PREFIX: Final = 64
_LONGEST: Final = 32


def network_of(address: str) -> str:
    """Return what counts as one place: an IPv4 address, or the /64 that an IPv6 address is in.

    Whoever has an IPv6 address mostly has all of its /64. What is no address is cut short,
    as it is remembered, and anybody may have sent it.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:_LONGEST]
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((int(parsed), _PREFIX), strict=False))
