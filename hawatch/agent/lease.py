"""Leased ownership: the groups of a director that shares them with others.

Theory of operation. `hawatch.cluster` decides, a `NodeLoop` runs it, `Effects` carry it out. This joins them to the
core: settings, status, and the administrator's commands. A reload changes groups where they are: one that the new
configuration does not name is closed, its addresses are taken down and its lease is released; the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import SystemRandom
from typing import Protocol

import trio

from hawatch.agent.lease_memory import LeaseMemory
from hawatch.agent.lease_site import membership_of, read_keys
from hawatch.agent.node_loop import Effects, NodeLoop
from hawatch.agent.ownership import CountServers, Emit, StatusPart
from hawatch.agent.pace import next_turn
from hawatch.agent.settings import Settings, now_ns, wall_ns
from hawatch.cluster.effects import AdminAction, Answer, FitnessChanged, GroupsChanged
from hawatch.cluster.fitness import Punctuality, Sight, score
from hawatch.cluster.membership import GroupSettings
from hawatch.cluster.node import Node
from hawatch.cluster.report import differences, owner_of, report
from hawatch.control.protocol import ALL
from hawatch.errors import ConfigError, KernelError, LocalError, RefusedError
from hawatch.health.schedule import JITTER_NS_MAX
from hawatch.model import NS_PER_MS, NS_PER_S, Event, Severity

STOP_S = 3.0
"""Giving everything away may take so long at the agent's end."""
FITNESS_INTERVAL_S = 1.0
"""So often a director looks how fit it is, besides when an interface or a gateway changes."""
APART_NS_MAX = 60 * NS_PER_S
"""Directors are not taken to notice things further apart than this, however seldom they look."""
LAST_WRITE_S = 0.5
"""At the agent's end the disk is waited for so long."""
RETRY_FIRST_S, RETRY_MAX_S = 0.1, 5.0
"""What failed is tried again at once, for the gate of an owner stays open for less than a second; then after so long,
which doubles until the other."""
GOOD_S = 10.0
"""What went well for so long and fails then is tried again at once, and told again."""
READY_S = 1.0
"""An administrator's wish waits so long for what is being opened."""


class GroupEffects(Effects, Protocol):
    """Effects of a director, as the ownership needs them."""

    @property
    def gate(self) -> str:
        """How the gate is kept, for the status."""

    def adopted(self) -> Mapping[str, int]:
        """Return the groups whose gate is open, with the slot in use."""

    def problems(self) -> list[str]:
        """Return what is wrong with addresses and interfaces, a sentence each."""

    async def wait_links(self) -> None:
        """Return when the kernel says that an interface has changed, or the gateways' answering has."""

    def set_settings(self, settings: Settings) -> None:
        """Have this configuration ready for `InstallGroups`."""

    def fitness(self) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
        """Return the interfaces that are down, those that lack IPv6, and gateways when none answers. Never waits."""

    def close_sockets(self) -> None:
        """Let go; what is in the kernel stays."""


MakeEffects = Callable[[Settings, Emit], GroupEffects]


