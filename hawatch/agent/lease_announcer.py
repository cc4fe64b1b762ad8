"""The clients' network: announcing a group's addresses there, and asking who else answers for them.

Theory of operation. Each interface of a group's addresses has a raw socket. Nothing is announced for a group whose
gate is not open at that moment: frames of a packet socket do not pass the gate.

Every few seconds the owner asks whether anybody else answers for its addresses: the classic mistake is a real server
that does, because it has the address on an interface of its own and arp_ignore is not set.

Anybody on the clients' network may say anything: frames are read within a budget (the kernel drops what is beyond it),
and of an address only so many conflicts are told one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Protocol

import trio

from hawatch.actions.arp import Wire, host_of
from hawatch.actions.arp_codec import Told
from hawatch.agent.group_vips import About
from hawatch.agent.heartbeat_noise import Budget
from hawatch.agent.ownership import Emit
from hawatch.agent.settings import now_ns
from hawatch.errors import KernelError
from hawatch.model import NS_PER_S, Event, Severity

QUESTIONS = 3
"""An address is asked for so often before nobody is believed to have it."""
CONFLICT_INTERVAL_S = 5.0
"""The owner asks so often whether anybody else answers for its addresses."""
TELL_CONFLICT_NS = 300 * NS_PER_S
"""The same conflict is told at most so often."""
MACS_TOLD_MAX = 8
"""So many machines that answer for one address are told one by one in that time; then how many more there were."""
MACS_COUNTED_MAX = 1000
FRAMES_PER_S, FRAMES_BURST = 1000, 1000
"""Read from one interface: more than all ARP of a large network, of which each costs some microseconds."""
FRAMES_PER_TURN = 64
"""Read before others have their turn."""
FLOODED_S = 0.01
"""An interface that has used up its budget is left alone for so long."""
REOPEN_S = 2.0


@dataclass(slots=True)
class Announcing:
    """What is being announced of a group."""

    scope: trio.CancelScope
    after_ns: tuple[int, ...]
    every_ns: int


@dataclass(slots=True)
class Question:
    """An answer that somebody waits for."""

    addresses: frozenset[str]
    told: Told | None = None
    done: trio.Event = field(default_factory=trio.Event)


@dataclass(slots=True)
class Conflict:
    """Who else answers for an address, since when."""

    group: str
    since_ns: int
    macs: set[str] = field(default_factory=set)


class Groups(Protocol):
    """What is to be known of the groups."""

    def group_of(self, address: str) -> str:
        """Return the group that has an address, "" for none."""

    def interfaces(self) -> Set[str]:
        """Return the interfaces to listen on."""

    def places(self, group: str) -> list[tuple[str, str]]:
        """Return a group's addresses, each with its interface."""

    def owned(self) -> list[str]:
        """Return the groups whose addresses are up and whose gate is open at this moment."""

    def director_at(self, address: str) -> str:
        """Return the name of the other director that has a link's address, "" for none."""


