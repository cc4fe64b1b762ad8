"""Whether a gateway answers pings, on real sockets, and when a director takes it for gone."""

from __future__ import annotations

import ctypes
import errno
import itertools
import platform
import resource
import socket
import struct
import threading
from collections.abc import Sequence

import pytest
import trio

from hawatch.agent.lease_gateway import GatewayWatch, any_answers
from hawatch.cluster.parameters import PROFILES
from hawatch.model import NS_PER_S


async def test_a_gateway_that_cannot_be_asked_does_not_answer() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        assert await any_answers(["127.0.0.1"], 1.0) is False
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_a_gateway_answers_or_not() -> None:
    assert await any_answers(["127.0.0.1", "::1"], 5.0) is True
    assert await any_answers(["240.0.0.1"], 0.1) is False


SOCKET_CALL = {"x86_64": 41, "aarch64": 198}
"""Number of socket(2)."""


@pytest.mark.skipif(platform.machine() not in SOCKET_CALL, reason="the number of socket(2) is not known here")
def test_a_kernel_without_ipv6_asks_the_ipv4_gateways() -> None:
    answers: list[bool] = []

    async def ask() -> None:
        for gateways in (["::1", "127.0.0.1"], ["127.0.0.1", "::1"], ["::1"]):
            answers.append(await any_answers(gateways, 5.0))

    def work() -> None:
        refuse_ipv6_sockets()
        with pytest.raises(OSError, match="Address family not supported"):
            socket.socket(socket.AF_INET6)
        trio.run(ask)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(30.0)
    assert answers == [True, True, False]


def refuse_ipv6_sockets() -> None:
    """Have the kernel tell this thread, for good, that it has no IPv6 (seccomp(2), linux/filter.h)."""
    program = [
        (0x20, 0, 0, 0),  # A = number of the system call
        (0x15, 0, 3, SOCKET_CALL[platform.machine()]),  # socket? else let it be
        (0x20, 0, 0, 16),  # A = its family
        (0x15, 0, 1, socket.AF_INET6),  # IPv6? else let it be
        (0x06, 0, 0, 0x50000 | errno.EAFNOSUPPORT),
        (0x06, 0, 0, 0x7FFF0000),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
    filters = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    assert prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert prctl(22, 2, ctypes.addressof(filters), 0, 0) == 0, ctypes.get_errno()  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


@pytest.mark.parametrize("profile", PROFILES)
def test_directors_notice_that_a_gateway_is_gone_or_back_within_the_hold_down(profile: str) -> None:
    hold_down_s = PROFILES[profile].hold_down_ns / NS_PER_S
    watch = GatewayWatch(["192.0.2.254"], hold_down_s)
    assert watch.interval_s + watch.timeout_s <= 0.75 * hold_down_s


async def test_a_gateway_that_answers_no_more_or_again_is_told_once() -> None:
    watch, told, back = GatewayWatch(["240.0.0.1"], 0.08), list[bool](), trio.Event()

    def changed() -> None:
        told.append(watch.answers)
        watch.gateways = ["127.0.0.1"]
        if watch.answers:
            back.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run, changed)
        with trio.fail_after(5):
            await back.wait()
        await trio.sleep(3 * watch.interval_s)
        nursery.cancel_scope.cancel()
    assert told == [False, True]


async def test_a_gateway_is_gone_after_three_pings_in_a_row_and_back_after_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    script, asked, told = "ynnynnnnyn", list[float](), list[tuple[int, bool]]()

    async def ask(gateways: Sequence[str], timeout_s: float) -> bool:
        assert (list(gateways), timeout_s) == (["192.0.2.254"], 0.5)
        asked.append(trio.current_time())
        if len(asked) == len(script):
            watch.gateways = []
        return script[len(asked) - 1] == "y"

    watch = GatewayWatch(["192.0.2.254"], 2.0, ask)
    await watch.run(lambda: told.append((len(asked), watch.answers)))
    assert told == [(7, False), (9, True)]
    assert {round(later - sooner, 3) for sooner, later in itertools.pairwise(asked)} == {1.0}
