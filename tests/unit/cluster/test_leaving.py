"""Letting go in good order, whatever the kernel does."""

from __future__ import annotations

from hawatch.cluster.effects import AdminAction, CloseGate, RemoveAddresses
from hawatch.cluster.wire import GroupState
from tests.unit.cluster.small_site import PARAMETERS, T_NS, SmallSite

R_NS = PARAMETERS.heartbeat_ns


def test_nothing_is_released_until_the_kernel_has_closed_the_gate_and_that_is_ordered_again() -> None:
    site = SmallSite()
    site.run(4 * T_NS)
    site.silent_kernels = {"a"}
    place = site.places["a"]
    place.commands.clear()
    site.admin("a", AdminAction.SWITCHOVER, "web", "b")
    for _ in range(30):
        site.run(R_NS // 10)
        assert site.open() == ["a"]
        assert site.state("b") is GroupState.STANDBY
    assert site.state("a") is GroupState.CLOSING
    closes = sum(isinstance(each, CloseGate) for each in place.commands)
    assert 3 <= closes <= 5, "once a heartbeat"
    assert not any(isinstance(each, RemoveAddresses) for each in place.commands)
    site.run_until(lambda: site.owned_by("b"))
    assert site.two_owners == 0
    site.silent_kernels = set()
    site.run(2 * R_NS)
    assert site.state("a") is GroupState.STANDBY
    assert any(isinstance(each, RemoveAddresses) for each in place.commands)
    assert site.open() == ["b"]


def test_who_handed_over_leaves_the_group_to_the_successor_for_two_heartbeats_then_takes_it_back() -> None:
    site = SmallSite()
    site.run(4 * T_NS)
    site.admin("a", AdminAction.SWITCHOVER, "web", "b")
    site.kill("b")
    closed_ns = site.run_until(lambda: site.state("a") is GroupState.STANDBY)
    took_ns = closed_ns + site.run_until(lambda: site.owned_by("a"))
    assert 2 * R_NS <= took_ns < 3 * R_NS


def test_a_release_that_nobody_heard_is_said_again_with_the_next_heartbeat() -> None:
    site = SmallSite()
    site.run(4 * T_NS)
    for other in ("b", "w"):
        site.cut.add(("a", other))
    answer = site.admin("a", AdminAction.SWITCHOVER, "web", "b")
    site.run_until(lambda: site.state("a") is GroupState.STANDBY)
    site.run(R_NS // 10)
    site.cut.clear()
    took_ns = site.run_until(lambda: answer() is not None)
    assert site.owned_by("b")
    assert took_ns < R_NS
