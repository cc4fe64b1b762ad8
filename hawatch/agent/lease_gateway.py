"""Whether a gateway answers pings: part of a director's fitness, and of its evidence where there is no witness."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterable, Sequence

import trio

from hawatch.icmp import build_echo, parse_answer

GATEWAY_INTERVAL_MAX_S = 2.0
GATEWAY_UNANSWERED_MAX = 3
"""A gateway counts as gone when it has not answered so often in a row: one lost ping moves nothing."""
GATEWAY_TIMEOUT_MAX_S = 1.0
RECEIVE_BYTES = 2048


class GatewayWatch:
    """Asks the gateways now and then.

    When a gateway dies or is back, directors notice at different moments, apart by an interval and a timeout at most.
    Together these are less than the hold-down, so that none of them hands a group over to one that has merely noticed
    later, or earlier.
    """

    def __init__(self, gateways: Sequence[str], hold_down_s: float) -> None:
        self.gateways = gateways
        self.interval_s = min(GATEWAY_INTERVAL_MAX_S, hold_down_s / 2)
        self.timeout_s = min(GATEWAY_TIMEOUT_MAX_S, hold_down_s / 4)
        self.answers = True

    async def run(self) -> None:
        """Ask until cancelled."""
        unanswered = 0
        while self.gateways:
            unanswered = 0 if await any_answers(self.gateways, self.timeout_s) else unanswered + 1
            self.answers = unanswered < GATEWAY_UNANSWERED_MAX
            await trio.sleep(self.interval_s)


async def any_answers(addresses: Iterable[str], timeout_s: float) -> bool:
    """Ping all addresses once; return at the first answer, False when none came in time or none can be asked."""
    targets = {address: socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses}
    token = time.monotonic_ns().to_bytes(8, "big") + b"hawatch!"
    identifier = int.from_bytes(token[4:6], "big") ^ 0x5A5A
    answered = trio.Event()

    async def listen(end: socket.socket, version: int) -> None:
        while True:
            await trio.lowlevel.wait_readable(end)
            try:
                data, source = end.recvfrom(RECEIVE_BYTES)
            except OSError:
                continue
            found = parse_answer(version, data)
            if found is not None and found.payload == token and source[0].split("%")[0] in targets:
                answered.set()

    ends: dict[socket.AddressFamily, socket.socket] = {}
    try:
        for family in sorted(set(targets.values())):
            protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
            kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            ends[family] = socket.socket(family, kind, protocol)
        with trio.move_on_after(timeout_s):
            async with trio.open_nursery() as nursery:
                for family, end in ends.items():
                    nursery.start_soon(listen, end, 4 if family == socket.AF_INET else 6)
                for address, its in targets.items():
                    echo = build_echo(4 if its == socket.AF_INET else 6, identifier, 1, token)
                    with contextlib.suppress(OSError):
                        ends[its].sendto(echo, (address, 0))
                await answered.wait()
                nursery.cancel_scope.cancel()
    except OSError:
        return False
    finally:
        for end in ends.values():
            end.close()
    return answered.is_set()
