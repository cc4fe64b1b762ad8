"""The ping lane: the echoes of all checks over one socket a family, without a task for any of them.

Theory of operation. The caller starts runs in batches and calls `poll` now and then, which takes all replies that have
come and ends what is answered or late. A reply counts if it comes from the target itself and carries the run's random
token; one with the token from elsewhere is named in the reason. Sequence numbers find the run; a number is not used
again before its run is over. The sockets are opened when the first echo is sent.
"""

from __future__ import annotations

import errno
import heapq
import os
from collections.abc import Callable

from hawatch.agent.runner import boottime_ns
from hawatch.faults import deadline_reason, is_ours
from hawatch.health.schedule import Slot
from hawatch.icmp import ECHO_REPLY, RECEIVE_BYTES, TOKEN_BYTES, build_echo, open_echo_socket, parse_answer, refusal
from hawatch.net import numeric_address
from hawatch.plugin import Echo, Result, down, up

ECHOES_LIMIT = 49152
"""Echoes under way at once in one family, of 65,536 numbers."""
TOKENS_AT_ONCE = 1024
STRANGERS_NAMED = 3
DATAGRAMS_PER_POLL = 20000
"""A flood of replies must not keep the prober from its other work."""

Done = Callable[[Slot, Result, int, int], None]


class _Run:
    """One run of a check."""

    __slots__ = ("answered", "echo", "ended", "missing", "sequences", "slot", "source", "started_ns",
                 "strangers", "token")  # fmt: skip

    def __init__(self, slot: Slot, echo: Echo, source: str, token: bytes, started_ns: int) -> None:
        self.slot = slot
        self.echo = echo
        self.source = source
        """The target's address as the kernel writes it."""
        self.token = token
        self.started_ns = started_ns
        self.missing = echo.count - echo.loss
        self.answered = 0
        self.sequences: list[int] = []
        self.strangers: set[str] = set()
        self.ended = False


