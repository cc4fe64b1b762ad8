"""A whole site in virtual time: machines, a network, and an eye that never blinks.

A gate opens only when a command takes effect in some kernel; so looking at all gates at exactly those instants sees
every instant at which two could be open.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hawatch.cluster.effects import AdminAction, AdminCommand, FitnessChanged, GroupsChanged, NodeEvent
from hawatch.cluster.keys import KeyRing
from hawatch.cluster.membership import GroupSettings, Member, Membership, QuorumMode
from hawatch.cluster.node import Node
from hawatch.cluster.parameters import PROFILES, LeaseParameters
from hawatch.model import NS_PER_S
from tests.sim.kernel import Gate
from tests.sim.machine import Agent, Machine
from tests.sim.network import Network, Parcel

RING = KeyRing({1: bytes(range(32))}, 1)
NOTES_MAX = 200_000


@dataclass(frozen=True)
class Setting:
    """What a site is made of."""

    parameters: LeaseParameters = PROFILES["default"]
    directors: int = 2
    witnesses: int = 1
    links: int = 2
    groups: tuple[str, ...] = ("web",)
    quorum: QuorumMode = QuorumMode.WITNESS
    rate_ppm: int = 5000
    """How far clocks run apart from true time."""


@dataclass(frozen=True)
class Rules:
    """Where mutants and stand-ins come in."""

    gate: Callable[[], Gate] = Gate
    membership: Callable[..., Membership] = Membership
    make_agent: Callable[[World, Machine, Mapping[str, int]], Agent] | None = None
    silent: bool = True
    eager_close: bool = False
    adopt: bool = True
    """A new process looks for the gate that the former one left."""
    hears_clients: bool = True
    """A probe of the clients' network is answered by who owns the addresses."""


@dataclass(frozen=True)
class Overlap:
    """Two gates open at once."""

    at_ns: int
    group: str
    machines: tuple[str, ...]
    for_ns: int
    """How long both stay open, if nothing closes them before."""


@dataclass
class Tally:
    """What has been counted."""

    openings: int = 0
    overlaps: list[Overlap] = field(default_factory=list)
    best_effort: list[Overlap] = field(default_factory=list)
    """Where nothing is promised: no witness, or two machines with one name."""
    uncovered: list[str] = field(default_factory=list)
    """The gate stopped covering an address that was up, or a group that was open."""


