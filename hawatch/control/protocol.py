"""What passes over the ctl socket: a JSON object a line, requests one way and replies the other.

A request is answered by any number of `progress` and `event` lines and then by exactly one `done` or `refused`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from hawatch.decoding import UNDECODABLE

VERSION = 1
REQUEST_LIMIT = 64 << 10
"""Bytes of one request line."""
USER_LIMIT = 64
"""Characters of a user's name."""
REPLY_LIMIT = 64 << 20
"""Bytes of one reply line: the status of 100,000 servers fits."""
EVENTS_COUNT_DEFAULT = 50
EVENTS_COUNT_MAX = 10_000
ALL = "all"
"""As the name of a service or a server: every one."""


class Request(msgspec.Struct, frozen=True, tag_field="command", forbid_unknown_fields=True, kw_only=True):
    """Base of the requests; `version` is checked before anything else."""

    version: int = VERSION
    user: str | msgspec.UnsetType = msgspec.UNSET
    """Who asks, where the one who connects asks for somebody else: the page does, for who is logged in."""


class Status(Request, frozen=True, tag="status"):
    """Everything that the agent knows of itself."""


class ServerRequest(Request, frozen=True):
    """Base of the requests about one server of one service; either may be "all"."""

    service: str
    server: str


class Drain(ServerRequest, frozen=True, tag="drain"):
    """Weight 0; with `wait`, answer when no connection is left."""

    wait: bool = False
    timeout_s: float = 0.0
    """Give up waiting after so long; 0 waits for ever. The server stays drained."""


class Undrain(ServerRequest, frozen=True, tag="undrain"):
    """End a drain."""


class Disable(ServerRequest, frozen=True, tag="disable"):
    """Take it out and keep it out."""


class Enable(ServerRequest, frozen=True, tag="enable"):
    """End a disablement."""


class Events(Request, frozen=True, tag="events"):
    """The newest events, and with `follow` all that come."""

    count: int = EVENTS_COUNT_DEFAULT
    follow: bool = False
    since_ns: int = 0
    """Unix time in nanoseconds; 0: any."""
    until_ns: int = 0
    group: str = ""
    service: str = ""
    server: str = ""
    names: tuple[str, ...] = ()
    severity: Literal["", "info", "warning", "critical"] = ""
    """The least."""


class Report(Request, frozen=True, tag="report"):
    """How long what was down."""

    since_ns: int
    until_ns: int = 0
    """0: now."""
    group: str = ""
    service: str = ""
    server: str = ""


class Ack(Request, frozen=True, tag="ack"):
    """An administrator sees to what fails: no more of it is told until it is over."""

    service: str
    """Or "all"."""
    server: str = ""
    """"": the service and all its servers."""
    text: str = ""


class AlertTest(Request, frozen=True, tag="alert-test"):
    """Send a test message by one alert, or by all."""

    target: str = ""


class Reload(Request, frozen=True, tag="reload"):
    """Read the configuration file again."""


class Switchover(Request, frozen=True, tag="switchover"):
    """Move ownership of a group to another director."""

    group: str = ALL
    to: str = ""


class Takeover(Request, frozen=True, tag="takeover"):
    """Own a group without a majority."""

    group: str
    force: bool = False


class Giveaway(Request, frozen=True, tag="giveaway"):
    """Give every group away, and take none until `Resume`."""


class Resume(Request, frozen=True, tag="resume"):
    """End a giveaway."""


AnyRequest = (
    Status | Drain | Undrain | Disable | Enable | Events | Reload | Switchover | Takeover | Giveaway | Resume
    | Report | Ack | AlertTest
)  # fmt: skip


class Reply(msgspec.Struct, frozen=True, tag_field="kind", kw_only=True):
    """Base of the replies."""

    version: int = VERSION


class Done(Reply, frozen=True, tag="done"):
    """The request was carried out."""

    data: msgspec.Raw = msgspec.Raw(b"{}")


class Refused(Reply, frozen=True, tag="refused"):
    """The request was not carried out, or not to its end."""

    reason: str
    problems: list[str] = []
    """Every mistake of a configuration that was refused."""


class Progress(Reply, frozen=True, tag="progress"):
    """How far a request has come."""

    text: str
    data: msgspec.Raw = msgspec.Raw(b"{}")


class EventLine(Reply, frozen=True, tag="event"):
    """One event."""

    data: msgspec.Raw


AnyReply = Done | Refused | Progress | EventLine

_encoder = msgspec.json.Encoder()
_request_decoder: msgspec.json.Decoder[AnyRequest] = msgspec.json.Decoder(AnyRequest)
_reply_decoder: msgspec.json.Decoder[AnyReply] = msgspec.json.Decoder(AnyReply)


class _Versioned(msgspec.Struct, frozen=True):
    version: int = VERSION


_version_decoder = msgspec.json.Decoder(_Versioned)


def asker(request: Request) -> str:
    """Return who asks, as events tell it; "" where nobody is named."""
    return "" if request.user is msgspec.UNSET else request.user[:USER_LIMIT]


def raw(data: object) -> msgspec.Raw:
    """Return data as it is put into a reply."""
    return msgspec.Raw(_encoder.encode(data))


def encode_line(message: Request | Reply) -> bytes:
    """Return the line of a message."""
    return _encoder.encode(message) + b"\n"


def decode_request(line: bytes) -> AnyRequest | Refused:
    """Return the request of a line, or what to answer to a line that is none."""
    try:
        version = _version_decoder.decode(line).version
        if version != VERSION:
            return Refused(reason=f"the request is of version {version}, this agent speaks version {VERSION}")
        return _request_decoder.decode(line)
    except UNDECODABLE as error:
        return Refused(reason=f"not a request: {error}")


def decode_reply(line: bytes) -> AnyReply:
    """Return the reply of a line; raise one of `UNDECODABLE` when it is none."""
    return _reply_decoder.decode(line)
