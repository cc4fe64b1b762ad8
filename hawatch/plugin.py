"""The public API of probes: what a package provides to add a probe of its own.

A probe is a class found through the entry-point group ``hawatch.probes``; the entry point's name is the ``type`` that
a configuration names. It comes in two forms, and hawatch runs whichever it finds:

* a **conversation** over a stream (TCP, or TLS on it): a generator that yields what it wants done next and is sent what
  came of it. It does no I/O, so thousands of them run in one process, and tests need no network.
* a **coroutine** ``run`` on trio, for everything else. It is cancelled at its deadline.

A server that fails its check is a `Result`, never an exception. An exception that escapes a probe counts as a failure
with the exception as its reason, and is logged.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hawatch.model import Route

RESPONSE_LIMIT_DEFAULT = 1 << 20
"""Bytes that a probe reads from a server at most, unless its options say otherwise."""


class Options(BaseModel):
    """Base of a probe's own options: unknown keys are refused, values never change.

    The keys ``type interval timeout rise fall port address source interface mark`` are hawatch's and do not reach the
    probe's options.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class TlsOptions(Options):
    """TLS options, the same words in every probe that speaks TLS."""

    verify: bool = Field(default=True, description="verify the server's certificate and its name")
    server_name: str = Field(
        default="",
        description="name to ask for (SNI) and to verify; default: the host option "
        "where there is one, else the target's address",
    )
    ca_file: str = Field(default="", description="PEM file of accepted CAs; default: the system's")
    cert_file: str = Field(default="", description="PEM file with a client certificate")
    key_file: str = Field(default="", description="PEM file with the client certificate's key")
    min_days: int = Field(default=0, ge=0, le=3650, description="least days until the certificate expires; 0: any")

    @model_validator(mode="after")
    def _days_need_verification(self) -> TlsOptions:
        if self.min_days and not self.verify:
            raise ValueError("min_days needs verify = true: an unverified certificate's dates mean nothing")
        return self


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to ask."""

    address: str
    """Literal IPv4 or IPv6 address."""
    port: int | None
    service: str = ""
    """Name of the service, for probes that declare `per_service`."""
    group: str = ""
    route: Route | None = None
    """How its packets are to leave; a conversation's do, a coroutine calls `hawatch.net` or sees to it itself."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one run of a probe found."""

    ok: bool
    reason: str = ""
    """Why not ok, in words that a person understands: what was wanted and what came. "" when ok."""
    detail: str = ""
    """More for those who ask: `hawatch probe` prints it."""
    facts: Mapping[str, int] = field(default_factory=dict)
    """Numbers that the same probe of other servers may compare itself with (a zone's serial)."""
    weight: int | None = None
    """A weight that the server asks for (exec); None: as configured."""
    inconclusive: bool = False
    """Not ok, but for want of something on this machine (descriptors, memory): it says nothing about the server."""


def up(detail: str = "", **facts: int) -> Result:
    """Return a result that is ok."""
    return Result(ok=True, detail=detail, facts=facts)


def down(reason: str, detail: str = "") -> Result:
    """Return a result that is not ok, and why."""
    return Result(ok=False, reason=reason, detail=detail)


# --- Conversations over a stream -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Write all of `data`; the generator is sent b"" when it is written."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Receive:
    """Wait for the next bytes; the generator is sent them, b"" when the server closed the stream.

    `what` is the thing waited for ("greeting", "answer to EHLO"): if the deadline passes first, the result is
    "no <what> in <timeout>". `limit` is the most bytes wanted at once.
    """

    what: str
    limit: int = 65536


@dataclass(frozen=True, slots=True)
class StartTls:
    """Begin TLS on the stream; the generator is sent b"" when the handshake is done and verified."""


Step = Send | Receive | StartTls
Conversation = Generator[Step, bytes, Result]


# --- Probes ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Attempt:
    """One run of a coroutine probe: what it may know, and what it tells of where it is."""

    timeout_ns: int
    siblings: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Latest facts of the checks that ask the same of other addresses, by address."""
    waiting_for: str = "answer"
    """Kept current by the probe: at the deadline the result is "no <waiting_for> in <timeout>"."""


@dataclass(frozen=True, slots=True)
class Echo:
    """What a probe sends that wants nothing but ICMP echoes."""

    count: int
    loss: int
    """Echoes that may go unanswered."""
    size: int
    """Bytes of payload."""


class Probe:
    """One way of looking at a server. Made once for a check, then run again and again, never twice at once."""

    options_type: ClassVar[type[Options]] = Options
    default_port: ClassVar[int | None] = None
    """Used by `hawatch probe` where no port is given."""
    uses_port: ClassVar[bool] = True
    port_optional: ClassVar[bool] = False
    """True where the probe can do without a port: then a service that names none (a firewall mark) is accepted."""
    per_service: ClassVar[bool] = False
    """True where the answer depends on the service, so that the check cannot be shared between services."""

    def __init__(self, options: Options, target: Target) -> None:
        self.options = options
        self.target = target

    @classmethod
    def no_route(cls, _options: Options) -> str:
        """Return why a probe with these options cannot take a `Route`; "" where it can."""
        return ""

    def tls(self) -> TlsOptions | None:
        """Return the TLS options if the stream may need TLS, else None."""
        return None

    def tls_mode(self) -> Literal["none", "tls", "starttls"]:
        """Tell whether TLS comes with the connection ("tls"), on `StartTls` ("starttls") or never."""
        return "none"

    def tls_server_name(self) -> str:
        """Return the name to send and to verify in TLS."""
        tls = self.tls()
        return (tls.server_name if tls else "") or self.target.address

    def is_conversation(self) -> bool:
        """Tell which of the two forms to run: `converse` if it has that. One that has both decides by its options."""
        return type(self).converse is not Probe.converse

    def converse(self) -> Conversation:
        """Return a new conversation, begun when the connection stands."""
        raise NotImplementedError

    def echo(self) -> Echo | None:
        """Return the echoes if that is all that the probe wants: those of all checks go over one socket. Else None."""
        return None

    async def run(self, attempt: Attempt) -> Result:
        """Look once. Cancelled at the deadline."""
        raise NotImplementedError