class World:
    """See the module's text."""

    def __init__(self, seed: object, setting: Setting, rules: Rules | None = None, *, trace: bool = False) -> None:
        self.seed, self.setting, self.rules = seed, setting, rules or Rules()
        self.chance = random.Random(f"{seed} world")
        self.now_ns = 0
        self.events: Counter[str] = Counter()
        self.queue: list[tuple[int, int, Callable[[], object]]] = []
        self.numbers = itertools.count(1)
        self.notes: list[str] | None = [] if trace else None
        self.tally = Tally()
        self.groups = setting.groups
        self.gate = self.rules.gate
        self.twins: list[Machine] = []
        """Machines that run under another one's name."""
        self.asking: dict[str, set[str]] = {group: set() for group in self.groups}
        """Who asks the clients' network for a group's addresses at the moment."""
        self.owner: dict[str, str] = dict.fromkeys(self.groups, "")
        directors = ["abcdefg"[index] for index in range(setting.directors)]
        names = directors + [f"w{index}" for index in range(setting.witnesses)]
        self.members = tuple(
            Member(name, tuple(f"10.{link}.0.{index}" for link in range(setting.links)), name not in directors)
            for index, name in enumerate(names)
        )
        self.settings = tuple(
            GroupSettings(group, directors[index % len(directors)]) for index, group in enumerate(self.groups)
        )
        addresses = {(link, each.links[link]): each.name for each in self.members for link in range(setting.links)}
        self.network = Network(
            random.Random(f"{seed} network"),
            addresses,
            self.later,
            self.deliver,
            lambda: self.now_ns,
            setting.parameters.heartbeat_ns,
        )
        self.machines = {
            member.name: Machine(self, member.name, index, witness=member.votes_only)
            for index, member in enumerate(self.members)
        }
        for machine in self.machines.values():
            machine.eager_close = self.rules.eager_close
        self.directors = [self.machines[name] for name in directors]
        self.witnesses = [machine for machine in self.machines.values() if machine.witness]

    # --- making ----------------------------------------------------------------------------------------------

    def make_agent(self, machine: Machine, adopted: Mapping[str, int]) -> Agent:
        """Return what runs on a machine."""
        if self.rules.make_agent is not None:
            return self.rules.make_agent(self, machine, adopted)
        settings = tuple(each for each in self.settings if each.name in machine.configured)
        membership = self.rules.membership(
            "site", machine.node, machine.members or self.members, settings, machine.parameters, self.setting.quorum
        )
        return Node(
            membership, RING, boot=machine.boot, random=random.Random(f"{self.seed} {machine.name} {machine.boot}"),
            now_ns=machine.now(), adopted=dict(adopted) if self.rules.adopt else {}, paused=machine.paused,
            pins=frozenset(machine.pins), forced=frozenset(machine.forced), silent=self.rules.silent, former=machine.former,
        )  # fmt: skip

    def fitness_event(self, score: int) -> NodeEvent:
        """Return what tells an agent how fit its machine is."""
        return FitnessChanged(score)

    def rate(self, chance: random.Random) -> int:
        """Return a clock's rate, often the worst that is allowed."""
        most = self.setting.rate_ppm
        return chance.choice((-most, most, chance.randint(-most, most)))

    # --- time ------------------------------------------------------------------------------------------------

    def later(self, delay_ns: int, what: Callable[[], object]) -> None:
        """Do something later."""
        heapq.heappush(self.queue, (self.now_ns + max(0, delay_ns), next(self.numbers), what))

    def run_until(self, condition: Callable[[], bool], limit_ns: int) -> int:
        """Let time pass until something holds, or the limit; return how long it took."""
        start_ns = self.now_ns
        end_ns = start_ns + limit_ns
        while not condition():
            if not self.queue or self.queue[0][0] > end_ns:
                self.now_ns = end_ns
                break
            at_ns, _, what = heapq.heappop(self.queue)
            self.now_ns = at_ns
            what()
        return self.now_ns - start_ns

    def run(self, duration_ns: int) -> None:
        """Let time pass."""
        self.run_until(lambda: False, duration_ns)

    # --- seeing ----------------------------------------------------------------------------------------------

    def deliver(self, parcel: Parcel) -> None:
        """A datagram has arrived."""
        twins = [twin for twin in self.twins if twin.node == parcel.to]
        known = [*twins, self.machines[parcel.to]] if parcel.to in self.machines else twins
        if not known:
            return
        machine = self.chance.choice(known) if twins else known[0]
        machine.receive(parcel.link, parcel.data)

    def look(self, changed: Machine) -> None:
        """Look at all gates: a kernel has just changed."""
        for group in self.groups:
            if not changed.is_open(group):
                continue
            if self.owner[group] != changed.name:
                self.owner[group] = changed.name
                self.tally.openings += 1
            machines = [machine for machine in (*self.directors, *self.twins) if machine.is_open(group)]
            if len(machines) > 1:
                ends = sorted(machine.clock.true(machine.gates[group].end_ns()) for machine in machines)
                names = tuple(machine.name for machine in machines)
                promised = self.setting.quorum is QuorumMode.WITNESS and not self.twins
                found = self.tally.overlaps if promised else self.tally.best_effort
                found.append(Overlap(self.now_ns, group, names, ends[-2] - self.now_ns))
                self.note(f"TWO OWNERS of {group}: {', '.join(names)} for up to {ends[-2] - self.now_ns} ns")

    def serving(self, group: str) -> list[str]:
        """Return who answers clients."""
        return [machine.name for machine in (*self.directors, *self.twins) if machine.serves(group)]

    def answers(self, group: str, asker: Machine) -> bool:
        """Return whether somebody answers, or asks at the same time, for a group's addresses on the clients' network."""
        others = [machine for machine in self.directors if machine is not asker and machine.on_clients]
        return (
            self.rules.hears_clients
            and asker.on_clients
            and any(each.serves(group) or each.name in self.asking[group] for each in others)
        )

    def note(self, text: str) -> None:
        """Write down what happened, when somebody wants to read it."""
        if self.notes is not None and len(self.notes) < NOTES_MAX:
            self.notes.append(f"{self.now_ns / NS_PER_S:12.6f} {text}")

    # --- people ----------------------------------------------------------------------------------------------

    def boot_all(self) -> None:
        """Switch every machine on that is not running."""
        for machine in self.machines.values():
            if machine.agent is None:
                machine.start()

    def add_witness(self, name: str) -> Member:
        """Build one more machine, which no configuration names yet."""
        index = len(self.network.addresses)
        links = tuple(f"10.{link}.1.{index}" for link in range(self.setting.links))
        self.network.addresses |= {(link, address): name for link, address in enumerate(links)}
        self.machines[name] = Machine(self, name, index, witness=True)
        return Member(name, links, votes_only=True)

    def remove(self, name: str) -> None:
        """Switch a machine off for good."""
        machine = self.machines.pop(name)
        machine.lose_power()
        self.witnesses = [each for each in self.machines.values() if each.witness]

    def start_twin(self, of: Machine) -> Machine:
        """Start one more machine under a director's name."""
        twin = Machine(self, f"{of.name}'", len(self.machines), witness=False, node=of.name)
        twin.boot = of.boot + 50
        self.twins.append(twin)
        twin.start()
        return twin

    def reload(self, machine: Machine, groups: tuple[str, ...]) -> None:
        """Let a machine's configuration name these groups."""
        self.note(f"{machine.name} is to share {', '.join(groups) or 'no group'}")
        machine.configured = groups
        machine.give("shell", GroupsChanged(tuple(each for each in self.settings if each.name in groups)))

    def admin(self, machine: Machine, action: AdminAction, group: str = "", to: str = "") -> int:
        """Ask something of an agent; return the request's number."""
        request = next(self.numbers)
        self.note(f"an administrator on {machine.name}: {action} {group} {to}")
        machine.stop_asked = machine.stop_asked or (action is AdminAction.STOP and machine.agent is not None)
        machine.give("shell", AdminCommand(request, action, group, to))
        return request
