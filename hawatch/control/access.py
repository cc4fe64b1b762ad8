"""Who is at the other end of the ctl socket, and whether they may be."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from typing import Protocol

SO_PEERGROUPS = 59
"""Supplementary groups of the peer when it connected (asm-generic/socket.h; Linux 4.13)."""
PEERGROUPS_BYTES = 1024
"""The longest option that Python reads: 256 groups."""
CREDENTIALS = struct.Struct("3i")


class HasOptions(Protocol):
    """A socket, of the standard library or of trio."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        """Return an option's value."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A process as the kernel knew it when it connected."""

    pid: int
    uid: int
    groups: frozenset[int]


def peer_of(connection: HasOptions) -> Peer:
    """Return who connected. No name service is asked: the kernel knows the groups."""
    pid, uid, gid = CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
    try:
        packed = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, PEERGROUPS_BYTES)
    except OSError:
        packed = b""
    supplementary = struct.unpack(f"{len(packed) // 4}I", packed)
    return Peer(pid, uid, frozenset((gid, *supplementary)))


def refusal(peer: Peer, group_id: int | None) -> str:
    """Return why a peer is not let in, "" when it is: root, the agent's own user, and members of the group are."""
    if peer.uid in (0, os.geteuid()):
        return ""
    if group_id is not None and group_id in peer.groups:
        return ""
    allowed = "root, the agent's user" + (f", members of group {group_id}" if group_id is not None else "")
    return f"user {peer.uid} may not steer this agent; allowed are {allowed}"
