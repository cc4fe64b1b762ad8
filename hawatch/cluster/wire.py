"""The datagrams that nodes send each other: layout, encoding, strict decoding.

Theory of operation. A datagram is a header, any number of messages, and a tag; docs/reference/protocol.md draws it.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------+---------------+---------------+---------------+
    |      'h'      |      'w'      |    version    |   key number  |
    +---------------+---------------+---------------+---------------+
    |                     cluster (64 bits)                         |
    |                     sender  (64 bits)                         |
    |                     boot    (64 bits)                         |
    |                     sequence of that boot (64 bits)           |
    |                     members, as the sender has them (64 bits) |
    +---------------------------------------------------------------+
    |  message: type (8 bits), fixed body of that type ...          |
    +---------------------------------------------------------------+
    |  tag: first 16 bytes of HMAC-SHA256 over all of the above     |
    +---------------------------------------------------------------+

Names travel as 64-bit identifiers (SHA-256 of the name). Nothing that arrives can raise: what is wrong with a
datagram is a `Rejection`, counted by cause and never answered. The cheap tests come first, so that a flood of
noise costs microseconds each; only a datagram of this cluster from a known sender reaches the HMAC.
Freshness is not decided here but in `sessions`.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterable, Sequence
from enum import IntEnum, StrEnum
from typing import NamedTuple

from hawatch.cluster.keys import KeyRing

MAGIC = b"hw"
VERSION = 3
"""Nodes of another version are not understood, and not answered. Magic, version, cluster and sender stay where they are
in all versions, so that they can be told apart from noise."""
DATAGRAM_BYTES_MAX = 1200
"""Fits every path that carries IPv6 (RFC 8200 section 5: 1280) with room for UDP, IP and a tunnel."""
TAG_BYTES = 16
LATELY_MAX = 16
"""Datagrams known by their bytes: more than come in by one link before their copies do by another."""
HEADER = struct.Struct("!2sBBQQQQQ")
BODY_BYTES_MAX = DATAGRAM_BYTES_MAX - HEADER.size - TAG_BYTES
DATAGRAM_BYTES_MIN = HEADER.size + TAG_BYTES + 1
NUMBER_MAX = (1 << 62) - 1
"""No counter, epoch or duration on the wire is larger: room to add one without thinking."""


class Rejection(StrEnum):
    """Why a datagram was not used."""

    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    MAGIC = "magic"
    VERSION = "version"
    CLUSTER = "cluster"
    SENDER = "sender"
    KEY = "key"
    TAG = "tag"
    MALFORMED = "malformed"
    DUPLICATE = "duplicate"
    STALE = "stale"
    OLD_BOOT = "old_boot"
    UNVERIFIED = "unverified"


class GroupState(IntEnum):
    """What a director says of itself about a group."""

    STANDBY = 0
    CANDIDATE = 1
    OWNER = 2
    CLOSING = 3
    RELEASED = 4
    CONFLICT = 5


class DenyReason(IntEnum):
    """Why an acceptor said no."""

    HELD = 1
    """Another node has the lease."""
    SILENT = 2
    """The acceptor started lately, or learnt of the group lately, and what was promised before may still be out."""
    TOO_LONG = 3
    """The lease asked for is longer than this acceptor's silence would cover."""
    MEMBERS = 4
    """The asker has another list of members, or the acceptor has not seen every member with its new list."""

    UNKNOWN = 5
    """The acceptor's configuration does not name the group."""


READY, PAUSED, UNABLE, SEEN, UNSURE = 1, 2, 4, 8, 16
"""Flags of a heartbeat: a majority answers; given away by an administrator; may not own (name used twice); every
member has been seen with the sender's list of members; its servers have not been looked at yet."""
HEARTBEAT_FLAGS = READY | PAUSED | UNABLE | SEEN | UNSURE
BY_ADMIN = 1
"""Flag of a release: an administrator moved the group, so it doesn't fall back by itself."""


