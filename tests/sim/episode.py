"""One seed's life: a site boots, is mistreated, recovers, and loses its owner once in a way that is measured."""

from __future__ import annotations

import random
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hawatch.cluster.effects import AdminAction
from hawatch.cluster.membership import QuorumMode
from hawatch.cluster.node import Node
from hawatch.cluster.parameters import PROFILES
from hawatch.model import NS_PER_MS
from tests.sim.faults import Chaos
from tests.sim.machine import Machine
from tests.sim.network import Quality
from tests.sim.world import Rules, Setting, World

ROUNDS = 3
FAULTS_LEASES = 40
"""Leases' time of faults in each round."""
RECOVERY_LEASES = 3
"""A fit director owns within so many leases after faults end, and the preferred one too unless told otherwise."""
W, G, N = QuorumMode.WITNESS, QuorumMode.GATEWAY, QuorumMode.NONE
SHAPES = (
    (2, 1, 2, W), (2, 1, 2, W), (2, 1, 1, W), (2, 1, 1, W), (2, 3, 1, W), (3, 0, 2, W), (3, 2, 1, W),
    (2, 0, 2, G), (2, 0, 2, N),
)  # fmt: skip
"""Directors, witnesses, links, what makes a quorum."""


@dataclass
class Outcome:
    """What a seed came to."""

    seed: int
    profile: str
    kind: str = ""
    """Directors and witnesses, or what there is instead."""
    simulated_ns: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    acquisitions: int = 0
    overlaps: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    """Faults ended and nobody, or the wrong one, owned in time; or an owner without power was followed too late."""
    crashes: list[str] = field(default_factory=list)
    takeovers_ns: list[int] = field(default_factory=list)
    switchovers_ns: list[int] = field(default_factory=list)
    recoveries_ns: list[int] = field(default_factory=list)
    """How long after the last fault each group was where it belongs, where nobody was told to wait for longer."""
    events: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    best_effort: int = 0
    """Instants at which two gates were open where nothing is promised."""

    def failed(self) -> bool:
        """Return whether the site broke its promise."""
        return bool(self.overlaps or self.stuck or self.crashes)


def setting_of(seed: int, profile: str, rate_ppm: int | None = None, *, promised: bool | None = None) -> Setting:
    """Return the site that a seed stands for; `promised`: one where never two owners are promised, or one where not."""
    chance = random.Random(f"{seed} setting")
    shapes = SHAPES if promised is None else [shape for shape in SHAPES if (shape[3] is W) == promised]
    directors, witnesses, links, quorum = chance.choice(shapes)
    groups = ("web",) if chance.random() < 0.7 else ("web", "mail")
    parameters = PROFILES[profile]
    if rate_ppm is not None:
        parameters = replace(parameters, rho_ppm=rate_ppm)
    return Setting(parameters, directors, witnesses, links, groups, quorum, parameters.rho_ppm)


