"""The fast lane: conversations over plain TCP, thousands of them in one task.

Theory of operation. All sockets are in one epoll object, and one task waits for it. Runs are started in batches:
first all connect, then all try to send at once; by the time the last has connected the first connection often stands,
so that a run costs one registration and one wait instead of two. A socket that does not stand yet is waited for. Where
a result is good the connection is closed; where it is not it is reset, so that nothing lingers on either side.

Deadlines are in a heap and looked at by the caller once a tick: a tick's delay is nothing to a timeout.
"""

from __future__ import annotations

import heapq
import select
import socket
import struct
from collections.abc import Callable
from errno import EAGAIN, EINPROGRESS

import trio

from hawatch.agent.runner import boottime_ns
from hawatch.faults import broken_reason, connect_reason, deadline_reason, exception_reason
from hawatch.health.schedule import Slot
from hawatch.net import numeric_address
from hawatch.plugin import Conversation, Probe, Receive, Result, Send, down

EVENTS_PER_WAIT = 512
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Done = Callable[[Slot, Result, int, int], None]
"""Called with the slot, its result, and when the run started and finished."""


class _Talk:
    """One conversation under way."""

    __slots__ = (
        "address",
        "conversation",
        "deadline_ns",
        "ended",
        "limit",
        "pending",
        "received",
        "receiving",
        "registered",
        "slot",
        "sock",
        "standing",
        "started_ns",
        "what",
    )  # fmt: skip

    def __init__(self, slot: Slot, conversation: Conversation, sock: socket.socket, started_ns: int) -> None:
        self.slot = slot
        self.conversation = conversation
        self.sock = sock
        self.started_ns = started_ns
        self.deadline_ns = started_ns + slot.check.timeout_ns
        self.what = "connection"
        self.limit = 65536
        self.pending = b""
        """What is still to be sent."""
        self.received = 0
        self.receiving = ""
        """What it waits to receive, "" when it does not."""
        self.registered = 0
        """The epoll events that it is registered for."""
        self.standing = False
        self.ended = False


