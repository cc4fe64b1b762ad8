"""Mail: what it looks like, and that a real Postfix takes it, or does not."""

from __future__ import annotations

import gc
import hashlib
import signal
import socket
from dataclasses import replace

import pytest
import trio

from hawatch.actions.email import REFERENCES_MAX, MailServer, make_mail, send_mail
from hawatch.actions.outgoing import SendError
from tests.unit.actions.test_outgoing import DOWN, UP, outgoing
from tests.unit.console.mailer import mailer

# The library leaves a connection that timed out to the garbage collector, with its loop.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def collected():
    yield
    gc.collect()


SENDER, OPS = "hawatch@example.org", "ops@mail.example"


def test_an_end_refers_to_its_beginning():
    down = make_mail(outgoing(), SENDER, OPS)
    up = make_mail(outgoing(UP, key="k2", begins=False), SENDER, OPS)
    assert up["In-Reply-To"] == up["References"] == down["Message-ID"]
    assert up["Message-ID"] != down["Message-ID"]
    assert down["Message-ID"] == make_mail(outgoing(), SENDER, OPS)["Message-ID"]
    assert down["Auto-Submitted"] == "auto-generated"
    assert down["Date"]


def test_mails_of_two_directors_have_a_thread_in_common():
    down = make_mail(outgoing(DOWN, threads=("of lvs1",), above=("day",)), SENDER, OPS)
    up = make_mail(outgoing(UP, threads=("of lvs2",), above=("day",), begins=False), SENDER, OPS)
    assert down["References"]
    assert up["References"].split()[0] == down["References"]
    assert down["Message-ID"] not in up["References"]


def test_every_field_of_a_mail():
    mail = make_mail(outgoing(threads=("thread",)), SENDER, OPS)
    word, key = (hashlib.sha256(text).hexdigest()[:32] for text in (b"thread", b"k1"))
    assert dict(mail.items()) == {
        "From": "hawatch <hawatch@example.org>", "To": OPS, "Subject": outgoing().subject, "Date": mail["Date"],
        "Message-ID": f"<{word}@example.org>", "Auto-Submitted": "auto-generated", "X-Auto-Response-Suppress": "All",
        "X-Hawatch-Key": key, "MIME-Version": "1.0", "Content-Type": 'text/plain; charset="utf-8"',
        "Content-Transfer-Encoding": "quoted-printable",
    }  # fmt: skip
    assert mail["Date"].datetime.timestamp() == outgoing().date_s
    assert mail.get_content() == outgoing().body + "\n"
    up = make_mail(outgoing(UP, key="k2", threads=("thread",), begins=False), SENDER, OPS)
    assert up["Message-ID"] == f"<{hashlib.sha256(b'k2').hexdigest()[:32]}@example.org>"


def test_a_server_is_named_with_its_port():
    assert str(MailServer("mail.example", 25)) == "mail.example:25"
    assert str(MailServer("::1", 587)) == "[::1]:587"


def test_a_digest_refers_to_no_more_than_a_mail_program_reads():
    words = tuple(str(number) for number in range(60))
    mail = make_mail(outgoing(threads=words, above=words, begins=False), SENDER, OPS)
    assert len(mail["References"].split()) == 2 * REFERENCES_MAX


def test_a_digest_refers_to_all():
    mail = make_mail(outgoing(DOWN, UP, threads=("a", "b"), begins=False), SENDER, OPS)
    assert len(mail["References"].split()) == 2
    assert mail["In-Reply-To"] is None


def test_no_text_breaks_a_header():
    mail = make_mail(outgoing(subject="a\r\nBcc: x@y\x00" + "z" * 500), SENDER, OPS)
    assert mail["Bcc"] is None
    assert len(mail["Subject"]) == 200


def test_a_mark_for_what_may_come_twice():
    mail = make_mail(outgoing(twice=True), SENDER, OPS)
    assert mail["X-Hawatch-Possibly-Twice"] == "yes"
    note = "This message may have come to you before: the mail server's answer was lost."
    assert mail.get_content() == f"{outgoing().body}\n\n{note}\n"


def test_critical_is_urgent():
    assert make_mail(outgoing(severity="critical"), SENDER, OPS)["X-Priority"] == "1"
    assert make_mail(outgoing(), SENDER, OPS)["X-Priority"] is None


@pytest.fixture(scope="module")
def running():
    with mailer() as made:
        yield made


def server(made, tls="starttls", **rest):
    port = made.tls if tls == "tls" else made.plain
    return MailServer("127.0.0.1", port, tls, ca_file=made.ca_file, **rest)


@pytest.mark.slow
@pytest.mark.parametrize("tls", ["none", "starttls", "tls"])
async def test_postfix_takes_it(running, tls):
    before = len(running.mails())
    await send_mail(outgoing(key=tls, begins=False), SENDER, OPS, [server(running, tls)], 10)
    mail = (await trio.to_thread.run_sync(running.wait_mails, before + 1))[-1]
    assert mail["Subject"] == "[epn] http 192.168.1.1:80 DOWN: HTTP 503, wanted 200"
    assert mail.get_content() == "It is down.\n.\nÜber und aus.\n"
    assert ("ESMTPS" in str(mail["Received"])) is (tls != "none")


