"""Sockets to literal addresses, on trio."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Protocol

import trio

from hawatch.faults import Fault
from hawatch.model import Route

IP_RECVERR = 11
IPV6_RECVERR = 25
"""linux/in.h, linux/in6.h: ICMP errors are reported on sockets that are not connected, too."""
IP_BIND_ADDRESS_NO_PORT = 24
"""linux/in.h, for IPv6 too: the port is chosen at connect, so that one is free as long as any is."""
NO_MARK = "marking packets needs the capability CAP_NET_RAW (before Linux 5.17 CAP_NET_ADMIN)"


class Routed(Protocol):
    """What a socket must offer to be sent a way of its own."""

    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None:
        """Set an option."""

    def bind(self, address: tuple[str, int], /) -> object:
        """Give it an address."""


def take_route(opened: Routed, route: Route) -> None:
    """Have what a new socket sends leave as the route says.

    Raises OSError: EADDRNOTAVAIL where this machine has not the source address, ENODEV where it has not the interface;
    Fault where it may not set a mark.
    """
    if route.mark:
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, route.mark)
        except PermissionError as error:
            raise Fault(NO_MARK) from error
    if route.interface:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, route.interface.encode())
    if route.source:
        opened.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        _bind_first(opened, route.source)


def _bind_first(opened: Routed, sources: Sequence[str]) -> None:
    """Give a socket the first of these addresses that this machine has."""
    for source in sources:
        try:
            opened.bind((source, 0))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL or source == sources[-1]:
                raise
        else:
            return


def family_of(address: str) -> socket.AddressFamily:
    """Return the family of a literal address."""
    return socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6


def numeric_address(address: str, port: int) -> tuple[object, ...]:
    """Return the socket address of a literal address, with its scope where it has one ("fe80::1%eth0")."""
    found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return tuple(found[0][4])


async def open_connection(address: str, port: int, route: Route | None = None) -> trio.SocketStream:
    """Return a TCP stream to a literal address; raise OSError as the kernel says it."""
    connection = trio.socket.from_stdlib_socket(_open(family_of(address), socket.SOCK_STREAM, route))
    try:
        await connection.connect(numeric_address(address, port))
        return trio.SocketStream(connection)
    except BaseException:
        connection.close()
        raise


def _open(family: socket.AddressFamily, kind: socket.SocketKind, route: Route | None) -> socket.socket:
    opened = socket.socket(family, kind)
    try:
        if route is not None:
            take_route(opened, route)
    except BaseException:
        opened.close()
        raise
    return opened


def open_datagrams(address: str, route: Route | None = None) -> trio.socket.SocketType:
    """Return a UDP socket for talking to a literal address.

    It is not connected, so that answers from elsewhere are seen; yet "port unreachable" is reported as OSError.
    """
    family = family_of(address)
    datagrams = trio.socket.from_stdlib_socket(_open(family, socket.SOCK_DGRAM, route))
    if family == socket.AF_INET:
        datagrams.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    else:
        datagrams.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
    return datagrams


def is_from(source: tuple[object, ...], address: str, port: int) -> bool:
    """Tell whether a datagram's source is this address and port."""
    return ip_address(str(source[0])) == ip_address(address) and source[1] == port


def show_source(source: tuple[object, ...]) -> str:
    """Return a datagram's source as text."""
    host = f"[{source[0]}]" if ":" in str(source[0]) else source[0]
    return f"{host}:{source[1]}"
