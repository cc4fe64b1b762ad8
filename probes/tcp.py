"""The tcp probe: connects, and where wanted says something and looks at the answer."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from hawatch.plugin import Conversation, Options, Probe, Receive, Send, Target, TlsOptions, down, up
from hawatch.probes.fields import HexBytes, Regex
from hawatch.probes.patterns import Pattern, Search, TooSlow
from hawatch.text import quoted


class TcpOptions(Options):
    """Options of the tcp probe."""

    send: str = Field(default="", max_length=4096, description=r'what to send; escapes as in TOML: "PING\r\n"')
    send_hex: HexBytes = Field(default="", max_length=8192, description='what to send, as bytes in hex: "00 01 ff"')
    expect: str = Field(default="", max_length=4096, description="what the answer must contain")
    expect_regex: Regex = Field(default="", max_length=1024, description="regular expression found in the answer")
    limit: int = Field(default=4096, ge=1, le=1 << 20, description="most bytes of the answer looked at")
    security: Literal["none", "tls"] = Field(default="none", description="tls: TLS at once")
    tls: TlsOptions = Field(default_factory=TlsOptions, description="options of TLS")

    @model_validator(mode="after")
    def _one_expectation(self) -> TcpOptions:
        if self.send and self.send_hex:
            raise ValueError("send and send_hex exclude each other")
        if self.expect and self.expect_regex:
            raise ValueError("expect and expect_regex exclude each other")
        return self


class TcpProbe(Probe):
    """Up when the connection stands and, where something is expected, it came."""

    options_type: ClassVar[type[Options]] = TcpOptions

    def __init__(self, options: Options, target: Target) -> None:
        super().__init__(options, target)
        assert isinstance(options, TcpOptions)
        self.tcp = options
        self._pattern = Pattern(options.expect_regex) if options.expect_regex else None

    def tls(self) -> TlsOptions | None:
        """Return the TLS options where TLS is wanted."""
        return self.tcp.tls if self.tcp.security == "tls" else None

    def tls_mode(self) -> Literal["none", "tls", "starttls"]:
        """Return when TLS begins."""
        return self.tcp.security

    def converse(self) -> Conversation:
        """Send, and read until what is expected has come."""
        options = self.tcp
        if said := options.send.encode() or bytes.fromhex(options.send_hex):
            yield Send(said)
        wanted = options.expect or options.expect_regex
        if not wanted:
            return up("connected")
        answer = bytearray()
        search = Search(self._pattern) if self._pattern else None
        literal = options.expect.encode()
        while len(answer) < options.limit:
            data = yield Receive(
                f'answer with "{wanted}"' if not answer else f'"{wanted}" in the answer', options.limit
            )
            if not data:
                break
            seen = len(answer)
            answer += data
            try:
                found = search.found_in(answer) if search else literal in answer[max(0, seen - len(literal)) :]
            except TooSlow as error:
                return down(str(error))
            if found:
                return up(f"answer: {quoted(answer)}")
        if not answer:
            return down(f'connection closed without an answer, wanted "{wanted}"')
        return down(f'answer {quoted(answer)}, wanted "{wanted}"')
