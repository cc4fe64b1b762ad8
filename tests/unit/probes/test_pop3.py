from __future__ import annotations

from pathlib import Path

import pytest
import trio
from pydantic import ValidationError

from hawatch.agent.runner import run_probe
from hawatch.model import NS_PER_MS, NS_PER_S
from hawatch.plugin import Attempt, Result, Target
from hawatch.probes.pop3 import Pop3Options, Pop3Probe
from tests.unit.daemons import dovecot
from tests.unit.probes.talk import play
from tests.unit.servers import endlessly, make_pki, over_tls, script, silence, tcp_server

HELLO = b"+OK ready <1896.697170952@dbc.mtview.ca.us>\r\n"
CAPA = b"+OK list\r\nUIDL\r\nSASL PLAIN\r\n.\r\n"
BYE = b"+OK bye\r\n"


def probe(port: int = 110, **options) -> Pop3Probe:
    return Pop3Probe(Pop3Options(**options), Target("127.0.0.1", port))


async def ask(port: int, timeout_ns: int = 5 * NS_PER_S, **options) -> Result:
    return (await run_probe(probe(port, **options), Attempt(timeout_ns))).result


def test_greeting_capa_quit() -> None:
    result, sent = play(probe(), [HELLO, CAPA, BYE])
    assert result.ok
    assert result.detail == "ready <1896.697170952@dbc.mtview.ca.us>; offers UIDL, SASL PLAIN"
    assert sent == [b"CAPA\r\n", b"QUIT\r\n"]


def test_server_without_capa() -> None:
    assert play(probe(), [HELLO, b"-ERR what\r\n", BYE])[0].ok


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        ([b"-ERR busy\r\n"], 'greeting was "-ERR busy", wanted +OK'),
        ([b"220 mail ESMTP\r\n"], 'greeting was "220 mail ESMTP", wanted +OK'),
        ([], "connection closed by the server, wanted greeting"),
        ([HELLO], "connection closed by the server, wanted answer to CAPA"),
        ([HELLO, b"+OK\r\n" + b"X\r\n" * 200], "answer to CAPA of more than 100 lines"),
        ([HELLO, CAPA, b"-ERR no\r\n"], 'answer to QUIT was "-ERR no", wanted +OK'),
    ],
)
def test_unexpected_answers(server: list[bytes], reason: str) -> None:
    result, _ = play(probe(), server)
    assert (result.ok, result.reason) == (False, reason)


def test_capabilities_wanted() -> None:
    assert play(probe(capabilities=["uidl", "SASL"]), [HELLO, CAPA, BYE])[0].ok
    result, _ = play(probe(capabilities=["STLS"]), [HELLO, CAPA, BYE])
    assert result.reason == "server does not list STLS in CAPA, only UIDL, SASL PLAIN"


def test_login_with_password() -> None:
    server = [HELLO, CAPA, b"+OK\r\n", b"+OK\r\n", b"+OK 3 1200\r\n", BYE]
    result, sent = play(probe(username="mrose", password="tanstaaf"), server)
    assert result.ok
    assert result.detail.endswith("; 3 messages of 1200 bytes")
    assert sent[1:] == [b"USER mrose\r\n", b"PASS tanstaaf\r\n", b"STAT\r\n", b"QUIT\r\n"]


def test_login_with_apop_as_in_rfc_1939() -> None:
    server = [HELLO, CAPA, b"+OK\r\n", b"+OK 0 0\r\n", BYE]
    result, sent = play(probe(username="mrose", password="tanstaaf", login="apop"), server)
    assert result.ok
    assert sent[1] == b"APOP mrose c4c9334bac560ecc979e58001b3e22fb\r\n"


def test_apop_without_timestamp() -> None:
    result, _ = play(probe(username="u", password="p", login="apop"), [b"+OK ready\r\n", CAPA])
    assert result.reason == 'greeting "ready" has no timestamp for APOP'


def test_login_refused_does_not_show_the_password() -> None:
    server = [HELLO, CAPA, b"+OK\r\n", b"-ERR PASS tanstaaf is wrong\r\n"]
    result, _ = play(probe(username="mrose", password="tanstaaf"), server)
    assert result.reason == 'answer to PASS was "-ERR PASS *** is wrong", wanted +OK'


