"""The owner of an address: the network that one customer has."""

import ipaddress
from functools import lru_cache

_MAX_REMEMBERED = 4096


@lru_cache(_MAX_REMEMBERED)
def network_of(address: str) -> str:
    """The owner of an address, as far as one can tell: all addresses of an IPv6 /64 belong to one customer."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False).network_address)
