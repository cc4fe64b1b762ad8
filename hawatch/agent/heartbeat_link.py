"""One heartbeat path of this node: a queue for each other member, and one for strangers.

Theory of operation. Every member has a socket of its own on this link's address and port; the kernel sorts what comes
by its source address and drops what cannot be a heartbeat (`packet_filter`). A flood therefore fills nobody's queue
but that of the member whose address it forges, and what comes from strangers costs this process nothing: their queue
holds a few datagrams and is looked into only when people are to be told.

A queue is short: what has waited in it for long helps nobody, and a member sends some dozens of datagrams a second.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Mapping, Sequence

from hawatch.agent.packet_filter import (
    SO_ATTACH_FILTER,
    SO_ATTACH_REUSEPORT_CBPF,
    Instruction,
    Newer,
    attach,
    door,
    signpost,
)
from hawatch.errors import LocalError
from hawatch.model import Family

QUEUE_BYTES = 1 << 17
"""The kernel doubles it, and counts one to two kilobytes for each datagram."""
STRANGERS_BYTES = 4096
STRANGERS_READ_MAX = 64
"""More do not fit their queue."""
CONTROL_TRAFFIC = 0xC0
"""Class selector 6 (RFC 2474): network control; queues on the way let it pass first."""
IP_FREEBIND, IPV6_FREEBIND = 15, 78
"""linux/in.h, linux/in6.h: bind to an address that may come later."""
SO_MEMINFO = 55
MEMINFO = struct.Struct("=9I")
"""linux/sock_diag.h: the last number is how many datagrams were dropped, by the filter or for want of room."""


class Queue:
    """Where datagrams of one origin come in."""

    def __init__(self, address: str, port: int, size: int, program: Sequence[Instruction] = ()) -> None:
        """Raises OSError."""
        self.end = bound(address, port, size, program, shared=True)
        self._dropped_before = 0

    def newly_dropped(self) -> int:
        """Return how many datagrams the kernel dropped here since this was last asked."""
        total: int = MEMINFO.unpack(self.end.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, MEMINFO.size))[-1]
        count = (total - self._dropped_before) % (1 << 32)
        self._dropped_before = total
        return count


class MemberQueue(Queue):
    """Where one member's datagrams come in, through its door."""

    def __init__(self, address: str, port: int, source: str, cluster: int, member: int) -> None:
        """Raises OSError."""
        self._door = source, cluster, member
        self.narrow = False
        super().__init__(address, port, QUEUE_BYTES, door(*self._door))

    def set_door(self, newer: Newer | None) -> None:
        """Let in only what is newer, or everything that can be a heartbeat; what waits already stays."""
        with contextlib.suppress(OSError):  # out of memory: the door stays as it is
            attach(self.end, SO_ATTACH_FILTER, door(*self._door, newer))
            self.narrow = newer is not None


class HeartbeatLink:
    """The sockets of one link; `members` are the other members' identifiers and addresses on it."""

    def __init__(self, address: str, port: int, cluster: int, members: Mapping[int, str]) -> None:
        """Raises LocalError when address and port are not to be had, or the kernel takes no filters."""
        self.address = address
        self.port = port
        with contextlib.ExitStack() as opened:
            try:
                # Sockets that share a port do not notice another program that shares it, too; this one does.
                bound(address, port, QUEUE_BYTES, shared=False).close()
                self.strangers = Queue(address, port, STRANGERS_BYTES)
                opened.callback(self.strangers.end.close)
                self.queues: dict[int, MemberQueue] = {}
                for member, source in members.items():
                    self.queues[member] = MemberQueue(address, port, source, cluster, member)
                    opened.callback(self.queues[member].end.close)
                attach(self.strangers.end, SO_ATTACH_REUSEPORT_CBPF, signpost(list(members.values())))
            except OSError as error:
                raise LocalError(f"cannot listen on link {address} UDP port {port}: {error.strerror}") from error
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Close the sockets."""
        self._opened.close()

    def send(self, address: str, data: bytes) -> None:
        """Send a datagram; raise OSError where that cannot be done now."""
        self.strangers.end.sendto(data, (address, self.port))

    def meet_strangers(self) -> tuple[int, str]:
        """Return how many datagrams came from addresses of no member since this was last asked, and one address."""
        count, address = self.strangers.newly_dropped(), ""
        with contextlib.suppress(OSError):  # nothing left, or an ICMP error for something sent before
            for _ in range(STRANGERS_READ_MAX):
                address = self.strangers.end.recvfrom(1)[1][0]
                count += 1
        return count, address


def bound(address: str, port: int, size: int, program: Sequence[Instruction] = (), *, shared: bool) -> socket.socket:
    """Return a socket on a link's own address, which may come up later, behind a filter; raise OSError."""
    family = Family.of(address)
    end = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        if family is Family.IPV4:
            end.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
            end.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, CONTROL_TRAFFIC)
        else:
            end.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
            end.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            end.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, CONTROL_TRAFFIC)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        if program:
            attach(end, SO_ATTACH_FILTER, program)
        if shared:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        end.bind((address, port))
    except OSError:
        end.close()
        raise
    return end
