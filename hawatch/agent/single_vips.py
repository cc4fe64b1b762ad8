"""The addresses of a single director: up for good, announced, watched over.

Theory of operation. Nobody else is to have them, so there is no lease, no gate and no lifetime: they stay up when this
agent stops, is killed or is restarted, and the kernel goes on forwarding. One routine, `_look`, compares what is up
with what is to be up, and puts right what differs; it runs at the start, when a configuration is applied, when the
kernel tells of a change, and every few seconds while something is wrong.

An address that the system has brought up stays as it is, and stays when the configuration names it no more. What we
put up ourselves is known by a list in the state directory and by how it is up (deprecated, see `actions.vip`): after a
boot the list alone says nothing. An address that a lease has left behind, which would end by itself, is made to stay.

Where this node shared its groups once (it has counted its starts), the other director may have them still, until it is
switched off. So before such a node puts an address up for the first time, the clients' network is asked (RFC 5227), and
while somebody answers it stays down, and its group's other new ones with it. What is up already, or was, is not asked
for; nor is anything by a director that was always alone: there a real server that answers ARP for the address would
keep it down for all.

A director that shared its groups once has a gate in its kernel, closed without a lease: it is removed, after what a
lease has left behind was asked for and, if another machine has it now, taken down.
"""

from __future__ import annotations

from collections.abc import Set

import trio

from hawatch.actions.gate import remove_gate
from hawatch.actions.vip import ADDRESS_GROUPS, LINK_GROUP, Addresses, Present, VipAddress, missing_interfaces
from hawatch.agent.group_vips import PAUSE_S, TOGETHER_S, Complaints, Vips, groups_by_address, vips_of, watch_kernel
from hawatch.agent.kept_file import KeptFile
from hawatch.agent.lease_announcer import Announcer, whose
from hawatch.agent.ownership import Emit
from hawatch.agent.settings import Settings
from hawatch.agent.words_file import read_words, write_words
from hawatch.cluster.parameters import ANNOUNCE_AFTER_NS, ANNOUNCE_EVERY_NS
from hawatch.errors import KernelError
from hawatch.model import Event, Severity

ADDRESSES_FILE = "addresses"
"""In the state directory: the addresses that we put up."""
RETRY_S = 2.0
"""What the kernel refuses is tried again after so long."""
ASK_S = 0.6
"""So long is waited for another machine's answer before an address is put up for the first time."""
WRITE_S = 1.0
"""So long the disk is waited for; what it has not taken then is written when it can be."""
KERNEL, GATE, LEAVING = "the kernel", "the gate", "what leaves"
"""What complaints are about, besides groups: no group has such a name."""


