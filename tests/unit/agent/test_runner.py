from __future__ import annotations

import socket
import struct
from functools import partial
from pathlib import Path

import pytest
import trio
from pydantic import Field

from hawatch.agent.runner import Outcome, fit, run_probe
from hawatch.model import NS_PER_MS, NS_PER_S
from hawatch.plugin import (
    Attempt,
    Conversation,
    Options,
    Probe,
    Receive,
    Result,
    Send,
    StartTls,
    Target,
    TlsOptions,
    down,
    up,
)
from tests.unit.servers import (
    Pki,
    closed_port,
    endlessly,
    make_pki,
    over_tls,
    script,
    silence,
    tcp_server,
)

SHORT_NS = 200 * NS_PER_MS


class TalkOptions(Options):
    tls: TlsOptions = Field(default_factory=TlsOptions)
    mode: str = "none"


class Talk(Probe):
    """Wants a greeting, says hello, wants an answer."""

    options_type = TalkOptions
    options: TalkOptions

    def tls(self):
        return self.options.tls

    def tls_mode(self):
        return self.options.mode

    def converse(self) -> Conversation:
        if self.options.mode == "starttls":
            yield StartTls()
        greeting = yield Receive("greeting")
        yield Send(b"hello\n")
        answer = yield Receive("answer to hello")
        return up(f"{greeting!r} {answer!r}") if answer else down("closed by the server, answer wanted")


async def talk(port: int, timeout_ns: int = 5 * NS_PER_S, address: str = "127.0.0.1", **options) -> Result:
    tls = TlsOptions(**{key: value for key, value in options.items() if key != "mode"})
    probe = Talk(TalkOptions(tls=tls, mode=options.get("mode", "none")), Target(address, port))
    return (await run_probe(probe, Attempt(timeout_ns))).result


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return make_pki(tmp_path)


async def test_conversation_runs_to_its_end() -> None:
    async with tcp_server(script(b"hi\n", None, b"well\n")) as port:
        assert await talk(port) == up(r"b'hi\n' b'well\n'")


async def test_conversation_over_ipv6() -> None:
    async with tcp_server(script(b"hi\n", None, b"well\n"), host="::1") as port:
        assert (await talk(port, address="::1")).ok


async def test_closed_by_the_server_is_the_conversations_to_judge() -> None:
    async with tcp_server(script(b"hi\n", None)) as port:
        assert (await talk(port)).reason == "closed by the server, answer wanted"


async def test_outcome_spans_the_run() -> None:
    async with tcp_server(silence) as port:
        outcome = await run_probe(Talk(TalkOptions(), Target("127.0.0.1", port)), Attempt(SHORT_NS))
    assert isinstance(outcome, Outcome)
    assert outcome.finished_ns - outcome.started_ns >= SHORT_NS


async def test_silent_server_is_cut_off_at_the_deadline() -> None:
    async with tcp_server(silence) as port:
        assert (await talk(port, SHORT_NS)).reason == "no greeting in 200 ms"


async def test_deadline_names_what_is_waited_for_later() -> None:
    async with tcp_server(script(b"hi\n", None, None)) as port:
        assert (await talk(port, SHORT_NS)).reason == "no answer to hello in 200 ms"


async def test_deadline_covers_the_connection() -> None:
    # A full backlog answers no further SYN.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            assert (await talk(port, SHORT_NS)).reason == "no connection in 200 ms"


async def test_deadline_covers_sending_to_one_who_does_not_read() -> None:
    class Flood(Probe):
        def converse(self):
            yield Send(bytes(64 << 20))
            return up()

    async def sleep(_stream) -> None:
        await trio.sleep_forever()

    async with tcp_server(sleep) as port:
        outcome = await run_probe(Flood(Options(), Target("127.0.0.1", port)), Attempt(SHORT_NS))
    assert outcome.result.reason == "no progress in sending in 200 ms"


async def test_refused() -> None:
    assert (await talk(await closed_port())).reason == "connection refused"


