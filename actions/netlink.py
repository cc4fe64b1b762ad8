"""A netlink socket that sends many requests at once, and always answers within its timeout.

Everything here is synchronous: the kernel works a request off inside ``send``, so that its answer is there when the
call returns. What may take long (a dump of a big table) is the caller's to run in a thread.
`hawatch.actions.netlink_codec` has the attributes and messages.

Numbers are from Linux's UAPI headers: ``linux/netlink.h`` (NETLINK_), ``asm-generic/socket.h`` (SO_),
``linux/genetlink.h`` (GENL_, CTRL_) and ``linux/netfilter/nfnetlink.h`` (NFNL_).
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from hawatch.actions.netlink_codec import (
    GENERIC,
    NETFILTER,
    NFNETLINK_V0,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    Reply,
    Request,
    attribute_be32,
    attribute_string,
    decode,
    decode_error,
    encode,
    generic,
    parse_attributes,
    to_int,
)
from hawatch.errors import KernelError

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12
NETLINK_GENERIC = 16

SOL_NETLINK = 270
NETLINK_ADD_MEMBERSHIP = 1
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33

GENL_ID_CTRL = 16
CTRL_CMD_GETFAMILY = 3
CTRL_ATTR_FAMILY_ID = 1
CTRL_ATTR_FAMILY_NAME = 2

NFNL_MSG_BATCH_BEGIN = 16
NFNL_MSG_BATCH_END = 17
NFNL_BATCH_GENID = 1

TIMEOUT_S = 5.0
"""How long a receive waits at most. The kernel answers at once; more means that something is badly wrong."""
BATCH_BYTES = 64 << 10
"""Bytes of requests in one send."""
SEND_BUFFER_BYTES = 1 << 20
RECEIVE_BUFFER_BYTES = 4 << 20
ANSWER_COST_BYTES = 4096
"""What one short answer takes off the receive buffer at most, the kernel's own bookkeeping included."""
RECEIVE_BYTES = 64 << 10
"""Bytes of one receive: the kernel fills a dump's buffers up to 32 KiB."""
DUMP_TRIES = 8
"""How often a dump is read again when the table changed under it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The kernel's answer to a request that failed."""

    index: int
    """Position of the request among those that were sent together."""
    errno: int
    text: str
    """The kernel's own words where it has any, else the errno's."""


