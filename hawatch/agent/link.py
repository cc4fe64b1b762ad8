"""Framing of the messages between the agent's processes: packets on a leash, frames on a work channel."""

from __future__ import annotations

import errno
import os
import socket
from array import array
from collections.abc import Iterable, Iterator

import msgspec

from hawatch.agent.measures import Counted, WantCounts
from hawatch.agent.messages import (
    FRAME_LIMIT,
    LEASH_PACKET_LIMIT,
    Adopt,
    AreYouThere,
    Assign,
    IAmHere,
    LeashMessage,
    Link,
    Listener,
    Reload,
    Stop,
    Summary,
    Verdicts,
    WantLink,
    WantListener,
    WorkerLost,
    WorkerStarted,
    WorkMessage,
)
from hawatch.decoding import UNDECODABLE
from hawatch.errors import PeerError

LENGTH_BYTES = 4
DESCRIPTORS_LIMIT = 4
"""Descriptors taken from one leash packet; every message carries at most one."""

NO_ROOM = (errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS)
"""What a sending fails with when memory is short, or too many descriptors are under way (unix(7))."""

AnyLeash = (
    AreYouThere | IAmHere | Link | WorkerLost | WorkerStarted | Reload | Stop | Adopt | WantLink
    | WantListener | Listener
)  # fmt: skip
AnyWork = Assign | Verdicts | Summary | WantCounts | Counted

_encoder = msgspec.msgpack.Encoder()
_leash_decoder: msgspec.msgpack.Decoder[AnyLeash] = msgspec.msgpack.Decoder(AnyLeash)
_work_decoder: msgspec.msgpack.Decoder[AnyWork] = msgspec.msgpack.Decoder(AnyWork)


def leash_pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a new leash."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def work_pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a new work channel."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def send_leash(leash: socket.socket, message: LeashMessage, descriptor: int | None = None) -> bool:
    """Send one packet without waiting; False when the other end is gone or does not read, or the kernel has no room."""
    packet = _encoder.encode(message)
    if len(packet) > LEASH_PACKET_LIMIT:
        raise PeerError(f"{type(message).__name__} of {len(packet)} bytes does not fit a leash packet")
    # socket.send_fds and recv_fds pass no flags on, so that they would wait.
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [descriptor]))] if descriptor is not None else []
    try:
        leash.sendmsg([packet], rights, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except (BlockingIOError, BrokenPipeError, ConnectionResetError):
        return False
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        return False
    return True


def receive_leash(leash: socket.socket) -> tuple[AnyLeash, int | None] | None:
    """Return the next packet and its descriptor, if it carries one; None when the other end is gone.

    Raises BlockingIOError when there is nothing yet, PeerError when the packet is not a leash message.
    """
    try:
        packet, ancillary, flags, _ = leash.recvmsg(
            LEASH_PACKET_LIMIT, socket.CMSG_LEN(DESCRIPTORS_LIMIT * 4), socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionResetError:
        return None
    descriptors = array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    if not packet:
        _close_all(descriptors)
        return None
    try:
        if flags & socket.MSG_CTRUNC and not descriptors:
            raise PeerError("its descriptor is lost: this process may open no more")
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(descriptors) > 1:
            raise PeerError("a leash packet is too long")
        message = _leash_decoder.decode(packet)
    except (PeerError, *UNDECODABLE) as error:
        _close_all(descriptors)
        raise PeerError(f"not a leash message: {error}") from error
    return message, descriptors[0] if descriptors else None


def _close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def frame(message: WorkMessage) -> bytes:
    """Return the frame of a work message."""
    body = _encoder.encode(message)
    if len(body) > FRAME_LIMIT:
        raise PeerError(f"{type(message).__name__} of {len(body)} bytes is longer than {FRAME_LIMIT}")
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


class FrameSplitter:
    """Cuts the bytes of a work channel into messages, however they come."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[AnyWork]:
        """Take bytes as they were read and yield every message that they complete.

        Raises PeerError for a frame that is too long or not a work message; the channel is of no use then.
        """
        self._buffer += data
        while len(self._buffer) >= LENGTH_BYTES:
            length = int.from_bytes(self._buffer[:LENGTH_BYTES], "big")
            if length > FRAME_LIMIT:
                raise PeerError(f"a frame of {length} bytes is longer than {FRAME_LIMIT}")
            end = LENGTH_BYTES + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[LENGTH_BYTES:end])
            del self._buffer[:end]
            try:
                message = _work_decoder.decode(body)
            except UNDECODABLE as error:
                raise PeerError(f"not a work message: {error}") from error
            yield message
