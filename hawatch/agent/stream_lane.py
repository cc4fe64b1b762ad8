"""The fast lane: conversations over plain TCP, thousands of them in one task.

Theory of operation. What costs is system calls and wake-ups, so both are shared. The caller starts runs in batches:
first all connect, then all try to send. Two milliseconds later it calls `poll`, which simply tries what each run waits
for: servers nearby have answered by then, and such a run ends after four system calls (socket, connect, send, recv, and
close as the fifth) without ever having been registered anywhere. What would still have to wait is registered with one
epoll object, looked at in every later `poll`, and gets its place in the heap of deadlines. Nobody is woken for a single
answer; so latency is as exact as the caller's polls are frequent, about two milliseconds for a server nearby.

Where a result is good the connection is closed, so that the server's log shows an orderly end; where it is not it is
reset, so that nothing lingers on either side. It is also reset where nothing was said on it: nothing can get lost then,
and a thousand checks a second would leave sixty thousand sockets in TIME_WAIT.
"""

from __future__ import annotations

import heapq
import select
import socket
import struct
from collections.abc import Callable
from errno import EAGAIN, EINPROGRESS

from hawatch.agent.runner import boottime_ns
from hawatch.faults import broken_reason, connect_reason, deadline_reason, exception_reason, is_ours
from hawatch.health.schedule import Slot
from hawatch.net import numeric_address, take_route
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
        "fileno",
        "limit",
        "pending",
        "received",
        "receiving",
        "registered",
        "silent",
        "slot",
        "sock",
        "standing",
        "started_ns",
        "tried",
        "what",
    )  # fmt: skip

    def __init__(self, slot: Slot, conversation: Conversation, sock: socket.SocketType, started_ns: int) -> None:
        self.slot = slot
        self.conversation = conversation
        self.sock = sock
        self.fileno = sock.fileno()
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
        self.silent = True
        """Nothing was sent or received yet."""
        self.tried = False
        """What it waits for was tried once without being told that it is ready."""
        self.ended = False


class StreamLane:
    """Runs conversations without TLS."""

    def __init__(self, done: Done) -> None:
        self._done = done
        self._epoll = select.epoll()
        self._talks: dict[int, _Talk] = {}
        self._fresh: list[_Talk] = []
        """Those not registered yet: the next `poll` tries what they wait for."""
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

    def poll(self) -> bool:
        """Take what has come, without waiting; tell whether anything had."""
        before = len(self._talks)
        fresh, self._fresh = self._fresh, []
        for talk in fresh:
            talk.tried = True
            self._try(talk)
        moved = len(self._talks) < before
        if len(self._talks) > len(self._fresh):
            for fileno, events in self._epoll.poll(0, EVENTS_PER_WAIT):
                moved = True
                talk_ready = self._talks.get(fileno)
                if talk_ready is not None:
                    self._on_events(talk_ready, events)
        return moved

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
            # The type beneath socket.socket: a third of its cost, and the flag saves a system call.
            sock = socket.SocketType(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            if check.route is not None:
                take_route(sock, check.route)
            number = sock.connect_ex(address)
            if number not in (0, EINPROGRESS):
                raise OSError(number, "")
            conversation = probe.converse()
        except Exception as error:  # noqa: BLE001 - a plug-in may raise anything
            if sock is not None:
                sock.close()
            reason = connect_reason(error) if isinstance(error, OSError) else exception_reason(error)
            result = Result(ok=False, reason=reason, inconclusive=is_ours(error))
            self._done(slot, result, started_ns, boottime_ns())
            return None
        talk = _Talk(slot, conversation, sock, started_ns)
        self._talks[talk.fileno] = talk
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
            if talk.receiving and not talk.pending and not events & select.EPOLLIN:
                self._wait(talk, talk.receiving, select.EPOLLIN)
                return
        self._try(talk)

    def _try(self, talk: _Talk) -> None:
        """Do what the conversation waits for, if it can be done without waiting."""
        if talk.pending:
            if self._send(talk):
                self._advance(talk, b"")
        elif not talk.receiving:  # its result only waits for the connection
            if self._send(talk):
                self._advance(talk, None)
        else:
            self._receive(talk)

    def _receive(self, talk: _Talk) -> None:
        try:
            data = talk.sock.recv(talk.limit)
        except BlockingIOError:
            self._wait(talk, talk.receiving, select.EPOLLIN)
            return
        except OSError as error:
            if talk.standing:
                self._end(talk, down(broken_reason(error, f"waiting for {talk.what}", talk.received)))
            else:
                self._end(talk, down(connect_reason(error)))
            return
        talk.standing = True
        talk.silent = False
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
            if self._send(talk):  # sending nothing tells whether the connection stands
                self._end(talk, result)

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
        if sent:
            talk.silent = False
            talk.pending = talk.pending[sent:]
            if talk.pending:
                self._wait(talk, "progress in sending", select.EPOLLOUT)
                return False
        return True

    def _wait(self, talk: _Talk, what: str, events: int) -> None:
        talk.what = what if talk.standing else "connection"
        if not talk.tried:
            self._fresh.append(talk)
            return
        if not talk.standing:
            events |= select.EPOLLOUT
        if talk.registered == events:
            return
        if talk.registered:
            self._epoll.modify(talk.fileno, events)
        else:
            self._epoll.register(talk.fileno, events)
            self._number += 1
            heapq.heappush(self._deadlines, (talk.deadline_ns, self._number, talk))
        talk.registered = events

    def _end(self, talk: _Talk, result: Result) -> None:
        assert not talk.ended, "a conversation ends once"
        finished_ns = boottime_ns()
        talk.ended = True
        talk.conversation.close()
        del self._talks[talk.fileno]
        if talk.silent or not result.ok:
            talk.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        talk.sock.close()
        self._done(talk.slot, result, talk.started_ns, finished_ns)


def _only(result: Result) -> Conversation:
    """Return a conversation that ends with a known result."""
    yield from ()
    return result