async def test_unreachable() -> None:
    assert (await talk(80, address="fe80::1")).reason != ""
    assert (await talk(80, address="255.255.255.255")).reason == "network unreachable"


async def test_no_port() -> None:
    assert (await talk(None)).reason == "no port to connect to"


async def test_reset_in_mid_answer_says_after_how_much() -> None:
    async def reset(stream) -> None:
        await stream.send_all(b"twelve bytes")
        await stream.receive_some()
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with tcp_server(reset) as port:
        reason = (await talk(port)).reason
    assert reason == "connection reset by the server after 12 bytes, while waiting for answer to hello"


async def test_failed_attempt_is_reset_and_good_one_closed() -> None:
    ends = []

    async def watch(stream, *, answer: bool) -> None:
        await stream.send_all(b"hi")
        await stream.receive_some()
        if answer:
            await stream.send_all(b"well")
        try:
            ends.append(await stream.receive_some())
        except trio.BrokenResourceError:
            ends.append("reset")

    async with tcp_server(partial(watch, answer=True)) as port:
        assert (await talk(port)).ok
        while len(ends) < 1:
            await trio.sleep(0.001)
    async with tcp_server(partial(watch, answer=False)) as port:
        assert not (await talk(port, SHORT_NS)).ok
        while len(ends) < 2:
            await trio.sleep(0.001)
    assert ends == [b"", "reset"]


# --- TLS -------------------------------------------------------------------------------------------------

GOOD = script(b"hi\n", None, b"well\n")


@pytest.mark.parametrize("mode", ["tls", "starttls"])
async def test_tls_verified(pki: Pki, mode: str) -> None:
    async with tcp_server(over_tls(pki.server(), GOOD)) as port:
        assert await talk(port, mode=mode, ca_file=pki.ca_file) == up(r"b'hi\n' b'well\n'")
        assert (await talk(port, mode=mode, ca_file=pki.ca_file, server_name="localhost", min_days=30)).ok


@pytest.mark.parametrize(
    ("certificate", "options", "reason"),
    [
        ({"days": -1, "since_days": 5}, {}, "certificate has expired"),
        ({"since_days": -2}, {}, "certificate is not yet valid"),
        ({"names": ("a.example", "b.example")}, {}, "certificate is for a.example, b.example, wanted 127.0.0.1"),
        ({}, {"server_name": "www.example"}, "certificate is for 127.0.0.1, localhost, wanted www.example"),
        ({"days": 9}, {"min_days": 10}, "certificate expires in 9 days, wanted at least 10"),
        ({}, {"ca_file": ""}, "certificate's issuer is unknown"),
    ],
)
async def test_certificate_not_as_it_should_be(pki: Pki, certificate: dict, options: dict, reason: str) -> None:
    context = pki.server(*certificate.pop("names", ()), **certificate)
    async with tcp_server(over_tls(context, GOOD)) as port:
        assert (await talk(port, mode="tls", **{"ca_file": pki.ca_file, **options})).reason == reason
        assert (await talk(port, mode="tls", verify=False)).ok


async def test_self_signed(pki: Pki, tmp_path: Path) -> None:
    import ssl
    import subprocess

    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "self.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run([*command, "-subj", "/CN=x", "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with tcp_server(over_tls(context, GOOD)) as port:
        assert (await talk(port, mode="tls", ca_file=pki.ca_file)).reason == "certificate is self-signed"


async def test_clear_text_where_tls_is_wanted() -> None:
    async with tcp_server(script(b"220 mail.example ESMTP\r\n", None)) as port:
        reason = (await talk(port, mode="tls")).reason
    assert reason == 'no TLS: the server answered in the clear: "220 mail.example ESMTP"'


async def test_tls_where_clear_text_is_wanted(pki: Pki) -> None:
    async with tcp_server(over_tls(pki.server(), GOOD)) as port:
        assert (await talk(port, SHORT_NS)).reason == "no greeting in 200 ms"


