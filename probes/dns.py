"""The dns probe: one question to a name server over UDP or TCP, and what its answer must be."""

from __future__ import annotations

import struct
from collections import Counter
from typing import TYPE_CHECKING, ClassVar, Literal

import dns.exception
import dns.name
import dns.rcode
import dns.rdatatype
import trio
from pydantic import Field, field_validator, model_validator

from hawatch.faults import Fault, broken_reason, connect_reason
from hawatch.net import is_from, numeric_address, open_connection, open_datagrams, show_source
from hawatch.plugin import Attempt, Options, Probe, Result, Target, down

if TYPE_CHECKING:
    from hawatch.probes.dns_answers import Asked

MESSAGE_LIMIT = 65535
STRAYS_LIMIT = 1000
"""Datagrams that are no answer to the question, after which the attempt ends."""


class DnsOptions(Options):
    """Options of the dns probe."""

    name: str = Field(default=".", max_length=255, description="name to ask for")
    record: str = Field(default="SOA", max_length=20, description="record type to ask for")
    transport: Literal["udp", "tcp"] = Field(
        default="udp", description="how to ask; a truncated answer over UDP is asked for again over TCP"
    )
    recursion: bool = Field(default=True, description="ask the server to find the answer elsewhere (RD bit)")
    edns: bool = Field(default=False, description="offer EDNS with answers of up to 1232 bytes over UDP")
    rcode: str = Field(default="NOERROR", max_length=20, description='wanted response code, "NXDOMAIN" for one')
    answers: tuple[str, ...] = Field(
        default=(), max_length=100, description='wanted records as in a zone file: "192.0.2.1", "10 mail.example.org."'
    )
    match: Literal["subset", "exact"] = Field(
        default="subset", description="subset: the wanted answers must be among those that come; exact: no others"
    )
    authoritative: bool = Field(default=False, description="the answer must be authoritative (AA bit)")
    allow_empty: bool = Field(default=False, description="NOERROR without any record of the type is good, too")
    serial_lag: int | None = Field(
        default=None,
        ge=0,
        le=1 << 30,
        description="for SOA: how far the zone's serial may be behind the newest of the other servers; "
        "default: not compared",
    )

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        try:
            dns.name.from_text(value)
        except (dns.exception.DNSException, UnicodeError) as error:
            raise ValueError(f"is no domain name: {error}") from error
        return value

    @field_validator("record")
    @classmethod
    def _record(cls, value: str) -> str:
        try:
            number = dns.rdatatype.from_text(value)
        except (dns.exception.DNSException, ValueError) as error:
            raise ValueError('is no record type, such as "SOA", "A", "AAAA", "MX", "TYPE65"') from error
        if number == dns.rdatatype.NONE or (dns.rdatatype.is_metatype(number) and number != dns.rdatatype.ANY):
            raise ValueError("is a record type that cannot be asked for here")
        return dns.rdatatype.to_text(number)

    @field_validator("rcode")
    @classmethod
    def _rcode(cls, value: str) -> str:
        try:
            return dns.rcode.to_text(dns.rcode.from_text(value))
        except (dns.exception.DNSException, ValueError) as error:
            raise ValueError('is no response code, such as "NOERROR", "NXDOMAIN", "REFUSED"') from error

    @model_validator(mode="after")
    def _whole(self) -> DnsOptions:
        from hawatch.probes.dns_answers import parse_records

        parse_records(self.record, self.answers)
        if self.serial_lag is not None and self.record != "SOA":
            raise ValueError('serial_lag needs record = "SOA"')
        if self.answers and self.rcode != "NOERROR":
            raise ValueError('answers need rcode = "NOERROR"')
        return self


class DnsProbe(Probe):
    """One question, asked as a client would, with every stray answer ignored."""

    options_type: ClassVar[type[Options]] = DnsOptions
    default_port: ClassVar[int | None] = 53

    def __init__(self, options: Options, target: Target) -> None:
        # Reading DNS messages takes some 20 ms to import: those pay who probe DNS, and before the first run.
        from hawatch.probes.dns_answers import Question

        super().__init__(options, target)
        assert isinstance(options, DnsOptions)
        self.dns = options
        self.question = Question(options)

    async def run(self, attempt: Attempt) -> Result:
        """Ask once, over TCP again where the answer over UDP is truncated."""
        if self.target.port is None:
            return down("no port to ask")
        asked = self.question.ask()
        if self.dns.transport == "udp":
            wire = await _ask_udp(asked, self.target, self.target.port, attempt)
            if not asked.is_truncated(wire):
                return asked.judge(wire, attempt.siblings, "UDP")
        wire = await _ask_tcp(asked.wire, str(self.question), self.target, self.target.port, attempt)
        stray = asked.stray(wire)
        return down(f"{stray} came over TCP") if stray else asked.judge(wire, attempt.siblings, "TCP")


async def _ask_udp(asked: Asked, target: Target, port: int, attempt: Attempt) -> bytes:
    """Return the answer to the question; anything else that comes is counted and told at the deadline."""
    strays: Counter[str] = Counter()
    attempt.waiting_for = f"answer to {asked.question}"
    with _open(target) as datagrams:
        try:
            await datagrams.sendto(asked.wire, numeric_address(target.address, port))
            while strays.total() < STRAYS_LIMIT:
                wire, source = await datagrams.recvfrom(MESSAGE_LIMIT)
                stray = (
                    asked.stray(wire)
                    if is_from(source, target.address, port)
                    else f"answers from {show_source(source)}"
                )
                if not stray:
                    return wire
                strays[stray] += 1
                kinds = " and ".join(sorted(strays)[:3])
                attempt.waiting_for = f"answer to {asked.question} (only {kinds} came)"
        except OSError as error:
            raise Fault(connect_reason(error)) from error
    raise Fault(f"no {attempt.waiting_for} among {STRAYS_LIMIT} datagrams")


def _open(target: Target) -> trio.socket.SocketType:
    try:
        return open_datagrams(target.address, target.route)
    except OSError as error:
        raise Fault(connect_reason(error)) from error


async def _ask_tcp(query: bytes, question: str, target: Target, port: int, attempt: Attempt) -> bytes:
    """Return the answer over TCP, RFC 1035 section 4.2.2."""
    attempt.waiting_for = "connection over TCP"
    try:
        stream = await open_connection(target.address, port, target.route)
    except OSError as error:
        raise Fault(f"over TCP: {connect_reason(error)}") from error
    what = f"answer to {question} over TCP"
    attempt.waiting_for = what
    received = b""
    size = 2
    try:
        await stream.send_all(struct.pack("!H", len(query)) + query)
        while len(received) < size:
            data = bytes(await stream.receive_some(MESSAGE_LIMIT))
            if not data:
                raise Fault(f"connection closed by the server after {len(received)} bytes, wanted {what}")
            received += data
            if len(received) >= 2:
                size = 2 + struct.unpack("!H", received[:2])[0]
    except trio.BrokenResourceError as error:
        raise Fault(broken_reason(error.__cause__, f"waiting for {what}", len(received))) from error
    finally:
        stream.socket.close()
    return received[2:size]
