from __future__ import annotations

from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
import trio
from pydantic import ValidationError

from hawatch.agent.runner import run_probe
from hawatch.model import NS_PER_MS, NS_PER_S
from hawatch.plugin import Attempt, Result, Target, down, up
from hawatch.probes.exec import ExecOptions, ExecProbe
from hawatch.probes.processes import Run
from tests.unit.servers import closed_port, script, silence, tcp_server, udp_server

MON = "/usr/lib/mon/mon.d"
NAGIOS = "/usr/lib/nagios/plugins"


def probe(*command: str, port: int | None = 80, address: str = "127.0.0.1", **options) -> ExecProbe:
    target = Target(address, port, service="http", group="web")
    return ExecProbe(ExecOptions(command=command or ("/bin/true",), **options), target)


async def ask(*command: str, timeout_ns: int = 20 * NS_PER_S, **options) -> Result:
    return (await run_probe(probe(*command, **options), Attempt(timeout_ns))).result


def judge(status: int, output: str = "", errors: str = "", **options) -> Result:
    run = Run(bytearray(output.encode()), bytearray(errors.encode()), status=status)
    return probe(**options).judge(run, NS_PER_S)


@pytest.mark.parametrize(
    ("options", "status", "output", "result"),
    [
        ({}, 0, "fine\nmore\n", up("fine\nmore")),
        ({}, 1, "", down("exit status 1")),
        ({}, 2, "\nbro\x1bken\nmore", down("exit status 2: bro ken", "\nbro ken\nmore")),
        ({}, -11, "", down("true was killed by SIGSEGV")),
        ({"weight_from_status": True}, 0, "", Result(ok=True)),
        ({"weight_from_status": True}, 1, "", down("exit status 1")),
        ({"weight_from_status": True}, 2, "", Result(ok=True, weight=0)),
        ({"weight_from_status": True}, 255, "", Result(ok=True, weight=253)),
        ({"weight_from_status": True}, -9, "", down("true was killed by SIGKILL")),
        ({"style": "nagios"}, 0, "TCP OK - 0.0 s|time=0.0s", up("TCP OK - 0.0 s|time=0.0s")),
        ({"style": "nagios"}, 1, "slow|time=9s", down("WARNING: slow", "slow|time=9s")),
        ({"style": "nagios", "warning_is_up": True}, 1, "slow", up("slow")),
        ({"style": "nagios", "warning_is_up": True}, 2, "bad", down("CRITICAL: bad", "bad")),
        ({"style": "nagios"}, 2, "TCP CRITICAL - bad|x=1", down("TCP CRITICAL - bad", "TCP CRITICAL - bad|x=1")),
        ({"style": "nagios"}, 3, "", down("UNKNOWN")),
        ({"style": "nagios"}, 127, "", down("exit status 127, which is no state of Nagios")),
        ({"style": "nagios"}, -15, "OK", down("true was killed by SIGTERM: OK", "OK")),
        ({"style": "mon"}, 0, "", up()),
        (
            {"style": "mon"},
            1,
            "127.0.0.1\n\nno answer\n",
            down("exit status 1: 127.0.0.1: no answer", "127.0.0.1\n\nno answer"),
        ),
        ({"style": "mon"}, 1, "127.0.0.1\n", down("exit status 1: 127.0.0.1", "127.0.0.1")),
        ({"style": "mon"}, -1, "", down("true was killed by SIGHUP")),
    ],
)
def test_judgement(options: dict, status: int, output: str, result: Result) -> None:
    assert judge(status, output, **options) == result


def test_errors_speak_where_there_is_no_output() -> None:
    assert judge(2, errors="Can't locate X.pm").reason == "exit status 2: Can't locate X.pm"
    assert judge(2, "out", errors="err").reason == "exit status 2: out"


