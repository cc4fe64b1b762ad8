"""Raw frames on an interface: announcing addresses, asking for them, hearing who else answers for them.

A packet socket does not pass netfilter: the caller looks at the gate before it announces.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

from hawatch.actions import arp_codec
from hawatch.actions.arp_codec import Told
from hawatch.errors import KernelError

ETH_P_ALL = 0x0003
FRAME_BYTES = 256
FRAMES_MAX = 256
"""Frames that one reading takes at most."""
SO_ATTACH_FILTER = 26
BPF_LDH_ABS, BPF_LDB_ABS, BPF_JEQ, BPF_RET = 0x28, 0x30, 0x15, 0x06
LOST = (errno.ENETDOWN, errno.ENXIO, errno.ENODEV, errno.ENOBUFS, errno.EINTR)


def _filter() -> bytes:
    """Return a socket filter (linux/filter.h) that keeps ARP and neighbour advertisements."""
    steps = [
        (BPF_LDH_ABS, 0, 0, 12),
        (BPF_JEQ, 5, 0, arp_codec.ETH_P_ARP),
        (BPF_JEQ, 0, 5, arp_codec.ETH_P_IPV6),
        (BPF_LDB_ABS, 0, 0, 20),
        (BPF_JEQ, 0, 3, arp_codec.ICMPV6),
        (BPF_LDB_ABS, 0, 0, 54),
        (BPF_JEQ, 0, 1, arp_codec.NEIGHBOUR_ADVERTISEMENT),
        (BPF_RET, 0, 0, FRAME_BYTES),
        (BPF_RET, 0, 0, 0),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


class Wire:
    """One interface's frames. Its descriptor can be waited on."""

    def __init__(self, interface: str) -> None:
        """Open it; raise KernelError where there is no such interface, or CAP_NET_RAW is missing."""
        self.interface = interface
        self.frames = 0
        """Frames read so far, whatever they told."""
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            self._socket = socket.socket(socket.AF_PACKET, kind, 0)
        except OSError as error:
            raise KernelError(f"{interface}: no packet socket: {error.strerror}", error.errno or 0) from error
        try:
            program = _filter()
            buffer = bytearray(program)
            raw = (ctypes.c_char * len(buffer)).from_buffer(buffer)
            fprog = struct.pack("@HP", len(program) // 8, ctypes.addressof(raw))
            self._socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)
            self._socket.bind((interface, ETH_P_ALL))
            self.mac: bytes = self._socket.getsockname()[4]
        except OSError as error:
            self._socket.close()
            raise KernelError(f"{interface}: no packet socket: {error.strerror}", error.errno or 0) from error

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    def is_bound(self) -> bool:
        """Tell whether its interface is still there: one that is made anew under the same name is another one."""
        return bool(self._socket.getsockname()[0] == self.interface)

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def announce(self, addresses: Iterable[str]) -> int:
        """Announce addresses; return how many frames could not be sent."""
        return self._send(frame for address in addresses for frame in arp_codec.announcements(address, self.mac))

    def ask(self, addresses: Iterable[str]) -> int:
        """Ask whether anybody has the addresses; the answers come from `heard`."""
        return self._send(arp_codec.question(address, self.mac) for address in addresses)

    def _send(self, frames: Iterable[bytes]) -> int:
        lost = 0
        for frame in frames:
            try:
                self._socket.send(frame)
            except OSError:
                lost += 1
        return lost

    def heard(self, limit: int = FRAMES_MAX) -> list[Told]:
        """Return what other machines told since the last call, in at most so many frames, without waiting."""
        found = []
        for _ in range(limit):
            try:
                frame, origin = self._socket.recvfrom(FRAME_BYTES)
                self.frames += 1
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno not in LOST:
                    raise KernelError(f"{self.interface}: {error.strerror}", error.errno or 0) from error
                continue
            told = arp_codec.parse(frame) if origin[2] != socket.PACKET_OUTGOING else None
            if told is not None and told.mac != self.mac.hex(":"):
                found.append(told)
        return found


def host_of(mac: str, table: str = "/proc/net/arp") -> str:
    """Return the address that the neighbour table has for a MAC, "" if none."""
    try:
        lines = Path(table).read_text("ascii").splitlines()[1:]
    except OSError:
        return ""
    for line in lines:
        words = line.split()
        if len(words) > 3 and words[3].lower() == mac:
            return words[0]
    return ""
