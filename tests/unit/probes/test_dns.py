from __future__ import annotations

import shutil
import socket
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import trio
from pydantic import ValidationError

from hawatch.agent.runner import run_probe
from hawatch.model import NS_PER_MS, NS_PER_S, Route
from hawatch.plugin import Attempt, Result, Target
from hawatch.probes.dns import DnsOptions, DnsProbe
from tests.unit.servers import closed_port, endlessly, silence, tcp_server, udp_server

SHORT_NS = 250 * NS_PER_MS
Answer = Callable[[bytes], bytes | None]


def good(query: bytes) -> bytes:
    reply = dns.message.make_response(dns.message.from_wire(query))
    reply.answer = [dns.rrset.from_text("example.org.", 60, "IN", "A", "192.0.2.1")]
    return reply.to_wire()


def truncated(query: bytes) -> bytes:
    reply = dns.message.make_response(dns.message.from_wire(query))
    reply.flags |= dns.flags.TC
    return reply.to_wire()


def wrong_id(query: bytes) -> bytes:
    wire = good(query)
    return bytes([wire[0] ^ 0xFF]) + wire[1:]


def another_question(query: bytes) -> bytes:
    other = dns.message.make_query("example.net", "A")
    other.id = dns.message.from_wire(query).id
    return dns.message.make_response(other).to_wire()


async def ask(port: int, timeout_ns: int = 5 * NS_PER_S, address: str = "127.0.0.1", **options) -> Result:
    options = {"name": "example.org", "record": "A", **options}
    return (await run_probe(DnsProbe(DnsOptions(**options), Target(address, port)), Attempt(timeout_ns))).result


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_good_answer(host: str) -> None:
    async with udp_server(good, host=host) as port:
        assert (await ask(port, address=host, answers=["192.0.2.1"], match="exact", edns=True)).ok


async def test_silence() -> None:
    async with udp_server(lambda _query: None) as port:
        assert (await ask(port, SHORT_NS)).reason == "no answer to example.org A in 250 ms"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_closed_port(host: str) -> None:
    assert (await ask(await closed_port(), address=host)).reason == "connection refused"


@pytest.mark.parametrize(
    ("answers", "kinds"),
    [
        ([wrong_id], "answers with a wrong id"),
        ([another_question], "answers to another question"),
        ([lambda _query: b"junk"], "malformed messages"),
        ([lambda query: query], "questions"),
        ([wrong_id, another_question], "answers to another question and answers with a wrong id"),
    ],
)
async def test_strays_are_ignored_and_named(answers: list[Answer], kinds: str) -> None:
    async with udp_server(*answers) as port:
        reason = (await ask(port, SHORT_NS)).reason
    assert reason == f"no answer to example.org A (only {kinds} came) in 250 ms"


async def test_good_answer_after_strays() -> None:
    async with udp_server(wrong_id, another_question, good) as port:
        assert (await ask(port)).ok


async def test_answer_from_another_port() -> None:
    async with udp_server(good, elsewhere=True) as port:
        reason = (await ask(port, SHORT_NS)).reason
    assert reason.startswith("no answer to example.org A (only answers from 127.0.0.1:")


def over_tcp(answer: Answer):
    async def handler(stream) -> None:
        data = b""
        while len(data) < 2 or len(data) < 2 + struct.unpack("!H", data[:2])[0]:
            data += await stream.receive_some()
        wire = answer(data[2:]) or b""
        for byte in struct.pack("!H", len(wire)) + wire:
            await stream.send_all(bytes([byte]))

    return handler


async def test_over_tcp() -> None:
    async with tcp_server(over_tcp(good)) as port:
        result = await ask(port, transport="tcp")
        assert result.ok
        assert result.detail.endswith("over TCP")


async def test_hostile_servers_over_tcp() -> None:
    async def cut_off(stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"\0\x50abc")

    for handler, reason in (
        (silence, "no answer to example.org A over TCP in 250 ms"),
        (endlessly(b"\0", 0.01), "malformed messages came over TCP"),
        (endlessly(b"\xff", 0.01), "no answer to example.org A over TCP in 250 ms"),
        (cut_off, "connection closed by the server after 5 bytes, wanted answer to example.org A over TCP"),
        (over_tcp(another_question), "answers to another question came over TCP"),
    ):
        async with tcp_server(handler) as port:
            assert (await ask(port, SHORT_NS, transport="tcp")).reason == reason


