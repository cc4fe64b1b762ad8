"""The gate with real packets, in network namespaces: as the kernel owns it for us, and as one has to watch it."""

from __future__ import annotations

import errno
import itertools
import os
import re
import select
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from hawatch.actions import gate as gate_module
from hawatch.actions import gate_rules
from hawatch.actions.gate import RESTORE_SLACK_NS, Gate, Restored, boottime_ns, remove_gate
from hawatch.actions.gate_rules import GateGroup, Layout
from hawatch.errors import KernelError
from hawatch.model import NS_PER_MS, NS_PER_S
from tests.lab.netns import enter_namespace
from tests.unit.actions.wired import (
    CLIENT4,
    CLIENT6,
    CLIENT_MAC,
    DIRECTOR4,
    DIRECTOR6,
    DIRECTOR_MAC,
    VIP4,
    VIP6,
    Client,
    Site,
    cable,
)

pytestmark = pytest.mark.netns

GROUP = "web"
GROUPS = {GROUP: GateGroup((VIP4, VIP6))}
SHARED = {GROUP: GateGroup((VIP4, VIP6), shared=True)}
LONG = 60 * NS_PER_S
LIKE_VIP4 = "2001:db8:c000:26e::1"
"""Packets from here have the IPv4 VIP where it would be in a packet of IPv4."""
BUSY_TRIES = 20
"""A machine that is busy for longer than RESTORE_SLACK_NS leaves the gate closed, as it should."""
SLACK_NS = 30 * NS_PER_MS
"""The kernel's clock of timers ticks in up to 10 ms; a packet may be under way for as long again."""
DARK = dict.fromkeys(("arp", "ping", "ns", "ping6"), False)
LIT = dict.fromkeys(DARK, True)
SERVES = {"arp": False, "ping": True, "ns": False, "ping6": True}
"""What a standby that is a real server too answers, when the owner asks."""


@pytest.fixture
def site() -> Iterator[Site]:
    with cable() as made:
        made.ip(f"address add {VIP4}/32 dev eth0", f"address add {VIP6}/128 dev eth0 nodad")
        yield made


@pytest.fixture(params=["owned", "watched", "split"])
def gate(request: pytest.FixtureRequest, site: Site) -> Iterator[Gate]:
    layouts = (Layout.SPLIT,) if request.param == "split" else (Layout.INET,)
    opened = site.at_director(lambda: Gate.open(layouts=layouts, own=request.param == "owned"))
    opened.install(GROUPS)
    yield opened
    opened.close_sockets()


@pytest.fixture
def watched(site: Site) -> Iterator[Gate]:
    opened = site.at_director(lambda: Gate.open(own=False))
    opened.install(GROUPS)
    opened.handle_changes()
    yield opened
    opened.close_sockets()


@pytest.fixture
def client(site: Site) -> Client:
    return site.probe()


def test_closed_by_default_then_open_only_when_armed_and_active_of_one_slot(gate: Gate, client: Client) -> None:
    assert client.kinds() == DARK
    gate.arm(GROUP, 0, LONG)
    assert client.kinds() == DARK
    gate.activate(GROUP, 0)
    assert client.kinds() == LIT
    gate.close(GROUP)
    assert client.kinds() == DARK
    gate.arm(GROUP, 0, LONG)
    gate.activate(GROUP, 1)
    assert client.kinds() == DARK
    assert not gate.is_open(GROUP)


def test_other_addresses_are_not_touched(gate: Gate, site: Site, client: Client) -> None:
    site.ip("address add 192.0.2.111/32 dev eth0")
    assert client.answered("arp", "192.0.2.111")
    assert client.answered("ping", "192.0.2.111")
    site.ip(f"address add {LIKE_VIP4}/128 dev eth0 nodad")
    assert client.answered("ping6", LIKE_VIP4)


