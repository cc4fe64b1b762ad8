from __future__ import annotations

import base64
from pathlib import Path

import pytest
import trio
from pydantic import ValidationError

from hawatch.agent.runner import run_probe
from hawatch.model import NS_PER_MS, NS_PER_S
from hawatch.plugin import Attempt, Result, Target
from hawatch.probes.smtp import SmtpOptions, SmtpProbe
from tests.unit.daemons import postfix
from tests.unit.probes.talk import play
from tests.unit.servers import endlessly, make_pki, over_tls, script, tcp_server

EHLO = b"250-mail.example\r\n250-SIZE 1000\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n"


def probe(port: int = 25, **options) -> SmtpProbe:
    return SmtpProbe(SmtpOptions(hello="lvs1", **options), Target("127.0.0.1", port))


async def ask(port: int, timeout_ns: int = 5 * NS_PER_S, **options) -> Result:
    return (await run_probe(probe(port, **options), Attempt(timeout_ns))).result


def test_greeting_ehlo_quit() -> None:
    result, sent = play(probe(), [b"220 mail.example ESMTP\r\n", EHLO, b"221 bye\r\n"])
    assert result.ok
    assert result.detail == "mail.example ESMTP; offers SIZE, STARTTLS, AUTH"
    assert sent == [b"EHLO lvs1\r\n", b"QUIT\r\n"]


def test_greeting_of_several_lines_and_pieces() -> None:
    result, _ = play(probe(), [b"22", b"0-mail\r\n220", b" ESMTP\r", b"\n", b"250", b" mail\n", b"221\r\n"])
    assert result.ok


def test_helo_for_a_server_that_knows_no_ehlo() -> None:
    result, sent = play(probe(), [b"220 old\r\n", b"502 what\r\n", b"250 hello\r\n", b"221 bye\r\n"])
    assert result.ok
    assert sent == [b"EHLO lvs1\r\n", b"HELO lvs1\r\n", b"QUIT\r\n"]


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        ([b"554 no service\r\n"], 'greeting was "554 no service", wanted 220'),
        ([b"421-busy\r\n421 later\x07\r\n"], 'greeting was "421 busy / later", wanted 220'),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], 'greeting was "SSH-2.0-OpenSSH_9.2", which is no SMTP'),
        ([b"220-a\r\n250 b\r\n"], "greeting has lines with different codes: [220, 250]"),
        ([], "connection closed by the server, wanted greeting"),
        ([b"220 mail\r\n"], "connection closed by the server, wanted answer to EHLO"),
        ([b"220 mail\r\n", b"451 no\r\n"], 'answer to EHLO was "451 no", wanted 250'),
        ([b"220 mail\r\n", EHLO, b"500 eh?\r\n"], 'answer to QUIT was "500 eh?", wanted 221'),
        ([b"220-more\r\n" * 200], "greeting of more than 100 lines"),
    ],
)
def test_unexpected_answers(server: list[bytes], reason: str) -> None:
    result, _ = play(probe(), server)
    assert (result.ok, result.reason) == (False, reason)


def test_capabilities_wanted() -> None:
    server = [b"220 mail\r\n", EHLO, b"221 bye\r\n"]
    assert play(probe(capabilities=["size", "STARTTLS"]), server)[0].ok
    result, _ = play(probe(capabilities=["PIPELINING"]), server)
    assert result.reason == "server does not offer PIPELINING, only SIZE, STARTTLS, AUTH"


