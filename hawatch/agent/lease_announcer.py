"""The clients' network: announcing a group's addresses there, and asking who else answers for them.

Theory of operation. Each interface of a group's addresses has a raw socket. Nothing is announced for a group whose
gate is not open at that moment: frames of a packet socket do not pass the gate.

Every few seconds the owner asks whether anybody else answers for its addresses: the classic mistake is a real server
that does, because it has the address on an interface of its own and arp_ignore is not set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import trio

from hawatch.actions.arp import Wire, host_of
from hawatch.actions.arp_codec import Told
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
CONFLICTS_MAX = 1000
"""So many told conflicts are remembered."""
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


class Groups(Protocol):
    """What is to be known of the groups."""

    def places(self, group: str) -> list[tuple[str, str]]:
        """Return a group's addresses, each with its interface."""

    def owned(self) -> list[str]:
        """Return the groups whose addresses are up and whose gate is open at this moment."""


class Announcer:
    """Announces, asks and listens on the clients' network; `complain` tells an interface's problem, "" at its end."""

    def __init__(self, groups: Groups, emit: Emit, complain: Callable[[str, str], None]) -> None:
        self._groups = groups
        self._emit = emit
        self._complain = complain
        self._announcing: dict[str, Announcing] = {}
        self._questions: list[Question] = []
        self._told: dict[tuple[str, str], int] = {}
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
            for group in self._groups.owned():
                for wire, addresses in self._by_wire(group):
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
            if not wire.is_bound():  # its interface is gone; `listen` opens the one that comes in its place
                del self._wires[wire.interface]
                wire.close()
                return

    def _take(self, told: Told) -> None:
        for question in self._questions:
            if told.address in question.addresses:
                question.told = told
                question.done.set()
        if told.probe:
            return
        for group in self._groups.owned():
            if self._has(group, told.address):
                self._tell_conflict(group, told)

    def _has(self, group: str, wanted: str) -> bool:
        return any(address == wanted for address, _ in self._groups.places(group))

    def _tell_conflict(self, group: str, told: Told) -> None:
        key, now = (told.address, told.mac), now_ns()
        if now - self._told.get(key, -TELL_CONFLICT_NS) < TELL_CONFLICT_NS:
            return
        if len(self._told) > CONFLICTS_MAX:
            self._told.clear()
        self._told[key] = now
        reason = (
            f"{whose(told)} answers for {told.address}, which this director owns: probably a real server with the"
            " address on an interface and without arp_ignore = 1; set net.ipv4.conf.all.arp_ignore = 1 and"
            " arp_announce = 2 there"
        )
        self._emit([Event("vip_conflict", reason, Severity.CRITICAL, group)])


def whose(told: Told) -> str:
    """Say who told something: its MAC, and its address where the neighbour table has it."""
    host = host_of(told.mac)
    return f"{told.mac} ({host})" if host else told.mac