def passing(site: Site) -> set[str]:
    """Send what an owner alone may: a packet from each VIP, and an advertisement for one; tell what the kernel lets out."""

    def allowed(family: int, kind: int, protocol: int, source: str, to: str, data: bytes, port: int = 0) -> bool:
        with socket.socket(family, kind, protocol) as sender:
            sender.bind((source, port))
            try:
                sender.sendto(data, (to, 0 if kind == socket.SOCK_RAW else 9))
            except PermissionError:
                return False
            return True

    def work() -> set[str]:
        telling, asking = (
            bytes((kind, 0, 0, 0, 0, 0, 0, 0)) + socket.inet_pton(socket.AF_INET6, VIP6) for kind in (136, 135)
        )
        udp = (socket.SOCK_DGRAM, 0)
        raw = (socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        tries = {
            "ipv4": (socket.AF_INET, *udp, VIP4, CLIENT4, b"?"),
            "ipv6": (socket.AF_INET6, *udp, VIP6, CLIENT6, b"?"),
            "advertisement": (socket.AF_INET6, *raw, DIRECTOR6, CLIENT6, telling),
        }
        others = {
            "own ipv4": (socket.AF_INET, *udp, DIRECTOR4, CLIENT4, b"?"),
            "own ipv6": (socket.AF_INET6, *udp, DIRECTOR6, CLIENT6, b"?"),
            "solicitation": (socket.AF_INET6, *raw, DIRECTOR6, CLIENT6, asking),
            "own advertisement": (socket.AF_INET6, *raw, DIRECTOR6, CLIENT6, telling[:-1] + b"\1"),
            "no ICMPv6": (socket.AF_INET6, *udp, DIRECTOR6, CLIENT6, telling[8:], 136 << 8),
        }
        assert {name for name, one in others.items() if allowed(*one)} == set(others)
        return {name for name, one in tries.items() if allowed(*one)}

    return site.at_director(work)


def test_what_this_machine_sends_from_a_vip_stays_here_while_it_is_closed(gate: Gate, site: Site) -> None:
    assert passing(site) == set()
    gate.arm(GROUP, 0, LONG)
    assert passing(site) == set()
    gate.activate(GROUP, 0)
    assert passing(site) == {"ipv4", "ipv6", "advertisement"}
    gate.close(GROUP)
    assert passing(site) == set()
    gate.install(SHARED)
    assert passing(site) == {"ipv4", "ipv6"}, "a real server answers from the VIP, and claims it nowhere"


def test_dark_when_the_timer_has_run_out_though_nobody_does_anything(gate: Gate, client: Client) -> None:
    deadline_ns = gate.arm(GROUP, 1, 250 * NS_PER_MS)
    gate.activate(GROUP, 1)
    lit_ns, dark_ns = [], []
    while boottime_ns() < deadline_ns + 100 * NS_PER_MS:
        asked_ns = boottime_ns()
        for kind, answered in client.kinds().items():
            (lit_ns if answered else dark_ns).append((asked_ns, kind))
    assert {kind for _, kind in lit_ns} == set(DARK)
    late = [(at - deadline_ns, kind) for at, kind in lit_ns if at > deadline_ns + SLACK_NS]
    assert not late
    assert {kind for at, kind in dark_ns if at > deadline_ns} == set(DARK)
    assert not gate.is_open(GROUP)
    assert not gate.state(GROUP).open


def test_a_late_active_opens_nothing(gate: Gate, client: Client) -> None:
    deadline_ns = gate.arm(GROUP, 0, 20 * NS_PER_MS)
    while boottime_ns() < deadline_ns + SLACK_NS:
        client.answered("arp", VIP4)
    assert gate.activate(GROUP, 0) is False
    assert client.kinds() == DARK


def test_a_renewal_in_the_other_slot_leaves_no_gap(gate: Gate, client: Client) -> None:
    gate.arm(GROUP, 0, LONG)
    gate.activate(GROUP, 0)
    for slot in (1, 0, 1):
        gate.arm(GROUP, slot, LONG)
        assert client.answered("ping", VIP4)
        gate.activate(GROUP, slot)
        assert client.kinds() == LIT


def test_arming_starts_the_timer_anew(gate: Gate) -> None:
    gate.arm(GROUP, 0, LONG)
    gate.arm(GROUP, 0, 2 * LONG)
    assert gate.state(GROUP).remaining_ns[0] > LONG


def test_every_short_history_ends_as_it_should(gate: Gate) -> None:
    """All histories of three steps, against the rule in one line: armed, and activated since."""
    steps = ("arm0", "arm1", "activate0", "activate1", "close")
    for history in itertools.product(steps, repeat=3):
        gate.close(GROUP)
        armed, active = [False, False], [False, False]
        for step in history:
            if step == "close":
                gate.close(GROUP)
                armed, active = [False, False], [False, False]
            elif step.startswith("arm"):
                gate.arm(GROUP, int(step[-1]), LONG)
                armed[int(step[-1])], active[int(step[-1])] = True, False
            else:
                gate.activate(GROUP, int(step[-1]))
                active[int(step[-1])] = True
        wanted = any(one and other for one, other in zip(armed, active, strict=True))
        assert gate.state(GROUP).open is wanted, history
        assert gate.is_open(GROUP) is wanted, history
        assert gate.state(GROUP).active == tuple(active), history


def test_two_groups_do_not_open_each_other(site: Site, client: Client) -> None:
    gate = site.at_director(Gate.open)
    gate.install({"web": GateGroup((VIP4,)), "mail": GateGroup((VIP6,))})
    gate.arm("mail", 0, LONG)
    gate.activate("mail", 0)
    assert client.kinds() == {"arp": False, "ping": False, "ns": True, "ping6": True}
    with pytest.raises(ValueError, match="belongs to two groups"):
        gate.install({"web": GateGroup((VIP4,)), "mail": GateGroup((VIP4,))})
    gate.close_sockets()


def test_a_restart_finds_the_gate_as_it_was(site: Site, gate: Gate, client: Client) -> None:
    gate.arm(GROUP, 1, LONG)
    gate.activate(GROUP, 1)
    owned, layout = gate.owned, gate.layout
    gate.close_sockets()
    assert client.kinds() == LIT
    again = site.at_director(lambda: Gate.open(layouts=(layout,), own=owned))
    again.install(GROUPS)
    assert again.owned is owned
    assert again.is_open(GROUP)
    assert 0 < again.state(GROUP).remaining_ns[1] <= LONG
    assert client.kinds() == LIT
    again.close(GROUP)
    assert client.kinds() == DARK
    again.close_sockets()


def test_what_the_kernel_covers_is_read_whoever_installed_it(site: Site, gate: Gate) -> None:
    assert gate.covered() == {VIP4, VIP6}
    gate.install({GROUP: GateGroup((VIP6,), shared=True)})
    owned, layout = gate.owned, gate.layout
    gate.close_sockets()
    again = site.at_director(lambda: Gate.open(layouts=(layout,), own=owned))
    assert again.covered() == {VIP6}
    again.install({})
    assert again.covered() == set()
    again.close_sockets()


def test_a_reload_adds_and_retires_groups_and_touches_no_other(site: Site, gate: Gate, client: Client) -> None:
    gate.arm(GROUP, 0, LONG)
    gate.activate(GROUP, 0)
    gate.install({GROUP: GateGroup((VIP4,)), "a group with an odd name!": GateGroup((VIP6,))})
    assert client.kinds() == {"arp": True, "ping": True, "ns": False, "ping6": False}
    odd = gate_rules.label("a group with an odd name!")
    assert {f"armed0_{odd}", f"active1_{odd}", f"in6_{odd}"} < set(site.nft("list ruleset").split())
    gate.install(GROUPS)
    assert odd not in site.nft("list ruleset")
    assert client.kinds() == LIT
    gate.install({})
    assert GROUP not in site.nft("list ruleset")
    assert client.kinds() == LIT, "addresses that are named no more are not ours to stop"
    assert gate.verify() == ""


def test_a_frozen_process_is_silenced(site: Site, client: Client) -> None:
    """A process arms, opens and is stopped: the kernel closes the gate without it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            enter_namespace(site.director)
            gate = Gate.open()
            gate.install(GROUPS)
            deadline_ns = gate.arm(GROUP, 0, 300 * NS_PER_MS)
            gate.activate(GROUP, 0)
            os.write(writing, str(deadline_ns).encode())
            os.kill(os.getpid(), signal.SIGSTOP)
        finally:
            os._exit(1)
    try:
        deadline_ns = int(os.read(reading, 64))
        os.waitpid(child, os.WUNTRACED)
        while boottime_ns() < deadline_ns + SLACK_NS:
            client.answered("arp", VIP4)
        assert client.kinds() == DARK
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


def wait_for_change(gate: Gate) -> Restored | None:
    """Handle what is told of changes until something was put back; None when nothing was."""
    assert gate.listener is not None
    limit = time.monotonic() + 2
    while time.monotonic() < limit:
        if not select.select([gate.listener], [], [], 0.2)[0]:
            return None
        restored = gate.handle_changes()
        if restored is not None:
            return restored
    return None


def tamper(site: Site, watched: Gate, script: str) -> tuple[Restored, int]:
    """Change an open gate as others do, until it was put back in time to be open again; return with its deadline."""
    for _ in range(BUSY_TRIES):
        deadline_ns = watched.arm(GROUP, 0, LONG)
        watched.activate(GROUP, 0)
        site.nft(script)
        restored = wait_for_change(watched)
        assert restored is not None
        if restored.open_again:
            break
    assert restored.open_again == (GROUP,)
    assert restored.left_closed == ()
    return restored, deadline_ns


def test_a_flush_is_repaired_and_what_was_open_is_open_again(site: Site, watched: Gate, client: Client) -> None:
    _, deadline_ns = tamper(site, watched, "flush ruleset")
    assert watched.verify() == ""
    assert client.kinds() == LIT
    assert boottime_ns() + watched.state(GROUP).remaining_ns[0] <= deadline_ns, "never more than was left"
    assert wait_for_change(watched) is None, "our own repair is no change by others"


def test_what_putting_back_may_cost_is_taken_off_the_timers(watched: Gate) -> None:
    deadline_ns = watched.arm(GROUP, 0, LONG)
    for left_ns in (LONG, NS_PER_S, NS_PER_MS):
        wanted = gate_rules.arm(watched.layout, watched.name, GROUP, 0, left_ns)
        assert watched._rearm(deadline_ns - RESTORE_SLACK_NS - left_ns) == list(wanted)
    assert watched._rearm(deadline_ns - RESTORE_SLACK_NS - NS_PER_MS + 1) == []


def test_a_flush_does_not_open_what_was_closed(site: Site, watched: Gate, client: Client) -> None:
    watched.arm(GROUP, 0, LONG)
    site.nft("flush ruleset")
    restored = wait_for_change(watched)
    assert restored is not None
    assert restored.open_again == ()
    assert client.kinds() == DARK
    watched.activate(GROUP, 0)
    assert client.kinds() == LIT


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("delete table inet hawatch", "table inet hawatch is gone"),
        ("flush table inet hawatch", "rules of table hawatch were changed"),
        ("add element inet hawatch forwarders { 02:00:00:00:00:09 }", "set forwarders of table hawatch was changed"),
        (f"delete element inet hawatch vips_in4 {{ {VIP4} }}", "map vips_in4 of table hawatch was changed"),
        ("flush set inet hawatch active0_web\nflush set arp hawatch active0_web", "was closed by somebody else"),
    ],
)
def test_any_tampering_is_repaired(site: Site, watched: Gate, client: Client, script: str, said: str) -> None:
    restored, _ = tamper(site, watched, script)
    assert said in restored.reason
    assert client.kinds() == LIT


def test_what_others_do_in_tables_of_their_own_is_theirs(site: Site, watched: Gate) -> None:
    site.nft("add table inet firewall; add chain inet firewall input { type filter hook input priority 0; }")
    assert wait_for_change(watched) is None


def test_a_gate_that_is_gone_when_it_is_to_be_armed_is_put_back_first(
    site: Site, watched: Gate, client: Client
) -> None:
    site.nft("flush ruleset")
    watched.arm(GROUP, 0, LONG)
    assert client.kinds() == DARK
    watched.activate(GROUP, 0)
    assert client.kinds() == LIT


def test_a_process_that_was_stopped_while_it_repairs_leaves_the_gate_closed(site: Site, client: Client) -> None:
    skipped_ns = 0

    def clock() -> int:
        return boottime_ns() + skipped_ns

    gate = site.at_director(lambda: Gate.open(own=False, clock=clock))
    gate.install(GROUPS)
    gate.arm(GROUP, 0, LONG)
    gate.activate(GROUP, 0)
    transact = gate._transact

    def slow(requests: list) -> None:
        nonlocal skipped_ns
        transact(requests)
        skipped_ns = NS_PER_S

    gate._transact = slow  # type: ignore[method-assign]
    restored = gate.restore("a test")
    assert restored.left_closed == (GROUP,)
    assert client.kinds() == DARK
    gate.close_sockets()


def test_others_cannot_flush_an_owned_gate(site: Site, client: Client) -> None:
    gate = site.at_director(Gate.open)
    gate.install(GROUPS)
    if not gate.owned:
        assert gate.listener is not None, "before Linux 6.9 it is watched instead"
        return
    site.nft("flush ruleset")
    assert gate.verify() == ""
    assert client.kinds() == DARK
    with pytest.raises(KernelError, match="owned by another process") as refused:
        site.at_director(Gate.open)
    assert refused.value.errno == errno.EPERM
    gate.close_sockets()


def test_a_director_that_is_a_real_server_too_takes_what_the_owner_forwards(site: Site, client: Client) -> None:
    gate = site.at_director(Gate.open)
    gate.install(SHARED, forwarders=[CLIENT_MAC])
    assert client.kinds() == SERVES
    gate.install(SHARED, forwarders=["02:00:00:00:00:08"])
    assert client.kinds() == DARK
    gate.close_sockets()


@pytest.mark.parametrize("own", [True, False])
def test_forwarders_change_while_the_gate_stays(site: Site, client: Client, own: bool) -> None:
    site.ip(f"address add {VIP4}/32 dev lo", f"address add {VIP6}/128 dev lo nodad")
    gate = site.at_director(lambda: Gate.open(own=own))
    gate.install(SHARED)
    assert client.kinds() == DARK
    gate.set_forwarders([CLIENT_MAC, "02:00:00:00:00:08"])
    assert client.kinds() == SERVES
    if not own:
        site.nft("flush set inet hawatch forwarders")  # and the change after that finds nothing to delete
    gate.set_forwarders([CLIENT_MAC])
    assert client.kinds() == SERVES
    gate.set_forwarders([])
    assert client.kinds() == DARK
    assert gate.verify() == ""
    gate.close_sockets()


def test_an_owner_takes_nothing_from_who_should_get_it_from_the_owner(site: Site, client: Client) -> None:
    gate = site.at_director(Gate.open)
    gate.install(SHARED)
    for slot in (0, 1):
        gate.arm(GROUP, slot, LONG)
        gate.activate(GROUP, slot)
        assert client.kinds() == LIT
        gate.set_forwarders([CLIENT_MAC])
        assert client.kinds() == {"arp": True, "ping": False, "ns": True, "ping6": False}
        gate.set_forwarders([])
        gate.close(GROUP)
    gate.close_sockets()


def test_forwarders_are_nothing_to_a_group_that_is_not_shared(site: Site, client: Client) -> None:
    gate = site.at_director(Gate.open)
    gate.install(GROUPS, forwarders=[CLIENT_MAC])
    assert client.kinds() == DARK
    gate.arm(GROUP, 1, LONG)
    gate.activate(GROUP, 1)
    assert client.kinds() == LIT
    gate.close_sockets()


def test_what_nft_shows_says_why_and_that_it_comes_before_a_firewall(site: Site) -> None:
    gate = site.at_director(lambda: Gate.open(own=False))
    gate.install(SHARED)
    shown = site.nft("list ruleset")
    hooks = re.findall(r"type filter hook (\w+) priority (.*); policy accept", shown)
    assert [(hook, priority.replace("raw - 10", "-310")) for hook, priority in hooks] == [
        ("prerouting", "-310"),
        ("output", "-310"),
        ("output", "-310"),
    ]
    assert re.findall(r"\S+ \S+ drop", shown) == ["bytes 0 drop"] * shown.count("drop comment"), "each has a counter"
    chains = re.findall(r"chain (\w+) {(.*?)}", shown, re.DOTALL)
    incoming = ("forwarded to the owner", "forwarded to the owner", "forwarded by the owner", "not the owner")
    assert {name: tuple(re.findall(r'comment "(.*)"', rules)) for name, rules in chains} == {
        **dict.fromkeys(("input", "output"), ()),
        **dict.fromkeys(("in4_web", "in6_web"), incoming),
        **dict.fromkeys(("out4_web", "out6_web", "na6_web", "arp4_web"), ("not the owner",)),
    }
    gate.close_sockets()


def test_where_the_kernel_has_no_other_family_a_bridge_is_the_gate(site: Site, client: Client) -> None:
    site.ip(
        "address flush dev eth0",
        "link add br0 type bridge mcast_snooping 0",
        f"link set br0 address {DIRECTOR_MAC}",
        "link set eth0 master br0",
        "link set br0 up",
        f"address add {DIRECTOR4}/24 dev br0",
        f"address add {DIRECTOR6}/64 dev br0 nodad",
        f"address add {VIP4}/32 dev br0",
        f"address add {VIP6}/128 dev br0 nodad",
        f"address add {LIKE_VIP4}/128 dev br0 nodad",
        f"neighbour replace {CLIENT4} lladdr {CLIENT_MAC} dev br0 nud permanent",
        f"neighbour replace {CLIENT6} lladdr {CLIENT_MAC} dev br0 nud permanent",
    )
    assert client.kinds() == LIT
    gate = site.at_director(lambda: Gate.open(layouts=(Layout.BRIDGE,)))
    gate.install(GROUPS)
    for slot in (0, 1):
        assert client.kinds() == DARK
        assert client.answered("ping6", LIKE_VIP4)
        gate.arm(GROUP, slot, LONG)
        assert client.kinds() == DARK
        gate.activate(GROUP, slot)
        assert client.kinds() == LIT
        gate.close(GROUP)
    gate.install(SHARED, forwarders=[CLIENT_MAC])
    assert client.kinds() == SERVES
    assert gate.verify() == ""
    gate.arm(GROUP, 0, LONG)
    gate.activate(GROUP, 0)
    assert client.kinds() == {"arp": True, "ping": False, "ns": True, "ping6": False}
    gate.close_sockets()


def test_what_a_former_process_left_is_removed_but_nobody_elses(site: Site, gate: Gate, client: Client) -> None:
    if gate.owned:
        with pytest.raises(KernelError) as told:
            site.at_director(remove_gate)
        assert told.value.errno == errno.EPERM
        assert client.kinds() == DARK
    gate.close_sockets()
    site.nft("add table inet other")
    assert site.at_director(remove_gate)
    assert not site.at_director(remove_gate)
    assert site.nft("list ruleset").split() == ["table", "inet", "other", "{", "}"]
    assert client.kinds() == LIT


def test_a_kernel_without_nftables_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """This kernel has no protocol 31, as one without nfnetlink has no protocol 12."""
    monkeypatch.setattr(gate_module, "NETLINK_NETFILTER", 31)
    with pytest.raises(KernelError, match="the kernel has no nftables for the gate") as refused:
        Gate.open()
    assert refused.value.errno == errno.ENOTSUP
    assert not remove_gate()
