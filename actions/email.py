"""Alerts by mail: one message to one recipient over SMTP, through the first of several servers that takes it.

aiosmtplib speaks asyncio: each message is sent by an event loop of its own in a thread, under a time limit that ends
the loop. Nothing else of hawatch runs there.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - the library's own loop, see above
import hashlib
import socket
import ssl
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import formatdate

import aiosmtplib
import trio

from hawatch.actions.outgoing import Outgoing, SendError
from hawatch.faults import X509_REASONS
from hawatch.text import clean, cut

SUBJECT_MAX = 200
REFERENCES_MAX = 20
"""Threads that a digest refers to."""
TURNS = 3
"""The loop closes a connection in so many turns, and ends after that."""
CONVERSATIONS_MAX = 32
"""Conversations at once; the others wait for their turns."""
THREADS_MAX = 64
"""Their threads, those included that did not end in time. They are not those that others of this process wait for."""
GRACE_S = 2.0
"""Beyond its time limit an attempt's thread is waited for so long."""


_turns = trio.Semaphore(CONVERSATIONS_MAX)
_threads = trio.CapacityLimiter(THREADS_MAX)


@dataclass(frozen=True, slots=True)
class MailServer:
    """A server that takes mail, and how to speak with it."""

    host: str
    port: int
    tls: str = "starttls"
    """none, starttls or tls."""
    username: str = ""
    password: str = ""
    ca_file: str = ""
    verify: bool = True

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def message_id(word: str, sender: str) -> str:
    """Return a Message-ID that is the same for the same word."""
    digest = hashlib.sha256(word.encode()).hexdigest()[:32]
    return f"<{digest}@{sender.rpartition('@')[2]}>"


def make_mail(message: Outgoing, sender: str, recipient: str) -> EmailMessage:
    """Return the mail of a message: the end of a failure refers to its beginning.

    All refer to a mail that does not exist but that each director knows the name of, so that one's end comes below
    another's beginning.
    """
    mail = EmailMessage(policy=SMTP_POLICY)
    mail["From"] = Address("hawatch", addr_spec=sender)
    mail["To"] = recipient
    mail["Subject"] = cut(clean(message.subject), SUBJECT_MAX)
    mail["Date"] = formatdate(message.date_s, localtime=True)
    roots = [message_id(thread, sender) for thread in message.threads[:REFERENCES_MAX]]
    references = [message_id(word, sender) for word in message.above[:REFERENCES_MAX]]
    if message.begins and len(roots) == 1:
        mail["Message-ID"] = roots[0]
    else:
        mail["Message-ID"] = message_id(message.key, sender)
        references += roots
        if len(roots) == 1:
            mail["In-Reply-To"] = roots[0]
    if references:
        mail["References"] = " ".join(references)
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    if message.severity == "critical":
        mail["X-Priority"] = "1"
    mail["X-Hawatch-Key"] = hashlib.sha256(message.key.encode()).hexdigest()[:32]
    if message.twice:
        mail["X-Hawatch-Possibly-Twice"] = "yes"
    note = "\n\nThis message may have come to you before: the mail server's answer was lost." if message.twice else ""
    mail.set_content(message.body + note + "\n", charset="utf-8", cte="quoted-printable")
    return mail


async def send_mail(
    message: Outgoing, sender: str, recipient: str, servers: Sequence[MailServer], timeout_s: float
) -> str:
    """Send a message to one recipient and return the server that took it; raise SendError if none did."""
    assert servers, "no mail server"
    mail = make_mail(message, sender, recipient)
    failures: list[str] = []
    refused = 0
    for server in servers:
        try:
            await _in_thread(_Conversation(server, mail, sender, recipient, timeout_s))
        except SendError as error:
            if error.perhaps_taken:
                raise SendError(f"{server}: {error}", perhaps_taken=True) from error
            failures.append(f"{server}: {error}")
            refused += error.for_good
        else:
            return str(server)
    raise SendError("; ".join(failures), for_good=refused == len(servers))


@dataclass(slots=True)
class _Conversation:
    """One SMTP conversation, to be held once."""

    server: MailServer
    mail: EmailMessage
    sender: str
    recipient: str
    timeout_s: float
    handed_over: bool = False
    """The message is on its way: what ends the conversation now leaves it open whether it was taken."""

    async def hold(self) -> None:
        """Hold the conversation; raise SendError if the message is not taken."""
        server = self.server
        client = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            timeout=self.timeout_s,
            use_tls=server.tls == "tls",
            start_tls=server.tls == "starttls",
            tls_context=_context(server) if server.tls != "none" else None,
            local_hostname=socket.gethostname(),
        )
        try:
            await self._connect(client)
            await self._hand_over(client)
            try:
                await client.quit(timeout=1.0)
            except (aiosmtplib.SMTPException, OSError):
                return  # the message is taken: how the conversation ends does not matter
        finally:
            transport = client.transport
            client.close()
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()
            for _ in range(TURNS):
                await asyncio.sleep(0)

    async def _connect(self, client: aiosmtplib.SMTP) -> None:
        try:
            await client.connect()
            if self.server.username:
                await client.login(self.server.username, self.server.password)
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise SendError(_words(error)) from error

    async def _hand_over(self, client: aiosmtplib.SMTP) -> None:
        try:
            await client.mail(self.sender)
            await client.rcpt(self.recipient)
        except (aiosmtplib.SMTPException, OSError) as error:
            raise SendError(_words(error), for_good=_is_permanent(error)) from error
        self.handed_over = True
        try:
            await client.data(self.mail.as_bytes())
        except aiosmtplib.SMTPResponseException as error:
            raise SendError(_words(error), for_good=_is_permanent(error)) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise SendError(f"{_words(error)} after the message was sent", perhaps_taken=True) from error


async def _in_thread(conversation: _Conversation) -> None:
    """Hold a conversation on an event loop of its own, in a thread that is left alone when it does not end."""
    limit_s = conversation.timeout_s

    async def limited() -> None:
        await asyncio.wait_for(conversation.hold(), limit_s)

    try:
        async with _turns:
            with trio.fail_after(limit_s + GRACE_S):
                await trio.to_thread.run_sync(_run, limited, abandon_on_cancel=True, limiter=_threads)
    except (TimeoutError, trio.TooSlowError) as error:
        raise SendError(f"no answer in {limit_s:g} s", perhaps_taken=conversation.handed_over) from error


def _run(work: Callable[[], Coroutine[object, object, None]]) -> None:
    asyncio.run(work())


def _is_permanent(error: Exception) -> bool:
    code = getattr(error, "code", 0)
    return isinstance(code, int) and 500 <= code < 600


def _context(server: MailServer) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=server.ca_file or None)
    except OSError as error:
        raise SendError(f"CA file {server.ca_file}: {error}") from error
    if not server.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _words(error: Exception) -> str:
    """Return an error of a conversation in words."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return X509_REASONS.get(cause.verify_code) or f"certificate refused: {cause.verify_message}"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return cut(clean(f"{error.code} {error.message}"))
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return cut(clean(str(error))) or type(error).__name__