class LeasedOwnership:
    """Ownership under leases; `make_effects` opens what carries it out."""

    def __init__(
        self, settings: Settings, make_effects: MakeEffects, *, paused: bool, remember: Callable[[bool], None]
    ) -> None:
        self._settings = settings
        self._apart_ns = apart_ns(settings)
        self._make_effects = make_effects
        self._paused = paused
        self._remember = remember
        self._loop: NodeLoop | None = None
        self._effects: GroupEffects | None = None
        self._ready = trio.Event()
        self._emit: Emit | None = None
        lease_s = settings.config.cluster.parameters.lease_ns / NS_PER_S
        self._memory = LeaseMemory(settings.places, self._tell_broken, lease_s)
        self._tell_lateness: Callable[[int], None] = lambda late_ns: None
        self._count_servers: CountServers = lambda: (0, 0, 0)
        self._problem = "this agent has just started"

    # --- life ------------------------------------------------------------------------------------------------

    async def run(self, emit: Emit, changed: Callable[[], None]) -> None:
        """Own and let go of groups, until cancelled."""
        self._emit = emit
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._memory.run)
            await self._go_on(emit, changed)

    async def _go_on(self, emit: Emit, changed: Callable[[], None]) -> None:
        told, delay_s = "", 0.0
        while True:
            began = trio.current_time()
            try:
                await self._run_once(emit, changed)
            except* (KernelError, LocalError, ConfigError) as errors:  # a nursery lets out groups only
                self._problem = str(_first(errors))
            if trio.current_time() - began >= GOOD_S:
                told, delay_s = "", 0.0
            if self._problem != told:
                told = self._problem
                emit([Event("lease_failed", f"nothing can be owned: {self._problem}", Severity.CRITICAL)])
            await trio.sleep(delay_s)
            delay_s = min(max(2 * delay_s, RETRY_FIRST_S), RETRY_MAX_S)

    async def _run_once(self, emit: Emit, changed: Callable[[], None]) -> None:
        settings = self._settings
        boot, pins = self._memory.next_boot(wall_ns()), self._memory.pins()
        effects = self._make_effects(settings, emit)
        try:
            node = Node(
                membership_of(settings.config, settings.node),
                read_keys(settings.config),
                boot=boot,
                random=SystemRandom(),
                now_ns=now_ns(),
                adopted=effects.adopted(),
                paused=self._paused,
                pins=frozenset(pins.groups),
                forced=frozenset(pins.forced),
                former=self._memory.former(),
            )
            await self._memory.begin(boot, node.settling.run(now_ns()))
            port = settings.config.cluster.port
            self._loop = NodeLoop(
                node, port, now_ns, emit, effects,
                changed=changed, remember=self._remember_giveaway, remember_pins=self._memory.keep_pins,
                remember_run=self._memory.keep_run, late=self._tell_lateness,
            )  # fmt: skip
            self._effects = effects
            self._ready.set()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_fitness, self._loop, effects)
                await self._loop.run()
        finally:
            self._loop = self._effects = None
            self._ready = trio.Event()
            effects.close_sockets()

    async def _watch_fitness(self, loop: NodeLoop, effects: GroupEffects) -> None:
        last: FitnessChanged | None = None
        punctuality = Punctuality(self._settings.config.cluster.parameters.heartbeat_ns // 2)
        punctual = True
        while True:
            down, without_ipv6, silent = effects.fitness()
            sight = Sight(*self._count_servers())
            points, missing = score(down, without_ipv6, sight, silent, punctual=punctual)
            found = FitnessChanged(points, missing, sight.sure, self._apart_ns)
            if found != last:
                last = found
                loop.give(found)
            due = next_turn(FITNESS_INTERVAL_S)
            with trio.move_on_at(due):
                await effects.wait_links()
            late_s = trio.current_time() - due
            if late_s >= 0:
                punctual = punctuality.note(int(late_s * NS_PER_S))

    def _remember_giveaway(self, paused: bool) -> None:  # noqa: FBT001 - a callback
        self._paused = paused
        self._remember(paused)

    def _tell_broken(self, problem: str) -> None:
        if self._emit is not None:
            self._emit([Event("state_broken", problem, Severity.WARNING)])

    def watch_servers(self, count: CountServers) -> None:
        """Look at the real servers, too: part of the fitness."""
        self._count_servers = count

    def tell_lateness(self, tell: Callable[[int], None]) -> None:
        """Tell of each heartbeat how late it was."""
        self._tell_lateness = tell

    def set_settings(self, settings: Settings) -> None:
        """Go on by a new configuration."""
        before, self._settings = self._settings, settings
        self._apart_ns = apart_ns(settings)
        if self._loop is None or self._effects is None:
            return
        if before.config.group != settings.config.group:
            self._effects.set_settings(settings)
            self._loop.give(GroupsChanged(membership_of(settings.config, settings.node).groups))
        try:
            self._loop.node.use_keys(read_keys(settings.config))
        except ConfigError as error:
            assert self._emit is not None
            self._emit([Event("config_rejected", f"the keys stay as they were: {error}", Severity.WARNING)])

    async def stop(self) -> None:
        """Give everything away in good order."""
        if self._loop is None:
            return
        with trio.move_on_after(STOP_S):
            stopped = self._loop.stopped
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._loop.ask, AdminAction.STOP)
                await stopped.wait()
                nursery.cancel_scope.cancel()
            await self._memory.wait_pins(LAST_WRITE_S)

    # --- what others ask -------------------------------------------------------------------------------------

    def owned(self) -> frozenset[str]:
        """Return the groups that this director owns."""
        return self._loop.node.owned() if self._loop is not None else frozenset()

    def owners(self) -> Mapping[str, str]:
        """Return the groups' owners."""
        loop = self._loop
        if loop is None:
            return {group.name: "" for group in self._settings.config.group}
        return {name: owner_of(loop.node, name, now_ns()) for name in loop.node.groups}

    def status(self) -> Mapping[str, object]:
        """Return what is known of the other nodes, the quorum and the groups."""
        loop, effects = self._loop, self._effects
        if loop is None or effects is None:
            quorum = {"mode": self._settings.config.cluster.quorum, "held": False, "acceptors": 0, "reachable": 0}
            return {"quorum": {**quorum, "reason": self._problem}, "directors": [], "groups": []}
        found = report(loop.node, now_ns())
        addresses = {group.name: [vip.address for vip in group.addresses] for group in self._settings.config.group}
        groups = found["groups"]
        assert isinstance(groups, list)
        found["groups"] = [
            {**group, "gate": effects.gate, "addresses": addresses.get(group["name"], [])} for group in groups
        ]
        return found

    def warnings(self) -> list[str]:
        """Return what is wrong with the groups' addresses, a sentence each."""
        return [*(self._effects.problems() if self._effects is not None else []), *self._differing()]

    def differing_after(self, settings: Settings) -> list[str]:
        """Return a sentence for each director with other addresses, now and by a configuration that is to come."""
        return self._differing(membership_of(settings.config, settings.node).groups)

    def _differing(self, after: Iterable[GroupSettings] | None = None) -> list[str]:
        return differences(self._loop.node, after) if self._loop is not None else []

    async def switchover(self, group: str, to: str) -> StatusPart:
        """Move ownership; return when the successor answers for it."""
        return await self._ask(AdminAction.SWITCHOVER, "" if group == ALL else group, to)

    async def takeover(self, group: str) -> StatusPart:
        """Own a group without a majority."""
        return await self._ask(AdminAction.TAKEOVER, "" if group == ALL else group)

    async def giveaway(self) -> StatusPart:
        """Give everything away, and take nothing until resume."""
        return await self._ask(AdminAction.GIVEAWAY)

    async def resume(self) -> StatusPart:
        """End a giveaway."""
        return await self._ask(AdminAction.RESUME)

    async def _ask(self, action: AdminAction, group: str = "", to: str = "") -> StatusPart:
        with trio.move_on_after(READY_S):
            await self._ready.wait()
        if self._loop is None:
            raise RefusedError(self._problem)
        answer: Answer = await self._loop.ask(action, group, to)
        if not answer.done:
            raise RefusedError(answer.text)
        took_ms = answer.took_ns / NS_PER_MS
        after = f" after {took_ms:.1f} ms" if answer.took_ns else ""
        return {"text": f"{answer.text}{after}", "took_ms": round(took_ms, 1)}


def apart_ns(settings: Settings) -> int:
    """Return how far apart two directors may notice the same of all their servers.

    Each looks at its own moments: they differ by an interval, a timeout, a look at the fitness, and the heartbeat that
    tells it.
    """
    longest_ns = max((check.interval_ns + check.timeout_ns for check in settings.plan.checks.values()), default=0)
    heartbeat_ns = settings.config.cluster.parameters.heartbeat_ns
    told_ns = int(FITNESS_INTERVAL_S * NS_PER_S) + JITTER_NS_MAX + heartbeat_ns
    return min(APART_NS_MAX, longest_ns + told_ns) if longest_ns else 0


def _first(error: BaseException) -> BaseException:
    """Return the first exception of a group, however deep it lies."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
