"""Sockets to literal addresses, on trio."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import trio

IP_RECVERR = 11
IPV6_RECVERR = 25
"""linux/in.h, linux/in6.h: ICMP errors are reported on sockets that are not connected, too."""


def family_of(address: str) -> socket.AddressFamily:
    """Return the family of a literal address."""
    return socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6


def numeric_address(address: str, port: int) -> tuple[object, ...]:
    """Return the socket address of a literal address, with its scope where it has one ("fe80::1%eth0")."""
    found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return tuple(found[0][4])


async def open_connection(address: str, port: int) -> trio.SocketStream:
    """Return a TCP stream to a literal address; raise OSError as the kernel says it."""
    connection = trio.socket.socket(family_of(address), socket.SOCK_STREAM)
    try:
        await connection.connect(numeric_address(address, port))
        return trio.SocketStream(connection)
    except BaseException:
        connection.close()
        raise


def open_datagrams(address: str) -> trio.socket.SocketType:
    """Return a UDP socket for talking to a literal address.

    It is not connected, so that answers from elsewhere are seen; yet "port unreachable" is reported as OSError.
    """
    family = family_of(address)
    datagrams = trio.socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET:
        datagrams.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    else:
        datagrams.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
    return datagrams
