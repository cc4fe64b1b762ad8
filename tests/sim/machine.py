"""A machine: a clock, gates in its kernel, and an agent that may be frozen, killed or stopped between two commands.

Commands are carried out in order. Those on the kernel go through one queue, one after the other, each of which takes
effect and is confirmed some time later; the rest is done at once. A trap freezes or kills the agent just before or
just after its next command of a kind: those are the instants at which a lease is won or lost.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hawatch.cluster.effects import (
    Activate,
    AddAddresses,
    Answer,
    Arm,
    ArpProbeAnswer,
    AskGateway,
    CloseGate,
    Command,
    DatagramReceived,
    Emit,
    GateArmed,
    GateClosed,
    GateFailed,
    GateLost,
    GateOpened,
    GatewayAnswer,
    InstallGroups,
    NodeEvent,
    ProbeAddresses,
    RememberGiveaway,
    RememberPins,
    RememberRun,
    RemoveAddresses,
    Send,
    SetTimer,
    Stopped,
    Tick,
)
from hawatch.cluster.membership import FormerRun, Member
from hawatch.cluster.node import Node
from hawatch.model import NS_PER_MS
from tests.sim.kernel import Clock
from tests.sim.network import BACKLOG

if TYPE_CHECKING:
    from tests.sim.world import World

SOCKET_DATAGRAMS = BACKLOG
"""What a socket's buffer holds of small datagrams; more are lost."""
ON_KERNEL = (Arm, Activate, CloseGate, AddAddresses, RemoveAddresses)
ASKED = 3
"""The clients' network is asked so often before nobody is believed to have an address."""
IN_FLIGHT_MS_MAX = 8
"""A kernel's timer is late by this at most: less than the smallest guard."""


class Agent(Protocol):
    """What runs on a machine: a node of the cluster, or a stand-in for it."""

    def start(self, now_ns: int) -> list[Command]:
        """Return the first commands."""
        ...

    def handle(self, event: NodeEvent, now_ns: int) -> list[Command]:
        """Return the commands that follow from an event."""
        ...


@dataclass(frozen=True)
class Cover:
    """Let the gate cover these groups and no others."""

    groups: tuple[str, ...]


@dataclass
class Trap:
    """Do something to the agent at its next command of a kind."""

    kind: type
    after: bool
    spring: Callable[[], None]