def test_stat_that_is_none() -> None:
    server = [HELLO, CAPA, b"+OK\r\n", b"+OK\r\n", b"+OK many\r\n"]
    result, _ = play(probe(username="u", password="p"), server)
    assert result.reason == 'answer to STAT was "many", wanted "+OK messages octets"'


def test_stls_comes_before_the_password() -> None:
    server = [HELLO, CAPA, b"+OK go\r\n", CAPA, b"+OK\r\n", b"+OK\r\n", b"+OK 0 0\r\n", BYE]
    result, sent = play(probe(username="u", password="p", security="starttls"), server)
    assert result.ok
    assert sent[:4] == [b"CAPA\r\n", b"STLS\r\n", b"TLS", b"CAPA\r\n"]
    result, sent = play(probe(username="u", password="p", security="starttls"), [HELLO, CAPA, b"-ERR no\r\n"])
    assert result.reason == 'answer to STLS was "-ERR no", wanted +OK'
    assert len(sent) == 2


def test_text_slipped_in_before_tls() -> None:
    result, _ = play(probe(security="starttls"), [HELLO, CAPA, b"+OK go\r\n+OK slipped\r\n"])
    assert result.reason == 'server said more than its answer to STLS: "+OK slipped"'


def test_password_file_missing(tmp_path: Path) -> None:
    path = tmp_path / "password"
    result, _ = play(probe(username="u", password_file=str(path)), [])
    assert result.reason == f"{path} cannot be read: No such file or directory"


@pytest.mark.parametrize("options", [{"username": "u\n", "password": "p"}, {"login": "cram"}, {"username": "u"}])
def test_options_refused(options: dict) -> None:
    with pytest.raises(ValidationError):
        Pop3Options(**options)


# --- Over a network --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["none", "starttls", "tls"])
async def test_whole_conversation(tmp_path: Path, mode: str) -> None:
    pki = make_pki(tmp_path)
    plain = script(HELLO, None, CAPA, None, BYE)

    async def starttls(stream) -> None:
        await script(HELLO, None, CAPA, None, b"+OK go\r\n")(stream)
        await over_tls(pki.server(), script(None, CAPA, None, BYE))(stream)

    handler = {"none": plain, "starttls": starttls, "tls": over_tls(pki.server(), plain)}[mode]
    async with tcp_server(handler) as port:
        assert (await ask(port, security=mode, tls={"ca_file": pki.ca_file})).ok


async def test_silent_and_endless_servers() -> None:
    async with tcp_server(silence) as port:
        assert (await ask(port, 200 * NS_PER_MS)).reason == "no greeting in 200 ms"
    async with tcp_server(endlessly(b"+OK" + bytes(1000))) as port:
        assert (await ask(port)).reason == "greeting with a line of more than 4096 bytes"
    async with tcp_server(endlessly(b"+", 0.01)) as port:
        assert (await ask(port, 200 * NS_PER_MS)).reason == "no end of greeting in 200 ms"


# --- Dovecot ---------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_dovecot() -> None:
    user = {"username": "probe", "password": "geheim"}
    with dovecot() as (plain, over, ca_file):
        with trio.fail_after(20):
            while not (await ask(plain)).ok:
                await trio.sleep(0.05)
        tls = {"ca_file": ca_file, "server_name": "mail.example"}
        for result in (
            await ask(plain, **user),
            await ask(plain, **user, login="apop", capabilities=["UIDL"]),
            await ask(plain, **user, security="starttls", tls=tls),
            await ask(over, **user, security="tls", tls=tls),
        ):
            assert result.detail.endswith("; 0 messages of 0 bytes"), result.reason
        assert (await ask(over, security="tls", tls={**tls, "server_name": "x.example"})).reason == (
            "certificate is for 127.0.0.1, mail.example, wanted x.example"
        )
        wrong = await ask(plain, username="probe", password="falsch")
        assert wrong.reason == 'answer to PASS was "-ERR [AUTH] Authentication failed.", wanted +OK'