class NetlinkSocket:
    """A netlink socket that answers, or raises KernelError, within its timeout."""

    def __init__(self, protocol: int, *, timeout_s: float = TIMEOUT_S) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        except OSError as error:
            raise KernelError(
                f"netlink: no socket of protocol {protocol}: {error.strerror}", error.errno or 0
            ) from error
        self.sends = 0
        """Packets sent so far, for tests and statistics."""
        self.requests = 0
        """Requests sent so far."""
        self._sequence = int.from_bytes(os.urandom(3), "big")
        self._socket.settimeout(timeout_s)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        self._size_buffers()
        self._socket.bind((0, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def fileno(self) -> int:
        """Return the descriptor, for waiting on notifications."""
        return self._socket.fileno()

    def receive(self) -> list[Reply]:
        """Receive one packet of answers.

        Raises KernelError: ETIMEDOUT when nothing came in time, ENOBUFS when the kernel dropped something because
        we read too slowly (what was asked must then be read anew).
        """
        try:
            data = self._socket.recv(RECEIVE_BYTES, socket.MSG_TRUNC)
        except TimeoutError:
            limit = self._socket.gettimeout()
            raise KernelError(f"netlink: no answer from the kernel in {limit} s", errno.ETIMEDOUT) from None
        except OSError as error:
            raise KernelError(f"netlink: {error.strerror}", error.errno or 0) from error
        return decode(data)

    def send_all(self, requests: Sequence[Request]) -> tuple[Refusal, ...]:
        """Send any number of requests in as few packets as they fit in; return what the kernel refused.

        Each stands alone: the kernel goes on after one that it refuses. A refusal is always told, success only for the
        last of a packet, and then all of the packet is done.
        """
        refusals: list[Refusal] = []
        for start, stop in self._batches(requests):
            refusals.extend(self._send_batch(requests, start, stop))
        return tuple(refusals)

    def request(self, request: Request) -> list[Reply]:
        """Send one request and return what it is answered with, the final acknowledgement left out.

        Raises KernelError with the kernel's words when it is refused.
        """
        return self._collect(self._send([request], NLM_F_ACK))

    def dump(self, request: Request) -> list[Reply]:
        """Read a table: all messages of a dump, read again when the table changed meanwhile.

        Raises KernelError, with EINTR when it kept changing `DUMP_TRIES` times.
        """
        for _ in range(DUMP_TRIES):
            replies = self._collect(self._send([request], NLM_F_DUMP))
            if not any(reply.flags & NLM_F_DUMP_INTR for reply in replies):
                return [reply for reply in replies if reply.type != NLMSG_DONE]
        raise KernelError(f"netlink: the table changed {DUMP_TRIES} times while it was read", errno.EINTR)

    def send_transaction(self, requests: Sequence[Request], subsystem: int, generation: int | None = None) -> None:
        """Send netfilter requests as one transaction: all of them take effect, or none.

        With `generation` the kernel refuses (ERESTART) when the ruleset is not of that generation any more. Raises
        KernelError with the first refusal. The kernel tells refusals in order, in any case of the last request, and
        of the batch's begin where the whole failed (net/netfilter/nfnetlink.c, nfnetlink_rcv_batch).
        """
        edge = NETFILTER.pack(socket.AF_UNSPEC, NFNETLINK_V0, socket.htons(subsystem))
        wish = b"" if generation is None else attribute_be32(NFNL_BATCH_GENID, generation)
        whole = [
            Request(NFNL_MSG_BATCH_BEGIN, edge + wish),
            *requests[:-1],
            Request(requests[-1].type, requests[-1].body, requests[-1].flags | NLM_F_ACK),
            Request(NFNL_MSG_BATCH_END, edge),
        ]
        first = self._send(whole, 0)
        last = first + len(requests)
        refused = ""
        number = 0
        answered = False
        while not answered:
            for reply in self.receive():
                if reply.type != NLMSG_ERROR or not first <= reply.sequence <= last:
                    continue
                code, text = decode_error(reply)
                if code and not number:
                    number, refused = code, f"request {reply.sequence - first} of {len(requests)}: {text}"
                answered = answered or reply.sequence in (first, last)
        if number:
            raise KernelError(f"netfilter refused the transaction: {refused}", number)

    # -- inside --

    def _size_buffers(self) -> None:
        """Ask for big buffers, by right of CAP_NET_ADMIN, else as big as everybody may have."""
        for force, plain, size in (
            (SO_SNDBUFFORCE, socket.SO_SNDBUF, SEND_BUFFER_BYTES),
            (SO_RCVBUFFORCE, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES),
        ):
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, force, size)
            except PermissionError:
                self._socket.setsockopt(socket.SOL_SOCKET, plain, size)
        room = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        self._batch_count = max(1, room // ANSWER_COST_BYTES)

    def _batches(self, requests: Sequence[Request]) -> Iterator[tuple[int, int]]:
        """Cut requests into runs that fit one packet, and whose answers fit the receive buffer."""
        start = 0
        size = 0
        for index, request in enumerate(requests):
            length = 16 + (len(request.body) + 3 & ~3)
            if index > start and (size + length > BATCH_BYTES or index - start >= self._batch_count):
                yield start, index
                start, size = index, 0
            size += length
        if start < len(requests):
            yield start, len(requests)

    def _send(self, requests: Sequence[Request], last_flags: int) -> int:
        """Send requests in one packet, the last of them with more flags; return the first one's sequence number."""
        first = self._sequence + 1
        self._sequence += len(requests)
        if self._sequence >= 1 << 32:
            first, self._sequence = 1, len(requests)
        parts = [encode(request, first + index) for index, request in enumerate(requests[:-1])]
        parts.append(encode(requests[-1], first + len(requests) - 1, last_flags))
        try:
            self._socket.send(b"".join(parts))
        except TimeoutError:
            raise KernelError("netlink: the kernel takes no request", errno.ETIMEDOUT) from None
        except OSError as error:
            raise KernelError(f"netlink: {error.strerror}", error.errno or 0) from error
        self.sends += 1
        self.requests += len(requests)
        return first

    def _send_batch(self, requests: Sequence[Request], start: int, stop: int) -> list[Refusal]:
        """Send one run of requests and wait for the answer to its last."""
        first = self._send(requests[start:stop], NLM_F_ACK)
        last = first + stop - start - 1
        refusals = []
        while True:
            for reply in self.receive():
                if reply.type != NLMSG_ERROR or not first <= reply.sequence <= last:
                    continue
                number, text = decode_error(reply)
                if number:
                    refusals.append(Refusal(start + reply.sequence - first, number, text))
                if reply.sequence == last:
                    return refusals

    def _collect(self, sequence: int) -> list[Reply]:
        """Collect the answers to one request, until its acknowledgement or the end of its dump."""
        found: list[Reply] = []
        while True:
            for reply in self.receive():
                if reply.sequence != sequence:
                    continue
                if reply.type == NLMSG_ERROR or reply.type == NLMSG_DONE:
                    number, text = decode_error(reply)
                    if number:
                        raise KernelError(f"netlink: {text}", number)
                    if reply.type == NLMSG_DONE:
                        found.append(reply)
                    return found
                found.append(reply)


def resolve_generic_family(netlink: NetlinkSocket, name: str) -> int:
    """Return the number of a generic netlink family; raise KernelError (ENOENT) when there is none of the name."""
    wanted = generic(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1, attribute_string(CTRL_ATTR_FAMILY_NAME, name))
    for reply in netlink.request(wanted):
        number = parse_attributes(reply.body, GENERIC.size).get(CTRL_ATTR_FAMILY_ID)
        if number is not None:
            return to_int(number)
    raise KernelError(f"netlink: family {name} was not told", errno.ENOENT)