class Heartbeat(NamedTuple):
    """I live. `beat` counts heartbeats of this boot, the same on every link."""

    beat: int
    fitness: int
    flags: int


class Claim(NamedTuple):
    """My state about a group; travels with a heartbeat."""

    group: int
    state: int
    epoch: int
    addresses: int = 0
    """Tells one set of addresses from another: see `membership.digest_of`."""


class Ping(NamedTuple):
    """Answer me."""

    nonce: int


class Pong(NamedTuple):
    """The answer; `boot` is the highest boot that the answerer believes of the asker."""

    nonce: int
    boot: int


class Request(NamedTuple):
    """I ask for the lease of a group, `lease_ns` long."""

    group: int
    round: int
    nonce: int
    lease_ns: int
    epoch: int


class Grant(NamedTuple):
    """The lease is yours."""

    group: int
    nonce: int
    epoch: int


class Deny(NamedTuple):
    """It isn't, and why, and for how long."""

    group: int
    nonce: int
    reason: int
    holder: int
    remaining_ns: int
    epoch: int


class Release(NamedTuple):
    """My gate is closed: forget what you granted me up to this round. `successor` 0 is nobody in particular."""

    group: int
    round: int
    successor: int
    flags: int


class Handover(NamedTuple):
    """An administrator asks the owner, from another director, to hand the group to `successor`."""

    group: int
    successor: int


Message = Heartbeat | Claim | Ping | Pong | Request | Grant | Deny | Release | Handover

FORMATS: dict[int, tuple[struct.Struct, type[Message]]] = {
    1: (struct.Struct("!BQHB"), Heartbeat),
    2: (struct.Struct("!BQBQI"), Claim),
    3: (struct.Struct("!BQ"), Ping),
    4: (struct.Struct("!BQQ"), Pong),
    5: (struct.Struct("!BQQQQQ"), Request),
    6: (struct.Struct("!BQQQ"), Grant),
    7: (struct.Struct("!BQQBQQQ"), Deny),
    8: (struct.Struct("!BQQQB"), Release),
    9: (struct.Struct("!BQQ"), Handover),
}
TYPES: dict[type[Message], tuple[int, struct.Struct]] = {
    made: (number, form) for number, (form, made) in FORMATS.items()
}
DENY_REASONS = frozenset(int(reason) for reason in DenyReason)


class Datagram(NamedTuple):
    """A datagram whose tag is right; whether it is fresh is another matter."""

    sender: int
    boot: int
    sequence: int
    messages: list[Message]
    members: int = 0
    """Identifier of the list of members that the sender's configuration has."""


def identifier(name: str) -> int:
    """Return the 64-bit identifier of a name; never 0, which stands for nobody."""
    assert name, "an empty name has no identifier"
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    assert number != 0, name
    return number


def acceptable(message: Message) -> bool:
    """Return whether the values of a decoded message are ones that this version sends."""
    match message:
        case Heartbeat(beat, _, flags):
            return beat <= NUMBER_MAX and flags & ~HEARTBEAT_FLAGS == 0
        case Claim(_, state, epoch, _):
            return state <= GroupState.CONFLICT and epoch <= NUMBER_MAX
        case Request(_, number, _, lease_ns, epoch):
            return number <= NUMBER_MAX and 0 < lease_ns <= NUMBER_MAX and epoch <= NUMBER_MAX
        case Grant(_, _, epoch):
            return epoch <= NUMBER_MAX
        case Deny(_, _, reason, _, remaining_ns, epoch):
            return reason in DENY_REASONS and remaining_ns <= NUMBER_MAX and epoch <= NUMBER_MAX
        case Release(_, number, _, flags):
            return number <= NUMBER_MAX and flags & ~BY_ADMIN == 0
        case Pong(_, boot):
            return boot <= NUMBER_MAX
        case _:
            return True