async def test_silent_and_closing_servers_in_the_handshake() -> None:
    async with tcp_server(silence) as port:
        assert (await talk(port, SHORT_NS, mode="tls")).reason == "no TLS handshake in 200 ms"

    async def close(stream) -> None:
        await stream.receive_some()

    async with tcp_server(close) as port:
        assert (await talk(port, mode="tls")).reason == "connection closed by the server in the TLS handshake"


async def test_one_byte_a_moment_in_the_handshake() -> None:
    async with tcp_server(endlessly(b"\x16", 0.01)) as port:
        assert "TLS handshake" in (await talk(port, SHORT_NS, mode="tls")).reason


async def test_server_wants_a_client_certificate(pki: Pki, tmp_path: Path) -> None:
    import ssl

    context = pki.server()
    context.verify_mode = ssl.CERT_REQUIRED
    pki.ca.configure_trust(context)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    leaf = pki.ca.issue_cert("client.example")
    certificate = tmp_path / "client.pem"
    leaf.private_key_and_cert_chain_pem.write_to_path(str(certificate))
    async with tcp_server(over_tls(context, GOOD)) as port:
        assert "TLS" in (await talk(port, mode="tls", ca_file=pki.ca_file)).reason
        assert (await talk(port, mode="tls", ca_file=pki.ca_file, cert_file=str(certificate))).ok


async def test_file_missing(tmp_path: Path) -> None:
    path = str(tmp_path / "missing.pem")
    async with tcp_server(silence) as port:
        reason = (await talk(port, mode="tls", ca_file=path)).reason
    assert reason == f"{path} cannot be used for TLS: No such file or directory"


# --- Plug-ins that misbehave -----------------------------------------------------------------------------


class Odd(Probe):
    """Does as its `behaviour` says."""

    behaviour = "raise"

    async def run(self, attempt):
        attempt.waiting_for = "wonders"
        if self.behaviour == "raise":
            raise ValueError("bad\x1b[2J\nthing")
        if self.behaviour == "exit":
            raise SystemExit(3)
        if self.behaviour == "group":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.fail)
        if self.behaviour == "none":
            return
        await trio.sleep_forever()

    async def fail(self):
        raise KeyError("k")


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("raise", "the probe raised ValueError: bad [2J thing"),
        ("exit", "the probe raised SystemExit: 3"),
        ("group", "the probe raised KeyError: 'k'"),
        ("none", "the probe raised TypeError: it returned NoneType, not Result"),
        ("sleep", "no wonders in 200 ms"),
    ],
)
async def test_odd_coroutine(behaviour: str, reason: str) -> None:
    probe = Odd(Options(), Target("127.0.0.1", None))
    probe.behaviour = behaviour
    assert (await run_probe(probe, Attempt(SHORT_NS))).result == down(reason)


async def test_conversation_that_yields_nonsense() -> None:
    class Nonsense(Probe):
        def converse(self):
            yield "nonsense"

    async with tcp_server(silence) as port:
        outcome = await run_probe(Nonsense(Options(), Target("127.0.0.1", port)), Attempt(SHORT_NS))
    assert outcome.result.reason == "the probe raised TypeError: it yielded str, not Send, Receive or StartTls"


async def test_cancellation_from_outside_passes() -> None:
    with trio.move_on_after(0.01) as scope:
        await run_probe(Odd(Options(), Target("127.0.0.1", None)), Attempt(0))
        probe = Odd(Options(), Target("127.0.0.1", None))
        probe.behaviour = "sleep"
        await run_probe(probe, Attempt(60 * NS_PER_S))
    assert scope.cancelled_caught


def test_what_an_outsider_returns_is_made_fit() -> None:
    found = fit(Result(ok=1, reason="a\x1b[2J\udcff\n" + "b" * 5000, facts={"n": 1, "x": "y"}))  # type: ignore[arg-type,dict-item]
    assert found == Result(ok=True, reason="a [2J  " + "b" * 993, facts={"n": 1})
    assert fit(Result(ok=True, weight=65535)) == Result(ok=True, weight=65535)
    for weight in (-1, 65536, 10**30, "5"):
        assert fit(Result(ok=True, weight=weight)).reason.endswith(", wanted 0 to 65535")  # type: ignore[arg-type]
