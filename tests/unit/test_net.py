from __future__ import annotations

import errno
import socket

import pytest

from hawatch.faults import is_ours
from hawatch.model import Route
from hawatch.net import numeric_address, open_connection, open_datagrams
from tests.unit.servers import closed_port, silence, tcp_server


def test_numeric_addresses() -> None:
    assert numeric_address("192.0.2.1", 25) == ("192.0.2.1", 25)
    assert numeric_address("::1", 25) == ("::1", 25, 0, 0)
    assert numeric_address("fe80::1%lo", 25)[3] == socket.if_nametoindex("lo")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_connection(host: str) -> None:
    async with tcp_server(silence, host=host) as port:
        stream = await open_connection(host, port)
        assert stream.socket.getpeername()[1] == port
        await stream.aclose()


async def test_errors_are_the_kernels() -> None:
    with pytest.raises(ConnectionRefusedError):
        await open_connection("127.0.0.1", await closed_port())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_datagrams_to_a_closed_port_are_refused_though_not_connected(host: str) -> None:
    with open_datagrams(host) as datagrams:
        await datagrams.sendto(b"x", numeric_address(host, await closed_port()))
        with pytest.raises(ConnectionRefusedError):
            await datagrams.recvfrom(10)


async def test_the_first_source_that_this_machine_has_is_taken() -> None:
    route = Route(source=("192.0.2.77", "127.0.0.9"), interface="lo", mark=77)
    async with tcp_server(silence) as port:
        stream = await open_connection("127.0.0.1", port, route)
        assert stream.socket.getsockname()[0] == "127.0.0.9"
        assert stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) == 77
        assert stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0") == b"lo"
        await stream.aclose()
    with open_datagrams("127.0.0.1", route) as datagrams:
        assert datagrams.getsockname()[0] == "127.0.0.9"


@pytest.mark.parametrize(
    ("route", "number"),
    [(Route(source=("192.0.2.77",)), errno.EADDRNOTAVAIL), (Route(interface="nosuch0"), errno.ENODEV)],
)
async def test_a_way_that_this_machine_has_not(route: Route, number: int) -> None:
    with pytest.raises(OSError, match=r"No such device|Cannot assign") as raised:
        await open_connection("127.0.0.1", await closed_port(), route)
    assert raised.value.errno == number
    assert is_ours(raised.value)
