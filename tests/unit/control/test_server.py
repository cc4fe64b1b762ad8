from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from hawatch.control import server as server_module
from hawatch.control.access import Peer, peer_of, refusal
from hawatch.control.client import Client, NoAgentError
from hawatch.control.protocol import (
    REQUEST_LIMIT,
    AnyRequest,
    Done,
    Drain,
    Events,
    Giveaway,
    Progress,
    Refused,
    Reload,
    Reply,
    Status,
    decode_reply,
    encode_line,
    raw,
)
from hawatch.control.server import ControlServer, Send


class Handler:
    """Stands in for the core: answers some requests, and never the others."""

    def __init__(self) -> None:
        self.cancelled = trio.Event()
        self.started = trio.Event()

    async def __call__(self, request: AnyRequest, send: Send) -> Reply:
        match request:
            case Status():
                return Done(data=raw({"node": "lvs1"}))
            case Drain():
                await send(Progress(text="3 connections left"))
                return Refused(reason="no")
            case Reload():
                raise ZeroDivisionError
            case Events(follow=False):
                while True:
                    await send(Progress(text="x" * 60_000))
            case Giveaway():
                return Done(data=raw("x" * 4_000_000))
        self.started.set()
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled.set()
        raise AssertionError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ctl.sock"


@pytest.fixture
async def handler(path: Path, nursery: trio.Nursery) -> Handler:
    listener = trio.socket.socket(socket.AF_UNIX)
    await listener.bind(str(path))
    listener.listen(100)
    found = Handler()
    nursery.start_soon(ControlServer(found, lambda: None).serve, trio.SocketListener(listener))
    return found


async def connect(path: Path) -> trio.SocketStream:
    connection = trio.socket.socket(socket.AF_UNIX)
    await connection.connect(str(path))
    return trio.SocketStream(connection)


async def read_line(stream: trio.SocketStream) -> bytes:
    buffer = b""
    while not buffer.endswith(b"\n"):
        data = await stream.receive_some(1)
        if not data:
            return buffer
        buffer += data
    return buffer


def test_the_client_speaks_with_the_server(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        listener = trio.socket.socket(socket.AF_UNIX)
        await listener.bind(str(path))
        listener.listen(100)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ControlServer(Handler(), lambda: None).serve, trio.SocketListener(listener))
            await trio.to_thread.run_sync(speak)
            nursery.cancel_scope.cancel()

    def speak() -> None:
        with Client(path) as client:
            assert list(client.ask(Status())) == [Done(data=msgspec.Raw(b'{"node":"lvs1"}'))]
            drain = Drain(service="a", server="b")
            assert list(client.ask(drain)) == [Progress(text="3 connections left"), Refused(reason="no")]
            (mistake,) = client.ask(Reload())
            assert mistake == Refused(reason="the agent made a mistake: ZeroDivisionError()")

    trio.run(main)
    assert "ZeroDivisionError" in capsys.readouterr().err


async def test_requests_sent_ahead_are_answered_in_turn(path: Path, handler: Handler) -> None:
    async with await connect(path) as stream:
        await stream.send_all(encode_line(Status()) * 3 + b"rubbish\n" + encode_line(Status()))
        kinds = [type(decode_reply(await read_line(stream))) for _ in range(5)]
    assert kinds == [Done, Done, Done, Refused, Done]


async def test_a_request_ends_when_its_client_leaves(path: Path, handler: Handler) -> None:
    stream = await connect(path)
    await stream.send_all(encode_line(Events(follow=True)))
    await handler.started.wait()
    await stream.aclose()
    with trio.fail_after(5):
        await handler.cancelled.wait()


@pytest.mark.parametrize("request_", [Events(), Giveaway()])
async def test_a_client_that_never_reads_is_let_go_alone(
    path: Path, handler: Handler, autojump_clock: trio.testing.MockClock, request_: AnyRequest
) -> None:
    async with await connect(path) as deaf:
        await deaf.send_all(encode_line(request_))
        await trio.sleep(server_module.SEND_LIMIT_S + 1)
        async with await connect(path) as other:
            await other.send_all(encode_line(Status()))
            assert isinstance(decode_reply(await read_line(other)), Done)
        left = 0
        with trio.fail_after(60):
            while data := await deaf.receive_some(1 << 16):
                left += len(data)
        assert left < 4_000_000


