"""Clients that mean no good, at the real server: each is got rid of in time, and the others are served meanwhile."""

from __future__ import annotations

import contextlib

import pytest
import trio

from hawatch.console.page import app, server
from hawatch.console.page.app import BODY_MAX
from hawatch.console.page.feed import Feed
from hawatch.console.page.server import HEAD_MAX
from tests.unit.console.page.sample import Console, service, status
from tests.unit.console.page.sample import server as real_server
from tests.unit.console.page.test_app import TOKEN, Running, bearer

PATIENCE_S = 20
SOON_S = 0.5


@pytest.fixture
def make(tmp_path):
    return lambda extra="", **more: Running(tmp_path, extra, **more)


async def read_all(stream):
    """Return what comes until the other side ends."""
    found = b""
    with trio.fail_after(PATIENCE_S), contextlib.suppress(trio.BrokenResourceError):
        while data := await stream.receive_some(65536):
            found += data
    return found


async def send(running, data):
    """Send bytes on a connection of its own, and return the answer."""
    async with await trio.open_tcp_stream("127.0.0.1", running.port) as stream:
        await stream.send_all(data)
        return await read_all(stream)


async def gone(running):
    """Wait until no connection is left but the well-behaved client's."""
    with trio.fail_after(PATIENCE_S):
        while running.server._open > 1:
            await trio.sleep(0.01)


@pytest.mark.parametrize("letter", [b"", b"x", b"\n"], ids=["silent", "a header that does not end", "empty lines"])
async def test_one_who_never_comes_to_the_point(make, monkeypatch, letter):
    monkeypatch.setattr(server, "IDLE_S", SOON_S)
    running = make()
    async with running.run() as client:
        async with await trio.open_tcp_stream("127.0.0.1", running.port) as stream, trio.open_nursery() as nursery:

            async def drip():
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await stream.send_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nx: ")
                    while letter:
                        await stream.send_all(letter)
                        await trio.sleep(0.05)

            nursery.start_soon(drip)
            began = trio.current_time()
            await read_all(stream)
            assert trio.current_time() - began < PATIENCE_S / 2
            nursery.cancel_scope.cancel()
        await gone(running)
        assert (await client.get("/livez")).status_code == 200


async def test_a_body_that_does_not_come(make, monkeypatch):
    monkeypatch.setattr(app, "BODY_S", SOON_S)
    running = make()
    async with running.run() as client:
        head = (
            f"POST /act HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 30\r\n\r\nwhat="
        )
        async with await trio.open_tcp_stream("127.0.0.1", running.port) as stream:
            await stream.send_all(head.encode())
            with trio.fail_after(PATIENCE_S):
                assert b" 404 " in await stream.receive_some(), "nothing was asked for"
        assert running.requests == []
        await gone(running)
        assert (await client.get("/livez")).status_code == 200


async def test_what_is_too_long(make):
    running = make()
    async with running.run() as client:
        head = b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"x" * (HEAD_MAX * 4)
        answer = await send(running, head)
        assert b" 200 " not in answer.split(b"\r\n")[0]
        form = b"what=giveaway&text=" + b"x" * BODY_MAX
        assert (await client.post("/act", content=form, headers=bearer(TOKEN))).status_code == 404
        head = f"POST /act HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n"
        async with await trio.open_tcp_stream("127.0.0.1", running.port) as stream:
            with trio.fail_after(PATIENCE_S), contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(f"{head}content-length: {10**9}\r\n\r\n".encode())
                for _ in range(10_000):  # until nobody listens any more
                    await stream.send_all(form)
                raise AssertionError("80 MB were taken")
        assert running.requests == []
        await gone(running)


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00" * 100, b"GET / HTTP/9.9\r\n\r\n", b"EHLO x\r\n\r\n",
     b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
     b"POST /act HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
     b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    ids=["TLS", "zeros", "version", "another protocol", "no host", "two hosts", "two lengths", "HTTP/2"],
)  # fmt: skip
async def test_what_is_no_request(make, data, capfd):
    running = make()
    async with running.run() as client:
        async with await trio.open_tcp_stream("127.0.0.1", running.port) as stream:
            await stream.send_all(data)
            with trio.move_on_after(1), contextlib.suppress(trio.BrokenResourceError):
                assert b" 200 " not in await stream.receive_some()
        await gone(running)
        assert (await client.get("/")).status_code == 200
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "path",
    ["/../../etc/passwd", "/..%2f..%2fetc/passwd", "/page.css/../app.py", "/static/page.css", "//etc/passwd", "/app.py",
     "/service/..%2f..%2f..%2fetc%2fpasswd", "/service/%00", "/%2e%2e/%2e%2e/etc/passwd", "/page.css%00.js"],
)  # fmt: skip
async def test_no_way_to_a_file(make, path):
    running = make()
    async with running.run() as client:
        request = f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        answer = await send(running, request.encode())
        assert answer.startswith(b"HTTP/1.1 404 "), answer[:200]
        assert b"root:" not in answer
        assert (await client.get("/livez")).status_code == 200