@pytest.mark.slow
async def test_a_certificate_of_an_unknown_issuer_is_refused(running):
    strange = MailServer("127.0.0.1", running.plain, "starttls")
    with pytest.raises(SendError, match=r"issuer is unknown|unknown self-signed CA|local issuer") as caught:
        await send_mail(outgoing(), SENDER, OPS, [strange], 10)
    assert not caught.value.for_good


@pytest.mark.slow
async def test_a_recipient_that_is_not_there(running):
    with pytest.raises(SendError, match="550") as caught:
        await send_mail(outgoing(), SENDER, "nobody@mail.example", [server(running)], 10)
    assert caught.value.for_good


@pytest.mark.slow
async def test_login_where_there_is_none(running):
    with pytest.raises(SendError, match=r"(?i)auth") as caught:
        await send_mail(outgoing(), SENDER, OPS, [server(running, username="x", password="y")], 10)
    assert not caught.value.for_good


@pytest.mark.slow
async def test_the_next_server_takes_it(running):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dead = MailServer("127.0.0.1", 1, "none")
        hung = MailServer("127.0.0.1", silent.getsockname()[1], "none")
        taken_by = await send_mail(outgoing(key="next"), SENDER, OPS, [dead, hung, server(running)], 1)
    assert taken_by == f"127.0.0.1:{running.plain}"


@pytest.mark.slow
async def test_451_is_for_later(running):
    running.answer_451()
    try:
        with pytest.raises(SendError, match=r"451 4\.3\.0") as caught:
            await send_mail(outgoing(), SENDER, OPS, [server(running)], 10)
    finally:
        running.be_well()
    assert not caught.value.for_good
    assert not caught.value.perhaps_taken


async def test_a_server_that_hangs_after_the_message():
    """Whether it took the message nobody knows: no other server is asked."""

    async def hang(stream):
        await stream.send_all(b"220 here\r\n")
        pending = b""
        while data := await stream.receive_some():
            pending += data
            while b"\r\n" in pending:
                line, _, pending = pending.partition(b"\r\n")
                if line == b".":
                    await trio.sleep_forever()
                answer = b"354 go on\r\n" if line == b"DATA" else b"250 ok\r\n"
                if line.split(b" ")[0] in (b"EHLO", b"MAIL", b"RCPT", b"DATA"):
                    await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, hang, 0)
        port = listeners[0].socket.getsockname()[1]
        servers = [MailServer("127.0.0.1", port, "none"), MailServer("127.0.0.1", 1, "none")]
        try:
            with pytest.raises(SendError) as caught:
                await send_mail(outgoing(), SENDER, OPS, servers, 0.5)
        finally:
            nursery.cancel_scope.cancel()
    assert caught.value.perhaps_taken


@pytest.mark.slow
async def test_postfix_that_is_stopped_delays_for_its_time_limit_only(running):
    await send_mail(outgoing(key="warm", begins=False), SENDER, OPS, [server(running)], 10)
    running.signal_smtpd(signal.SIGSTOP)
    try:
        with pytest.raises(SendError) as caught:
            await send_mail(outgoing(key="stopped"), SENDER, OPS, [server(running, "none")], 1)
    finally:
        running.signal_smtpd(signal.SIGCONT)
    assert not caught.value.perhaps_taken


@pytest.mark.slow
@pytest.mark.parametrize("mechanisms", ["plain", "login", "cram-md5"])
async def test_login(running, mechanisms):
    """Postfix with Dovecot's logins, over STARTTLS: the right password, a wrong one, none."""
    entry = MailServer("127.0.0.1", running.login, "starttls", ca_file=running.ca_file)
    with running.logins(mechanisms):
        before = len(running.mails())
        good = replace(entry, username="hawatch", password="geheim")
        await send_mail(outgoing(key=mechanisms, begins=False), SENDER, OPS, [good], 10)
        await trio.to_thread.run_sync(running.wait_mails, before + 1)
        with pytest.raises(SendError, match="535") as caught:
            await send_mail(outgoing(), SENDER, OPS, [replace(good, password="falsch")], 10)
        assert not caught.value.for_good, "somebody may correct the password"
        assert "geheim" not in str(caught.value)
        with pytest.raises(SendError, match="554"):
            await send_mail(outgoing(), SENDER, OPS, [entry], 10)


@pytest.mark.slow
async def test_over_ipv6(running):
    before = len(running.mails())
    entry = MailServer("::1", running.plain, "none")
    assert await send_mail(outgoing(key="v6", begins=False), SENDER, OPS, [entry], 10) == f"[::1]:{running.plain}"
    mail = (await trio.to_thread.run_sync(running.wait_mails, before + 1))[-1]
    assert "[::1]" in str(mail["Received"]) or "IPv6:::1" in str(mail["Received"])
