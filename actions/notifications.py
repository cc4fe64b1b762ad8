"""Netlink notifications without waiting: subscribe, wait for the descriptor, drain.

The kernel drops notifications when nobody reads; `Drained.lost` says so, and then what they told of must be read anew.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

from hawatch.actions.netlink import NETLINK_ADD_MEMBERSHIP, SO_RCVBUFFORCE, SOL_NETLINK
from hawatch.actions.netlink_codec import HEADER
from hawatch.errors import KernelError

RECEIVE_BYTES = 64 << 10
RECEIVE_BUFFER_BYTES = 2 << 20
PACKETS_MAX = 256
"""Packets that one drain reads at most; the descriptor stays readable when there are more."""


@dataclass(frozen=True, slots=True)
class Notification:
    """One message: its type, the port of who caused it (0: the kernel itself), and what follows the header."""

    kind: int
    port: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Drained:
    """What one drain found."""

    messages: tuple[Notification, ...] = ()
    lost: bool = False


def parse(data: bytes) -> list[Notification]:
    """Split a packet into messages; what does not add up ends it."""
    found = []
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, _flags, _sequence, port = HEADER.unpack_from(data, offset)
        if length < HEADER.size or offset + length > len(data):
            break
        found.append(Notification(kind, port, data[offset + HEADER.size : offset + length]))
        offset += (length + 3) & ~3
    return found


class Listener:
    """A netlink socket that only listens. Its descriptor can be waited on."""

    def __init__(self, protocol: int, groups: tuple[int, ...]) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            self._socket = socket.socket(socket.AF_NETLINK, kind, protocol)
        except OSError as error:
            raise KernelError(f"netlink: no socket to listen with: {error.strerror}", error.errno or 0) from error
        try:
            self._socket.bind((0, 0))
            for group in groups:
                self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
        except OSError as error:
            self._socket.close()
            raise KernelError(f"netlink: cannot listen for changes: {error.strerror}", error.errno or 0) from error
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def drain(self) -> Drained:
        """Return what has come, without waiting."""
        packets, lost = drain(self._socket)
        return Drained(tuple(message for packet in packets for message in parse(packet)), lost)


def drain(source: socket.socket) -> tuple[list[bytes], bool]:
    """Read what a non-blocking socket has, within `PACKETS_MAX`; tell whether the kernel dropped some."""
    found: list[bytes] = []
    lost = False
    for _ in range(PACKETS_MAX):
        try:
            found.append(source.recv(RECEIVE_BYTES))
        except BlockingIOError:
            break
        except OSError as error:
            if error.errno not in (errno.ENOBUFS, errno.ENETDOWN, errno.EINTR):
                raise KernelError(f"cannot read notifications: {error.strerror}", error.errno or 0) from error
            lost = lost or error.errno == errno.ENOBUFS
    return found, lost
