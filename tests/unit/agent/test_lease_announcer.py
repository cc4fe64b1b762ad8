"""What an owner makes of what is said on the clients' network."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio
import trio.testing

from hawatch.actions.arp import Wire
from hawatch.actions.arp_codec import Told
from hawatch.agent import lease_announcer
from hawatch.agent.lease_announcer import (
    FRAMES_BURST,
    FRAMES_PER_S,
    MACS_TOLD_MAX,
    TELL_CONFLICT_NS,
    Announcer,
    conflict_reason,
)
from hawatch.agent.settings import now_ns
from hawatch.model import Event, Severity
from tests.unit.actions.two_hosts import VIP, VIP6, TwoHosts, two_hosts


class OneGroup:
    """One group that is owned, on eth0."""

    def __init__(self) -> None:
        self.own = True

    def group_of(self, address: str) -> str:
        return "web" if address in (VIP, VIP6) else ""

    def interfaces(self) -> set[str]:
        return {"eth0"}

    def places(self, _group: str) -> list[tuple[str, str]]:
        return [(VIP, "eth0"), (VIP6, "eth0")]

    def owned(self) -> list[str]:
        return ["web"] if self.own else []

    def director_at(self, address: str) -> str:
        return "lvs2" if address == "192.0.2.6" else ""


def forged(count: int, address: str = VIP) -> list[Told]:
    return [Told(address, f"02:00:00:01:{number >> 8:02x}:{number & 255:02x}") for number in range(count)]


def test_who_answers_from_ever_other_hardware_addresses_is_told_a_few_times_then_counted() -> None:
    events: list[Event] = []
    announcer = Announcer(OneGroup(), events.extend, lambda what, problem: None)
    for told in [*forged(500), *forged(500), *forged(3, VIP6), Told("192.0.2.77", "02:00:00:00:00:77")]:
        announcer._take(told)
    assert len(events) == MACS_TOLD_MAX + 3
    announcer._end_conflicts(now_ns())
    assert len(events) == MACS_TOLD_MAX + 3
    announcer._end_conflicts(now_ns() + TELL_CONFLICT_NS)
    assert len(events) == MACS_TOLD_MAX + 4
    assert events[-1].reason.startswith(f"{500 - MACS_TOLD_MAX} more hardware addresses answered for {VIP} in 300 s")
    assert {(event.name, event.severity, event.group) for event in events} == {
        ("vip_conflict", Severity.CRITICAL, "web")
    }
    announcer._take(forged(1)[0])
    assert len(events) == MACS_TOLD_MAX + 5


def test_who_does_not_own_tells_of_no_conflict() -> None:
    events: list[Event] = []
    groups = OneGroup()
    groups.own = False
    announcer = Announcer(groups, events.extend, lambda what, problem: None)
    announcer._take(forged(1)[0])
    assert events == []


@pytest.fixture
def hosts() -> Iterator[TwoHosts]:
    with two_hosts() as found:
        yield found


@pytest.mark.netns
@pytest.mark.slow
def test_a_flood_of_answers_is_read_within_a_budget(hosts: TwoHosts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_announcer, "CONFLICT_INTERVAL_S", 1000)
    events: list[Event] = []
    flood = hosts.on_c(lambda: Wire("eth0"))

    async def main() -> tuple[int, float]:
        announcer = Announcer(OneGroup(), events.extend, lambda what, problem: None)
        wire = announcer.listen("eth0")
        assert wire is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(announcer.run)
            began = trio.current_time()
            while trio.current_time() < began + 1:
                flood.announce([VIP] * 50)
                await trio.sleep(0.001)
            spent_s = trio.current_time() - began
            nursery.cancel_scope.cancel()
        announcer.close()
        return wire.frames, spent_s

    frames, spent_s = hosts.on_a(lambda: trio.run(main))
    flood.close()
    assert 0 < frames <= FRAMES_BURST + FRAMES_PER_S * spent_s
    assert len(events) == 1


def test_a_director_that_answers_is_named_and_no_real_server_is_blamed() -> None:
    (told,) = forged(1)
    words = conflict_reason(told, "lvs2")
    assert words.startswith(
        f"director lvs2, {told.mac}, answers for {VIP}, which this director owns: see `hawatch ctl status`"
    )
    assert "arp_ignore" not in words
    assert "arp_ignore = 1" in conflict_reason(told, "")