class StreamLane:
    """Runs conversations without TLS."""

    def __init__(self, done: Done) -> None:
        self._done = done
        self._epoll = select.epoll()
        self._talks: dict[int, _Talk] = {}
        self._deadlines: list[tuple[int, int, _Talk]] = []
        self._addresses: dict[tuple[str, int], tuple[int, tuple[object, ...]]] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._talks)

    def close(self) -> None:
        """End everything under way, without results."""
        for talk in self._talks.values():
            talk.conversation.close()
            talk.sock.close()
        self._talks.clear()
        self._epoll.close()

    def start(self, runs: list[tuple[Slot, Probe]]) -> None:
        """Start runs together."""
        talks = [talk for slot, probe in runs if (talk := self._connect(slot, probe)) is not None]
        for talk in talks:
            self._advance(talk, None)

    def expire(self, now_ns: int) -> None:
        """End what has passed its deadline."""
        deadlines = self._deadlines
        while deadlines and (deadlines[0][0] <= now_ns or deadlines[0][2].ended):
            talk = heapq.heappop(deadlines)[2]
            if not talk.ended:
                self._end(talk, down(deadline_reason(talk.what, talk.slot.check.timeout_ns)))

    def next_deadline_ns(self) -> int | None:
        """Return when `expire` is needed next."""
        while self._deadlines and self._deadlines[0][2].ended:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    async def run(self) -> None:
        """Drive what is under way, until cancelled."""
        fileno = self._epoll.fileno()
        while True:
            await trio.lowlevel.wait_readable(fileno)
            self.poll()

    def poll(self) -> None:
        """Take what has come, without waiting."""
        for fileno, events in self._epoll.poll(0, EVENTS_PER_WAIT):
            talk = self._talks.get(fileno)
            if talk is not None:
                self._on_events(talk, events)

    # --- inside ----------------------------------------------------------------------------------------------

    def _connect(self, slot: Slot, probe: Probe) -> _Talk | None:
        started_ns = boottime_ns()
        check = slot.check
        if check.port is None:
            self._done(slot, down("no port to connect to"), started_ns, started_ns)
            return None
        sock = None
        try:
            family, address = self._address(check.address, check.port)
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            number = sock.connect_ex(address)
            if number not in (0, EINPROGRESS):
                raise OSError(number, "")
            conversation = probe.converse()
        except Exception as error:  # noqa: BLE001 - a plug-in may raise anything
            if sock is not None:
                sock.close()
            reason = connect_reason(error) if isinstance(error, OSError) else exception_reason(error)
            self._done(slot, down(reason), started_ns, boottime_ns())
            return None
        talk = _Talk(slot, conversation, sock, started_ns)
        self._talks[sock.fileno()] = talk
        self._number += 1
        heapq.heappush(self._deadlines, (talk.deadline_ns, self._number, talk))
        return talk

    def _address(self, address: str, port: int) -> tuple[int, tuple[object, ...]]:
        """Return family and socket address, looked up once."""
        key = (address, port)
        found = self._addresses.get(key)
        if found is None:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            found = self._addresses[key] = (family, numeric_address(address, port))
        return found

    def _on_events(self, talk: _Talk, events: int) -> None:
        if not talk.standing:
            number = talk.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                self._end(talk, down(connect_reason(OSError(number, ""))))
                return
            talk.standing = True
            if not talk.pending and not talk.receiving:
                self._advance(talk, None)  # its result only waited for the connection
                return
            if not talk.pending and not events & select.EPOLLIN:
                self._wait(talk, talk.receiving, select.EPOLLIN)
                return
        if talk.pending:
            if self._send(talk):
                self._advance(talk, b"")
            return
        try:
            data = talk.sock.recv(talk.limit)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(talk, down(broken_reason(error, f"waiting for {talk.what}", talk.received)))
            return
        talk.received += len(data)
        self._advance(talk, data)

    def _advance(self, talk: _Talk, data: bytes | None) -> None:
        """Let the conversation go on until it waits for bytes or ends."""
        try:
            while True:
                step = talk.conversation.send(data)  # type: ignore[arg-type] # a generator is begun with None
                if type(step) is Receive:
                    talk.limit = step.limit
                    talk.receiving = step.what
                    self._wait(talk, step.what, select.EPOLLIN)
                    return
                if type(step) is not Send:
                    raise TypeError(f"it yielded {type(step).__name__} on a connection without TLS")
                talk.pending = step.data
                talk.receiving = ""
                if not self._send(talk):
                    return
                data = b""
        except StopIteration as end:
            self._finish(talk, end.value)
        except Exception as error:  # noqa: BLE001 - a plug-in may raise anything
            self._end(talk, down(exception_reason(error)))

    def _finish(self, talk: _Talk, result: object) -> None:
        """End with the conversation's result; one that needed no byte still needs the connection to stand."""
        if not isinstance(result, Result):
            self._end(talk, down(exception_reason(TypeError(f"it returned {type(result).__name__}, not Result"))))
        elif talk.standing or not result.ok:
            self._end(talk, result)
        else:
            talk.conversation = _only(result)
            talk.receiving = ""
            self._wait(talk, "connection", select.EPOLLOUT)

    def _send(self, talk: _Talk) -> bool:
        """Send what is pending; False when it must be waited for, or is over."""
        try:
            sent = talk.sock.send(talk.pending)
        except OSError as error:
            if error.errno == EAGAIN:
                what = "progress in sending" if talk.standing else "connection"
                self._wait(talk, what, select.EPOLLOUT)
            elif talk.standing:
                self._end(talk, down(broken_reason(error, "sending", talk.received)))
            else:
                self._end(talk, down(connect_reason(error)))
            return False
        talk.standing = True
        talk.pending = talk.pending[sent:]
        if talk.pending:
            self._wait(talk, "progress in sending", select.EPOLLOUT)
            return False
        return True

    def _wait(self, talk: _Talk, what: str, events: int) -> None:
        talk.what = what if talk.standing else "connection"
        if not talk.standing:
            events |= select.EPOLLOUT
        if talk.registered == events:
            return
        if talk.registered:
            self._epoll.modify(talk.sock, events)
        else:
            self._epoll.register(talk.sock, events)
        talk.registered = events

    def _end(self, talk: _Talk, result: Result) -> None:
        assert not talk.ended, "a conversation ends once"
        finished_ns = boottime_ns()
        talk.ended = True
        talk.conversation.close()
        del self._talks[talk.sock.fileno()]
        if not result.ok:
            talk.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        talk.sock.close()
        self._done(talk.slot, result, talk.started_ns, finished_ns)


def _only(result: Result) -> Conversation:
    """Return a conversation that ends with a known result."""
    yield from ()
    return result
