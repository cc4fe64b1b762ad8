"""The smtp probe: greets a mail server as a sending server would, up to the recipient, and never sends mail."""

from __future__ import annotations

import base64
import socket
from collections.abc import Generator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from hawatch.plugin import Conversation, Options, Probe, Result, Send, StartTls, Step, Target, TlsOptions, down, up
from hawatch.probes.lines import LINES_LIMIT, LineReader, UnexpectedAnswer
from hawatch.probes.login import LoginOptions, load_password
from hawatch.text import clean, cut

DETAIL_LIMIT = 400


def _one_word(value: str) -> str:
    if any(character in value for character in "<>") or not all(33 <= ord(character) < 127 for character in value):
        raise ValueError("must be printable ASCII without spaces and angle brackets")
    return value


Word = Annotated[str, AfterValidator(_one_word)]


class SmtpOptions(LoginOptions):
    """Options of the smtp probe."""

    security: Literal["none", "starttls", "tls"] = Field(
        default="none", description="starttls: TLS after the greeting; tls: TLS at once (port 465)"
    )
    tls: TlsOptions = Field(default_factory=TlsOptions, description="options of TLS")
    hello: Word = Field(default="", max_length=255, description="name given in EHLO; default: this machine's")
    capabilities: tuple[str, ...] = Field(
        default=(), max_length=20, description='ESMTP keywords that the server must offer: "SIZE", "PIPELINING"'
    )
    mail_from: Word | None = Field(
        default=None, max_length=254, description='sender for MAIL FROM; "" is the null sender; default: no MAIL'
    )
    rcpt_to: Word = Field(default="", max_length=254, description="recipient for RCPT TO that must be accepted")

    @model_validator(mode="after")
    def _no_password_in_the_clear(self) -> SmtpOptions:
        if self.username and self.security == "none":
            raise ValueError('username needs security = "starttls" or "tls": the password would be in the clear')
        return self


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the server."""

    code: int
    lines: tuple[bytes, ...]
    """Text of its lines, without the code."""

    def __bytes__(self) -> bytes:
        return b"%03d %s" % (self.code, b" / ".join(self.lines))


class SmtpProbe(Probe):
    """Greeting, EHLO, STARTTLS, AUTH, MAIL and RCPT as far as wanted, QUIT."""

    options_type: ClassVar[type[Options]] = SmtpOptions
    default_port: ClassVar[int | None] = 25

    def __init__(self, options: Options, target: Target) -> None:
        super().__init__(options, target)
        assert isinstance(options, SmtpOptions)
        self.smtp = options
        self.hello = options.hello or socket.gethostname()
        password, self.password_problem = load_password(options)
        self.password = password
        self.token = base64.b64encode(f"\0{options.username}\0{password}".encode()).decode() if password else ""

    def tls(self) -> TlsOptions | None:
        """Return the TLS options where TLS is wanted."""
        return None if self.smtp.security == "none" else self.smtp.tls

    def tls_mode(self) -> Literal["none", "tls", "starttls"]:
        """Return when TLS begins."""
        return self.smtp.security

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

    def __init__(self, probe: SmtpProbe) -> None:
        self.probe = probe
        self.options = probe.smtp
        self.lines = LineReader(probe.password, probe.token)
        self.offered: dict[str, str] = {}
        """Keywords that the server offers, with their parameters."""

    def hold(self) -> Conversation:
        greeting = yield from self._reply("greeting")
        self._want(greeting, "greeting", 220)
        yield from self._hello()
        if self.options.security == "starttls":
            yield from self._start_tls()
        for keyword in self.options.capabilities:
            if keyword.upper() not in self.offered:
                raise UnexpectedAnswer(f"server does not offer {keyword}, only {self._offers()}")
        if self.options.username:
            yield from self._log_in()
        if self.options.mail_from is not None or self.options.rcpt_to:
            yield from self._address_mail()
        yield from self._command("QUIT", 221)
        return self._up(greeting)

    def _up(self, greeting: Reply) -> Result:
        text = greeting.lines[0].decode("utf-8", "replace")
        return up(cut(clean(f"{text}; offers {self._offers()}"), DETAIL_LIMIT))

    def _offers(self) -> str:
        return cut(clean(", ".join(self.offered))) or "nothing"

    def _hello(self) -> Generator[Step, bytes, None]:
        """Say EHLO, or HELO to a server that knows no better (RFC 5321 section 3.2)."""
        self.offered = {}
        yield Send(f"EHLO {self.probe.hello}\r\n".encode())
        reply = yield from self._reply("answer to EHLO")
        if reply.code in (500, 501, 502, 504, 550):
            yield from self._command(f"HELO {self.probe.hello}", 250)
            return
        self._want(reply, "answer to EHLO", 250)
        for line in reply.lines[1:]:
            keyword, _, parameters = line.decode("ascii", "replace").partition(" ")
            self.offered[keyword.upper()] = parameters.upper()

    def _start_tls(self) -> Generator[Step, bytes, None]:
        if "STARTTLS" not in self.offered:
            raise UnexpectedAnswer(f"server does not offer STARTTLS, only {self._offers()}")
        yield from self._command("STARTTLS", 220)
        self.lines.refuse_pending("answer to STARTTLS")
        yield StartTls()
        yield from self._hello()

    def _log_in(self) -> Generator[Step, bytes, None]:
        """Log in with AUTH PLAIN, RFC 4616."""
        mechanisms = self.offered.get("AUTH", "").split()
        if "PLAIN" not in mechanisms:
            raise UnexpectedAnswer(f"server does not offer AUTH PLAIN, only {' '.join(mechanisms) or 'no AUTH'}")
        yield Send(f"AUTH PLAIN {self.probe.token}\r\n".encode())
        reply = yield from self._reply("answer to AUTH")
        if reply.code != 235:
            raise UnexpectedAnswer(f"login as {self.options.username} refused: {self.lines.quoted(bytes(reply))}")

    def _address_mail(self) -> Generator[Step, bytes, None]:
        """Address a mail that is never sent."""
        yield from self._command(f"MAIL FROM:<{self.options.mail_from or ''}>", 250)
        if self.options.rcpt_to:
            yield from self._command(f"RCPT TO:<{self.options.rcpt_to}>", 250, 251)
        yield from self._command("RSET", 250)

    def _command(self, command: str, *wanted: int) -> Generator[Step, bytes, Reply]:
        what = f"answer to {command}"
        yield Send(f"{command}\r\n".encode())
        reply = yield from self._reply(what)
        self._want(reply, what, *wanted)
        return reply

    def _want(self, reply: Reply, what: str, *wanted: int) -> None:
        if reply.code not in wanted:
            codes = " or ".join(map(str, wanted))
            raise UnexpectedAnswer(f"{what} was {self.lines.quoted(bytes(reply))}, wanted {codes}")

    def _reply(self, what: str) -> Generator[Step, bytes, Reply]:
        """Read an answer of one or more lines, RFC 5321 section 4.2.1."""
        texts: list[bytes] = []
        codes = set()
        while len(texts) < LINES_LIMIT:
            line = yield from self.lines.line(what)
            code, mark, text = line[:3], line[3:4], line[4:]
            if not (code.isdigit() and mark in (b" ", b"-", b"")):
                raise UnexpectedAnswer(f"{what} was {self.lines.quoted(line)}, which is no SMTP")
            codes.add(int(code))
            texts.append(text)
            if len(codes) > 1:
                raise UnexpectedAnswer(f"{what} has lines with different codes: {sorted(codes)}")
            if mark != b"-":
                return Reply(codes.pop(), tuple(texts))
        raise UnexpectedAnswer(f"{what} of more than {LINES_LIMIT} lines")