class SingleVips:
    """Keeps the addresses of all groups up."""

    def __init__(self, settings: Settings, emit: Emit) -> None:
        self._emit = emit
        self._vips: Vips = vips_of(settings)
        self._group_of = groups_by_address(self._vips)
        path = settings.places.state_dir / ADDRESSES_FILE
        self._ours = self._kept = read_words(path)
        self._file = KeptFile[frozenset[str]](lambda words: write_words(path, sorted(words)), self._tell_file, RETRY_S)
        self._gate_removed = False
        self._up: dict[str, set[VipAddress]] = {}
        """The addresses of each group that were up when they were last looked at; none before the first look."""
        self._known: set[VipAddress] = set()
        """Addresses that were up for good in this process's time."""
        self._free: set[VipAddress] = set()
        """New addresses for which nobody answered just now."""
        self._waiting: dict[str, str] = {}
        """Why groups wait whose addresses another machine answers for."""
        self._shared_once = settings.places.boot_file.exists()
        """This node has shared its groups with others, and these may own them still: it asks before it puts them up."""
        self._complaints = Complaints(emit)
        self._announcer = Announcer(self, emit, self._complaints.tell)
        self._changed = trio.Event()

    def set_settings(self, settings: Settings) -> None:
        """Keep the addresses of a new configuration up, and take down those that it names no more."""
        self._vips = vips_of(settings)
        self._group_of = groups_by_address(self._vips)
        self._changed.set()

    def problem(self, group: str) -> str:
        """Return what is wrong with a group's addresses, "" for nothing."""
        return self._waiting.get(group) or self._complaints.about(group) or self._complaints.about(KERNEL)

    def problems(self) -> list[str]:
        """Return what is wrong, a sentence each."""
        return [*self._waiting.values(), *self._complaints.standing()]

    def group_of(self, address: str) -> str:
        """Return the group that has an address, "" for none."""
        return self._group_of.get(address, "")

    def interfaces(self) -> Set[str]:
        """Return the interfaces that have an address of ours."""
        return {one.interface for each in self._up.values() for one in each}

    def places(self, group: str) -> list[tuple[str, str]]:
        """Return those addresses of a group that are up, each with its interface."""
        return [(one.address, one.interface) for one in self._vips.get(group, ()) if one in self._up.get(group, ())]

    def owned(self) -> list[str]:
        """Return the groups of which an address is up."""
        return sorted(group for group in self._vips if self._up.get(group))

    def director_at(self, _address: str) -> str:
        """Return "": there is no other director."""
        return ""

    # --- life ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep them up until cancelled; they stay up then."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._file.run)
            await self._keep_trying()

    async def _keep_trying(self) -> None:
        while True:
            try:
                await self._run_once()
            except* KernelError as errors:  # a nursery lets out groups only
                reason = "; ".join(str(error) for error in errors.exceptions)
                self._complaints.tell(KERNEL, f"addresses cannot be looked after: {reason}")
            await trio.sleep(RETRY_S)

    async def _run_once(self) -> None:
        addresses = Addresses()
        self._announcer = Announcer(self, self._emit, self._complaints.tell)
        self._up = {}
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch_kernel, (*ADDRESS_GROUPS, LINK_GROUP), lambda: self._changed.set())
                nursery.start_soon(self._announcer.run)
                await self._keep(addresses)
        finally:
            addresses.close()
            self._announcer.close()

    async def _keep(self, addresses: Addresses) -> None:
        while True:
            self._changed = trio.Event()
            await self._ask(addresses)
            self._remove_gate()
            self._look(addresses)
            await self._write_down()
            self._complaints.tell(KERNEL, "")
            await trio.sleep(PAUSE_S)
            with trio.move_on_after(RETRY_S if self.problems() else float("inf")):
                await self._changed.wait()
                await trio.sleep(TOGETHER_S)

    def _remove_gate(self) -> None:
        if self._gate_removed:
            return
        try:
            remove_gate()
            self._gate_removed = True
            self._complaints.tell(GATE, "")
        except KernelError as error:
            self._complaints.tell(GATE, f"a gate that keeps the addresses silent cannot be removed: {error}")

    # --- asking ----------------------------------------------------------------------------------------------

    async def _ask(self, addresses: Addresses) -> None:
        """Ask whether another machine has what is to be put up for the first time, where one may own it."""
        if not self._shared_once:
            return
        found = addresses.look([one for vips in self._vips.values() for one in vips])
        new = {
            group: [one for one in vips if one not in self._known and (one not in found or ends_by_itself(found[one]))]
            for group, vips in self._vips.items()
        }
        self._free = set()
        async with trio.open_nursery() as nursery:
            for group, asked in new.items():
                if asked:
                    nursery.start_soon(self._ask_for, group, asked)
        for group in [each for each in self._waiting if not new.get(each)]:
            del self._waiting[group]
        left = [one for group in self._waiting for one in new[group] if one in found]
        if problems := addresses.remove(left):
            raise KernelError("; ".join(problems))

    async def _ask_for(self, group: str, asked: list[VipAddress]) -> None:
        """Ask for a group's new addresses: they are free when nobody answers, else the group waits."""
        missing = missing_interfaces(asked)
        places = [(one.address, one.interface) for one in asked if one.interface not in missing]
        told = await self._announcer.ask(places, ASK_S) if places else None
        if told is None:
            # An interface that has come up meanwhile is asked on next time; the kernel refuses those that are missing.
            still = set(missing_interfaces(asked))
            self._free.update(one for one in asked if one.interface in still or one.interface not in missing)
            if self._waiting.pop(group, ""):
                names = ", ".join(one.address for one in asked)
                self._emit([Event("vip_restored", f"nobody else answers for {names} any more", group=group)])
            return
        reason = (
            f"{whose(told)} answers for {told.address}, which stays down here until that ends: another director that"
            " has it still is to be stopped for good; a real server needs net.ipv4.conf.all.arp_ignore = 1"
        )
        if group not in self._waiting:
            self._emit([Event("vip_conflict", reason, Severity.CRITICAL, group)])
        self._waiting[group] = reason

    # --- looking ---------------------------------------------------------------------------------------------

    def _look(self, addresses: Addresses) -> None:
        """Compare what is up with what is to be up, and put right what differs."""
        wanted = {to_word(one): one for vips in self._vips.values() for one in vips}
        self._take_down(addresses, [word for word in sorted(self._ours) if word not in wanted])
        for group in self._up.keys() - self._vips.keys():
            del self._up[group]
            self._announcer.stop(group)
            self._complaints.tell(group, "")
        before = now = addresses.look(wanted.values())
        missing = {
            group: [one for one in vips if self._may_add(one) and (one not in before or ends_by_itself(before[one]))]
            for group, vips in self._vips.items()
        }
        problems = {group: "; ".join(addresses.add(each, 0)) for group, each in missing.items()}
        if any(missing.values()):
            now = addresses.look(wanted.values())
        self._ours |= {to_word(one) for one, found in now.items() if found.like_ours}
        self._known = {one for one in wanted.values() if one in self._known or one in now}
        for group, vips in self._vips.items():
            up = {one for one in vips if one in now}
            self._take_in(group, up, up - before.keys(), problems[group])

    def _may_add(self, one: VipAddress) -> bool:
        return not self._shared_once or one in self._known or one in self._free

    def _take_down(self, addresses: Addresses, words: list[str]) -> None:
        """Take down what we put up and the configuration names no more."""
        leaving = [one for one in map(from_word, words) if one is not None]
        found = addresses.look(leaving) if leaving else {}
        ours = [one for one in leaving if one in found and found[one].like_ours and found[one].prefix == one.prefix]
        problem = "; ".join(addresses.remove(ours))
        self._complaints.tell(LEAVING, problem)
        if not problem:
            self._ours -= frozenset(words)

    def _take_in(self, group: str, up: set[VipAddress], added: set[VipAddress], problem: str) -> None:
        """Note what is up of a group now; announce what is new, and tell what was put back."""
        earlier, failed = self._up.get(group), self._complaints.about(group)
        self._up[group] = up
        self._complaints.tell(group, problem, group)
        names = ", ".join(sorted(one.address for one in added))
        if earlier is not None and added & earlier:
            self._emit([Event("vip_restored", f"somebody removed {names}: put back", Severity.WARNING, group)])
        elif added and failed:
            self._emit([Event("vip_restored", f"{names} could not be put up, and is up now", group=group)])
        if added or earlier is None:
            self._announcer.begin(group, ANNOUNCE_AFTER_NS, ANNOUNCE_EVERY_NS)

    async def _write_down(self) -> None:
        """Keep on disk what we put up."""
        if self._ours != self._kept:
            self._kept = self._ours
            self._file.keep(self._ours)
            await self._file.wait(WRITE_S)

    def _tell_file(self, problem: str) -> None:
        reason = f"{problem}: after a restart, addresses that the configuration names no more stay up"
        self._emit([Event("state_broken", reason, Severity.WARNING)])


def ends_by_itself(found: Present) -> bool:
    """Tell whether an address is one that a lease has left behind."""
    return found.like_ours and not found.permanent


def to_word(one: VipAddress) -> str:
    """Return an address as it stands in the file: "192.168.1.110/32@eth0"."""
    return f"{one.address}/{one.prefix}@{one.interface}"


def from_word(word: str) -> VipAddress | None:
    """Return the address that a word of the file means, None if it means none."""
    text, _, interface = word.partition("@")
    try:
        return VipAddress.parse(text, interface)
    except ValueError:
        return None
