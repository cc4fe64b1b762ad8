from __future__ import annotations

import socket

import pytest

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
