"""The gate against real packets, in two network namespaces."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest

from hawatch.actions.gate import Gate, boottime_ns
from hawatch.actions.gate_rules import GateGroup, Layout
from hawatch.errors import KernelError
from hawatch.model import NS_PER_MS
from tests.unit.actions.two_hosts import ALL, NOTHING, VIP, VIP6, Asker, TwoHosts, two_hosts

pytestmark = [pytest.mark.netns, pytest.mark.slow]
LONG_NS = 60_000 * NS_PER_MS
GROUPS = {"web": GateGroup((VIP, VIP6))}


@pytest.fixture(scope="module")
def hosts() -> Iterator[TwoHosts]:
    with two_hosts() as found:
        found.add_vips()
        yield found


@pytest.fixture(scope="module")
def asker(hosts: TwoHosts) -> Iterator[Asker]:
    found = Asker(hosts)
    yield found
    found.close()


@pytest.fixture(params=["inet", "split", "not owned"])
def gate(hosts: TwoHosts, request: pytest.FixtureRequest) -> Iterator[Gate]:
    layouts = (Layout.SPLIT,) if request.param == "split" else (Layout.INET,)
    found = hosts.on_a(lambda: Gate.open(layouts=layouts, own=request.param != "not owned"))
    found.install(GROUPS)
    yield found
    found.uninstall()
    found.close_sockets()


def test_without_a_gate_everything_passes(asker: Asker) -> None:
    assert asker.answers() == ALL


def test_a_new_gate_is_closed(gate: Gate, asker: Asker) -> None:
    assert asker.answers() == NOTHING
    assert not gate.is_open("web")
    assert not gate.state("web").open
    counters = gate.counters()
    assert counters["in4_web"] >= 1
    assert counters["arp4_web"] >= 1


@pytest.mark.parametrize("slot", [0, 1])
def test_it_takes_both_timer_and_bit_of_one_slot(gate: Gate, asker: Asker, slot: int) -> None:
    gate.arm("web", slot, LONG_NS)
    assert asker.answers() == NOTHING
    gate.activate("web", 1 - slot)
    assert asker.answers() == NOTHING
    gate.activate("web", slot)
    assert asker.answers() == ALL
    assert gate.state("web").open
    gate.close("web")
    assert asker.answers() == NOTHING


def test_arming_a_slot_clears_its_bit_and_leaves_the_other_alone(gate: Gate, asker: Asker) -> None:
    gate.arm("web", 0, LONG_NS)
    gate.activate("web", 0)
    gate.arm("web", 1, LONG_NS)
    assert asker.answers() == ALL
    gate.activate("web", 1)
    gate.arm("web", 0, LONG_NS)
    assert asker.answers() == ALL
    gate.arm("web", 1, LONG_NS)
    assert asker.answers() == NOTHING


def test_the_kernel_closes_it_when_the_timer_has_run_out(gate: Gate, asker: Asker) -> None:
    gate.arm("web", 0, 300 * NS_PER_MS)
    gate.activate("web", 0)
    end_ns = boottime_ns() + 300 * NS_PER_MS
    last_ns = 0
    while boottime_ns() < end_ns + 200 * NS_PER_MS:
        if asker.reached(VIP, 0.002):
            last_ns = boottime_ns()
    assert end_ns - 50 * NS_PER_MS < last_ns < end_ns + 20 * NS_PER_MS
    gate.activate("web", 0)  # too late
    assert asker.answers() == NOTHING
    assert not gate.activate("web", 0)


def test_arming_again_gives_the_whole_time_again(gate: Gate, asker: Asker) -> None:
    for _ in range(5):
        for slot in (0, 1):
            gate.arm("web", slot, 400 * NS_PER_MS)
            gate.activate("web", slot)
            time.sleep(0.1)
            assert gate.state("web").open
            assert asker.reached(VIP)
    assert gate.state("web").open_for_ns > 200 * NS_PER_MS


def test_another_process_of_the_same_node_finds_it_as_it_was(hosts: TwoHosts, gate: Gate, asker: Asker) -> None:
    gate.arm("web", 1, LONG_NS)
    gate.activate("web", 1)
    gate.close_sockets()  # as its end does
    assert asker.answers() == ALL
    again = hosts.on_a(lambda: Gate.open(layouts=(gate.layout,), own=gate.owned))
    try:
        again.install(GROUPS)
        assert again.is_open("web")
        assert again.state("web").active == (False, True)
        assert asker.answers() == ALL
        again.install({})
        assert asker.answers() == ALL  # what is not named any more is let pass
        again.install(GROUPS)
        assert asker.answers() == NOTHING
    finally:
        again.uninstall()
        again.close_sockets()


def test_a_flush_by_others_does_not_open_it_for_long(hosts: TwoHosts, gate: Gate, asker: Asker) -> None:
    gate.arm("web", 0, LONG_NS)
    gate.activate("web", 0)
    subprocess.run(["ip", "netns", "exec", hosts.a, "nft", "flush", "ruleset"], check=True)
    if gate.listener is None:
        assert asker.answers() == ALL  # the kernel protects it
        assert gate.verify() == ""
        return
    restored = gate.handle_changes()
    assert restored is not None
    assert "is gone" in restored.reason
    assert restored.open_again == ("web",)
    assert asker.answers() == ALL
    gate.close("web")
    subprocess.run(["ip", "netns", "exec", hosts.a, "nft", "flush", "ruleset"], check=True)
    assert gate.handle_changes() is not None
    assert asker.answers() == NOTHING
    assert gate.handle_changes() is None


def test_one_address_in_two_groups_is_refused(gate: Gate) -> None:
    with pytest.raises(ValueError, match=VIP):
        gate.install({"web": GateGroup((VIP,)), "mail": GateGroup((VIP,))})
    assert gate.verify() == ""


def test_groups_open_apart(gate: Gate, asker: Asker) -> None:
    gate.install({"web": GateGroup((VIP,)), "mail.six": GateGroup((VIP6,))})
    gate.arm("mail.six", 0, LONG_NS)
    gate.activate("mail.six", 0)
    assert asker.answers() == {"arp": False, "nd": True, "ipv4": False, "ipv6": True}


def test_tables_of_another_process_are_not_taken(hosts: TwoHosts, gate: Gate) -> None:
    if gate.owned:
        with pytest.raises(KernelError, match="owned by another process"):
            hosts.on_a(lambda: Gate.open(layouts=(gate.layout,)))
