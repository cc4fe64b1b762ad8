"""A node's commands on this machine: gate, addresses, announcements, questions on the clients' network.

Theory of operation. What the promise rests on (gate and addresses) is done at once, synchronously, in the order in
which it was ordered. Announcing, asking and watching are tasks of their own. Nothing is announced for a group whose
gate is not open at that moment: frames of a packet socket do not pass the gate.

Somebody who changes the gate or takes an address away finds it put back, with an event. Every few seconds the owner
asks whether anybody else answers for its addresses: the classic mistake is a real server that does, because it has
the address on an interface of its own and arp_ignore is not set.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from hawatch.actions.arp import Wire, host_of
from hawatch.actions.arp_codec import Told
from hawatch.actions.gate import Gate
from hawatch.actions.gate_rules import GateGroup, Layout
from hawatch.actions.ipvs_sync import start_sync
from hawatch.actions.netlink import NETLINK_ROUTE
from hawatch.actions.notifications import Listener
from hawatch.actions.vip import ADDRESS_GROUPS, Addresses, VipAddress
from hawatch.agent.ownership import Emit
from hawatch.agent.settings import Settings, now_ns
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
    NodeEvent,
    ProbeAddresses,
    RemoveAddresses,
)
from hawatch.errors import KernelError
from hawatch.icmp import build_echo, parse_answer
from hawatch.model import NS_PER_S, Event, Severity

QUESTIONS = 3
"""An address is asked for so often before nobody is believed to have it."""
CONFLICT_INTERVAL_S = 5.0
"""The owner asks so often whether anybody else answers for its addresses."""
TELL_CONFLICT_NS = 300 * NS_PER_S
"""The same conflict is told at most so often."""
REOPEN_S = 2.0
GATEWAY_INTERVAL_S = 2.0
GATEWAY_UNANSWERED_MAX = 3
"""A gateway counts as gone when it has not answered so often in a row: one lost ping moves nothing."""
GATEWAY_TIMEOUT_S = 1.0
RECEIVE_BYTES = 2048
FITNESS_INTERFACES, FITNESS_GATEWAY = 2, 1

Give = Callable[[NodeEvent], None]


@dataclass(slots=True)
class Announcing:
    """What is being announced of a group."""

    scope: trio.CancelScope
    after_ns: tuple[int, ...]
    every_ns: int


@dataclass(slots=True)
class Question:
    """An answer that somebody waits for."""

    group: str
    number: int
    mac: str = ""
    done: trio.Event = field(default_factory=trio.Event)


class KernelEffects:
    """Carries out a director's commands. Opening it makes, or adopts, the gate."""

    def __init__(self, settings: Settings, emit: Emit) -> None:
        """Raises KernelError where the kernel has no nftables, or forbids it."""
        self._emit = emit
        self._vips: dict[str, tuple[VipAddress, ...]] = {
            group.name: tuple(VipAddress.parse(vip.address, vip.interface, vip.label) for vip in group.addresses)
            for group in settings.config.group
        }
        self._syncs = [group.sync for group in settings.config.group if group.sync is not None]
        self._gateways = settings.config.cluster.gateway
        self._gateway_answers = True
        self._up: set[str] = set()
        """Groups whose addresses are meant to be up."""
        self._lifetime_ns: dict[str, int] = {}
        self._announcing: dict[str, Announcing] = {}
        self._questions: list[Question] = []
        self._told: dict[tuple[str, str], int] = {}
        self._problems: dict[str, str] = {}
        self._wires: dict[str, Wire] = {}
        self._give: Give | None = None
        self._nursery: trio.Nursery | None = None
        bridged = all(is_bridge(one.interface) for vips in self._vips.values() for one in vips)
        layouts = (Layout.INET, Layout.SPLIT, Layout.BRIDGE) if bridged else (Layout.INET, Layout.SPLIT)
        self._gate = Gate.open(layouts=layouts)
        self._addresses = Addresses()
        self._gate.install({name: GateGroup(tuple(one.address for one in vips)) for name, vips in self._vips.items()})

    @property
    def gate(self) -> str:
        """How the gate is kept, for the status."""
        return self._gate.kind

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
        for wire in self._wires.values():
            wire.close()
        self._wires.clear()

    # --- commands --------------------------------------------------------------------------------------------

    def carry_out(self, command: Command) -> Sequence[NodeEvent]:  # noqa: C901 - one case a command
        """Do it now; return what is to be reported at once."""
        try:
            match command:
                case Arm(group=group, slot=slot, duration_ns=duration_ns, number=number):
                    self._gate.arm(group, slot, duration_ns)
                    return [GateArmed(group, number)]
                case Activate(group=group, slot=slot, number=number):
                    self._gate.activate(group, slot)
                    return [GateOpened(group, number)]
                case CloseGate(group=group):
                    self._gate.close(group)
                    return [GateClosed(group)]
                case AddAddresses(group=group, lifetime_ns=lifetime_ns):
                    self._add(group, lifetime_ns)
                case RemoveAddresses(group=group):
                    self._remove(group)
                case Announce(group=group, after_ns=after_ns, every_ns=every_ns):
                    self._begin_announcing(group, after_ns, every_ns)
                case ProbeAddresses(group=group, number=number, timeout_ns=timeout_ns):
                    self._start(self._probe, group, number, timeout_ns / NS_PER_S)
                case AskGateway(group=group, number=number, timeout_ns=timeout_ns):
                    self._start(self._ask_gateway, group, number, timeout_ns / NS_PER_S)
                case _:
                    pass
        except KernelError as error:
            if isinstance(command, Arm | Activate | CloseGate):
                return [GateFailed(command.group, str(error))]
            self._complain(type(command).__name__, str(error))
        return []

    def _add(self, group: str, lifetime_ns: int) -> None:
        self._up.add(group)
        self._lifetime_ns[group] = lifetime_ns
        self._complain(group, "; ".join(self._addresses.add(self._vips[group], lifetime_ns)))

    def _remove(self, group: str) -> None:
        self._up.discard(group)
        self._stop_announcing(group)
        self._complain(group, "; ".join(self._addresses.remove(self._vips[group])))

    def _complain(self, about: str, problem: str) -> None:
        """Tell a problem once, until it is another one."""
        if self._problems.get(about, "") != problem:
            self._problems[about] = problem
            if problem:
                self._emit([Event("vip_failed", problem, Severity.CRITICAL, about if about in self._vips else "")])

    def _start(self, task: Callable[..., object], *arguments: object) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(task, *arguments)  # type: ignore[arg-type]

    # --- announcing ------------------------------------------------------------------------------------------

    def _begin_announcing(self, group: str, after_ns: tuple[int, ...], every_ns: int) -> None:
        self._stop_announcing(group)
        announcing = self._announcing[group] = Announcing(trio.CancelScope(), after_ns, every_ns)
        if after_ns and after_ns[0] == 0:
            self._announce_once(group)
        self._start(self._announce, group, announcing)

    def _stop_announcing(self, group: str) -> None:
        announcing = self._announcing.pop(group, None)
        if announcing is not None:
            announcing.scope.cancel()

    async def _announce(self, group: str, announcing: Announcing) -> None:
        with announcing.scope:
            began = trio.current_time()
            for after_ns in announcing.after_ns:
                if after_ns:
                    await trio.sleep_until(began + after_ns / NS_PER_S)
                    self._announce_once(group)
            while announcing.every_ns:
                await trio.sleep(announcing.every_ns / NS_PER_S)
                self._announce_once(group)

    def _announce_once(self, group: str) -> None:
        if group in self._up and self._gate.is_open(group):
            for interface, addresses in self._by_interface(group).items():
                wire = self._wire(interface)
                if wire is not None:
                    wire.announce(addresses)

    def _by_interface(self, group: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for one in self._vips[group]:
            found.setdefault(one.interface, []).append(one.address)
        return found

    def _wire(self, interface: str) -> Wire | None:
        wire = self._wires.get(interface)
        if wire is None:
            try:
                wire = self._wires[interface] = Wire(interface)
            except KernelError as error:
                self._complain(interface, str(error))
                return None
            self._complain(interface, "")
            self._start(self._hear, wire)
        return wire

    # --- watching --------------------------------------------------------------------------------------------

    async def run(self, give: Give) -> None:
        """Watch, announce and probe until cancelled."""
        self._give = give
        for sync in self._syncs:
            for problem in start_sync(sync.interface, sync.id):
                self._emit([Event("sync_failed", problem, Severity.WARNING)])
        async with trio.open_nursery() as self._nursery:
            for vips in self._vips.values():
                for one in vips:
                    self._wire(one.interface)
            self._start(self._watch_gate)
            self._start(self._watch_addresses)
            self._start(self._look_for_conflicts)
            if self._gateways:
                self._start(self._watch_gateway)
            for group, announcing in self._announcing.items():
                self._start(self._announce, group, announcing)
            await trio.sleep_forever()

    async def _watch_gate(self) -> None:
        listener = self._gate.listener
        while listener is not None:
            await trio.lowlevel.wait_readable(listener)
            try:
                restored = self._gate.handle_changes()
            except KernelError as error:
                self._emit([Event("gate_failed", f"the gate cannot be put back: {error}", Severity.CRITICAL)])
                await trio.sleep(REOPEN_S)
                continue
            if restored is None:
                continue
            reason = f"{restored.reason}: the gate was put back within {restored.gap_ns / 1e6:.1f} ms"
            self._emit([Event("gate_restored", reason, Severity.WARNING)])
            for group in restored.left_closed:
                if self._give is not None:
                    self._give(GateLost(group))

    async def _watch_addresses(self) -> None:
        listener = Listener(NETLINK_ROUTE, ADDRESS_GROUPS)
        try:
            while True:
                await trio.lowlevel.wait_readable(listener)
                drained = listener.drain()
                if drained.messages or drained.lost:
                    self._put_back()
        finally:
            listener.close()

    def _put_back(self) -> None:
        for group in sorted(self._up):
            try:
                missing = set(self._vips[group]) - self._addresses.present(self._vips[group])
                if not missing or not self._gate.is_open(group):
                    continue
                problems = self._addresses.add(sorted(missing, key=str), self._lifetime_ns[group])
            except KernelError as error:
                problems = [str(error)]
            self._complain(group, "; ".join(problems))
            if not problems:
                names = ", ".join(sorted(one.address for one in missing))
                self._emit([Event("vip_restored", f"somebody removed {names}: put back", Severity.WARNING, group)])
                self._announce_once(group)

    async def _look_for_conflicts(self) -> None:
        while True:
            await trio.sleep(CONFLICT_INTERVAL_S)
            for group in sorted(self._up):
                if self._gate.is_open(group):
                    for interface, addresses in self._by_interface(group).items():
                        wire = self._wire(interface)
                        if wire is not None:
                            wire.ask(addresses)

    async def _hear(self, wire: Wire) -> None:
        while True:
            await trio.lowlevel.wait_readable(wire)
            try:
                for told in wire.heard():
                    self._take(told)
            except KernelError as error:
                self._complain(wire.interface, str(error))
                await trio.sleep(REOPEN_S)

    def _take(self, told: Told) -> None:
        for question in self._questions:
            if told.address in (one.address for one in self._vips[question.group]):
                question.mac = told.mac
                question.done.set()
        if told.probe:
            return
        for group in self._up:
            if any(one.address == told.address for one in self._vips[group]) and self._gate.is_open(group):
                self._tell_conflict(group, told)

    def _tell_conflict(self, group: str, told: Told) -> None:
        key, now = (told.address, told.mac), now_ns()
        if now - self._told.get(key, -TELL_CONFLICT_NS) < TELL_CONFLICT_NS:
            return
        if len(self._told) > 1000:
            self._told.clear()
        self._told[key] = now
        host = host_of(told.mac)
        whose = f"{told.mac} ({host})" if host else told.mac
        reason = (
            f"{whose} answers for {told.address}, which this director owns: probably a real server with the address on"
            " an interface and without arp_ignore = 1; set net.ipv4.conf.all.arp_ignore = 1 and arp_announce = 2 there"
        )
        self._emit([Event("vip_conflict", reason, Severity.CRITICAL, group)])

    # --- questions -------------------------------------------------------------------------------------------

    async def _probe(self, group: str, number: int, timeout_s: float) -> None:
        question = Question(group, number)
        self._questions.append(question)
        try:
            for _ in range(QUESTIONS):
                for interface, addresses in self._by_interface(group).items():
                    wire = self._wire(interface)
                    if wire is not None:
                        wire.ask(addresses)
                with trio.move_on_after(timeout_s / QUESTIONS):
                    await question.done.wait()
                    break
        finally:
            self._questions.remove(question)
        assert self._give is not None
        self._give(ArpProbeAnswer(group, number, question.mac))

    async def _ask_gateway(self, group: str, number: int, timeout_s: float) -> None:
        answered = await any_answers(self._gateways, timeout_s)
        assert self._give is not None
        self._give(GatewayAnswer(group, number, answered))

    async def _watch_gateway(self) -> None:
        unanswered = 0
        while True:
            unanswered = 0 if await any_answers(self._gateways, GATEWAY_TIMEOUT_S) else unanswered + 1
            self._gateway_answers = unanswered < GATEWAY_UNANSWERED_MAX
            await trio.sleep(GATEWAY_INTERVAL_S)

    # --- fitness ---------------------------------------------------------------------------------------------

    def fitness(self) -> tuple[int, str]:
        """Return how fit this director's network is, and what is missing."""
        down = sorted(
            name for name in {one.interface for vips in self._vips.values() for one in vips} if not carrier(name)
        )
        missing = []
        score = 0
        if down:
            missing.append(f"interface {', '.join(down)} is down")
        else:
            score += FITNESS_INTERFACES
        if self._gateway_answers:
            score += FITNESS_GATEWAY
        else:
            missing.append(f"no gateway of {', '.join(self._gateways)} answers")
        return score, "; ".join(missing)


def is_bridge(interface: str) -> bool:
    """Tell whether an interface is a bridge: there nftables can hold the gate in its bridge family, too."""
    return Path(f"/sys/class/net/{interface}/bridge").is_dir()


def carrier(interface: str) -> bool:
    """Tell whether an interface is up and has a carrier."""
    try:
        return Path(f"/sys/class/net/{interface}/carrier").read_text("ascii").strip() == "1"
    except OSError:
        return False


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