class _Family:
    """One socket and the runs on it."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.identifier = int.from_bytes(os.urandom(2), "big")
        self.sock = open_echo_socket(version, self.identifier)
        self.runs: dict[int, _Run] = {}
        """By sequence number."""
        self.sequence = int.from_bytes(os.urandom(2), "big")
        self.buffer = bytearray(RECEIVE_BYTES)


class PingLane:
    """Runs the echoes of all checks."""

    def __init__(self, done: Done) -> None:
        self._done = done
        self._families: dict[int, _Family] = {}
        self._under_way = 0
        self._waiting: list[_Run] = []
        """Started since the last `poll`, not yet in the heap: most are answered before."""
        self._deadlines: list[tuple[int, int, _Run]] = []
        self._number = 0
        self._places: dict[str, tuple[_Family, tuple[object, ...], str]] = {}
        self._tokens = b""
        self._tokens_used = 0

    def __len__(self) -> int:
        return self._under_way

    def close(self) -> None:
        """End everything under way, without results."""
        for family in self._families.values():
            family.sock.close()
        self._families.clear()
        self._under_way = 0

    def start(self, slot: Slot, echo: Echo) -> None:
        """Send the echoes of one run."""
        started_ns = boottime_ns()
        address = slot.check.address
        try:
            family, target, source = self._places.get(address) or self._place(address)
            if len(family.runs) + echo.count > ECHOES_LIMIT:
                raise OSError(errno.ENOBUFS, f"{ECHOES_LIMIT} echoes are under way")
        except PermissionError:
            reason = "this process may not send ICMP: it lacks the capability CAP_NET_RAW"
            self._done(slot, down(reason), started_ns, started_ns)
            return
        except OSError as error:
            self._done(slot, _not_sent(error), started_ns, started_ns)
            return
        run = _Run(slot, echo, source, self._token(), started_ns)
        self._under_way += 1
        try:
            for _ in range(echo.count):
                self._send(family, run, target)
        except OSError as error:
            self._end(family, run, _not_sent(error), boottime_ns())
            return
        self._waiting.append(run)

    def poll(self) -> bool:
        """Take what has come, without waiting; tell whether anything had."""
        before = self._under_way
        for family in self._families.values():
            if family.runs:
                self._receive(family)
        waiting, self._waiting = self._waiting, []
        for run in waiting:
            if not run.ended:
                self._number += 1
                heapq.heappush(self._deadlines, (run.started_ns + run.slot.check.timeout_ns, self._number, run))
        return self._under_way < before

    def expire(self, now_ns: int) -> None:
        """End what has passed its deadline."""
        deadlines = self._deadlines
        while deadlines and (deadlines[0][0] <= now_ns or deadlines[0][2].ended):
            run = heapq.heappop(deadlines)[2]
            if not run.ended:
                family = self._families[6 if ":" in run.source else 4]
                self._end(family, run, down(deadline_reason(_missed(run), run.slot.check.timeout_ns)), now_ns)

    # --- inside ----------------------------------------------------------------------------------------------

    def _family(self, version: int) -> _Family:
        found = self._families.get(version)
        if found is None:
            found = self._families[version] = _Family(version)
        return found

    def _place(self, address: str) -> tuple[_Family, tuple[object, ...], str]:
        """Return the socket for an address, where it sends to, and where the replies must come from."""
        target = numeric_address(address, 0)
        found = (self._family(6 if ":" in address else 4), target, str(target[0]).partition("%")[0])
        self._places[address] = found
        return found

    def _token(self) -> bytes:
        at = self._tokens_used
        if at == len(self._tokens):
            self._tokens, at = os.urandom(TOKENS_AT_ONCE * TOKEN_BYTES), 0
        self._tokens_used = at + TOKEN_BYTES
        return self._tokens[at : at + TOKEN_BYTES]

    def _send(self, family: _Family, run: _Run, target: tuple[object, ...]) -> None:
        sequence = (family.sequence + 1) & 0xFFFF
        while sequence in family.runs:
            sequence = (sequence + 1) & 0xFFFF
        family.sequence = sequence
        family.runs[sequence] = run
        run.sequences.append(sequence)
        payload = run.token.ljust(run.echo.size, b"\0")
        family.sock.sendto(build_echo(family.version, family.identifier, sequence, payload), target)

    def _receive(self, family: _Family) -> None:
        receive, buffer = family.sock.recvfrom_into, family.buffer
        version, runs = family.version, family.runs
        for _ in range(DATAGRAMS_PER_POLL):
            try:
                length, source = receive(buffer)
            except BlockingIOError:
                return
            except OSError:
                continue  # an error about another datagram, told to whoever looks next
            start = (buffer[0] & 0x0F) * 4 if version == 4 else 0
            if length < start + 8 or buffer[start] != ECHO_REPLY[version]:
                self._take_error(family, bytes(buffer[:length]), str(source[0]))
                continue
            run = runs.get(buffer[start + 6] << 8 | buffer[start + 7])
            if run is not None and buffer[start + 8 : min(length, start + 8 + TOKEN_BYTES)] == run.token:
                self._take_reply(family, run, buffer[start + 6] << 8 | buffer[start + 7], source[0])

    def _take_reply(self, family: _Family, run: _Run, sequence: int, source: str) -> None:
        if source != run.source and source.partition("%")[0] != run.source:
            run.strangers.add(source)
            return
        del family.runs[sequence]
        run.answered += 1
        run.missing -= 1
        if run.missing <= 0:
            echo = run.echo
            result = _ONE_OF_ONE if echo.count == 1 else up(f"{run.answered} of {echo.count} echoes answered")
            self._end(family, run, result, boottime_ns())

    def _take_error(self, family: _Family, datagram: bytes, source: str) -> None:
        answer = parse_answer(family.version, datagram)
        if answer is None or answer.kind == ECHO_REPLY[family.version] or answer.identifier != family.identifier:
            return
        run = family.runs.get(answer.sequence)
        # A router quotes at least eight bytes of what it refuses: the token may be missing, but not another one.
        if run is not None and answer.payload[:TOKEN_BYTES] in (run.token, b""):
            self._end(family, run, down(refusal(family.version, answer, source)), boottime_ns())

    def _end(self, family: _Family, run: _Run, result: Result, finished_ns: int) -> None:
        assert not run.ended, "a run ends once"
        run.ended = True
        self._under_way -= 1
        for sequence in run.sequences:
            family.runs.pop(sequence, None)
        self._done(run.slot, result, run.started_ns, finished_ns)


_ONE_OF_ONE = up("1 of 1 echoes answered")


def _not_sent(error: OSError) -> Result:
    return Result(ok=False, reason=f"echo not sent: {error.strerror or error}", inconclusive=is_ours(error))


def _missed(run: _Run) -> str:
    """Return what was waited for in vain."""
    echo = run.echo
    text = "echo reply"
    if echo.count > 1:
        text = f"{echo.count - echo.loss} echo replies of {echo.count} ({run.answered} came)"
    if run.strangers:
        text += f" from it (only from {', '.join(sorted(run.strangers)[:STRANGERS_NAMED])})"
    return text