async def test_truncated_answer_is_asked_for_over_tcp() -> None:
    async with tcp_server(over_tcp(good)) as port:
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            await server.bind(("127.0.0.1", port))

            async def serve() -> None:
                query, client = await server.recvfrom(4096)
                await server.sendto(truncated(query), client)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve)
                assert (await ask(port)).detail.endswith("over TCP")
    async with udp_server(truncated) as port:
        assert (await ask(port)).reason == "over TCP: connection refused"


@pytest.mark.parametrize(
    "options",
    [
        {"name": "a..b"},
        {"record": "NONSENSE"},
        {"record": "AXFR"},
        {"record": "OPT"},
        {"rcode": "FINE"},
        {"record": "A", "answers": ["::1"]},
        {"record": "A", "serial_lag": 1},
        {"rcode": "NXDOMAIN", "answers": ["."]},
        {"transport": "quic"},
    ],
)
def test_options_refused(options: dict) -> None:
    with pytest.raises(ValidationError):
        DnsOptions(**options)


# --- BIND ------------------------------------------------------------------------------------------------

NAMED = """
options {{ directory "{directory}"; pid-file none; listen-on port {port} {{ 127.0.0.1; }};
  listen-on-v6 port {port} {{ ::1; }}; recursion no; session-keyfile "{directory}/session.key";
  minimal-responses yes; dnssec-validation no; }};
controls {{ }};
zone "example.org" {{ type primary; file "{directory}/zone"; }};
"""
ZONE = """$TTL 60
@ SOA ns.example.org. root.example.org. 2026010101 60 60 60 60
@ NS ns
@ MX 10 mail
ns A 192.0.2.53
www CNAME web
web A 192.0.2.1
web A 192.0.2.2
long TXT {long}
"""


@pytest.fixture
def bind(tmp_path: Path):
    """A real BIND with a zone; yields its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "named.conf").write_text(NAMED.format(directory=tmp_path, port=port))
    (tmp_path / "zone").write_text(ZONE.format(long=" ".join([f'"{"x" * 250}"'] * 9)))
    named = shutil.which("named", path="/usr/sbin:/usr/bin")
    assert named
    process = subprocess.Popen([named, "-g", "-c", str(tmp_path / "named.conf")], stderr=subprocess.DEVNULL)
    yield port
    process.kill()
    process.wait()


@pytest.mark.slow
async def test_bind(bind: int) -> None:
    with trio.fail_after(20):
        while not (await ask(bind, record="SOA")).ok:
            await trio.sleep(0.05)
    soa = await ask(bind, record="SOA", authoritative=True, edns=True)
    assert soa.facts == {"serial": 2026010101}
    assert (await ask(bind, address="::1", record="MX", answers=["10 mail.example.org"], match="exact")).ok
    both = {"answers": ["192.0.2.2", "192.0.2.1"], "match": "exact"}
    assert (await ask(bind, name="www.example.org", **both)).ok
    assert (await ask(bind, name="www.example.org", transport="tcp", **both)).ok
    assert (await ask(bind, name="nx.example.org")).reason == "NXDOMAIN for nx.example.org A, wanted NOERROR"
    assert (await ask(bind, name="nx.example.org", rcode="NXDOMAIN")).ok
    assert (await ask(bind, name="example.net")).reason == "REFUSED for example.net A, wanted NOERROR"
    assert (await ask(bind, name="web.example.org", record="AAAA")).reason == (
        "no records for web.example.org AAAA (NOERROR, but an empty answer)"
    )
    assert (await ask(bind, name="long.example.org", record="TXT")).detail.endswith("over TCP, authoritative")


async def test_a_way_of_its_own() -> None:
    route = Route(("127.0.0.9",))
    async with udp_server(good) as port:
        for way, reason in (
            (route, ""),
            (Route(interface="nosuch0"), "this machine has no such interface"),
        ):
            probe = DnsProbe(DnsOptions(name="example.org", record="A"), Target("127.0.0.1", port, route=way))
            assert (await run_probe(probe, Attempt(NS_PER_S))).result.reason == reason