class Announcer:
    """Announces, asks and listens on the clients' network; `complain` tells an interface's problem, "" at its end."""

    def __init__(self, groups: Groups, emit: Emit, complain: Callable[[About, str], None]) -> None:
        self._groups = groups
        self._emit = emit
        self._tell = complain
        self._failed: set[str] = set()
        """Interfaces that were complained of."""
        self._announcing: dict[str, Announcing] = {}
        self._questions: list[Question] = []
        self._conflicts: dict[str, Conflict] = {}
        """By address."""
        self._wires: dict[str, Wire] = {}
        self._nursery: trio.Nursery | None = None

    def close(self) -> None:
        """Close the sockets."""
        for wire in self._wires.values():
            wire.close()
        self._wires.clear()

    async def run(self) -> None:
        """Announce, listen and look for conflicts until cancelled."""
        async with trio.open_nursery() as self._nursery:
            for wire in self._wires.values():
                self._nursery.start_soon(self._hear, wire)
            for group, announcing in self._announcing.items():
                self._nursery.start_soon(self._announce, group, announcing)
            await self._look_for_conflicts()

    # --- announcing ------------------------------------------------------------------------------------------

    def begin(self, group: str, after_ns: tuple[int, ...], every_ns: int) -> None:
        """Announce a group now and as the schedule says, until `stop`."""
        self.stop(group)
        announcing = self._announcing[group] = Announcing(trio.CancelScope(), after_ns, every_ns)
        if after_ns and after_ns[0] == 0:
            self.announce_once(group)
        if self._nursery is not None:
            self._nursery.start_soon(self._announce, group, announcing)

    def stop(self, group: str) -> None:
        """Announce a group no more."""
        announcing = self._announcing.pop(group, None)
        if announcing is not None:
            announcing.scope.cancel()

    async def _announce(self, group: str, announcing: Announcing) -> None:
        with announcing.scope:
            began = trio.current_time()
            for after_ns in announcing.after_ns:
                if after_ns:
                    await trio.sleep_until(began + after_ns / NS_PER_S)
                    self.announce_once(group)
            while announcing.every_ns:
                await trio.sleep(announcing.every_ns / NS_PER_S)
                self.announce_once(group)

    def announce_once(self, group: str) -> None:
        """Announce a group now, if it is owned."""
        if group in self._groups.owned():
            for wire, addresses in self._by_wire(group):
                wire.announce(addresses)

    def listen(self, interface: str) -> Wire | None:
        """Return an interface's socket, opened if it is not yet; None where it cannot be had, which is told."""
        wire = self._wires.get(interface)
        if wire is None:
            try:
                wire = self._wires[interface] = Wire(interface)
            except KernelError as error:
                self._complain(interface, str(error))
                return None
            self._complain(interface, "")
            if self._nursery is not None:
                self._nursery.start_soon(self._hear, wire)
        return wire

    def _complain(self, interface: str, problem: str) -> None:
        (self._failed.add if problem else self._failed.discard)(interface)
        self._tell(("interface", interface), problem)

    def _listen_where_wanted(self) -> None:
        """Open what came up late, and complain no more of what no group has an address on."""
        wanted = self._groups.interfaces()
        for interface in sorted(wanted):
            self.listen(interface)
        for interface in self._failed - wanted:
            self._complain(interface, "")

    def _by_wire(self, group: str) -> Iterator[tuple[Wire, list[str]]]:
        return self._wires_of(self._groups.places(group))

    def _wires_of(self, places: Iterable[tuple[str, str]]) -> Iterator[tuple[Wire, list[str]]]:
        found: dict[str, list[str]] = {}
        for address, interface in places:
            found.setdefault(interface, []).append(address)
        for interface, addresses in found.items():
            wire = self.listen(interface)
            if wire is not None:
                yield wire, addresses

    # --- asking ----------------------------------------------------------------------------------------------

    async def probe(self, group: str, timeout_s: float) -> str:
        """Ask who has a group's addresses; return the MAC of the first who answers, "" when nobody does in time."""
        told = await self.ask(self._groups.places(group), timeout_s)
        return told.mac if told is not None else ""

    async def ask(self, places: Sequence[tuple[str, str]], timeout_s: float) -> Told | None:
        """Ask who has addresses, each on its interface; return the first answer, None when none comes in time."""
        question = Question(frozenset(address for address, _ in places))
        self._questions.append(question)
        try:
            for _ in range(QUESTIONS):
                for wire, addresses in self._wires_of(places):
                    wire.ask(addresses)
                with trio.move_on_after(timeout_s / QUESTIONS):
                    await question.done.wait()
                    break
        finally:
            self._questions.remove(question)
        return question.told

    async def _look_for_conflicts(self) -> None:
        while True:
            await trio.sleep(CONFLICT_INTERVAL_S)
            self._end_conflicts(now_ns())
            self._listen_where_wanted()
            for group in self._groups.owned():
                for wire, addresses in self._by_wire(group):
                    wire.ask(addresses)

    async def _hear(self, wire: Wire) -> None:
        budget = Budget(now_ns(), FRAMES_PER_S, FRAMES_BURST)
        while True:
            await trio.lowlevel.wait_readable(wire)
            allowed, before = min(budget.allowed(now_ns()), FRAMES_PER_TURN), wire.frames
            try:
                for told in wire.heard(allowed):
                    self._take(told)
                self._complain(wire.interface, "")
            except KernelError as error:
                self._complain(wire.interface, str(error))
                await trio.sleep(REOPEN_S)
            if not wire.is_bound():  # its interface is gone; `listen` opens the one that comes in its place
                del self._wires[wire.interface]
                wire.close()
                return
            budget.spend(wire.frames - before)
            if allowed < FRAMES_PER_TURN:
                await trio.sleep(FLOODED_S)

    def _take(self, told: Told) -> None:
        group = self._groups.group_of(told.address)
        if not group:
            return
        for question in self._questions:
            if told.address in question.addresses:
                question.told = told
                question.done.set()
        if not told.probe:
            self._take_conflict(group, told)

    def _take_conflict(self, group: str, told: Told) -> None:
        conflict = self._conflicts.get(told.address)
        if conflict is not None and (told.mac in conflict.macs or len(conflict.macs) >= MACS_COUNTED_MAX):
            return
        if group not in self._groups.owned():
            return
        conflict = self._conflicts.setdefault(told.address, Conflict(group, now_ns()))
        conflict.macs.add(told.mac)
        if len(conflict.macs) <= MACS_TOLD_MAX:
            self._tell_conflict(group, told)

    def _tell_conflict(self, group: str, told: Told) -> None:
        director = self._groups.director_at(host_of(told.mac))
        self._emit([Event("vip_conflict", conflict_reason(told, director), Severity.CRITICAL, group)])

    def _end_conflicts(self, at_ns: int) -> None:
        """Forget old conflicts, so that they are told again if they last; say how many were not told one by one."""
        for address, conflict in list(self._conflicts.items()):
            if at_ns - conflict.since_ns < TELL_CONFLICT_NS:
                continue
            del self._conflicts[address]
            more = len(conflict.macs) - MACS_TOLD_MAX
            if more > 0:
                reason = (
                    f"{more} more hardware addresses answered for {address} in {TELL_CONFLICT_NS // NS_PER_S} s:"
                    " somebody on the clients' network forges answers; a switch's port security tells who"
                )
                self._emit([Event("vip_conflict", reason, Severity.CRITICAL, conflict.group)])


def conflict_reason(told: Told, director: str) -> str:
    """Say who answers for an address that this director owns, and what to do; `director`: it is another director."""
    if director:
        return (
            f"director {director}, {whose(told)}, answers for {told.address}, which this director owns: see"
            " `hawatch ctl status` there; a takeover was forced, its file has the address in another group, or no agent"
            " runs and the system has the address up"
        )
    return (
        f"{whose(told)} answers for {told.address}, which this director owns: probably a real server with the"
        " address on an interface and without arp_ignore = 1; set net.ipv4.conf.all.arp_ignore = 1 and"
        " arp_announce = 2 there"
    )


def whose(told: Told) -> str:
    """Say who told something: its MAC, and its address where the neighbour table has it."""
    host = host_of(told.mac)
    return f"{told.mac} ({host})" if host else told.mac
