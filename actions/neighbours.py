"""What the kernel knows of its neighbours' hardware addresses, by rtnetlink.

References: linux/neighbour.h, linux/rtnetlink.h; net/core/neighbour.c (one entry can be asked for from Linux 5.0).
"""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import ip_address

from hawatch.actions.netlink import NETLINK_ROUTE, NetlinkSocket
from hawatch.actions.netlink_codec import Request, attribute, parse_attributes
from hawatch.errors import KernelError
from hawatch.model import Family

RTM_NEWNEIGH, RTM_GETNEIGH = 28, 30
NDA_DST, NDA_LLADDR = 1, 2
NDMSG = struct.Struct("=BBHiHBB")
"""Family, two of padding, index of the interface, state, flags, type."""
NUD_KNOWN = 0x02 | 0x04 | 0x08 | 0x10 | 0x80
"""REACHABLE, STALE, DELAY, PROBE, PERMANENT: the hardware address of such an entry is one that was heard."""
MAC_BYTES = 6
UNKNOWN = (errno.ENOENT, errno.ENODEV)


class Neighbours:
    """Reads the kernel's neighbour table, an entry at a time: a big table costs no more than a small one."""

    def __init__(self) -> None:
        self._netlink = NetlinkSocket(NETLINK_ROUTE)

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    def mac(self, address: str, interface: str) -> str:
        """Return a neighbour's MAC on an interface ("02:00:00:00:00:09"), "" where the kernel has not heard of it.

        Raises KernelError when the kernel does not answer.
        """
        try:
            index = socket.if_nametoindex(interface)
        except OSError:
            return ""
        head = NDMSG.pack(Family.of(address), 0, 0, index, 0, 0, 0)
        whose = attribute(NDA_DST, ip_address(address).packed)
        try:
            replies = self._netlink.request(Request(RTM_GETNEIGH, head + whose))
        except KernelError as error:
            if error.errno in UNKNOWN:
                return ""
            raise
        for reply in replies:
            if reply.type == RTM_NEWNEIGH and NDMSG.unpack_from(reply.body)[4] & NUD_KNOWN:
                mac = parse_attributes(reply.body, NDMSG.size).get(NDA_LLADDR, b"")
                return mac.hex(":") if len(mac) == MAC_BYTES else ""
        return ""