def decode_messages(body: bytes) -> list[Message] | None:
    """Return the messages in a body, or None if any byte of it is not as it should be."""
    assert len(body) <= BODY_BYTES_MAX
    messages: list[Message] = []
    at, end = 0, len(body)
    while at < end:
        known = FORMATS.get(body[at])
        if known is None:
            return None
        form, make = known
        if at + form.size > end:
            return None
        message = make._make(form.unpack_from(body, at)[1:])
        if not acceptable(message):
            return None
        messages.append(message)
        at += form.size
    assert at == end
    return messages


def encode_messages(messages: Iterable[Message]) -> list[bytes]:
    """Return bodies that hold the messages in order, as few as fit the size limit."""
    bodies: list[bytes] = []
    parts: list[bytes] = []
    size = 0
    for message in messages:
        number, form = TYPES[type(message)]
        part = form.pack(number, *message)
        if size + len(part) > BODY_BYTES_MAX:
            bodies.append(b"".join(parts))
            parts, size = [], 0
        parts.append(part)
        size += len(part)
    if parts:
        bodies.append(b"".join(parts))
    assert all(0 < len(body) <= BODY_BYTES_MAX for body in bodies)
    return bodies


class Codec:
    """Makes and reads the datagrams of one cluster."""

    def __init__(self, cluster: str, senders: Sequence[int], ring: KeyRing, members: int = 0) -> None:
        assert len(set(senders)) == len(senders), "two nodes with one identifier"
        assert 0 not in senders
        self.cluster = identifier(cluster)
        self.cluster_bytes = self.cluster.to_bytes(8, "big")
        self.senders = frozenset(sender.to_bytes(8, "big") for sender in senders)
        self.ring = ring
        self.members = members
        self._lately: dict[bytes, Datagram] = {}
        """The last datagrams that were read: the copy that comes by another link is known by its bytes."""

    def use(self, ring: KeyRing) -> None:
        """Change the keys; datagrams under way that were made with a key that is gone will be rejected."""
        assert ring.active in ring.keys
        self.ring = ring
        self._lately.clear()

    def encode(self, sender: int, boot: int, sequence: int, body: bytes) -> bytes:
        """Return the datagram, tagged with the active key."""
        assert 0 < len(body) <= BODY_BYTES_MAX, len(body)
        assert 0 <= boot <= NUMBER_MAX
        assert 0 < sequence <= NUMBER_MAX
        ring = self.ring
        head = HEADER.pack(MAGIC, VERSION, ring.active, self.cluster, sender, boot, sequence, self.members)
        signed = head + body
        return signed + hmac.digest(ring.keys[ring.active], signed, "sha256")[:TAG_BYTES]

    def decode(self, data: bytes) -> Datagram | Rejection:  # noqa: C901 - one check a line, cheapest first
        """Return the datagram, or why it is not one; never raises, whatever the bytes are."""
        if data in self._lately:
            return self._lately[data]
        if len(data) < DATAGRAM_BYTES_MIN:
            return Rejection.TOO_SHORT
        if len(data) > DATAGRAM_BYTES_MAX:
            return Rejection.TOO_LONG
        if data[:2] != MAGIC:
            return Rejection.MAGIC
        if data[2] != VERSION:
            return Rejection.VERSION
        if data[4:12] != self.cluster_bytes:
            return Rejection.CLUSTER
        if data[12:20] not in self.senders:
            return Rejection.SENDER
        key = self.ring.keys.get(data[3])
        if key is None:
            return Rejection.KEY
        tag = hmac.digest(key, data[:-TAG_BYTES], "sha256")[:TAG_BYTES]
        if not hmac.compare_digest(tag, data[-TAG_BYTES:]):
            return Rejection.TAG
        _, _, _, _, sender, boot, sequence, members = HEADER.unpack_from(data)
        if boot > NUMBER_MAX or not 0 < sequence <= NUMBER_MAX:
            return Rejection.MALFORMED
        messages = decode_messages(data[HEADER.size : -TAG_BYTES])
        if not messages:
            return Rejection.MALFORMED
        if len(self._lately) >= LATELY_MAX:
            del self._lately[next(iter(self._lately))]
        datagram = self._lately[data] = Datagram(sender, boot, sequence, messages, members)
        return datagram
