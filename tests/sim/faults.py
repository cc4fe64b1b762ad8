"""Everything that goes wrong, chosen by a seed: what, where, when and for how long.

Each seed takes its own few kinds of fault and its own pace: a soup of everything hides what one kind alone would show.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from hawatch.cluster.effects import Activate, AdminAction, Arm, CloseGate, Emit, Send, SetTimer
from hawatch.cluster.membership import QuorumMode
from hawatch.cluster.parameters import LeaseParameters
from hawatch.model import NS_PER_MS
from tests.sim.machine import Machine, Trap
from tests.sim.network import Quality
from tests.sim.world import World

TRAPPED = (Arm, Activate, CloseGate, Send, Emit, SetTimer)


class Chaos:
    """The faults of one world."""

    def __init__(self, world: World, seed: object) -> None:
        self.world = world
        self.chance = random.Random(f"{seed} chaos")
        self.lease_ns = world.setting.parameters.lease_ns
        self.heartbeat_ns = world.setting.parameters.heartbeat_ns
        self.counts: Counter[str] = Counter()
        self.kinds: dict[str, Callable[[], None]] = {
            "freeze": self.freeze,
            "frozen at a command": self.trap_freeze,
            "killed at a command": self.trap_kill,
            "kill": self.kill,
            "power": self.power,
            "witness restart": self.restart_witness,
            "cut": self.cut,
            "one-way cut": self.cut_one_way,
            "isolation": self.isolate,
            "bad network": self.worsen,
            "clock": self.retune,
            "replay": self.replay,
            "switchover": self.switchover,
            "giveaway": self.giveaway,
            "stop": self.stop,
            "fitness": self.fitness,
            "gate lost": self.lose_gate,
            "kernel refuses": self.refuse,
            "kernel slow": self.slow,
            "reload": self.reload,
            "reconfigured": self.reconfigure,
        }
        if world.setting.quorum is not QuorumMode.WITNESS:
            self.kinds |= {"off the clients' network": self.unplug, "gateway silent": self.silence_gateway}
        self.active: list[str] = sorted(self.kinds)
        self.pace_ns = 0
        self.epoch = 0
        self.choose()

    def choose(self) -> None:
        """Take some kinds of fault, and a pace."""
        names = sorted(self.kinds)
        self.active = self.chance.sample(names, self.chance.choice((2, 3, 5, 8, len(names))))
        self.pace_ns = int(self.lease_ns * self.chance.choice((0.3, 1, 2, 5)))

    # --- when ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Let things go wrong from now on."""
        self.epoch += 1
        self.plan(self.epoch)

    def plan(self, epoch: int) -> None:
        """Decide when the next fault is."""

        def strike() -> None:
            if epoch == self.epoch:
                name = self.chance.choice(self.active)
                self.counts[name] += 1
                self.kinds[name]()
                self.plan(epoch)

        self.world.later(int(self.chance.expovariate(1 / self.pace_ns)) + 1, strike)

    def end(self) -> None:
        """Let everything be well again: all machines run, all paths are clean, nobody is given away."""
        self.epoch += 1
        world = self.world
        world.note("all faults end")
        world.network.heal()
        for machine in world.machines.values():
            if machine.parameters != world.setting.parameters:
                machine.parameters = world.setting.parameters
                machine.kill()
            if machine.stop_asked:  # it would stop after the faults have ended, and nobody would start it
                machine.kill()
            machine.trap, machine.kernel_refuses, machine.kernel_ns = None, 0.0, (20_000, NS_PER_MS // 2)
            if machine.agent is not None and machine.thaw_ns > world.now_ns:
                machine.thaw_ns = world.now_ns
                machine.go_on()
        world.boot_all()
        for machine in world.machines.values():
            if machine.configured != world.groups:
                world.reload(machine, world.groups)
        for machine in world.directors:
            machine.on_clients = machine.gateway_answers = True
            self.be_fit(machine, 1000)
            if machine.paused:
                world.admin(machine, AdminAction.RESUME)

    def lasting(self) -> int:
        """Return how long a fault lasts: often about as long as something in the protocol."""
        lease_ns, heartbeat_ns = self.lease_ns, self.heartbeat_ns
        low, high = self.chance.choice(
            ((1, heartbeat_ns), (heartbeat_ns, 3 * heartbeat_ns), (lease_ns // 2, lease_ns * 3 // 2), (lease_ns, lease_ns * 8))
        )  # fmt: skip
        return self.chance.randint(low, high)

    def meanwhile(self, duration_ns: int, undo: Callable[[], object]) -> None:
        """Undo a fault after a while, unless all faults have ended before."""
        epoch = self.epoch
        self.world.later(duration_ns, lambda: self.epoch == epoch and undo())

    # --- where -----------------------------------------------------------------------------------------------

    def any(self) -> Machine:
        """Return a machine; often one that owns something."""
        owners = [machine for machine in self.world.directors if any(map(machine.is_open, self.world.groups))]
        if owners and self.chance.random() < 0.5:
            return self.chance.choice(owners)
        return self.chance.choice(list(self.world.machines.values()))

    def director(self) -> Machine:
        """Return a director; often one that owns something."""
        machine = self.any()
        return self.chance.choice(self.world.directors) if machine.witness else machine

    # --- what: processes and machines ------------------------------------------------------------------------

    def freeze(self) -> None:
        """Stop a process for a while."""
        machine, duration_ns = self.any(), self.lasting()
        self.world.note(f"{machine.name} is frozen for {duration_ns / NS_PER_MS} ms")
        machine.freeze(duration_ns)

    def trap_freeze(self) -> None:
        """Stop a process just before or after a command."""
        machine, duration_ns = self.director(), self.lasting()
        kind, after = self.chance.choice(TRAPPED), self.chance.random() < 0.5

        def spring() -> None:
            self.world.note(f"{machine.name} is frozen at {kind.__name__} for {duration_ns / NS_PER_MS} ms")
            machine.freeze(duration_ns)

        machine.trap = Trap(kind, after, spring)

    def trap_kill(self) -> None:
        """End a process just before or after a command."""
        machine, duration_ns = self.director(), self.lasting()
        kind, after = self.chance.choice(TRAPPED), self.chance.random() < 0.5

        def spring() -> None:
            self.world.note(f"{machine.name} is killed at {kind.__name__}")
            machine.kill()
            self.start_later(machine, duration_ns)

        machine.trap = Trap(kind, after, spring)

    def start_later(self, machine: Machine, after_ns: int) -> None:
        """Start an agent again."""

        def start() -> None:
            if machine.agent is None:
                back = self.chance.random() < 0.03
                self.world.note(f"{machine.name} starts" + (" with a boot number from the past" if back else ""))
                machine.start(back=back)

        self.meanwhile(after_ns, start)

    def kill(self) -> None:
        """End a process; its gates go on."""
        machine = self.any()
        self.world.note(f"{machine.name} is killed")
        machine.kill()
        self.start_later(machine, self.lasting())

    def power(self) -> None:
        """Switch a machine off."""
        machine = self.any()
        self.world.note(f"{machine.name} loses power")
        machine.lose_power()
        self.start_later(machine, self.lasting())

    def restart_witness(self) -> None:
        """Restart an acceptor that is nobody's owner, at once."""
        machine = self.chance.choice(self.world.witnesses or self.world.directors)
        self.world.note(f"{machine.name} is restarted")
        machine.kill()
        self.start_later(machine, self.chance.randint(1, self.heartbeat_ns))

    # --- what: network and clocks ----------------------------------------------------------------------------

    def ways(self, one: str, other: str) -> list[tuple[str, str, int]]:
        """Return the ways from one machine to another, on every link or on one."""
        links = list(range(self.world.setting.links))
        chosen = links if self.chance.random() < 0.7 else [self.chance.choice(links)]
        return [(one, other, link) for link in chosen]

    def cut_ways(self, ways: list[tuple[str, str, int]]) -> None:
        """Cut ways for a while."""
        duration_ns = self.lasting()
        self.world.note(f"cut for {duration_ns / NS_PER_MS} ms: {ways}")
        self.meanwhile(duration_ns, self.world.network.cut(ways))

    def cut(self) -> None:
        """Cut two machines from each other."""
        one, other = self.chance.sample(list(self.world.machines), 2)
        self.cut_ways(self.ways(one, other) + self.ways(other, one))

    def cut_one_way(self) -> None:
        """Let one machine not hear another."""
        one, other = self.chance.sample(list(self.world.machines), 2)
        self.cut_ways(self.ways(one, other))

    def isolate(self) -> None:
        """Cut a machine from all, one or both ways."""
        name, kind = self.any().name, self.chance.choice(("deaf", "dumb", "both"))
        links = range(self.world.setting.links)
        others = [other for other in self.world.machines if other != name]
        ways = [(other, name, link) for other in others for link in links] if kind != "dumb" else []
        ways += [(name, other, link) for other in others for link in links] if kind != "deaf" else []
        self.cut_ways(ways)

    def worsen(self) -> None:
        """Make the network bad for a while."""
        chance = self.chance
        slow_ns = chance.choice((NS_PER_MS, 20 * NS_PER_MS, self.heartbeat_ns // 2, self.heartbeat_ns * 2))
        quality = Quality(
            loss=chance.choice((0, 0.05, 0.2, 0.5, 0.8)),
            duplicates=chance.choice((0, 0.1, 0.5)),
            delay_ns=(NS_PER_MS // 10, slow_ns),
            late=chance.choice((0, 0.02, 0.2)),
            late_ns=chance.choice((self.heartbeat_ns, self.lease_ns, 5 * self.lease_ns)),
        )
        self.world.note(f"the network becomes {quality}")
        self.world.network.quality = quality
        self.meanwhile(self.lasting(), lambda: setattr(self.world.network, "quality", Quality()))

    def retune(self) -> None:
        """Let clocks run at other rates."""
        for machine in self.world.machines.values():
            machine.retune(self.world.rate(self.chance))

    def replay(self) -> None:
        """Send copies of old datagrams."""
        self.world.network.replay(self.chance.choice((1, 10, 100)))

    # --- what: people and kernels ----------------------------------------------------------------------------

    def switchover(self) -> None:
        """An administrator moves a group."""
        to = self.chance.choice(["", *(machine.name for machine in self.world.directors)])
        self.world.admin(self.director(), AdminAction.SWITCHOVER, self.chance.choice(["", *self.world.groups]), to)

    def giveaway(self) -> None:
        """An administrator gives a director away, and takes it back."""
        machine = self.director()
        self.world.admin(machine, AdminAction.GIVEAWAY)
        self.meanwhile(self.lasting(), lambda: self.world.admin(machine, AdminAction.RESUME))

    def stop(self) -> None:
        """An administrator stops an agent, which is started again."""
        machine = self.director()
        self.world.admin(machine, AdminAction.STOP)
        self.start_later(machine, self.lasting() + self.heartbeat_ns)

    def be_fit(self, machine: Machine, score: int) -> None:
        """Make a director as fit as this."""
        machine.fitness = score
        machine.give("shell", self.world.fitness_event(score))

    def fitness(self) -> None:
        """Make a director less or more fit for a while."""
        machine = self.director()
        self.be_fit(machine, self.chance.choice((0, 500, 999, 1001, 2000)))
        self.meanwhile(self.lasting(), lambda: self.be_fit(machine, 1000))

    def reload(self) -> None:
        """A machine's configuration loses some groups, and gets them back; a witness's, too."""
        machine = self.any()
        groups = tuple(each for each in self.world.groups if self.chance.random() < 0.5)
        self.world.reload(machine, groups)
        self.meanwhile(self.lasting(), lambda: self.world.reload(machine, self.world.groups))

    def shorter(self) -> LeaseParameters:
        """Return a shorter lease than the site's."""
        usual = self.world.setting.parameters
        return replace(usual, lease_ns=usual.lease_ns * 2 // 3, heartbeat_ns=usual.heartbeat_ns * 2 // 3)

    def reconfigure(self) -> None:
        """A machine is restarted with a shorter lease in its configuration than others have, or with the usual one."""
        machine = self.any()
        machine.parameters = self.chance.choice((self.world.setting.parameters, self.shorter()))
        self.world.note(f"{machine.name} is restarted with a lease of {machine.parameters.lease_ns} ns")
        machine.kill()
        self.start_later(machine, self.chance.randint(1, self.heartbeat_ns))

    def unplug(self) -> None:
        """A director loses the clients' network."""
        machine = self.director()
        self.world.note(f"{machine.name} is off the clients' network")
        machine.on_clients = False
        self.meanwhile(self.lasting(), lambda: setattr(machine, "on_clients", True))

    def silence_gateway(self) -> None:
        """A director's gateway does not answer."""
        machine = self.director()
        machine.gateway_answers = False
        self.meanwhile(self.lasting(), lambda: setattr(machine, "gateway_answers", True))

    def lose_gate(self) -> None:
        """Somebody flushes the kernel's rules."""
        machine = self.director()
        for group in self.world.groups:
            self.world.note(f"{machine.name} loses its gate")
            machine.lose_gate(group)

    def refuse(self) -> None:
        """Let the kernel refuse changes of the gate."""
        machine = self.director()
        machine.kernel_refuses = self.chance.choice((0.1, 0.5, 1.0))
        self.meanwhile(self.lasting(), lambda: setattr(machine, "kernel_refuses", 0.0))

    def slow(self) -> None:
        """Let the kernel take long."""
        machine = self.director()
        machine.kernel_ns = (20_000, self.chance.choice((self.heartbeat_ns // 4, self.heartbeat_ns, self.lease_ns)))
        self.meanwhile(self.lasting(), lambda: setattr(machine, "kernel_ns", (20_000, NS_PER_MS // 2)))