class Machine:
    """See the module's text."""

    def __init__(self, world: World, name: str, index: int, *, witness: bool, node: str = "") -> None:
        self.node = node or name
        """The name that its configuration has."""
        self.world, self.name, self.index, self.witness = world, name, index, witness
        self.chance = random.Random(f"{world.seed} {name}")
        self.agent: Agent | None = None
        self.powered = False
        self.life = 0
        self.boot = 1000
        self.thaw_ns = 0
        """Frozen until then; in true time."""
        self.paused = False
        self.pins: tuple[str, ...] = ()
        self.forced: tuple[str, ...] = ()
        self.former: FormerRun | None = None
        self.parameters = world.setting.parameters
        """What its configuration says at the next start."""
        self.members: tuple[Member, ...] = ()
        """The list of members in its configuration; empty: the world's."""
        self.configured = world.groups
        self.on_clients = self.gateway_answers = True
        self.fitness = 1000
        self.clock = Clock(world.now_ns, 10**12 * (index + 1), 0)
        self.gates = {group: world.gate() for group in world.groups}
        self.addresses: dict[str, bool] = dict.fromkeys(world.groups, False)
        self.trap: Trap | None = None
        self.kernel_ns = (20_000, NS_PER_MS // 2)
        """How long the kernel takes for a command."""
        self.kernel_refuses = 0.0
        self.eager_close = False
        """A mutant: it says that the gate is closed before it is."""
        self.answers: dict[int, Answer] = {}
        self.clear()

    # --- life and death ------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Forget what only the agent's process had."""
        self.life += 1
        self.agent = None
        self.timer_ns = -1
        self.thaw_ns = 0
        self.inbox: dict[str, deque[NodeEvent]] = {source: deque() for source in ("socket", "kernel", "timer", "shell")}
        self.commands: deque[Command] = deque()
        self.queue: deque[Command | Cover] = deque()
        self.in_kernel: Command | Cover | None = None
        self.kernel_waits = False
        """The thread that was to ask the kernel was frozen before it did."""
        self.trap = None
        self.stop_asked = False
        """An administrator has told the agent to stop."""

    def now(self) -> int:
        """Return what this machine's clock shows."""
        return self.clock.local(self.world.now_ns)

    def up(self) -> bool:
        """Return whether the agent runs and is not frozen."""
        return self.agent is not None and self.world.now_ns >= self.thaw_ns

    def kill(self) -> None:
        """End the agent's process; the gates go on. A command that the kernel has already may still take effect."""
        in_kernel = self.in_kernel
        self.clear()
        if in_kernel is not None and self.chance.random() < 0.5:
            self.take_effect(in_kernel)

    def lose_power(self) -> None:
        """End everything."""
        self.clear()
        self.powered = False
        self.gates = {group: self.world.gate() for group in self.world.groups}
        self.addresses = dict.fromkeys(self.world.groups, False)

    def power_up(self) -> None:
        """Be a machine that has just booted; its clock begins anew."""
        self.powered = True
        self.clock = Clock(self.world.now_ns, self.chance.randint(10**9, 10**10), self.world.rate(self.chance))

    def start(self, *, back: bool = False) -> None:
        """Start the agent, after a boot, a kill or an orderly end; `back`: with a boot number from the past."""
        assert self.agent is None
        if not self.powered:
            self.power_up()
        self.boot += -5 if back else 1
        for group in set(self.gates) - set(self.configured):  # what the agent does before all else
            self.addresses[group] = False
            self.gates[group] = self.world.gate()
        adopted = {
            group: slot
            for group, gate in self.gates.items()
            if (slot := gate.slot_in_use(self.now())) is not None
        }  # fmt: skip
        self.agent = self.world.make_agent(self, adopted)
        self.commands.extend(self.agent.start(self.now()))
        if not self.witness:
            self.inbox["shell"].append(self.world.fitness_event(self.fitness))
        self.go_on()
        if back:
            self.boot += 10

    def freeze(self, duration_ns: int) -> None:
        """Stop the process; what comes in meanwhile waits."""
        if self.agent is None:
            return
        self.thaw_ns = max(self.thaw_ns, self.world.now_ns + duration_ns)
        life = self.life
        self.world.later(self.thaw_ns - self.world.now_ns, lambda: self.life == life and self.go_on())

    def retune(self, ppm: int) -> None:
        """Let the clock run at another rate."""
        self.clock.retune(self.world.now_ns, ppm)
        if self.timer_ns >= 0:
            self.set_timer(self.timer_ns)

    # --- the agent -----------------------------------------------------------------------------------------

    def give(self, source: str, event: NodeEvent) -> None:
        """Put an event where the agent finds it."""
        if self.agent is None or (source == "socket" and len(self.inbox[source]) >= SOCKET_DATAGRAMS):
            return
        self.inbox[source].append(event)
        self.go_on()

    def go_on(self) -> None:
        """Let the agent work until nothing is left to do or it is stopped."""
        life = self.life
        if self.kernel_waits and self.up():
            self.kernel_waits = False
            self.after(0, self.kernel_works)
        while self.life == life and self.up():
            if self.commands:
                self.carry_out()
                continue
            waiting = [source for source, events in self.inbox.items() if events]
            if not waiting:
                break
            source = waiting[0] if len(waiting) == 1 else self.chance.choice(waiting)
            assert self.agent is not None
            self.commands.extend(self.agent.handle(self.inbox[source].popleft(), self.now()))

    def carry_out(self) -> None:
        """Carry out the next command, unless a trap springs first."""
        command, trap = self.commands[0], self.trap
        sprung = trap is not None and type(command) is trap.kind
        if trap is not None and sprung:
            self.trap = None
            if not trap.after:
                trap.spring()
                return
        self.commands.popleft()
        self.do(command)
        if trap is not None and sprung:
            trap.spring()

    def do(self, command: Command) -> None:
        """Carry out one command."""
        match command:
            case Send(link=link, address=address, data=data):
                self.world.network.send(self.name, link, address, data)
            case SetTimer(at_ns=at_ns):
                self.set_timer(at_ns)
            case Emit(event=event):
                self.world.note(f"{self.name} {event.name}: {event.reason}")
                self.world.events[event.name] += 1
            case Answer(request=request):
                self.answers[request] = command
                self.world.note(f"{self.name} answers {command.done}: {command.text}")
            case RememberGiveaway(paused=paused):
                self.paused = paused
            case RememberPins(groups=groups, forced=forced):
                self.pins, self.forced = groups, forced
            case RememberRun(run=run):
                self.former = run
            case AskGateway(group=group, number=number):
                answer: NodeEvent = GatewayAnswer(group, number, self.gateway_answers and self.on_clients)
                self.after(self.chance.randint(100_000, 2 * NS_PER_MS), lambda: self.give("shell", answer))
            case ProbeAddresses(group=group, number=number, timeout_ns=timeout_ns):
                self.probe(group, number, timeout_ns, ASKED)
            case Stopped():
                self.world.note(f"{self.name} stopped in order")
                self.clear()
            case InstallGroups():
                assert isinstance(self.agent, Node)
                self.queue.append(Cover(tuple(each.name for each in self.agent.membership.groups)))
                self.feed_kernel()
            case Arm() | Activate() | CloseGate() | AddAddresses() | RemoveAddresses():
                self.queue.append(command)
                self.feed_kernel()
            case _:
                pass

    def probe(self, group: str, number: int, timeout_ns: int, left: int) -> None:
        """Ask the clients' network for a group's addresses a few times."""
        asking = self.world.asking[group]
        heard = self.world.answers(group, self)
        asking.discard(self.name)
        if heard or left == 0:
            self.give("shell", ArpProbeAnswer(group, number, "02:00:00:00:00:01" if heard else ""))
            return
        asking.add(self.name)
        life = self.life

        def again() -> None:
            asking.discard(self.name)
            if self.life == life:
                self.probe(group, number, timeout_ns, left - 1)

        self.world.later(timeout_ns // ASKED, again)

    def set_timer(self, at_ns: int) -> None:
        """Wake the agent when its clock shows `at_ns`, or a little later."""
        self.timer_ns = at_ns
        life, clock = self.life, self.clock
        due_ns = max(self.world.now_ns, clock.true(at_ns)) + self.chance.randint(1_000, 300_000)

        def ring() -> None:
            if self.life == life and self.timer_ns == at_ns and self.now() >= at_ns:
                self.timer_ns = -1
                self.give("timer", Tick())

        self.world.later(due_ns - self.world.now_ns, ring)

    # --- the kernel ----------------------------------------------------------------------------------------

    def feed_kernel(self) -> None:
        """Begin the next command on the kernel."""
        if self.in_kernel is not None or not self.queue:
            return
        self.in_kernel = self.queue.popleft()
        if self.eager_close and isinstance(self.in_kernel, CloseGate):
            closing = self.in_kernel
            self.after(0, lambda: self.confirm(closing))
        self.after(self.chance.randint(*self.kernel_ns), self.kernel_works)

    def after(self, delay_ns: int, what: Callable[[], None]) -> None:
        """Do something later, unless this process is dead by then."""
        life = self.life
        self.world.later(delay_ns, lambda: self.life == life and what())

    def kernel_works(self) -> None:
        """Let the command take effect; a frozen thread may have been stopped before it asked the kernel."""
        if not self.up() and self.chance.random() < 0.5:
            self.kernel_waits = True
            return
        command = self.in_kernel
        assert command is not None
        if self.chance.random() < self.kernel_refuses and isinstance(command, Arm | Activate | CloseGate):
            refusal: NodeEvent = GateFailed(command.group, "device or resource busy")
            self.after(self.chance.randint(*self.kernel_ns), lambda: self.kernel_done(refusal))
            return
        self.take_effect(command)
        self.after(self.chance.randint(*self.kernel_ns), lambda: self.kernel_done(None))

    def take_effect(self, command: Command | Cover) -> None:
        """Change the kernel, and look at once whether two gates are open."""
        now_ns, late_ns = self.now(), self.chance.randint(0, IN_FLIGHT_MS_MAX) * NS_PER_MS
        match command:
            case Arm(group=group, slot=slot, duration_ns=duration_ns):
                self.gates[group].arm(slot, now_ns, duration_ns + late_ns)
            case Activate(group=group, slot=slot):
                self.gates[group].activate(slot, now_ns)
            case CloseGate(group=group):
                self.gates[group].close()
            case AddAddresses(group=group):
                self.addresses[group] = True
            case RemoveAddresses(group=group):
                self.addresses[group] = False
            case Cover(groups=groups):
                self.cover(groups)
        self.world.note(f"{self.name} kernel: {command}")
        self.world.look(self)

    def cover(self, groups: tuple[str, ...]) -> None:
        """Let the gate cover these groups; the addresses of others would be answered for without a lease."""
        for group in set(self.gates) - set(groups):
            if self.addresses[group] or self.is_open(group):
                self.world.tally.uncovered.append(
                    f"at {self.world.now_ns} ns {self.name} has {group} up without a gate"
                )
            self.gates[group] = self.world.gate()

    def kernel_done(self, refusal: NodeEvent | None) -> None:
        """Report, and go on with the next command."""
        command, self.in_kernel = self.in_kernel, None
        assert command is not None
        opened = isinstance(command, Activate) and bool(self.queue) and isinstance(self.queue[0], AddAddresses)
        if refusal is not None:
            self.give("kernel", refusal)
        elif opened:
            reply = GateOpened(command.group, command.number)  # type: ignore[union-attr]
            self.after(2 * self.kernel_ns[1] + 1, lambda: self.give("kernel", reply))
        elif not (self.eager_close and isinstance(command, CloseGate)):
            self.confirm(command)
        self.feed_kernel()

    def confirm(self, command: Command | Cover) -> None:
        """Give the agent the kernel's word."""
        match command:
            case Arm(group=group, number=number):
                self.give("kernel", GateArmed(group, number))
            case Activate(group=group, number=number):
                self.give("kernel", GateOpened(group, number))
            case CloseGate(group=group):
                self.give("kernel", GateClosed(group))

    def lose_gate(self, group: str) -> None:
        """Somebody flushed the rules; the gate is back at once, closed."""
        self.gates[group].close()
        self.give("kernel", GateLost(group))

    # --- what others see -----------------------------------------------------------------------------------

    def receive(self, link: int, data: bytes) -> None:
        """A datagram has arrived."""
        self.give("socket", DatagramReceived(link, data))

    def is_open(self, group: str) -> bool:
        """Return whether this machine answers for the group, as far as its gate goes."""
        return self.powered and self.gates[group].open(self.now())

    def serves(self, group: str) -> bool:
        """Return whether clients are answered here."""
        return self.is_open(group) and self.addresses[group]