def test_recipient_is_asked_and_nothing_is_sent() -> None:
    server = [b"220 mail\r\n", EHLO, b"250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n", b"221 bye\r\n"]
    result, sent = play(probe(mail_from="a@b.example", rcpt_to="postmaster"), server)
    assert result.ok
    assert sent[1:] == [b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<postmaster>\r\n", b"RSET\r\n", b"QUIT\r\n"]


def test_null_sender() -> None:
    server = [b"220 mail\r\n", EHLO, b"250 ok\r\n", b"250 ok\r\n", b"221 bye\r\n"]
    assert play(probe(mail_from=""), server)[1][1:] == [b"MAIL FROM:<>\r\n", b"RSET\r\n", b"QUIT\r\n"]


def test_recipient_refused() -> None:
    server = [b"220 mail\r\n", EHLO, b"250 ok\r\n", b"550 5.1.1 who?\r\n"]
    result, _ = play(probe(rcpt_to="nobody@b.example"), server)
    assert result.reason == 'answer to RCPT TO:<nobody@b.example> was "550 5.1.1 who?", wanted 250 or 251'


def test_starttls() -> None:
    server = [b"220 mail\r\n", EHLO, b"220 go\r\n", b"250 mail\r\n", b"221 bye\r\n"]
    result, sent = play(probe(security="starttls"), server)
    assert result.ok
    assert sent == [b"EHLO lvs1\r\n", b"STARTTLS\r\n", b"TLS", b"EHLO lvs1\r\n", b"QUIT\r\n"]


def test_starttls_not_offered() -> None:
    result, _ = play(probe(security="starttls"), [b"220 mail\r\n", b"250 mail\r\n"])
    assert result.reason == "server does not offer STARTTLS, only nothing"


def test_text_slipped_in_before_tls() -> None:
    result, sent = play(probe(security="starttls"), [b"220 mail\r\n", EHLO, b"220 go\r\n250 injected\r\n"])
    assert result.reason == 'server said more than its answer to STARTTLS: "250 injected"'
    assert b"TLS" not in sent


LOGIN = {"username": "u", "password": "geheim", "security": "tls"}


def test_login() -> None:
    result, sent = play(probe(**LOGIN), [b"220 mail\r\n", EHLO, b"235 ok\r\n", b"221 bye\r\n"])
    assert result.ok
    assert sent[1] == b"AUTH PLAIN " + base64.b64encode(b"\0u\0geheim") + b"\r\n"


def test_login_refused_does_not_show_the_password() -> None:
    token = base64.b64encode(b"\0u\0geheim")
    server = [b"220 mail\r\n", EHLO, b"535 bad geheim " + token + b"\r\n"]
    result, _ = play(probe(**LOGIN), server)
    assert result.reason == 'login as u refused: "535 bad *** ***"'
    assert "geheim" not in repr(SmtpOptions(**LOGIN))


def test_login_not_offered() -> None:
    result, _ = play(probe(**LOGIN), [b"220 mail\r\n", b"250-mail\r\n250 AUTH CRAM-MD5\r\n"])
    assert result.reason == "server does not offer AUTH PLAIN, only CRAM-MD5"


def test_password_file(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("geheim\nmore\n")
    options = {"username": "u", "password_file": str(path), "security": "tls"}
    assert probe(**options).password == "geheim"
    path.unlink()
    assert play(probe(**options), [])[0].reason == f"{path} cannot be read: No such file or directory"


@pytest.mark.parametrize(
    "options",
    [
        {"username": "u"},
        {"username": "u", "password": "p"},
        {"password": "p"},
        {"username": "u", "password": "p", "password_file": "f", "security": "tls"},
        {"mail_from": "a\r\nDATA"},
        {"rcpt_to": "<a>"},
        {"hello": "a b"},
        {"starttls": True},
    ],
)
def test_options_refused(options: dict) -> None:
    with pytest.raises(ValidationError):
        SmtpOptions(**options)


# --- Over a network --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["none", "starttls", "tls"])
async def test_whole_conversation(tmp_path: Path, mode: str) -> None:
    pki = make_pki(tmp_path)
    plain = script(b"220 mail\r\n", None, EHLO, None, b"221 bye\r\n")

    async def starttls(stream) -> None:
        await script(b"220 mail\r\n", None, EHLO, None, b"220 go\r\n")(stream)
        await over_tls(pki.server(), script(None, EHLO, None, b"221 bye\r\n"))(stream)

    handler = {"none": plain, "starttls": starttls, "tls": over_tls(pki.server(), plain)}[mode]
    async with tcp_server(handler) as port:
        assert await ask(port, security=mode, tls={"ca_file": pki.ca_file}) == Result(
            ok=True, detail="mail; offers SIZE, STARTTLS, AUTH"
        )


async def test_endless_greeting_lines() -> None:
    async with tcp_server(endlessly(b"220-and another thing\r\n")) as port:
        assert (await ask(port)).reason == "greeting of more than 100 lines"


async def test_endless_line() -> None:
    async with tcp_server(endlessly(b"220 " + bytes(1000))) as port:
        assert (await ask(port)).reason == "greeting with a line of more than 4096 bytes"


async def test_one_byte_a_moment() -> None:
    async with tcp_server(endlessly(b"2", 0.01)) as port:
        assert (await ask(port, 200 * NS_PER_MS)).reason == "no end of greeting in 200 ms"


# --- Postfix ---------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_postfix() -> None:
    with postfix() as (plain, over, ca_file):
        with trio.fail_after(20):
            while not (await ask(plain)).ok:
                await trio.sleep(0.05)
        tls = {"ca_file": ca_file}
        result = await ask(plain, security="starttls", tls=tls, rcpt_to="probe@mail.example", capabilities=["SIZE"])
        assert result.ok, result.reason
        assert result.detail.startswith("mail.example ESMTP Postfix; offers PIPELINING, ")
        assert (await ask(over, security="tls", tls=tls, mail_from="a@b.example")).ok
        assert (await ask(over, security="tls", tls={**tls, "server_name": "x.example"})).reason == (
            "certificate is for 127.0.0.1, mail.example, wanted x.example"
        )
        assert (await ask(over, 300 * NS_PER_MS)).reason == "no greeting in 300 ms"
        assert (await ask(plain, security="tls", tls=tls)).reason.startswith(
            'no TLS: the server answered in the clear: "220 mail.example'
        )
        assert "Relay access denied" in (await ask(plain, rcpt_to="x@elsewhere.example")).reason
