"""A node's commands on this machine: gate and addresses, and what watches over them.

Theory of operation. What the promise rests on (gate and addresses) is done at once, synchronously, in the order in
which it was ordered. What concerns the clients' network is `lease_announcer`'s, pings are `lease_gateway`'s.

Somebody who changes the gate or takes an address away finds it put back, with an event.

The gate covers the addresses of one configuration. Before it covers those of another one, every address that it is to
cover no more is taken down, for else this machine would answer for it without a lease. That holds for what a former
process of this node covered, too. When the kernel refuses, the gate stays as it is, and it is tried again with the
next timer that is ordered, which fails until then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import trio

from hawatch.actions.gate import Gate, Restored
from hawatch.actions.gate_rules import GateGroup, Layout
from hawatch.actions.ipvs_sync import start_sync
from hawatch.actions.vip import ADDRESS_GROUPS, LINK_GROUP, RTM_DELADDR, Addresses, VipAddress
from hawatch.agent.forwarders import LOOK_EVERY_S, Forwarders, shared_groups
from hawatch.agent.group_vips import (
    PAUSE_S,
    TOGETHER_S,
    About,
    Complaints,
    Vips,
    groups_by_address,
    vips_of,
    watch_kernel,
)
from hawatch.agent.lease_announcer import REOPEN_S, Announcer
from hawatch.agent.lease_gateway import GatewayWatch, any_answers
from hawatch.agent.ownership import Emit
from hawatch.agent.pace import next_turn
from hawatch.agent.settings import Settings
from hawatch.cluster.effects import (
    Activate,
    AddAddresses,
    Announce,
    Arm,
    ArpProbeAnswer,
    AskGateway,
    CloseGate,
    Command,
    GateArmed,
    GateClosed,
    GateFailed,
    GateLost,
    GateOpened,
    GatewayAnswer,
    InstallGroups,
    NodeEvent,
    ProbeAddresses,
    RemoveAddresses,
)
from hawatch.errors import KernelError
from hawatch.model import NS_PER_S, Event, Family, Severity

Give = Callable[[NodeEvent], None]
IPV6_SETTINGS = Path("/proc/sys/net/ipv6/conf")
LOOKING, INSTALLING = "what is up", "what the gate covers"
"""What complaints are about that concern no group: no group has such a name."""


class KernelEffects:
    """Carries out a director's commands. Opening it makes, or adopts, the gate."""

    def __init__(self, settings: Settings, emit: Emit) -> None:
        """Raises KernelError where the kernel has no nftables, or forbids it."""
        self._emit = emit
        self._settings = settings
        self._vips: Vips = {}
        """What the gate covers."""
        self._group_of: dict[str, str] = {}
        """The same, by address."""
        self._due: Settings | None = None
        """The gate is to cover the groups of these settings, as soon as the kernel lets it."""
        self._up: set[str] = set()
        """Groups whose addresses are meant to be up."""
        self._lifetime_ns: dict[str, int] = {}
        self._broken = ""
        """Why the gate does not hold, "" while it does: what does not close by itself must not be renewed."""
        self._complaints = Complaints(emit)
        self._synced: set[tuple[str, int]] = set()
        self._give: Give | None = None
        self._nursery: trio.Nursery | None = None
        self._links_changed = trio.Event()
        self._taken = trio.Event()
        """Somebody took an address down."""
        cluster = settings.config.cluster
        self._gateway = GatewayWatch(cluster.gateway, cluster.parameters.hold_down_ns / NS_PER_S)
        self._announcer = Announcer(self, emit, self._complain)
        interfaces = [one.interface for vips in vips_of(settings).values() for one in vips]
        bridged = all(map(is_bridge, interfaces))
        layouts = (Layout.INET, Layout.SPLIT, Layout.BRIDGE) if bridged else (Layout.INET, Layout.SPLIT)
        with ExitStack() as undo:  # a socket that stays open owns the gate's tables, and the next try is refused
            self._gate = Gate.open(layouts=layouts)
            undo.callback(self._gate.close_sockets)
            self._addresses = Addresses()
            undo.callback(self._addresses.close)
            undo.callback(self._announcer.close)
            self._forwarders = Forwarders()
            undo.callback(self._forwarders.close)
            self._install(settings)
            undo.pop_all()

    @property
    def gate(self) -> str:
        """How the gate is kept, for the status."""
        return self._gate.kind

    def problems(self) -> list[str]:
        """Return what is wrong with addresses and interfaces, a sentence each."""
        return [*self._complaints.standing(), *self._forwarders.problems()]

    def adopted(self) -> Mapping[str, int]:
        """Return the groups whose gate is open, with the slot that stays open longest."""
        found = {}
        for group in self._vips:
            state = self._gate.state(group)
            lefts = [left if on else 0 for left, on in zip(state.remaining_ns, state.active, strict=True)]
            if max(lefts) > 0:
                found[group] = lefts.index(max(lefts))
        return found

    def close_sockets(self) -> None:
        """Let go; gate and addresses stay, with their timers running."""
        self._gate.close_sockets()
        self._addresses.close()
        self._forwarders.close()
        self._announcer.close()

    # --- what the gate covers --------------------------------------------------------------------------------

    def set_settings(self, settings: Settings) -> None:
        """Have this configuration ready for `InstallGroups`."""
        self._settings = settings

    def _install(self, settings: Settings) -> None:
        """Let the gate cover the groups of a configuration; raise KernelError when something is left to do."""
        self._due = settings
        wanted = vips_of(settings)
        staying = {one for vips in wanted.values() for one in vips}
        leaving = {one for vips in self._vips.values() for one in vips} - staying
        uncovered = self._gate.covered() - {one.address for one in staying}
        problems = self._addresses.remove(sorted(leaving, key=str)) + self._addresses.remove_everywhere(uncovered)
        if problems:
            raise KernelError("; ".join(problems))
        shared = shared_groups(settings)
        self._forwarders.set_settings(settings)
        self._gate.install(
            {name: GateGroup(tuple(one.address for one in vips), name in shared) for name, vips in wanted.items()},
            self._forwarders.look(),
        )
        for group in self._vips.keys() - wanted.keys():
            self._announcer.stop(group)
            self._complain(group, "")
        self._up &= wanted.keys()
        self._vips, self._due = wanted, None
        self._group_of = groups_by_address(wanted)
        if self._nursery is not None:
            self._begin_watching()

    def _begin_watching(self) -> None:
        for interface in sorted(self.interfaces()):
            self._announcer.listen(interface)
        for group in self._settings.config.group:
            sync = group.sync
            if sync is not None and (sync.interface, sync.id) not in self._synced:
                self._synced.add((sync.interface, sync.id))
                for problem in start_sync(sync.interface, sync.id):
                    self._emit([Event("sync_failed", problem, Severity.WARNING)])

    def group_of(self, address: str) -> str:
        """Return the group that has an address, "" for none."""
        return self._group_of.get(address, "")

    def interfaces(self) -> Set[str]:
        """Return the interfaces of all addresses."""
        return {one.interface for vips in self._vips.values() for one in vips}

    def director_at(self, address: str) -> str:
        """Return the name of the other director that has a link's address, "" for none."""
        others = (node for node in self._settings.config.director if node.name != self._settings.node)
        return next((node.name for node in others if address in node.links), "")

    def places(self, group: str) -> list[tuple[str, str]]:
        """Return a group's addresses, each with its interface."""
        return [(one.address, one.interface) for one in self._vips.get(group, ())]

    def owned(self) -> list[str]:
        """Return the groups whose addresses are up and whose gate is open at this moment."""
        return [group for group in sorted(self._up) if self._gate.is_open(group)]

    # --- commands --------------------------------------------------------------------------------------------

    def carry_out(self, command: Command) -> Sequence[NodeEvent]:  # noqa: C901 - one case a command
        """Do it now; return what is to be reported at once."""
        try:
            match command:
                case Arm(group=group) if self._broken:
                    return [GateFailed(group, self._broken)]
                case Arm(group=group, slot=slot, duration_ns=duration_ns, number=number):
                    if self._due is not None:
                        self._install(self._due)
                    self._gate.arm(group, slot, duration_ns)
                    return [GateArmed(group, number)]
                case Activate(group=group, slot=slot, number=number):
                    if group in self._up and not self._gate.is_open(group):
                        self._note_taken()  # nothing was put back meanwhile
                    self._gate.activate(group, slot)
                    return [GateOpened(group, number)]
                case CloseGate(group=group):
                    if group in self._vips:  # else it was never covered, and so never armed
                        self._gate.close(group)
                    return [GateClosed(group)]
                case AddAddresses(group=group, lifetime_ns=lifetime_ns):
                    self._add(group, lifetime_ns)
                case RemoveAddresses(group=group):
                    self._remove(group)
                case InstallGroups():
                    self._install(self._settings)
                    self._complain(INSTALLING, "")
                case Announce(group=group, after_ns=after_ns, every_ns=every_ns):
                    self._announcer.begin(group, after_ns, every_ns)
                case ProbeAddresses(group=group, number=number, timeout_ns=timeout_ns):
                    self._start(self._probe, group, number, timeout_ns / NS_PER_S)
                case AskGateway(group=group, number=number, timeout_ns=timeout_ns):
                    self._start(self._ask_gateway, group, number, timeout_ns / NS_PER_S)
                case _:
                    pass
        except KernelError as error:
            if isinstance(command, Arm | Activate | CloseGate):
                return [GateFailed(command.group, str(error))]
            about = command.group if isinstance(command, AddAddresses | RemoveAddresses) else INSTALLING
            self._complain(about, str(error))
        return []

    def _add(self, group: str, lifetime_ns: int) -> None:
        if self._due is not None:  # an address that the gate may not cover would be answered for without a lease
            self._install(self._due)
        self._up.add(group)
        self._lifetime_ns[group] = lifetime_ns
        self._complain(group, "; ".join(self._addresses.add(self._vips[group], lifetime_ns)))

    def _remove(self, group: str) -> None:
        self._up.discard(group)
        self._announcer.stop(group)
        self._complain(group, "; ".join(self._addresses.remove(self._vips.get(group, ()))))

    def _complain(self, about: About, problem: str) -> None:
        self._complaints.tell(about, problem, about if isinstance(about, str) and about in self._vips else "")

    def _start(self, task: Callable[..., object], *arguments: object) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(task, *arguments)  # type: ignore[arg-type]

    async def _probe(self, group: str, number: int, timeout_s: float) -> None:
        mac = await self._announcer.probe(group, timeout_s)
        assert self._give is not None
        self._give(ArpProbeAnswer(group, number, mac))

    async def _ask_gateway(self, group: str, number: int, timeout_s: float) -> None:
        answered = await any_answers(self._gateway.gateways, timeout_s)
        assert self._give is not None
        self._give(GatewayAnswer(group, number, answered))

    # --- watching --------------------------------------------------------------------------------------------

    async def run(self, give: Give) -> None:
        """Watch, announce and probe until cancelled."""
        self._give = give
        async with trio.open_nursery() as self._nursery:
            self._begin_watching()
            self._start(self._announcer.run)
            self._start(self._watch_gate)
            self._nursery.start_soon(partial(watch_kernel, ADDRESS_GROUPS, self._note_taken, kinds=(RTM_DELADDR,)))
            self._start(self._keep_addresses)
            self._start(watch_kernel, (LINK_GROUP,), lambda: self._links_changed.set())
            self._start(self._gateway.run, lambda: self._links_changed.set())
            self._start(self._watch_forwarders)
            await trio.sleep_forever()

    async def _watch_gate(self) -> None:
        listener = self._gate.listener
        while listener is not None:
            if self._broken:
                await trio.sleep(REOPEN_S)
            else:
                await trio.lowlevel.wait_readable(listener)
            try:
                restored = self._gate.mend() if self._broken else self._gate.handle_changes()
            except KernelError as error:
                self._note_broken(f"the gate cannot be put back: {error}")
                continue
            if restored is not None:
                self._tell_restored(restored)
            elif self._broken:
                self._emit([Event("gate_restored", "the gate is whole again", Severity.WARNING)])
            self._broken = ""

    def _note_broken(self, problem: str) -> None:
        """Note that the gate does not hold: nothing is renewed until it does; told when the sentence is another one."""
        if problem != self._broken:
            self._emit([Event("gate_failed", problem, Severity.CRITICAL)])
        self._broken = problem

    def _tell_restored(self, restored: Restored) -> None:
        reason = f"{restored.reason}: the gate was put back within {restored.gap_ns / 1e6:.1f} ms"
        self._emit([Event("gate_restored", reason, Severity.WARNING)])
        for group in restored.left_closed:
            if self._give is not None:
                self._give(GateLost(group))

    def _note_taken(self) -> None:
        """Note that an address went: of our own doings, only what takes one down says so, not what renews it."""
        self._taken.set()

    async def _keep_addresses(self) -> None:
        while True:
            await self._taken.wait()
            await trio.sleep(TOGETHER_S)
            self._taken = trio.Event()
            self._put_back()
            await trio.sleep(PAUSE_S)

    async def _watch_forwarders(self) -> None:
        while True:
            await trio.sleep_until(next_turn(LOOK_EVERY_S))
            try:
                self._gate.set_forwarders(self._forwarders.look())
                self._complain("forwarders", "")
            except KernelError as error:
                self._complain("forwarders", f"the directors that forward to this one cannot be kept: {error}")

    def _put_back(self) -> None:
        """Put back what somebody took from the groups that are owned."""
        groups = self.owned()
        try:
            present = self._addresses.present({one for group in groups for one in self._vips[group]})
            for group in groups:
                missing = set(self._vips[group]) - present
                if missing:
                    self._put_back_group(group, missing)
        except KernelError as error:
            self._complain(LOOKING, f"addresses cannot be looked after: {error}")
            return
        self._complain(LOOKING, "")

    def _put_back_group(self, group: str, missing: Set[VipAddress]) -> None:
        problems = self._addresses.add(sorted(missing, key=str), self._lifetime_ns[group])
        self._complain(group, "; ".join(problems))
        if not problems:
            names = ", ".join(sorted(one.address for one in missing))
            self._emit([Event("vip_restored", f"somebody removed {names}: put back", Severity.WARNING, group)])
            self._announcer.announce_once(group)

    # --- fitness ---------------------------------------------------------------------------------------------

    async def wait_links(self) -> None:
        """Return when the kernel says that an interface has changed, or the gateways' answering has."""
        self._links_changed = trio.Event()
        await self._links_changed.wait()

    def fitness(self) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
        """Return the interfaces that are down, those that lack IPv6, and the gateways when none of them answers."""
        down = sorted(name for name in self.interfaces() if not carrier(name))
        six = {vip.interface for vips in self._vips.values() for vip in vips if vip.family is Family.IPV6}
        lacking = sorted(name for name in six if not has_ipv6(name))
        return down, lacking, () if self._gateway.answers else self._gateway.gateways


def is_bridge(interface: str) -> bool:
    """Tell whether an interface is a bridge: there nftables can hold the gate in its bridge family, too."""
    return Path(f"/sys/class/net/{interface}/bridge").is_dir()


def has_ipv6(interface: str) -> bool:
    """Tell whether the kernel speaks IPv6 on an interface: not if it was told so, nor with an MTU below 1280 bytes."""
    try:
        return (IPV6_SETTINGS / interface / "disable_ipv6").read_text(encoding="ascii").strip() == "0"
    except OSError:  # without any IPv6 the other director is hardly better off
        return not IPV6_SETTINGS.is_dir()


def carrier(interface: str) -> bool:
    """Tell whether an interface is up and has a carrier."""
    try:
        descriptor = os.open(f"/sys/class/net/{interface}/carrier", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.read(descriptor, 1) == b"1"
    except OSError:  # the interface is down
        return False
    finally:
        os.close(descriptor)
