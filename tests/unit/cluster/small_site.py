"""A few nodes, a perfect network and obedient gates, in virtual time: enough to see one rule at a time."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from hawatch.cluster.effects import (
    Activate,
    AddAddresses,
    AdminAction,
    AdminCommand,
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
    GateOpened,
    GatewayAnswer,
    NodeEvent,
    ProbeAddresses,
    RememberGiveaway,
    RememberPins,
    Send,
    SetTimer,
    Stopped,
    Tick,
)
from hawatch.cluster.keys import KeyRing
from hawatch.cluster.membership import FormerRun, GroupSettings, Member, Membership, QuorumMode
from hawatch.cluster.node import Node
from hawatch.cluster.parameters import PROFILES, LeaseParameters
from hawatch.cluster.wire import GroupState
from hawatch.model import NS_PER_MS, NS_PER_S, Event

RING = KeyRing({1: bytes(range(32))}, 1)
DELAY_NS = NS_PER_MS // 4
PARAMETERS = PROFILES["default"]
T_NS = PARAMETERS.lease_ns


@dataclass
class Gate:
    """What the kernel has of one group's gate."""

    ends_ns: list[int] = field(default_factory=lambda: [-1, -1])
    active: list[bool] = field(default_factory=lambda: [False, False])

    def open(self, now_ns: int) -> bool:
        return any(active and now_ns < end for active, end in zip(self.active, self.ends_ns, strict=True))


@dataclass
class Place:
    """A machine."""

    name: str
    index: int
    node: Node | None = None
    life: int = 0
    boot: int = 100
    gates: dict[str, Gate] = field(default_factory=dict)
    paused: bool = False
    pins: RememberPins = field(default_factory=lambda: RememberPins(()))
    events: list[Event] = field(default_factory=list)
    answers: dict[int, Answer] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)
    batches: list[list[Command]] = field(default_factory=list)
    """The commands, as they were given at a time."""
    stopped: bool = False
    timer_ns: int = -1


