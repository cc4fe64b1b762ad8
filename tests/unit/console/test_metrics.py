"""Metrics over a real socket, from a real status."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import trio

from hawatch.console.metrics import answer, serve_client
from tests.unit.control.test_render import STATUS


class Console:
    def __init__(self, status=STATUS):
        self.status = status
        self.settings = None
        self.linked, self.taken = True, 7
        self.delivery = SimpleNamespace(targets={"email/ops": None}, sent={"email/ops": 3}, failures={})

    async def fresh_status(self):
        return json.dumps(self.status).encode() if self.status else b""


async def test_metrics():
    status, _, body = await answer(Console(), "/metrics")
    text = body.decode()
    assert status == 200
    for line in (
        'hawatch_server_up{server="192.0.2.1:80",service="http",state="up"} 1.0',
        'hawatch_server_up{server="192.0.2.22:8080",service="http",state="down"} 0.0',
        'hawatch_group_owner{group="web"} 1.0',
        'hawatch_worker_restarts_total{worker="prober"} 1.0',
        'hawatch_alerts_sent_total{alert="email/ops"} 3.0',
        "hawatch_events_total 7.0",
    ):
        assert line in text


async def test_without_a_core():
    console = Console(status=None)
    console.linked = False
    assert (await answer(console, "/metrics"))[0] == 200
    assert (await answer(console, "/livez"))[0] == 200
    assert (await answer(console, "/readyz"))[0] == 503
    assert (await answer(console, "/"))[0] == 404


@pytest.mark.parametrize(
    ("request_", "status"),
    [(b"GET /livez HTTP/1.1\r\n\r\n", b"200"), (b"POST /livez HTTP/1.1\r\n\r\n", b"405"), (b"x" * 9000, b"405")],
)
async def test_over_a_socket(request_, status):
    ours, theirs = trio.socket.socketpair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_client, Console(), trio.SocketStream(theirs))
        stream = trio.SocketStream(ours)
        await stream.send_all(request_)
        data = b""
        with trio.fail_after(5):
            while chunk := await stream.receive_some():
                data += chunk
        assert data.split(b" ")[1] == status
        await stream.aclose()
    theirs.close()
