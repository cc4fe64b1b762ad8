"""The pop3 probe: greets a POP3 server, asks what it can, and looks into a mailbox where it may log in."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator
from typing import ClassVar, Literal

from pydantic import Field

from hawatch.plugin import Conversation, Options, Probe, Send, StartTls, Step, Target, TlsOptions, down, up
from hawatch.probes.lines import LINES_LIMIT, LineReader, UnexpectedAnswer
from hawatch.probes.login import LoginOptions, load_password
from hawatch.text import clean, cut, quoted

DETAIL_LIMIT = 400


class Pop3Options(LoginOptions):
    """Options of the pop3 probe."""

    security: Literal["none", "starttls", "tls"] = Field(
        default="none", description="starttls: TLS by STLS after the greeting; tls: TLS at once (port 995)"
    )
    tls: TlsOptions = Field(default_factory=TlsOptions, description="options of TLS")
    login: Literal["user", "apop"] = Field(
        default="user",
        description="how to log in where there is a username. user: USER and PASS, the password in the clear unless "
        "there is TLS; apop: a digest of the greeting's timestamp and the password",
    )
    capabilities: tuple[str, ...] = Field(
        default=(), max_length=20, description='capabilities that the server must list in CAPA: "UIDL", "STLS"'
    )


class Pop3Probe(Probe):
    """Greeting, CAPA, STLS, login and STAT as far as wanted, QUIT."""

    options_type: ClassVar[type[Options]] = Pop3Options
    default_port: ClassVar[int | None] = 110

    def __init__(self, options: Options, target: Target) -> None:
        super().__init__(options, target)
        assert isinstance(options, Pop3Options)
        self.pop3 = options
        self.password, self.password_problem = load_password(options)

    def tls(self) -> TlsOptions | None:
        """Return the TLS options where TLS is wanted."""
        return None if self.pop3.security == "none" else self.pop3.tls

    def tls_mode(self) -> Literal["none", "tls", "starttls"]:
        """Return when TLS begins."""
        return self.pop3.security

    def converse(self) -> Conversation:
        """Talk to the server as far as the options say."""
        if self.password_problem:
            return down(self.password_problem)
        try:
            return (yield from _Dialogue(self).hold())
        except UnexpectedAnswer as unexpected:
            return down(str(unexpected))


class _Dialogue:
    """One conversation."""

    def __init__(self, probe: Pop3Probe) -> None:
        self.probe = probe
        self.options = probe.pop3
        self.lines = LineReader(probe.password)
        self.capabilities: list[str] = []
        self.mailbox = ""

    def hold(self) -> Conversation:
        greeting = yield from self._status("greeting")
        yield from self._ask_capabilities()
        if self.options.security == "starttls":
            yield from self._start_tls()
        names = {line.split(" ")[0].upper() for line in self.capabilities}
        for capability in self.options.capabilities:
            if capability.upper() not in names:
                raise UnexpectedAnswer(f"server does not list {capability} in CAPA, only {self._offers()}")
        if self.options.username:
            yield from self._log_in(greeting)
            yield from self._stat()
        yield from self._command("QUIT")
        text = greeting.decode("utf-8", "replace")
        return up(cut(clean(f"{text}; offers {self._offers()}{self.mailbox}"), DETAIL_LIMIT))

    def _offers(self) -> str:
        return cut(clean(", ".join(self.capabilities))) or "nothing"

    def _ask_capabilities(self) -> Generator[Step, bytes, None]:
        """Ask with CAPA, RFC 2449; a server may not know the command."""
        self.capabilities = []
        yield Send(b"CAPA\r\n")
        if (yield from self.lines.line("answer to CAPA")).startswith(b"+OK"):
            yield from self._read_list()

    def _read_list(self) -> Generator[Step, bytes, None]:
        while len(self.capabilities) < LINES_LIMIT:
            line = yield from self.lines.line("answer to CAPA")
            if line == b".":
                return
            self.capabilities.append(line.decode("ascii", "replace"))
        raise UnexpectedAnswer(f"answer to CAPA of more than {LINES_LIMIT} lines")

    def _start_tls(self) -> Generator[Step, bytes, None]:
        yield from self._command("STLS")
        self.lines.refuse_pending("answer to STLS")
        yield StartTls()
        yield from self._ask_capabilities()

    def _log_in(self, greeting: bytes) -> Generator[Step, bytes, None]:
        user, password = self.options.username, self.probe.password
        if self.options.login == "apop":
            yield from self._command(f"APOP {user} {apop_digest(greeting, password)}", shown="APOP")
            return
        yield from self._command(f"USER {user}", shown="USER")
        yield from self._command(f"PASS {password}", shown="PASS")

    def _stat(self) -> Generator[Step, bytes, None]:
        text = yield from self._command("STAT")
        found = re.match(rb"(\d{1,10}) (\d{1,20})", text)
        if not found:
            raise UnexpectedAnswer(f'answer to STAT was {self.lines.quoted(text)}, wanted "+OK messages octets"')
        self.mailbox = f"; {int(found[1])} messages of {int(found[2])} bytes"

    def _command(self, command: str, shown: str = "") -> Generator[Step, bytes, bytes]:
        yield Send(f"{command}\r\n".encode())
        return (yield from self._status(f"answer to {shown or command}"))

    def _status(self, what: str) -> Generator[Step, bytes, bytes]:
        """Return the text after "+OK"."""
        line = yield from self.lines.line(what)
        if line.startswith(b"+OK"):
            return line[3:].strip()
        raise UnexpectedAnswer(f"{what} was {self.lines.quoted(line)}, wanted +OK")


def apop_digest(greeting: bytes, password: str) -> str:
    """Return the digest of APOP, RFC 1939 section 7; raise UnexpectedAnswer where the greeting has no timestamp."""
    timestamp = re.search(rb"<[^<>@ ]{1,250}@[^<>@ ]{1,250}>", greeting)
    if not timestamp:
        raise UnexpectedAnswer(f"greeting {quoted(greeting)} has no timestamp for APOP")
    return hashlib.md5(timestamp[0] + password.encode(), usedforsecurity=False).hexdigest()