async def test_placeholders_are_filled_in_and_no_shell_looks() -> None:
    command = ("/bin/sh", "-c", 'echo "$@"', "-", "{address}:{port}", "{service}/{group}", "{{x}} $HOME;")
    assert (await ask(*command)).detail == "127.0.0.1:80 http/web {x} $HOME;"
    assert (await ask("/bin/echo", "p{port}", port=None)).detail == "p"


async def test_environment_is_small() -> None:
    result = await ask("/usr/bin/env", environment={"X": "1"})
    names = {line.partition("=")[0] for line in result.detail.splitlines()}
    own = {"HAWATCH_ADDRESS", "HAWATCH_PORT", "HAWATCH_SERVICE", "HAWATCH_GROUP", "HAWATCH_RUN"}
    assert names == {"PATH", "HOME", "LANG", "X"} | own


async def test_mon_is_given_the_host_and_its_history() -> None:
    monitor = probe("/bin/sh", "-c", 'echo "$1"; env | grep MON_ | sort; exit 1', "-", style="mon")
    first = (await run_probe(monitor, Attempt(20 * NS_PER_S))).result
    assert first.detail == "127.0.0.1\nMON_GROUP=web\nMON_SERVICE=http"
    second = (await run_probe(monitor, Attempt(20 * NS_PER_S))).result
    assert "MON_LAST_SUMMARY=127.0.0.1" in second.detail
    assert "MON_FIRST_FAILURE=" in second.detail
    assert "MON_LAST_SUCCESS" not in second.detail


async def test_program_missing_or_not_executable(tmp_path: Path) -> None:
    reason = "/nowhere/x cannot be run: No such file or directory"
    assert (await ask("/nowhere/x")).reason == reason
    path = tmp_path / "x"
    path.write_text("#!/bin/sh\n")
    assert (await ask(str(path))).reason == f"{path} cannot be run: Permission denied"
    path.chmod(0o755)
    path.write_bytes(b"\0junk")
    assert (await ask(str(path))).reason == f"{path} cannot be run: Exec format error"


async def test_hung_program_is_cut_off() -> None:
    for script_text in ("sleep 600", "trap '' TERM; sleep 600; sleep 600"):
        result = await ask("/bin/sh", "-c", script_text, timeout_ns=300 * NS_PER_MS)
        assert result.reason == "no exit of sh in 300 ms"


