from __future__ import annotations

import ctypes
import errno
import itertools
import platform
import resource
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pytest
import trio

from hawatch.agent.lease import RETRY_MAX_S, LeasedOwnership
from hawatch.agent.lease_gateway import GatewayWatch, any_answers
from hawatch.agent.lease_memory import write_run
from hawatch.agent.lease_site import membership_of
from hawatch.agent.places import Places
from hawatch.agent.settings import Settings, load_settings
from hawatch.cli.main import main
from hawatch.cluster.effects import Command, NodeEvent
from hawatch.cluster.membership import FormerRun
from hawatch.cluster.parameters import PROFILES
from hawatch.errors import KernelError, RefusedError
from hawatch.model import NS_PER_S, Event

CONFIG = """\
[cluster]
name = "test"
key_file = "{key}"
port = 16940
quorum = "none"

[[director]]
name = "lvs1"
links = ["127.0.0.1"]

[[director]]
name = "lvs2"
links = ["127.0.0.2"]

[[group]]
name = "web"
addresses = [{{ address = "192.0.2.110/32", interface = "lo" }}]
"""


class BrokenEffects:
    """Effects of which a task fails, as one does when the kernel takes its socket away."""

    gate = "none"

    def __init__(self) -> None:
        self.closed = False

    def adopted(self) -> Mapping[str, int]:
        return {}

    async def wait_links(self) -> None:
        await trio.sleep_forever()

    def set_settings(self, settings: Settings) -> None:
        pass

    def fitness(self) -> tuple[Sequence[str], Sequence[str]]:
        return (), ()

    def close_sockets(self) -> None:
        self.closed = True

    def carry_out(self, command: Command) -> Sequence[NodeEvent]:
        return []

    async def run(self, give: Callable[[NodeEvent], None]) -> None:
        raise KernelError("the netlink socket is gone")


class GoodEffects(BrokenEffects):
    """Effects that go on for ever."""

    async def run(self, give: Callable[[NodeEvent], None]) -> None:
        await trio.sleep_forever()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    key = tmp_path / "cluster.key"
    assert main(["keygen", str(key)]) == 0
    config = tmp_path / "hawatch.toml"
    config.write_text(CONFIG.format(key=key))
    (tmp_path / "state").mkdir()
    return load_settings(Places(config, tmp_path / "run", tmp_path / "state"), "lvs1")


class Makes:
    """Makes effects, and notes when; the first `broken` of them fail, the others go on for ever."""

    def __init__(self, broken: int) -> None:
        self.broken = broken
        self.made: list[tuple[float, BrokenEffects]] = []

    def __call__(self, _settings: Settings, _emit: Callable[[Iterable[Event]], None]) -> BrokenEffects:
        kind = BrokenEffects if len(self.made) < self.broken else GoodEffects
        self.made.append((trio.current_time(), kind()))
        return self.made[-1][1]


async def test_what_fails_is_tried_again_at_once_then_ever_later_and_told_once(
    settings: Settings, autojump_clock: trio.testing.MockClock
) -> None:
    membership = membership_of(settings.config, "lvs1")
    run = FormerRun(membership.digest, membership.parameters.longest_lease_ns, settled=True)
    assert write_run(settings.places.state_dir / "members", run) == ""  # else it waits for the disk first
    makes, events = Makes(1000), list[Event]()
    ownership = LeasedOwnership(settings, makes, paused=False, remember=lambda paused: None)
    began = trio.current_time()
    with trio.move_on_after(60):
        await ownership.run(events.extend, lambda: None)
    assert all(one.closed for _, one in makes.made)
    after = [round(at - began, 3) for at, _ in makes.made]
    assert after[:8] == [0, 0, 0.1, 0.3, 0.7, 1.5, 3.1, 6.3]
    assert {round(later - sooner, 3) for sooner, later in itertools.pairwise(after[7:])} == {RETRY_MAX_S}
    failed = [event.reason for event in events if event.name == "lease_failed"]
    assert failed == ["nothing can be owned: the netlink socket is gone"]


async def test_what_an_administrator_wishes_is_refused_while_nothing_can_be_owned(
    settings: Settings, autojump_clock: trio.testing.MockClock
) -> None:
    Path(settings.config.cluster.key_file).unlink()
    ownership = LeasedOwnership(settings, Makes(0), paused=False, remember=lambda paused: None)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ownership.run, lambda events: None, lambda: None)
            for wish in (ownership.giveaway(), ownership.takeover("web"), ownership.switchover("web", "")):
                with pytest.raises(RefusedError, match=r"cluster\.key: cannot be read"):
                    await wish
            nursery.cancel_scope.cancel()


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