class Episode:
    """The course of one seed."""

    def __init__(self, seed: int, profile: str, setting: Setting, rules: Rules | None, *, trace: bool = False) -> None:
        self.world = World(seed, setting, rules, trace=trace)
        self.chaos = Chaos(self.world, seed)
        self.chance = random.Random(f"{seed} episode")
        kind = f"{setting.directors}+{setting.witnesses}" if setting.quorum is W else str(setting.quorum)
        self.outcome = Outcome(seed, profile, kind)
        self.promised = setting.quorum is W
        self.lease_ns = setting.parameters.lease_ns
        self.parameters = setting.parameters
        self.told = False
        """The recovery looked at was longer than usual because a director was told to wait."""

    def run(self, rounds: int = ROUNDS, *, until_overlap: bool = False, only: str = "") -> Outcome:
        """Live through all rounds, or one of the scenes named below; stop at the first broken promise."""
        outcome, world = self.outcome, self.world
        try:
            for machine in world.machines.values():
                world.later(self.chance.randint(0, self.lease_ns), lambda each=machine: each.agent or each.start())
            world.run(self.lease_ns)
            if only:
                _ = self.recover() and getattr(self, only)()
            for _ in range(0 if only else rounds):
                if not self.round(until_overlap=until_overlap):
                    break
        except Exception:
            world.note("CRASH")
            outcome.crashes.append(traceback.format_exc(limit=-4))
        outcome.simulated_ns, outcome.faults = world.now_ns, self.chaos.counts
        outcome.acquisitions, outcome.events = world.tally.openings, world.events
        outcome.overlaps = [
            f"at {each.at_ns / 1e9:.6f} s {' and '.join(each.machines)} own {each.group} for up to {each.for_ns / 1e6:.3f} ms"
            for each in world.tally.overlaps
        ]
        outcome.stuck += [*world.network.storms[:3], *world.tally.uncovered[:3]]
        outcome.best_effort = len(world.tally.best_effort)
        outcome.notes = world.notes or []
        return outcome

    def round(self, *, until_overlap: bool) -> bool:
        """Mistreat, recover, measure; return whether to go on."""
        world, chaos = self.world, self.chaos
        chaos.choose()
        chaos.begin()
        world.run_until(lambda: bool(world.tally.overlaps), FAULTS_LEASES * self.lease_ns)
        chaos.end()
        if world.tally.overlaps or (until_overlap and not world.tally.overlaps and self.mutant_goes_on()):
            return not world.tally.overlaps
        if not self.recover():
            return False
        world.run(int(self.lease_ns * self.chance.uniform(1, 3)))
        if not (self.lose_owner() and self.recover() and self.switch_over()):
            return False
        often = (None, None, None, self.restart_owner)
        scenes = (*often, self.force, self.clash, self.rolling_change, self.shorter_lease, self.force_in_vain)
        special = self.chance.choice(scenes) if self.promised else self.cut_heartbeats
        return special is None or special()

    def mutant_goes_on(self) -> bool:
        """Let a mutant's site settle without asking more of it."""
        self.world.run(2 * self.lease_ns)
        return True

    # --- recovery --------------------------------------------------------------------------------------------

    def grace_ns(self, group: str) -> int:
        """Return how much longer than usual the preferred director may take: what it was told to wait for."""
        broken_ns = backed_off_ns = 0
        if not group:
            return 0
        for machine in self.world.directors:
            node = machine.agent
            if isinstance(node, Node):
                now_ns, ownership = machine.now(), node.groups[group]
                broken_ns = max(broken_ns, node.site.gate_doubtful_until_ns - now_ns, node.site.clash_until_ns - now_ns)
                backed_off_ns = max(backed_off_ns, (self.lease_ns << ownership.hold_down.doublings) - self.lease_ns)
        return (broken_ns + backed_off_ns) * 102 // 100

    def pinned(self, group: str) -> bool:
        """Return whether an administrator chose the group's owner."""
        nodes = [machine.agent for machine in self.world.directors]
        return any(isinstance(node, Node) and node.groups[group].pinned for node in nodes)

    def recover(self) -> bool:
        """Wait until every group is where it belongs; return whether all came to that within three leases.

        One limit for all of it, from the last fault on: that somebody owns, and that it is the preferred one.
        """
        limit_ns = RECOVERY_LEASES * self.lease_ns
        since_ns = self.world.now_ns
        self.told = False
        for settings in self.world.settings:
            group, prefer = settings.name, settings.prefer
            if self.missed(lambda group=group, prefer=prefer: self.as_wanted(group, prefer), since_ns, limit_ns, group):
                self.outcome.stuck.append(
                    f"{prefer} does not own {group} {RECOVERY_LEASES} leases after the last fault: {self.states(group)}"
                )
                return False
            if not self.told:
                self.outcome.recoveries_ns.append(self.world.now_ns - since_ns)
        return not self.world.tally.overlaps

    def as_wanted(self, group: str, prefer: str) -> bool:
        """Return whether the preferred director serves, or the one that an administrator chose."""
        serving = self.world.serving(group)
        return serving == [prefer] or (self.pinned(group) and bool(serving))

    def missed(self, condition: Callable[[], bool], since_ns: int, limit_ns: int, group: str) -> bool:
        """Wait for a condition; return whether it did not come.

        What a director was told to wait for may turn up late: a refusal of the kernel that was under way, say.
        """
        world, deadline_ns = self.world, since_ns + limit_ns
        while not condition():
            grace_ns = self.grace_ns(group)
            if grace_ns > 0:
                self.told = True
                deadline_ns = max(deadline_ns, world.now_ns + grace_ns + limit_ns)
            if not self.told_to_wait():
                world.run_until(condition, max(0, deadline_ns - world.now_ns))
                break
            world.run_until(condition, self.parameters.heartbeat_ns)
        return not condition()

    def told_to_wait(self) -> bool:
        """Return whether a director may not own at the moment, or only as the last choice."""
        return any(
            max(node.site.gate_doubtful_until_ns, node.site.clash_until_ns) > machine.now()
            for machine in self.world.directors
            if isinstance(node := machine.agent, Node)
        )

    def states(self, group: str) -> str:
        """Describe where everybody stands."""
        return "; ".join(
            f"{machine.name} {machine.agent.groups[group].state.name}: {machine.agent.groups[group].reason}"
            for machine in self.world.directors
            if isinstance(machine.agent, Node)
        )

    # --- what is measured --------------------------------------------------------------------------------------

    def lose_owner(self) -> bool:
        """Take the owner of the first group away, and measure until another one serves."""
        world, group = self.world, self.world.groups[0]
        world.run(self.chance.randint(0, self.parameters.heartbeat_ns))
        serving = world.serving(group)
        if len(serving) != 1:
            return True
        victim = world.machines[serving[0]]
        kinds = (self.by_power, self.by_kill, self.by_freeze, self.by_cut)
        kind = self.chance.choice(kinds if self.promised else kinds[:3])
        world.note(f"measure: the owner {victim.name} is lost, {kind.__name__}")
        kind(victim)
        condition = lambda: any(name != victim.name for name in world.serving(group))  # noqa: E731
        limit_ns = 3 * self.lease_ns
        took_ns = world.run_until(condition, limit_ns)
        if not condition():
            self.outcome.stuck.append(f"nobody followed {victim.name} ({kind.__name__}): {self.states(group)}")
            return False
        self.outcome.takeovers_ns.append(took_ns)
        bound_ns = self.lease_ns * 101 // 100 + 60 * NS_PER_MS
        if not self.promised:  # the clients' network is asked first, and time counts from a heartbeat to the next
            bound_ns += 3 * self.parameters.heartbeat_ns
        if took_ns > bound_ns:
            self.outcome.stuck.append(
                f"{victim.name} ({kind.__name__}) was followed after {took_ns / 1e6:.1f} ms, more than {bound_ns / 1e6:.1f}"
            )
        world.run(int(self.lease_ns * self.chance.uniform(0, 2)))
        self.chaos.end()
        return not self.outcome.stuck

    def by_power(self, machine: Machine) -> None:
        """Switch it off."""
        machine.lose_power()

    def by_kill(self, machine: Machine) -> None:
        """End its process."""
        machine.kill()

    def by_freeze(self, machine: Machine) -> None:
        """Stop its process."""
        machine.freeze(100 * self.lease_ns)

    def by_cut(self, machine: Machine) -> None:
        """Cut it from all."""
        others = [name for name in self.world.machines if name != machine.name]
        links = range(self.world.setting.links)
        self.world.network.cut(
            [
                way
                for other in others
                for link in links
                for way in ((machine.name, other, link), (other, machine.name, link))
            ]
        )

    def switch_over(self) -> bool:
        """Let an administrator move the first group, and measure how long nobody answers."""
        world, group = self.world, self.world.groups[0]
        world.run(2 * self.lease_ns)
        serving = world.serving(group)
        if len(serving) != 1:
            return True
        target = next(machine for machine in world.directors if machine.name != serving[0])
        if self.told_to_wait():
            return True
        world.admin(target, AdminAction.SWITCHOVER, group, target.name)
        world.run_until(lambda: not world.serving(group), self.lease_ns)
        silent_ns = world.run_until(lambda: target.serves(group), 2 * self.lease_ns)
        if not target.serves(group):
            self.outcome.stuck.append(f"switchover to {target.name} did not happen: {self.states(group)}")
            return False
        self.outcome.switchovers_ns.append(silent_ns)
        return not world.tally.overlaps

    # --- what is rare --------------------------------------------------------------------------------------------

    def force(self) -> bool:
        """All but one director lose power, an administrator forces that one, and the others come back."""
        world = self.world
        last = self.chance.choice(world.directors)
        for machine in world.machines.values():
            if machine is not last:
                machine.lose_power()
        world.run(2 * self.lease_ns)
        request = world.admin(last, AdminAction.TAKEOVER)
        owns = lambda: all(world.serving(group) == [last.name] for group in world.groups)  # noqa: E731
        if self.missed(owns, world.now_ns, self.lease_ns, ""):
            self.outcome.stuck.append(f"{last.name} was forced and does not own: {last.answers.get(request)}")
            return False
        world.run(int(self.lease_ns * self.chance.uniform(0, 3)))
        world.boot_all()
        world.run(2 * self.lease_ns)
        return self.recover()

    def shorter_lease(self) -> bool:
        """All but the owner are restarted with a shorter lease, while the directors do not hear each other."""
        world, group = self.world, self.world.groups[0]
        owner = self.owner_of(group)
        if owner is None:
            return True
        for other in world.directors:
            if other is not owner:
                self.cut_pair(owner, other)
        for machine in world.machines.values():
            if machine is not owner:
                machine.parameters = self.chaos.shorter()
                machine.kill()
        world.boot_all()
        world.run(2 * self.lease_ns)
        self.chaos.end()
        return not world.tally.overlaps and self.recover()

    def restart_owner(self) -> bool:
        """The owner's agent dies and is back at once, a few times, while datagrams are lost and others want the group."""
        world, group = self.world, self.world.groups[0]
        for _ in range(8):
            owner = self.owner_of(group)
            if owner is not None:
                owner.kill()
                world.network.quality = Quality(loss=self.chance.choice((0, 0.3, 0.6)))
                world.run(self.chance.randint(0, self.parameters.heartbeat_ns))
                world.boot_all()
                other = self.chance.choice(world.directors)
                if other is not owner:
                    world.run(self.chance.randint(0, 2 * self.parameters.heartbeat_ns))
                    world.admin(other, AdminAction.SWITCHOVER, group, other.name)
            world.run(int(self.lease_ns * self.chance.uniform(0.5, 2)))
            world.network.heal()
        self.chaos.end()
        return not world.tally.overlaps and self.recover()

    def force_in_vain(self) -> bool:
        """Owner and another director are cut from each other, and an administrator forces the other: it is refused."""
        world, group = self.world, self.world.groups[0]
        owner = self.owner_of(group)
        if owner is None:
            return True
        other = next(machine for machine in world.directors if machine is not owner)
        self.cut_pair(owner, other)
        world.run(int(self.lease_ns * self.chance.uniform(0, 3)))
        request = world.admin(other, AdminAction.TAKEOVER, group)
        world.run_until(lambda: request in other.answers, 5 * self.lease_ns)
        if request not in other.answers or (other.answers[request].done and world.serving(group) == [owner.name]):
            self.outcome.stuck.append(f"{other.name} was forced beside {owner.name}: {other.answers.get(request)}")
            return False
        self.chaos.end()
        return not world.tally.overlaps and self.recover()

    def cut_heartbeats(self) -> bool:
        """Without a witness: all links are cut, the clients' network is not, and the owner stays the only one."""
        world, group = self.world, self.world.groups[0]
        world.run(2 * self.lease_ns)
        owner, before = self.owner_of(group), len(world.tally.best_effort)
        if owner is None:
            return True
        self.cut_pair(*world.directors)
        world.run(5 * self.lease_ns)
        if len(world.tally.best_effort) > before or world.serving(group) != [owner.name]:
            self.outcome.stuck.append(
                f"only links were cut, and {world.serving(group)} serve {group}, not {owner.name}"
            )
            return False
        self.chaos.end()
        return self.recover()

    def owner_of(self, group: str) -> Machine | None:
        """Return the machine that serves a group, None when there is not exactly one."""
        serving = self.world.serving(group)
        return self.world.machines[serving[0]] if len(serving) == 1 else None

    def cut_pair(self, one: Machine, other: Machine) -> None:
        """Cut all links between two machines."""
        links = range(self.world.setting.links)
        names = ((one.name, other.name), (other.name, one.name))
        self.world.network.cut([(*way, link) for way in names for link in links])

    def rolling_change(self) -> bool:
        """The list of members changes: machine after machine is restarted with the new one, in the midst of faults."""
        world, chance = self.world, self.chance
        number = len(world.network.addresses)
        leaving = world.witnesses[0].name if world.witnesses and chance.random() < 0.5 else ""
        joining = [world.add_witness(f"x{number + index}") for index in range(1 if leaving else 2)]
        members = (*(each for each in world.members if each.name != leaving), *joining)
        for each in joining:
            world.machines[each.name].members = members
        world.note(f"the members are to be {', '.join(each.name for each in members)}")
        self.chaos.choose()
        self.chaos.begin()
        for member in chance.sample(members, len(members)):
            world.run(chance.randint(0, self.lease_ns))
            machine = world.machines[member.name]
            machine.members = members
            machine.kill()
            self.chaos.start_later(machine, chance.randint(1, self.lease_ns))
        world.run(chance.randint(0, self.lease_ns))
        if leaving:
            world.remove(leaving)
        world.members = members
        world.witnesses = [each for each in world.machines.values() if each.witness]
        self.chaos.end()
        return not world.tally.overlaps and self.recover()

    def clash(self) -> bool:
        """One more machine comes up with a director's name, and goes away; the director is restarted."""
        world = self.world
        of = self.chance.choice(world.directors)
        before = world.events["name_conflict"], len(world.tally.best_effort)
        owned = any(map(of.is_open, world.groups))
        twin = world.start_twin(of)
        world.run(5 * self.lease_ns)
        if owned and world.events["name_conflict"] == before[0]:
            self.outcome.stuck.append(f"two machines were {of.name} and nobody said so")
            return False
        if any(len(world.serving(group)) > 1 for group in world.groups):
            self.outcome.stuck.append(f"two machines were {of.name} and two own after 5 leases")
            return False
        twin.lose_power()
        of.boot = (
            max(of.boot, twin.boot) + 10
        )  # the wall clock has gone on: whoever took the next number meanwhile keeps it
        of.kill()
        world.run(self.lease_ns)
        world.twins.remove(twin)
        world.boot_all()
        world.run(2 * self.lease_ns)
        return self.recover()


def live(
    seed: int,
    profile: str,
    rules: Rules | None = None,
    *,
    trace: bool = False,
    rate_ppm: int | None = None,
    until_overlap: bool = False,
    only: str = "",
) -> Outcome:
    """Run one seed; `until_overlap`: to see that a rule is needed, where it is promised at all; `only`: one scene."""
    promised = only != "cut_heartbeats" if until_overlap or only else None
    setting = setting_of(seed, profile, rate_ppm, promised=promised)
    return Episode(seed, profile, setting, rules, trace=trace).run(until_overlap=until_overlap, only=only)