async def test_only_the_methods_that_there_are(make):
    running = make()
    async with running.run() as client:
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
            answer = await client.request(method, "/act", headers=bearer(TOKEN))
            assert (method, answer.status_code) == (method, 405)
        assert (await client.get("/logout")).status_code == 405
        assert (await client.post("/metrics")).status_code == 405
        assert running.requests == []


async def test_one_who_does_not_read(make, monkeypatch):
    monkeypatch.setattr(server, "SEND_S", SOON_S)
    running = make()
    running.console.told = status(
        services=[service(*(real_server(f"10.2.{n}.{k}") for k in range(20)), name=f"s{n}") for n in range(100)]
    )
    async with running.run() as client, await trio.open_tcp_stream("127.0.0.1", running.port) as stream:
        await stream.send_all(b"GET /?servers=all HTTP/1.1\r\nhost: localhost\r\n\r\n" * 20)
        await trio.sleep(SOON_S)
        await gone(running)
        assert (await client.get("/livez")).status_code == 200


async def test_fifty_browsers_that_wait(make):
    """They are told of a change soon, and how long to wait so that the next one costs no more."""
    running = make()
    async with running.run() as client:
        first = (await client.get("/changes", params={"page": "/", "since": "x"})).json()["version"]
        answers = []

        async def browse():
            params = {"page": "/", "since": first}
            while True:
                answer = (await client.get("/changes", params=params)).json()
                if "now" in answer["parts"]:
                    break
                params["since"] = answer["version"]
            answers.append(answer)

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(browse)
            with trio.fail_after(PATIENCE_S):
                while running.server._site.held < 50:
                    await trio.sleep(0.01)
            running.console.told = status(warnings=["the disk is full"])
        assert len(answers) == 50
        waits = sorted(answer["wait"] for answer in answers)
        assert waits[-1] > 0.5
        assert (await client.get("/")).status_code == 200


async def test_without_a_page_nothing_is_kept_for_it(tmp_path, autojump_clock):
    console = Console(tmp_path, listen="")
    console.told = status()
    feed = Feed(console)
    with trio.move_on_after(60):
        await server.PageServer(console, feed).run()
    console.store.close()
    assert (console.asked, feed.view) == (0, None)


async def test_the_feed_goes_on_where_it_was_after_a_reload(make):
    running = make()
    async with running.run():
        begun = running.feed.board.stamp
        asked = running.console.asked
        running.server.adopt()
        with trio.fail_after(PATIENCE_S):
            while running.console.asked == asked:
                await trio.sleep(0.01)
        assert running.feed.board.since(begun) is not None


async def test_a_token_that_cannot_be_read_shuts_out_its_user_and_nobody_else(make, tmp_path):
    running = make()
    (tmp_path / "bob").unlink()
    async with running.run() as client:
        assert (await client.get("/", headers=bearer(TOKEN))).status_code == 200
        assert (await client.get("/", headers=bearer("b" * 20))).status_code == 401
    (problem,) = running.server.problems()
    assert problem == f"bob cannot log in to the page: {tmp_path}/bob: No such file or directory"


async def test_a_place_that_another_one_has_is_told(make, monkeypatch):
    monkeypatch.setattr(server, "RETRY_S", 0.01)
    running = make()
    (listener,) = await trio.open_tcp_listeners(running.port, host="127.0.0.1")
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(running.server.run)
        with trio.fail_after(PATIENCE_S):
            while not running.server.problems():
                await trio.sleep(0.01)
            (problem,) = running.server.problems()
            assert problem.startswith(f"the page is not served: 127.0.0.1:{running.port}: ")
            await listener.aclose()
            while running.server.problems():
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    running.console.store.close()
