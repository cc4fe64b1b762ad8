"""Servers that mean ill, on a wire: what they do costs one check its deadline, and nobody else anything."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from hawatch.agent.prober import Prober
from hawatch.agent.runner import run_probe
from hawatch.model import NS_PER_MS, NS_PER_S, Check, CheckState
from hawatch.plugin import Attempt, Probe, Result, Target
from hawatch.probes.http import HttpOptions, HttpProbe
from hawatch.probes.pop3 import Pop3Options, Pop3Probe
from hawatch.probes.smtp import SmtpOptions, SmtpProbe
from hawatch.probes.tcp import TcpOptions, TcpProbe
from tests.unit.servers import Handler, Pki, endlessly, make_pki, over_tls, silence, tcp_server

SHORT_NS = 300 * NS_PER_MS
TLS_ALERT = b"\x15\x03\x03\x00\x02\x01\x5a"
"""A warning: user canceled. TLS 1.3 has it ignored."""
TLS_CHANGE_CIPHER_SPEC = b"\x14\x03\x03\x00\x01\x01"
TLS_EMPTY_HANDSHAKE = b"\x16\x03\x03\x00\x00"
TLS_BIG_HELLO = b"\x16\x03\x03\x40\x00\x02\xff\xff\xff" + bytes(0x4000 - 4)
"""The first record of a ServerHello of 16 MB."""


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return make_pki(tmp_path)


async def look(probe: Probe, timeout_ns: int = SHORT_NS) -> Result:
    """Run a probe; a run that outlives its deadline by far fails the test."""
    with trio.fail_after(20):
        return (await run_probe(probe, Attempt(timeout_ns))).result


def http(port: int, **options: object) -> Probe:
    return HttpProbe(HttpOptions.model_validate(options), Target("127.0.0.1", port))


# --- TLS handshakes that never end -----------------------------------------------------------------------


def after_hello(handler: Handler) -> Handler:
    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await handler(stream)

    return handle


@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize(
    ("handler", "reasons"),
    [
        (silence, ("no TLS handshake in 300 ms",)),
        (endlessly(b"\x16\x03\x03\x40\x00", 0.02), ("no TLS handshake in 300 ms", "TLS handshake failed")),
        (endlessly(TLS_CHANGE_CIPHER_SPEC), ("no TLS handshake in 300 ms", "TLS handshake failed")),
        (endlessly(TLS_EMPTY_HANDSHAKE), ("no TLS handshake in 300 ms", "TLS handshake failed")),
        (endlessly(TLS_ALERT), ("no TLS handshake in 300 ms", "TLS handshake failed", "TLS refused by the server")),
        (endlessly(TLS_BIG_HELLO), ("no TLS handshake in 300 ms", "TLS handshake failed")),
    ],
    ids=["silent", "drips", "cipher specs", "empty records", "warnings", "endless hello"],
)
async def test_a_handshake_that_never_ends(handler: Handler, reasons: tuple[str, ...], general: bool) -> None:
    async with tcp_server(after_hello(handler)) as port:
        result = await look(http(port, security="tls", redirects=int(general)))
    assert not result.ok
    assert result.reason.startswith(reasons)


async def test_tls_that_says_nothing_of_use_for_ever(pki: Pki) -> None:
    async def keys(stream: trio.abc.Stream) -> None:
        assert isinstance(stream, trio.SSLStream)
        while True:
            await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
            await trio.sleep(0.01)

    context = pki.server("127.0.0.1")
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    async with tcp_server(over_tls(context, keys)) as port:
        for redirects in (0, 1):
            result = await look(http(port, security="tls", tls={"ca_file": pki.ca_file}, redirects=redirects))
            assert result.reason.startswith("no ")
            assert result.reason.endswith(" in 300 ms")


# --- text slipped in around STARTTLS ---------------------------------------------------------------------


def smtp(port: int, ca_file: str) -> Probe:
    options = {"security": "starttls", "tls": {"ca_file": ca_file}, "username": "u", "password": "geheim"}
    return SmtpProbe(SmtpOptions.model_validate(options), Target("127.0.0.1", port))


def pop3(port: int, ca_file: str) -> Probe:
    options = {"security": "starttls", "tls": {"ca_file": ca_file}, "username": "u", "password": "geheim"}
    return Pop3Probe(Pop3Options.model_validate(options), Target("127.0.0.1", port))


SMTP_DIALOGUE = (
    b"220 mail\r\n",
    b"250-mail\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n",
    b"220 go\r\n",
    b"250 AUTH PLAIN\r\n235 ok\r\n",
)
POP3_DIALOGUE = (
    b"+OK hello\r\n",
    b"+OK\r\nUSER\r\nSTLS\r\n.\r\n",
    b"+OK go\r\n",
    b"+OK\r\nUSER\r\n.\r\n+OK\r\n+OK\r\n",
)


@pytest.mark.parametrize("apart_s", [0.0, 0.05], ids=["with the answer", "after it"])
@pytest.mark.parametrize(("make", "dialogue"), [(smtp, SMTP_DIALOGUE), (pop3, POP3_DIALOGUE)], ids=["smtp", "pop3"])
async def test_what_comes_in_the_clear_is_never_taken_for_what_came_over_tls(
    pki: Pki, make: Callable[[int, str], Probe], dialogue: tuple[bytes, ...], apart_s: float
) -> None:
    greeting, offers, go, slipped_in = dialogue
    heard = b""

    async def handler(stream: trio.SocketStream) -> None:
        nonlocal heard
        await stream.send_all(greeting)
        await stream.receive_some(65536)
        await stream.send_all(offers)
        await stream.receive_some(65536)
        if apart_s:
            await stream.send_all(go)
            await trio.sleep(apart_s)
            await stream.send_all(slipped_in)
        else:
            await stream.send_all(go + slipped_in)
        while data := await stream.receive_some(65536):
            heard += data

    async with tcp_server(handler) as port:
        result = await look(make(port, pki.ca_file), 5 * NS_PER_S)
    assert not result.ok
    words = "no TLS: the server answered in the clear" if apart_s else "server said more than its answer to ST"
    assert result.reason.startswith(words)
    assert b"geheim" not in heard
    assert b"AUTH" not in heard
    assert b"USER" not in heard


# --- one prober among many of them -----------------------------------------------------------------------


async def shouts(stream: trio.SocketStream) -> None:
    await endlessly(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(65536), 0.001)(stream)


async def endless_header(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\n")
    await endlessly(b"X-A: " + b"a" * 500 + b"\r\n", 0.001)(stream)


async def drips(stream: trio.SocketStream) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + bytes(100):
        await stream.send_all(bytes((byte,)))
        await trio.sleep(0.02)


async def closes(_stream: trio.SocketStream) -> None:
    return


async def titles(stream: trio.SocketStream) -> None:
    """Send a page made for a search that begins anew at every word."""
    await stream.receive_some(65536)
    await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n" + b"<title>" * 149_000)


async def good(stream: trio.SocketStream) -> None:
    await stream.receive_some(65536)
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def check(name: str, port: int, **changes: object) -> Check:
    values = {
        "id": name, "type": "http", "options": {"body": "ok"}, "address": "127.0.0.1", "port": port, "rise": 1,
        "fall": 1, "interval_ns": 250 * NS_PER_MS, "timeout_ns": 200 * NS_PER_MS,
    }  # fmt: skip
    return Check(**(values | changes))  # type: ignore[arg-type]


OFTEN = {"interval_ns": 100 * NS_PER_MS, "timeout_ns": 5 * NS_PER_S}


async def test_a_good_server_is_looked_at_whatever_the_others_do() -> None:
    prober = Prober("salt")
    async with (
        tcp_server(silence) as a, tcp_server(shouts) as b, tcp_server(endless_header) as c, tcp_server(drips) as d,
        tcp_server(closes) as e, tcp_server(endlessly(TLS_CHANGE_CIPHER_SPEC, 0.001)) as f, tcp_server(good) as fine,
        tcp_server(titles) as g,
    ):  # fmt: skip
        bad = [check(f"bad{number}", port) for number, port in enumerate((a, b, c, d, e) * 4)]
        bad += [check(f"tls{number}", f, options={"security": "tls"}) for number in range(4)]
        bad += [check(f"title{number}", g, options={"body_regex": "<title>.*ok</title>"}) for number in range(2)]
        bad += [check(f"general{number}", a, options={"redirects": 1}) for number in range(4)]
        await prober.assign(
            [*bad, check("fast", fine, **OFTEN), check("task", fine, options={"redirects": 1}, **OFTEN)], []
        )
        fast, task = prober.watched["fast"], prober.watched["task"]
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(prober.run, nursery)
                while min(fast.runs, task.runs, *(prober.watched[one.id].runs for one in bad)) < 5 or any(
                    verdict.state is CheckState.UNKNOWN for verdict in prober.verdicts()
                ):  # on a busy machine the first failures are put down to its pauses
                    await trio.sleep(0.02)
                nursery.cancel_scope.cancel()
    assert (fast.failures, task.failures) == (0, 0)
    states = {verdict.check: verdict.state for verdict in prober.verdicts()}
    assert states.pop("fast") is states.pop("task") is CheckState.UP
    assert set(states.values()) == {CheckState.DOWN}


async def test_a_connection_that_is_taken_and_forgotten_leaves_nothing_behind() -> None:
    gone = trio.Event()

    async def wait_for_the_end(stream: trio.SocketStream) -> None:
        try:
            await silence(stream)
        except trio.BrokenResourceError:
            gone.set()
            raise
        gone.set()

    async with tcp_server(wait_for_the_end) as port:
        probe = TcpProbe(TcpOptions(expect="220"), Target("127.0.0.1", port))
        assert (await look(probe)).reason == 'no answer with "220" in 300 ms'
        with trio.fail_after(10):
            await gone.wait()