@pytest.mark.parametrize("request_", [Events(), Giveaway()])
async def test_a_client_that_leaves_in_mid_answer_takes_nobody_along(
    path: Path, handler: Handler, request_: AnyRequest
) -> None:
    async with await connect(path) as leaving:
        await leaving.send_all(encode_line(request_))
        await leaving.receive_some(1)
    async with await connect(path) as other:
        await other.send_all(encode_line(Status()))
        assert isinstance(decode_reply(await read_line(other)), Done)


async def test_an_endless_request_is_cut_off(path: Path, handler: Handler) -> None:
    async with await connect(path) as stream:
        await stream.send_all(b"x" * (REQUEST_LIMIT + 1))
        reply = decode_reply(await read_line(stream))
        assert isinstance(reply, Refused)
        assert "longer than" in reply.reason
        assert await read_line(stream) == b""


async def test_one_client_too_many_is_told_and_the_others_are_served(path: Path, handler: Handler) -> None:
    streams = [await connect(path) for _ in range(server_module.CLIENTS_LIMIT)]
    for stream in streams:
        await stream.send_all(encode_line(Status()))
        assert isinstance(decode_reply(await read_line(stream)), Done)
    extra = await connect(path)
    assert "clients are connected already" in (await read_line(extra)).decode()
    await streams.pop().aclose()
    await trio.testing.wait_all_tasks_blocked()
    streams.append(await connect(path))
    await streams[-1].send_all(encode_line(Status()))
    assert isinstance(decode_reply(await read_line(streams[-1])), Done)
    for stream in [*streams, extra]:
        await stream.aclose()


async def test_a_silent_client_is_let_go(path: Path, handler: Handler, autojump_clock: trio.testing.MockClock) -> None:
    async with await connect(path) as stream:
        assert await read_line(stream) == b""
    assert trio.current_time() >= server_module.IDLE_LIMIT_S


def test_no_agent(tmp_path: Path) -> None:
    with pytest.raises(NoAgentError, match="no agent answers"):
        Client(tmp_path / "ctl.sock")


def test_an_agent_that_ends_in_mid_answer(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with Client(path) as client:
            connection, _ = listener.accept()
            connection.sendall(b'{"kind": "do')
            connection.close()
            with pytest.raises(NoAgentError, match=r"ended before|is gone"):
                list(client.ask(Status()))


def test_a_refusal_is_heard_by_one_who_was_refused_before_he_asked(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with Client(path) as client:
            connection, _ = listener.accept()
            connection.sendall(encode_line(Refused(reason="no")))
            connection.close()
            assert list(client.ask(Status())) == [Refused(reason="no")]


def test_the_kernel_says_who_is_there() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = peer_of(ours)
    assert (peer.pid, peer.uid) == (os.getpid(), os.getuid())
    assert os.getgid() in peer.groups
    assert frozenset(os.getgroups()) <= peer.groups


@pytest.mark.parametrize(
    ("peer", "group", "allowed"),
    [
        (Peer(1, 0, frozenset()), None, True),
        (Peer(1, os.geteuid(), frozenset()), None, True),
        (Peer(1, 4711, frozenset((4711,))), None, False),
        (Peer(1, 4711, frozenset((4711, 50))), 50, True),
        (Peer(1, 4711, frozenset((4711, 50))), 51, False),
        (Peer(1, 4711, frozenset((0,))), 51, False),
    ],
)
def test_who_may(peer: Peer, group: int | None, allowed: bool) -> None:
    assert (refusal(peer, group) == "") is allowed


def test_a_reply_is_one_line_of_json() -> None:
    assert json.loads(encode_line(Progress(text="a\nb")))["text"] == "a\nb"
    assert encode_line(Progress(text="a\nb")).count(b"\n") == 1
