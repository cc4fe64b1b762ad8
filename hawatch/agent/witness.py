"""The witness: one small process that answers the directors, and so decides which of them may own.

It has no addresses, no probes and no ctl socket, and reads its configuration apart, so that it stays small. What it
sees goes to standard output, a line an event. Having no disk for what it promised, it promises nothing for a lease's
time after its start.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from random import SystemRandom

import trio

from hawatch.agent.apart import Apart, do_apart
from hawatch.agent.lease_memory import LeaseMemory
from hawatch.agent.lease_site import membership_of, read_keys
from hawatch.agent.node_loop import NodeLoop
from hawatch.agent.output import never_wait_for_output
from hawatch.agent.places import Places
from hawatch.agent.priority import run_promptly
from hawatch.agent.process import notify_service_manager
from hawatch.agent.runtime import lock_runtime, lock_state
from hawatch.agent.settings import load_settings, now_ns, wall_ns
from hawatch.cluster.effects import GroupsChanged
from hawatch.cluster.keys import KeyRing
from hawatch.cluster.membership import Membership
from hawatch.cluster.node import Node
from hawatch.errors import HawatchError, LocalError, UsageError
from hawatch.model import NS_PER_S, Event

WATCHDOG_S = 1.0
RELOAD_S = 30.0
"""Reading the configuration again takes so long at most."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a witness needs of a configuration."""

    membership: Membership
    keys: KeyRing
    port: int

    @property
    def name(self) -> str:
        """This witness's name."""
        return self.membership.node


def read_part(places: Places, node_wanted: str) -> Part:
    """Read the configuration and the keys; raise ConfigError, or UsageError where this node is no witness."""
    settings = load_settings(places, node_wanted)
    config = settings.config
    if all(witness.name != settings.node for witness in config.witness):
        raise UsageError(f"{settings.node} is no [[witness]]: a director runs `hawatch run`")
    return Part(membership_of(config, settings.node), read_keys(config), config.cluster.port)


def run_witness(places: Places, node_wanted: str) -> int:
    """Run until told to stop. Raises ConfigError, UsageError, LocalError before anything is touched."""
    part = do_apart(lambda: read_part(places, node_wanted))
    never_wait_for_output()
    locks = [lock_runtime(places)]
    try:
        locks.append(lock_state(places))
        for problem in run_promptly("the witness"):
            print(f"hawatch witness: {problem}", file=sys.stderr, flush=True)
        trio.run(Witness(places, part).run)
    finally:
        for lock in locks:
            os.close(lock)
    return 0


def emit(events: Iterable[Event]) -> None:
    """Print events."""
    for event in events:
        print(f"hawatch witness: {event.name}: {event.reason}", flush=True)


def complain(problem: str) -> None:
    """Print what is wrong."""
    print(f"hawatch witness: {problem}", file=sys.stderr, flush=True)


class Witness:
    """One witness at work."""

    def __init__(self, places: Places, part: Part) -> None:
        self._places = places
        self._part = part
        self._loop: NodeLoop | None = None
        self._reload_wanted = trio.Event()
        self._memory = LeaseMemory(places, complain, part.membership.parameters.lease_ns / NS_PER_S)
        self._node = Node(
            part.membership,
            part.keys,
            boot=self._memory.next_boot(wall_ns()),
            random=SystemRandom(),
            now_ns=now_ns(),
            former=self._memory.former(),
        )

    async def run(self) -> None:
        """Answer until told to stop."""
        name = self._part.name
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            loop = self._loop = NodeLoop(self._node, self._part.port, now_ns, emit, remember_run=self._memory.keep_run)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._memory.run)
                await self._memory.begin(self._node.site.boot, self._node.settling.run(now_ns()))
                nursery.start_soon(loop.run)
                nursery.start_soon(_feed_watchdog, name)
                nursery.start_soon(self._reload_when_wanted)
                notify("READY=1")
                print(f"hawatch witness: {name} answers", flush=True)
                async for number in signals:
                    if number != signal.SIGHUP:
                        break
                    self._reload_wanted.set()
                nursery.cancel_scope.cancel()

    async def _reload_when_wanted(self) -> None:
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted = trio.Event()
            notify(f"RELOADING=1\nMONOTONIC_USEC={trio.current_time() * 1e6:.0f}")
            await self._reload()
            notify("READY=1")

    async def _read_again(self) -> Part:
        """Read the configuration in a process of its own; raise HawatchError where that comes to nothing."""
        apart = Apart(lambda: read_part(self._places, self._part.name))
        read = False
        try:
            with trio.move_on_after(RELOAD_S):
                while not read:
                    await trio.lowlevel.wait_readable(apart.descriptor)
                    read = apart.feed()
        finally:
            if not read:
                apart.give_up()
        if not read:
            raise LocalError(f"reading the configuration took longer than {RELOAD_S:.0f} s")
        return apart.result()

    async def _reload(self) -> None:
        """Take new keys and groups; say so if the configuration has other changes, or mistakes."""
        try:
            part = await self._read_again()
        except HawatchError as error:
            print(f"hawatch witness: the keys stay as they were: {error}", file=sys.stderr, flush=True)
            return
        self._node.use_keys(part.keys)
        print("hawatch witness: keys read again", flush=True)
        before, after = self._part, part
        groups = after.membership.groups
        if replace(before.membership, groups=groups) != after.membership or before.port != after.port:
            print("hawatch witness: the configuration has changed: a restart makes it count", flush=True)
        elif before.membership.groups != groups and self._loop is not None:
            self._part = after
            self._loop.give(GroupsChanged(groups))
            names = ", ".join(group.name for group in groups) or "none"
            print(f"hawatch witness: votes on these groups from now on: {names}", flush=True)


def notify(text: str) -> None:
    """Tell the service manager."""
    notify_service_manager(os.environ.get("NOTIFY_SOCKET", ""), text)


async def _feed_watchdog(name: str) -> None:
    while True:
        notify(f"WATCHDOG=1\nSTATUS={name} answers")
        await trio.sleep(WATCHDOG_S)