async def test_endless_output() -> None:
    assert (await ask("/usr/bin/yes")).reason == "yes wrote more than 65536 bytes and was killed"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"command": ["true"]}, "must be an absolute path"),
        ({"command": []}, "at least 1 item"),
        ({"command": ["/bin/{address}"]}, "takes no placeholders"),
        ({"command": ["/bin/true", "{host}"]}, '"{host}" is no placeholder; there are {address}, {port}'),
        ({"command": ["/bin/true", "{address.x}"]}, "is no placeholder"),
        ({"command": ["/bin/true", "{address!r}"]}, "is no placeholder"),
        ({"command": ["/bin/true", "{"]}, "write a brace itself twice"),
        ({"command": ["/bin/true"], "environment": {"A=": "x"}}, "cannot be an environment variable"),
        ({"command": ["/bin/true"], "warning_is_up": True}, 'needs style = "nagios"'),
        ({"command": ["/bin/true"], "weight_from_status": True, "style": "mon"}, 'needs style = "plain"'),
    ],
)
def test_options_refused(options: dict, words: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        ExecOptions(**options)
    assert words in str(refusal.value)


# --- The monitors of mon and the plug-ins of Nagios, as Debian ships them ---------------------------------


async def http_server(stream: trio.SocketStream) -> None:
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        request += await stream.receive_some()
    await stream.send_all(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")


SMTP = script(b"220 mail ESMTP\r\n", None, b"250 mail\r\n", None, b"221 bye\r\n")
MAIL = script(b"220 mail ESMTP\r\n", *([None, b"250 ok\r\n"] * 6))
POP3 = script(b"+OK ready\r\n", None, b"+OK bye\r\n")
FTP = script(b"220 ftp\r\n", None, b"221 bye\r\n")
SMTP_ARGUMENTS = ["--port", "{port}", "--from", "a@a.example", "--to", "b@b.example", "--timeout", "3"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("monitor", "arguments", "handler"),
    [
        ("tcp.monitor", ["-p", "{port}"], silence),
        ("http.monitor", ["-p", "{port}", "-t", "3"], http_server),
        ("ftp.monitor", ["-p", "{port}", "-t", "3"], FTP),
        ("smtp3.monitor", SMTP_ARGUMENTS, MAIL),
    ],
)
async def test_monitors_of_mon(monitor: str, arguments: list[str], handler) -> None:
    async with tcp_server(handler) as port:
        result = await ask(f"{MON}/{monitor}", *arguments, port=port, style="mon")
        assert result.ok, result.detail
    result = await ask(f"{MON}/{monitor}", *arguments, port=await closed_port(), style="mon")
    assert not result.ok
    assert "exit status 1: 127.0.0.1" in result.reason


@pytest.mark.slow
@pytest.mark.parametrize(
    ("monitor", "arguments"),
    [("dns.monitor", ["-zone", "example.org", "-master", "{address}"]), ("dns-query.monitor", ["-n", "example.org"])],
)
async def test_dns_monitors_of_mon(monitor: str, arguments: list[str]) -> None:
    """They know no port but 53."""
    options = {"address": "127.77.0.53", "style": "mon"}
    async with udp_server(authoritative, host="127.77.0.53", port=53):
        result = await ask(f"{MON}/{monitor}", *arguments, **options)
        assert result.ok, result.detail
    async with udp_server(refusing, host="127.77.0.53", port=53):
        result = await ask(f"{MON}/{monitor}", *arguments, **options)
    assert result.reason.startswith("exit status")


def refusing(query: bytes) -> bytes:
    reply = dns.message.make_response(dns.message.from_wire(query))
    reply.set_rcode(dns.rcode.REFUSED)
    return reply.to_wire()


def authoritative(query: bytes) -> bytes:
    reply = dns.message.make_response(dns.message.from_wire(query))
    reply.flags |= dns.flags.AA
    kind = dns.rdatatype.to_text(reply.question[0].rdtype)
    text = {"A": "192.0.2.1", "SOA": "ns.example. root.example. 1 1 1 1 1"}[kind]
    reply.answer = [dns.rrset.from_text(reply.question[0].name, 60, "IN", kind, text)]
    return reply.to_wire()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plugin", "arguments", "handler"),
    [
        ("check_tcp", ["-H", "{address}", "-p", "{port}"], silence),
        ("check_http", ["-H", "{address}", "-p", "{port}"], http_server),
        ("check_smtp", ["-H", "{address}", "-p", "{port}"], SMTP),
        ("check_pop", ["-H", "{address}", "-p", "{port}"], POP3),
    ],
)
async def test_plugins_of_nagios(plugin: str, arguments: list[str], handler) -> None:
    async with tcp_server(handler) as port:
        result = await ask(f"{NAGIOS}/{plugin}", *arguments, port=port, style="nagios")
        assert result.ok, result.reason
    result = await ask(f"{NAGIOS}/{plugin}", *arguments, port=await closed_port(), style="nagios")
    assert "refused" in result.reason
    assert "|" not in result.reason


@pytest.mark.slow
async def test_pings_of_both() -> None:
    ping = [f"{NAGIOS}/check_ping", "-H", "{address}", "-w", "1000,50%", "-c", "2000,90%", "-p", "1"]
    assert (await ask(*ping, style="nagios")).ok
    assert (await ask(f"{MON}/fping.monitor", style="mon")).ok


async def test_dummy_of_nagios() -> None:
    assert (await ask(f"{NAGIOS}/check_dummy", "1", "so so", style="nagios")).reason == "WARNING: so so"
    assert (await ask(f"{NAGIOS}/check_dummy", "3", "eh", style="nagios")).reason == "UNKNOWN: eh"
