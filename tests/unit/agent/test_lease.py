from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from hawatch.agent.lease import APART_NS_MAX, RETRY_MAX_S, LeasedOwnership, apart_ns
from hawatch.agent.lease_memory import write_run
from hawatch.agent.lease_site import membership_of
from hawatch.agent.places import Places
from hawatch.agent.settings import Settings, load_settings
from hawatch.cli.main import main
from hawatch.cluster.effects import Command, NodeEvent
from hawatch.cluster.membership import FormerRun
from hawatch.cluster.parameters import PROFILES
from hawatch.errors import KernelError, RefusedError
from hawatch.health.schedule import JITTER_NS_MAX
from hawatch.model import NS_PER_S, Check, Event, Plan

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

    def fitness(self) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
        return (), (), ()

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


def test_directors_notice_the_same_an_interval_and_a_timeout_and_some_more_apart(settings: Settings) -> None:
    def with_checks(*seconds: tuple[int, int]) -> Settings:
        checks = {
            str(number): Check(str(number), "tcp", {}, "192.0.2.1", 80, interval * NS_PER_S, timeout * NS_PER_S, 2, 3)
            for number, (interval, timeout) in enumerate(seconds)
        }
        return replace(settings, plan=Plan((), checks))

    more_ns = NS_PER_S + JITTER_NS_MAX + PROFILES["default"].heartbeat_ns
    assert apart_ns(with_checks()) == 0
    assert apart_ns(with_checks((2, 1), (5, 2), (6, 1))) == 7 * NS_PER_S + more_ns
    assert apart_ns(with_checks((3600, 10))) == APART_NS_MAX
    ownership = LeasedOwnership(with_checks((2, 1)), Makes(0), paused=False, remember=lambda paused: None)
    assert ownership._apart_ns == 3 * NS_PER_S + more_ns
    ownership.set_settings(with_checks((4, 1)))
    assert ownership._apart_ns == 5 * NS_PER_S + more_ns
