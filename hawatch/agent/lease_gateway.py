"""Whether a gateway answers pings: part of a director's fitness, and of its evidence where there is no witness."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Awaitable, Callable, Container, Iterable, Sequence

import trio

from hawatch.icmp import RECEIVE_BYTES, build_echo, open_echo_socket, parse_answer

GATEWAY_INTERVAL_MAX_S = 2.0
GATEWAY_UNANSWERED_MAX = 3
"""A gateway counts as gone when it has not answered so often in a row: one lost ping moves nothing."""
GATEWAY_TIMEOUT_MAX_S = 1.0


async def any_answers(addresses: Iterable[str], timeout_s: float) -> bool:
    """Ping all addresses once; return at the first answer, False when none came in time or none can be asked."""
    targets = {address: 6 if ":" in address else 4 for address in addresses}
    token = time.monotonic_ns().to_bytes(8, "big") + b"hawatch!"
    identifier = int.from_bytes(token[4:6], "big") ^ 0x5A5A
    with contextlib.ExitStack() as opened:
        ends: dict[int, socket.socket] = {}
        for version in set(targets.values()):
            with contextlib.suppress(OSError):  # a kernel without IPv6 asks the others
                ends[version] = opened.enter_context(open_echo_socket(version, identifier))
        if not ends:
            return False
        try:
            answers = opened.enter_context(select.epoll(len(ends)))
            for end in ends.values():
                answers.register(end, select.EPOLLIN)
        except OSError:
            return False
        for address, version in targets.items():
            with contextlib.suppress(OSError, KeyError):
                ends[version].sendto(build_echo(version, identifier, 1, token), (address, 0))
        with trio.move_on_after(timeout_s):
            while True:
                await trio.lowlevel.wait_readable(answers.fileno())
                if any(heard(end, version, token, targets) for version, end in ends.items()):
                    return True
    return False


def heard(end: socket.socket, version: int, token: bytes, addresses: Container[str]) -> bool:
    """Read one datagram, if there is one; return whether it is the answer to an echo with this token."""
    try:
        data, source = end.recvfrom(RECEIVE_BYTES)
    except OSError:
        return False
    found = parse_answer(version, data)
    return found is not None and found.payload == token and source[0].split("%")[0] in addresses


class GatewayWatch:
    """Asks the gateways now and then.

    When a gateway dies or is back, directors notice at different moments, apart by an interval and a timeout at most.
    Together these are less than the hold-down, so that none of them hands a group over to one that has merely noticed
    later, or earlier.
    """

    def __init__(
        self,
        gateways: Sequence[str],
        hold_down_s: float,
        ask: Callable[[Sequence[str], float], Awaitable[bool]] = any_answers,
    ) -> None:
        """`ask` tells whether any of the gateways answers within so many seconds."""
        self.gateways = gateways
        self.ask = ask
        self.interval_s = min(GATEWAY_INTERVAL_MAX_S, hold_down_s / 2)
        self.timeout_s = min(GATEWAY_TIMEOUT_MAX_S, hold_down_s / 4)
        self.answers = True

    async def run(self, changed: Callable[[], None]) -> None:
        """Ask until cancelled; call `changed` at once when they do not answer any more, or do again."""
        unanswered = 0
        while self.gateways:
            unanswered = 0 if await self.ask(self.gateways, self.timeout_s) else unanswered + 1
            answers = unanswered < GATEWAY_UNANSWERED_MAX
            if answers != self.answers:
                self.answers = answers
                changed()
            await trio.sleep(self.interval_s)
