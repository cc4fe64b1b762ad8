"""The udp probe: sends a datagram and looks at what comes back, or at least that nobody says the port is closed."""

from __future__ import annotations

from typing import ClassVar

import trio
from pydantic import Field, model_validator

from hawatch.faults import Fault, connect_reason
from hawatch.model import NS_PER_S
from hawatch.net import is_from, numeric_address, open_datagrams, show_source
from hawatch.plugin import Attempt, Options, Probe, Result, Target, down, up
from hawatch.probes.fields import HexBytes, Regex
from hawatch.probes.patterns import Pattern, Search, TooSlow
from hawatch.text import quoted

DATAGRAM_LIMIT = 65535
STRAYS_LIMIT = 1000
"""Datagrams that are no answer as wanted, after which the attempt ends."""


class UdpOptions(Options):
    """Options of the udp probe."""

    send: str = Field(default="", max_length=1400, description=r'what to send; escapes as in TOML: "PING\r\n"')
    send_hex: HexBytes = Field(default="", max_length=4200, description='what to send, as bytes in hex: "00 01 ff"')
    expect: str = Field(default="", max_length=1400, description="what the answer must contain")
    expect_regex: Regex = Field(default="", max_length=1024, description="regular expression found in the answer")
    silence_is_up: bool = Field(
        default=False,
        description="up, too, when no answer comes for half the timeout, and no word that the port is closed",
    )

    @model_validator(mode="after")
    def _one_of_each(self) -> UdpOptions:
        if bool(self.send) == bool(self.send_hex):
            raise ValueError("one of send and send_hex is needed: a server answers what it understands")
        if self.expect and self.expect_regex:
            raise ValueError("expect and expect_regex exclude each other")
        return self


class UdpProbe(Probe):
    """Up when a datagram is answered as wanted."""

    options_type: ClassVar[type[Options]] = UdpOptions

    def __init__(self, options: Options, target: Target) -> None:
        super().__init__(options, target)
        assert isinstance(options, UdpOptions)
        self.udp = options
        self._pattern = Pattern(options.expect_regex) if options.expect_regex else None
        wanted = options.expect or options.expect_regex
        self._wanted = f'answer with "{wanted}"' if wanted else "answer"

    async def run(self, attempt: Attempt) -> Result:
        """Send, and wait for the answer."""
        if self.target.port is None:
            return down("no port to ask")
        attempt.waiting_for = self._wanted
        try:
            with open_datagrams(self.target.address, self.target.route) as datagrams:
                payload = self.udp.send.encode() or bytes.fromhex(self.udp.send_hex)
                await datagrams.sendto(payload, numeric_address(self.target.address, self.target.port))
                if not self.udp.silence_is_up:
                    return await self._listen(datagrams, attempt, self.target.port)
                with trio.move_on_after(attempt.timeout_ns / 2 / NS_PER_S):
                    return await self._listen(datagrams, attempt, self.target.port)
        except OSError as error:
            raise Fault(connect_reason(error)) from error
        return up("no answer, and no word that the port is closed")

    async def _listen(self, datagrams: trio.socket.SocketType, attempt: Attempt, port: int) -> Result:
        """Take datagrams until one is as wanted; the others are named in the reason."""
        search = Search(self._pattern) if self._pattern else None
        strays: set[str] = set()
        for _ in range(STRAYS_LIMIT):
            data, source = await datagrams.recvfrom(DATAGRAM_LIMIT)
            if not is_from(source, self.target.address, port):
                strays.add(f"answers from {show_source(source)}")
            else:
                try:
                    found = search.found_in(data) if search else self.udp.expect.encode() in data
                except TooSlow as error:
                    return down(str(error))
                if found:
                    return up(f"answer: {quoted(data)}")
                strays.add(quoted(data))
            attempt.waiting_for = f"{self._wanted} (only {' and '.join(sorted(strays)[:3])} came)"
        return down(f"no {self._wanted} among {STRAYS_LIMIT} datagrams")
