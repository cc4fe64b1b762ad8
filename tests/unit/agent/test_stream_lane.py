"""The fast lane against servers of every kind; the general driver must find the same."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random

import pytest
import trio

from hawatch.agent.runner import boottime_ns, run_probe
from hawatch.agent.stream_lane import StreamLane
from hawatch.health.schedule import Schedule, Slot
from hawatch.model import NS_PER_MS, NS_PER_S, Check, Route
from hawatch.plugin import Attempt, Probe, Result, Send, Target, up
from hawatch.probes.http import HttpOptions, HttpProbe
from hawatch.probes.tcp import TcpOptions, TcpProbe
from tests.unit.servers import tcp_server

TIMEOUT_NS = 400 * NS_PER_MS
Handler = Callable[[trio.SocketStream], Awaitable[None]]


def answer(data: bytes, *, then_wait: bool = False) -> Handler:
    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(data)
        if then_wait:
            await trio.sleep_forever()

    return handle


async def silent(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def one_byte_at_a_time(stream: trio.SocketStream) -> None:
    for byte in b"HTTP/1.1 200 OK\r\n":
        await stream.send_all(bytes([byte]))
        await trio.sleep(0.1)


def endless(start: bytes, chunk: bytes) -> Handler:
    async def handle(stream: trio.SocketStream) -> None:
        await stream.send_all(start)
        while True:
            await stream.send_all(chunk)

    return handle


async def reset_in_mid_answer(stream: trio.SocketStream) -> None:
    await stream.receive_some(65536)
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
    await trio.sleep(0.1)
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def http(**options: object) -> Callable[[Target], Probe]:
    return lambda target: HttpProbe(HttpOptions(**options), target)


def tcp(**options: object) -> Callable[[Target], Probe]:
    return lambda target: TcpProbe(TcpOptions(**options), target)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CASES = [
    (answer(OK), http(), ""),
    (answer(OK), http(body="ell"), ""),
    (answer(OK), http(body_regex="^h.*o$"), ""),
    (answer(OK), http(digest="2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"), ""),
    (answer(OK), http(digest="0" * 64), "body has the digest 2cf24dba5fb0a30e..., wanted 0000000000000000..."),
    (answer(OK), http(body="good-bye"), 'body without "good-bye": "hello"'),
    (answer(OK), http(size_limit=4), "HTTP body of more than 4 bytes"),
    (answer(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"), http(), "HTTP 503, wanted 200-299"),
    (answer(b"HTTP/1.1 301 No\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"), http(status=[200, 204]), "HTTP 301, wanted 200, 204"),
    (answer(b"HTTP/1.0 200 OK\r\n\r\nto the end"), http(body="end"), ""),
    (answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), http(body="abcde"), ""),
    (answer(b"HTTP/1.1 100 Continue\r\n\r\n" + OK), http(body="hello"), ""),
    (answer(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", then_wait=True), http(method="HEAD"), ""),
    (answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel"), http(), "connection closed after 3 bytes of the HTTP body, before its end"),
    (answer(b"HTTP/1.1 200 OK\r\nConten"), http(), "connection closed after 23 bytes, within the HTTP headers"),
    (answer(b""), http(), "connection closed without an HTTP answer"),
    (answer(b"220 mail.example.org ESMTP\r\n"), http(), "not an HTTP answer"),
    (silent, http(), "no HTTP answer in 400 ms"),
    (one_byte_at_a_time, http(), "no HTTP answer in 400 ms"),
    (endless(b"HTTP/1.1 200 OK\r\n", b"X-A: " + b"a" * 500 + b"\r\n"), http(), "HTTP headers of more than 32768 bytes"),
    (endless(b"HTTP/1.1 200 OK\r\n\r\n", b"a" * 4096), http(), "HTTP body of more than 1048576 bytes"),
    (reset_in_mid_answer, http(), "connection reset by the server after 45 bytes, while waiting for end of the HTTP body"),
    (silent, tcp(), ""),
    (answer(b"+PONG\r\n"), tcp(send="PING\r\n", expect="+PONG"), ""),
    (answer(b"+PO"), tcp(send="PING\r\n", expect="+PONG"), 'answer "+PO", wanted "+PONG"'),
    (answer(b"-ERR\r\n", then_wait=True), tcp(send="x", expect="+PONG"), 'no "+PONG" in the answer in 400 ms'),
    (answer(b"abc123", then_wait=True), tcp(send="x", expect_regex="[0-9]{3}"), ""),
    (answer(b""), tcp(send="x", expect="y"), 'connection closed without an answer, wanted "y"'),
    (silent, tcp(expect="220"), 'no answer with "220" in 400 ms'),
]  # fmt: skip


def slot_for(port: int) -> Slot:
    check = Check("c", "http", {}, "127.0.0.1", port, NS_PER_S, TIMEOUT_NS, 1, 1)
    schedule = Schedule("", Random(1))
    schedule.assign([check], 0)
    return schedule.take_due(schedule.next_due_ns())[0]


async def on_the_lane(make: Callable[[Target], Probe], port: int) -> Result:
    """Run a probe once on a fast lane."""
    results: list[Result] = []
    arrived = trio.Event()

    def done(_slot: Slot, result: Result, started_ns: int, finished_ns: int) -> None:
        assert started_ns <= finished_ns
        results.append(result)
        arrived.set()

    lane = StreamLane(done)
    lane.start([(slot_for(port), make(Target("127.0.0.1", port)))])
    while not arrived.is_set():
        lane.poll()
        lane.expire(boottime_ns())
        with trio.move_on_after(0.001):
            await arrived.wait()
    assert len(lane) == 0
    lane.close()
    assert len(results) == 1
    return results[0]


async def in_a_task(make: Callable[[Target], Probe], port: int) -> Result:
    return (await run_probe(make(Target("127.0.0.1", port)), Attempt(TIMEOUT_NS))).result


async def serve(handler: Handler, nursery: trio.Nursery) -> int:
    async def forgiving(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await handler(stream)

    listeners = await nursery.start(partial(trio.serve_tcp, forgiving, 0, host="127.0.0.1"))
    return int(listeners[0].socket.getsockname()[1])


@pytest.mark.parametrize("driver", [on_the_lane, in_a_task])
@pytest.mark.parametrize(("handler", "make", "reason"), CASES)
async def test_what_comes_of_each_server(driver, handler, make, reason):
    async with trio.open_nursery() as nursery:
        port = await serve(handler, nursery)
        result = await driver(make, port)
        nursery.cancel_scope.cancel()
    assert (result.reason[: len(reason)] if reason else result.reason) == reason
    assert result.ok is (not reason)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("driver", [on_the_lane, in_a_task])
@pytest.mark.parametrize("make", [http(), tcp(), tcp(expect="220")])
async def test_a_closed_port(driver, make):
    assert (await driver(make, closed_port())).reason == "connection refused"


class Raises(Probe):
    def converse(self):
        yield Send(b"x")
        raise ZeroDivisionError("never divide")


class Nonsense(Probe):
    def converse(self):
        yield "what?"
        return up()


class NoResult(Probe):
    def converse(self):
        yield Send(b"x")
        return True


@pytest.mark.parametrize("driver", [on_the_lane, in_a_task])
@pytest.mark.parametrize(
    ("kind", "words"), [(Raises, "ZeroDivisionError"), (Nonsense, "TypeError"), (NoResult, "returned bool")]
)
@pytest.mark.filterwarnings("ignore")
async def test_a_plug_in_that_breaks_is_a_failure(driver, kind, words):
    async with trio.open_nursery() as nursery:
        port = await serve(silent, nursery)
        result = await driver(lambda target: kind(kind.options_type(), target), port)
        nursery.cancel_scope.cancel()
    assert not result.ok
    assert words in result.reason


async def test_many_at_once_end_by_their_deadlines():
    results: list[Result] = []
    lane = StreamLane(lambda _slot, result, _start, _end: results.append(result))
    async with trio.open_nursery() as nursery:
        quiet, lively = await serve(silent, nursery), await serve(answer(OK), nursery)
        ports = [quiet, lively] * 100
        lane.start([(slot_for(port), http()(Target("127.0.0.1", port))) for port in ports])
        with trio.fail_after(10):
            while len(lane):
                await trio.sleep(0.005)
                lane.poll()
                lane.expire(boottime_ns())
        nursery.cancel_scope.cancel()
    lane.close()
    assert [sum(result.ok is wanted for result in results) for wanted in (True, False)] == [100, 100]


async def test_a_way_of_its_own_is_taken_and_one_that_is_not_there_says_nothing_of_the_server() -> None:
    seen: list[str] = []

    async def handle(stream: trio.SocketStream) -> None:
        seen.append(stream.socket.getpeername()[0])

    results: list[Result] = []
    lane = StreamLane(lambda _slot, result, _start, _end: results.append(result))
    async with tcp_server(handle) as port:
        for name, route in (("a", Route(("192.0.2.77", "127.0.0.9"))), ("b", Route(interface="nosuch0"))):
            check = Check(name, "tcp", {}, "127.0.0.1", port, NS_PER_S, NS_PER_S, 1, 1, route=route)
            slot = Slot(check, 0, 0)
            lane.start([(slot, TcpProbe(TcpOptions(expect="x"), Target("127.0.0.1", port, route=route)))])
        with trio.fail_after(10):
            while len(results) < 2:
                lane.poll()
                await trio.sleep(0.002)
    lane.close()
    assert seen == ["127.0.0.9"]
    assert (results[0].reason, results[0].inconclusive) == ("this machine has no such interface", True)
    assert (results[1].reason, results[1].inconclusive) == ('connection closed without an answer, wanted "x"', False)
