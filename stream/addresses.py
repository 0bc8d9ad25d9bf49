"""What hosts and addresses mean: this machine, a private network, the world."""

from __future__ import annotations

import ipaddress
import socket
from typing import Final

_TRANSLATION: Final = ipaddress.IPv6Network("64:ff9b::/96")  # to IPv4, RFC 6052
_LOCAL_TRANSLATION: Final = ipaddress.IPv6Network("64:ff9b:1::/48")  # RFC 8215


def is_loopback(host: str) -> bool:
    """Whether a name or an address means this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def brokers(bootstrap_servers: str) -> list[str]:
    """The addresses of ``kafka.bootstrap_servers``."""
    return [each.strip() for each in bootstrap_servers.split(",")]


def resolve(host: str, port: int) -> list[str]:
    """The IP addresses of a host, as texts in the order of preference; raises ``OSError``."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the world: not to this machine, a private network or a special use."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _LOCAL_TRANSLATION:
            return False
        ip = _inner(ip) or ip
    return ip.is_global and not ip.is_multicast


def _inner(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to."""
    if ip in _TRANSLATION:
        return ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip.ipv4_mapped or ip.sixtofour