class SmallSite:
    """Directors a and b, and a witness w unless there is none; or those that `names` says, a letter each: v and w are
    witnesses.
    """

    def __init__(
        self,
        quorum: QuorumMode = QuorumMode.WITNESS,
        *,
        groups: tuple[GroupSettings, ...] = (),
        seed: int = 1,
        silent: bool = True,
        parameters: LeaseParameters = PARAMETERS,
        names: str = "",
    ) -> None:
        self.parameters = parameters
        self.now_ns = 1000 * NS_PER_S
        self.random = random.Random(seed)
        names = names or ("abw" if quorum is QuorumMode.WITNESS else "ab")
        self.members = tuple(
            Member(name, (f"10.0.0.{index}", f"10.1.0.{index}"), name in "vw") for index, name in enumerate(names)
        )
        self.quorum = quorum
        self.groups = groups or (GroupSettings("web", "a"),)
        self.places = {name: Place(name, index) for index, name in enumerate(names)}
        self.queue: list[tuple[int, int, Callable[[], None]]] = []
        self.numbers = itertools.count()
        self.cut: set[tuple[str, str]] = set()
        self.slow: dict[tuple[str, str], int] = {}
        """What datagrams from one to another take longer than others, in nanoseconds."""
        self.refusing: set[str] = set()
        """Nodes whose kernel opens no slot."""
        self.silent_kernels: set[str] = set()
        """Nodes whose kernel leaves orders to close a gate undone and unanswered."""
        self.gateway = True
        self.arp_answers = True
        """Somebody whose gate is open answers an ARP probe."""
        self.two_owners = 0
        self.requests = itertools.count(1)
        self.former: dict[str, FormerRun | None] = {}
        for name in names:
            self.boot(name, silent=silent)

    # --- machines ----------------------------------------------------------------------------------------

    def membership(self, name: str) -> Membership:
        return Membership("test", name, self.members, self.groups, self.parameters, self.quorum)

    def boot(self, name: str, *, silent: bool = True, power: bool = True) -> None:
        place = self.places[name]
        place.life += 1
        place.boot += 1
        place.stopped = False
        if power:
            place.gates = {group.name: Gate() for group in self.groups}
        adopted = {}
        for group, gate in place.gates.items():
            for slot in (0, 1):
                if gate.active[slot] and self.now_ns < gate.ends_ns[slot]:
                    adopted[group] = slot
        place.node = Node(
            self.membership(name), RING, boot=place.boot, random=self.random, now_ns=self.now_ns,
            adopted=adopted, paused=place.paused, silent=silent, former=self.former.get(name),
            pins=frozenset(place.pins.groups), forced=frozenset(place.pins.forced),
        )  # fmt: skip
        self.do(place, place.node.start(self.now_ns))

    def kill(self, name: str, *, power: bool = True) -> None:
        place = self.places[name]
        place.life += 1
        place.node = None
        if power:
            place.gates = {}

    def at(self, at_ns: int, what: Callable[[], None]) -> None:
        heapq.heappush(self.queue, (at_ns, next(self.numbers), what))

    def give(self, place: Place, life: int, event: NodeEvent) -> None:
        if place.node is not None and place.life == life:
            self.do(place, place.node.handle(event, self.now_ns))
            self.look()

    def tick(self, place: Place, life: int, at_ns: int) -> None:
        """Wake a node up, unless its timer was set to another moment since."""
        if place.timer_ns == at_ns:
            self.give(place, life, Tick())

    def look(self) -> None:
        for group in self.groups:
            if len(self.open(group.name)) > 1:
                self.two_owners += 1

    def open(self, group: str = "web") -> list[str]:
        """Return whose gate is open."""
        return [
            place.name
            for place in self.places.values()
            if (gate := place.gates.get(group)) is not None and gate.open(self.now_ns)
        ]

    def do(self, place: Place, commands: list[Command]) -> None:
        later = lambda event, after=50_000: self.at(  # noqa: E731
            self.now_ns + after, lambda life=place.life: self.give(place, life, event)
        )
        place.batches.append(commands)
        for command in commands:
            place.commands.append(command)
            match command:
                case Send(link=link, address=address, data=data):
                    self.deliver(place, link, address, data)
                case Arm(group=group, slot=slot, duration_ns=duration_ns, number=number):
                    gate = place.gates[group]
                    gate.active[slot], gate.ends_ns[slot] = False, self.now_ns + duration_ns
                    later(GateArmed(group, number))
                case Activate(group=group) if place.name in self.refusing:
                    later(GateFailed(group, "no memory"))
                case Activate(group=group, slot=slot, number=number):
                    place.gates[group].active[slot] = True
                    later(GateOpened(group, number))
                case CloseGate() if place.name in self.silent_kernels:
                    pass
                case CloseGate(group=group):
                    place.gates[group] = Gate()
                    later(GateClosed(group))
                case AskGateway(group=group, number=number):
                    later(GatewayAnswer(group, number, self.gateway))
                case ProbeAddresses(group=group, number=number):
                    answering = [name for name in self.open(group) if name != place.name] if self.arp_answers else []
                    later(ArpProbeAnswer(group, number, "02:00:00:00:00:01" if answering else ""), 100 * NS_PER_MS)
                case SetTimer(at_ns=at_ns):
                    place.timer_ns = at_ns
                    self.at(at_ns, lambda at_ns=at_ns, life=place.life: self.tick(place, life, at_ns))
                case Emit(event=event):
                    place.events.append(event)
                case Answer():
                    place.answers[command.request] = command
                case RememberGiveaway(paused=paused):
                    place.paused = paused
                case RememberPins():
                    place.pins = command
                case Stopped():
                    place.stopped = True
                case _:
                    pass

    def deliver(self, sender: Place, link: int, address: str, data: bytes) -> None:
        for member in self.members:
            if member.links[link] == address and (sender.name, member.name) not in self.cut:
                to = self.places[member.name]
                self.at(
                    self.now_ns + DELAY_NS + self.slow.get((sender.name, member.name), 0),
                    lambda to=to, life=to.life: self.give(to, life, DatagramReceived(link, data)),
                )

    # --- time and people ---------------------------------------------------------------------------------

    def run(self, duration_ns: int) -> None:
        """Let time pass."""
        self.run_until(lambda: False, duration_ns)

    def run_until(self, condition: Callable[[], bool], limit_ns: int = 20 * NS_PER_S) -> int:
        """Let time pass until something holds or the limit; return how long it took."""
        start_ns, end_ns = self.now_ns, self.now_ns + limit_ns
        while not condition():
            if not self.queue or self.queue[0][0] > end_ns:
                self.now_ns = end_ns
                break
            at_ns, _, what = heapq.heappop(self.queue)
            self.now_ns = max(self.now_ns, at_ns)
            what()
        return self.now_ns - start_ns

    def node(self, name: str) -> Node:
        node = self.places[name].node
        assert node is not None
        return node

    def state(self, name: str, group: str = "web") -> GroupState:
        return self.node(name).groups[group].state

    def owned_by(self, name: str, group: str = "web") -> bool:
        return self.open(group) == [name] and self.node(name).groups[group].opened

    def admin(self, name: str, action: AdminAction, group: str = "", to: str = "") -> Callable[[], Answer | None]:
        request, place = next(self.requests), self.places[name]
        self.give(place, place.life, AdminCommand(request, action, group, to))
        return lambda: place.answers.get(request)

    def ask(self, name: str, action: AdminAction, group: str = "", to: str = "") -> Answer:
        """Ask, and let time pass until the answer."""
        answer = self.admin(name, action, group, to)
        self.run_until(lambda: answer() is not None)
        found = answer()
        assert found is not None
        return found

    def separate(self, one: str, other: str) -> None:
        self.cut |= {(one, other), (other, one)}

    def event_names(self, name: str) -> list[str]:
        return [event.name for event in self.places[name].events]


def adds_addresses(commands: list[Command]) -> int:
    return sum(isinstance(command, AddAddresses) for command in commands)
