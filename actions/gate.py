"""The dead-man gate: the kernel answers for a group's VIPs only while a lease's timer runs.

Theory of operation. A group has two slots. To renew, the caller arms the slot that is not in use (its timer starts, its
active bit is cleared) *before* it asks for the lease, and activates it when a majority has granted. The gate is open
while a slot is armed and active. Nobody has to close it: the timer does, in the kernel, whether this process is alive
or not. So a late `activate` opens nothing.

`Gate` keeps what it told the kernel, with deadlines, to put the gate back when somebody flushes the ruleset. It never
gives more time than was left: it arms with what remains, looks at the clock again, and activates only if the two
readings are close; a process that was stopped in between leaves the gate closed.

From Linux 6.9 the tables are owned by this process and persist without it, so a flush by others does not touch them.

Not handled: a machine that is suspended with its clock stopped (the timers stop with it), and frames that a process
sends through a packet socket (they do not pass netfilter; the announcer asks `is_open` first).

All calls are synchronous and take some 0.1 ms. The netlink socket is the tables' owner: it must not be inherited.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

from hawatch.actions import gate_rules, nft
from hawatch.actions.gate_rules import SLOTS, GateGroup, Layout
from hawatch.actions.netlink import NETLINK_NETFILTER, NetlinkSocket
from hawatch.actions.netlink_codec import Reply, Request
from hawatch.actions.notifications import Listener
from hawatch.errors import KernelError
from hawatch.model import NS_PER_MS

TABLE_NAME = "hawatch"
RESTORE_SLACK_NS = 5 * NS_PER_MS
"""How long arming may take while the gate is put back; it is taken off the timers, so that they end no later."""
ARM_TRIES = 3
"""An element that runs out between its adding and its deleting fails the transaction once in a long while."""
NO_NFTABLES = (
    "the kernel has no nftables for the gate, and a lease needs it (CONFIG_NF_TABLES, _INET or _IPV4, and _ARP)"
)
_UNKNOWN_FLAGS = (errno.EOPNOTSUPP, errno.EINVAL)


def boottime_ns() -> int:
    """Return CLOCK_BOOTTIME."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@dataclass(slots=True)
class _Slot:
    deadline_ns: int = 0
    active: bool = False


@dataclass(frozen=True, slots=True)
class GateState:
    """What the kernel has for a group: for each slot what its timer has left, and its active bit."""

    remaining_ns: tuple[int, int] = (0, 0)
    active: tuple[bool, bool] = (False, False)

    @property
    def open(self) -> bool:
        """Tell whether the VIPs are answered for."""
        return self.open_for_ns > 0

    @property
    def open_for_ns(self) -> int:
        """Return how long they will be, if nothing is done."""
        return max(left if active else 0 for left, active in zip(self.remaining_ns, self.active, strict=True))


@dataclass(frozen=True, slots=True)
class Restored:
    """The gate was tampered with, and is back."""

    reason: str
    gap_ns: int
    """From learning of it until the gate was whole again."""
    open_again: tuple[str, ...]
    """Groups whose gate is open as it was."""
    left_closed: tuple[str, ...]
    """Groups whose gate was open and is not: too much time passed. The next renewal opens it."""


@dataclass(slots=True)
class _Memory:
    """What was asked of the kernel."""

    groups: dict[str, GateGroup] = field(default_factory=dict)
    slots: dict[str, tuple[_Slot, _Slot]] = field(default_factory=dict)
    forwarders: frozenset[bytes] = frozenset()


class Gate:
    """The gate in nftables. Make it with `open`."""

    kind = "nftables"

    def __init__(
        self, netlink: NetlinkSocket, layout: Layout, name: str, *, owned: bool, clock: Callable[[], int] = boottime_ns
    ) -> None:
        self.layout = layout
        self.name = name
        self.owned = owned
        """The kernel protects the tables from others; else `listener` must be waited on."""
        self._netlink = netlink
        self._clock = clock
        self._memory = _Memory()
        self.listener = None if owned else Listener(NETLINK_NETFILTER, (nft.NOTIFY_GROUP,))
        """Wait for it to be readable, then call `handle_changes`. None where nothing can happen."""
        self._port = _port_of(netlink)

    @classmethod
    def open(
        cls,
        name: str = TABLE_NAME,
        *,
        layouts: Iterable[Layout] = (Layout.INET, Layout.SPLIT),
        own: bool = True,
        clock: Callable[[], int] = boottime_ns,
    ) -> Gate:
        """Find out what the kernel has, and make or adopt the tables; what they hold stays as it is.

        `Layout.BRIDGE` is for those who know that all VIPs are on bridges. Raises KernelError where the kernel has no
        nftables (ENOTSUP), or another process owns the tables (EPERM).
        """
        netlink = _open_netlink()
        try:
            layout, owned = _probe(netlink, name, tuple(layouts), own=own)
            return cls(netlink, layout, name, owned=owned, clock=clock)
        except BaseException:
            netlink.close()
            raise

    def close_sockets(self) -> None:
        """Let go of the gate; it stays in the kernel, with its timers running."""
        self._netlink.close()
        if self.listener is not None:
            self.listener.close()

    # -- what it is made of --

    def install(self, groups: Mapping[str, GateGroup], forwarders: Iterable[str] = ()) -> None:
        """Make the gate for these groups, or adopt the one that is there. Call it before any address exists.

        A group that is new is closed. One that the kernel knows keeps its timers and bits, so neither a restart of
        the agent nor a reload of its configuration opens or closes anything. VIPs that are not named any more are let
        pass from then on. `forwarders` are MACs of directors that forward to us in shared groups.

        Raises ValueError when two groups claim one VIP, KernelError when the kernel refuses.
        """
        memory = _Memory(dict(groups), {}, _packed(forwarders))
        gate_rules.map_elements(self.layout, self.name, groups)
        self._transact(self._installation(memory))
        now_ns = self._clock()
        for group in groups:
            seen = self.state(group)
            memory.slots[group] = (
                _Slot(now_ns + seen.remaining_ns[0] if seen.remaining_ns[0] else 0, seen.active[0]),
                _Slot(now_ns + seen.remaining_ns[1] if seen.remaining_ns[1] else 0, seen.active[1]),
            )
        self._memory = memory

    def set_forwarders(self, forwarders: Iterable[str]) -> None:
        """Let these directors' MACs forward to us in shared groups, and no others; raise KernelError when refused."""
        macs = _packed(forwarders)
        if macs == self._memory.forwarders:
            return
        have, want = dict.fromkeys(self._memory.forwarders, ""), dict.fromkeys(macs, "")
        requests: list[Request] = []
        for table in gate_rules.tables(self.layout, self.name):
            requests.extend(gate_rules.map_changes(table, gate_rules.FORWARDERS, have, want))
        self._transact_or_restore(requests)
        self._memory.forwarders = macs

    def covered(self) -> set[str]:
        """Return the VIPs that the kernel's gate covers now, whoever installed it."""
        found: set[str] = set()
        for table, name in gate_rules.map_names(self.layout, self.name):
            found |= {str(ip_address(one.key)) for one in self._elements(table, name)}
        return found

    def verify(self) -> str:
        """Compare the kernel with what was installed: return what is wrong in a sentence, or ""."""
        try:
            return self._verify()
        except KernelError as error:
            return f"the gate cannot be read: {error}"

    # -- what it does --

    def arm(self, group: str, slot: int, timeout_ns: int) -> int:
        """Clear the slot's active bit and start its timer; return the slot's deadline, at most the kernel's own.

        The other slot is not touched. To be done before the lease is asked for.
        """
        assert slot in SLOTS
        assert timeout_ns >= NS_PER_MS, "the kernel takes 0 for no timeout at all"
        state = self._memory.slots[group][slot]
        requests = gate_rules.arm(self.layout, self.name, group, slot, timeout_ns)
        # A deadline in the past, until the kernel has confirmed the new one: a restore in between must not open.
        state.deadline_ns, state.active = 0, False
        now_ns = self._clock()
        self._transact_or_restore(requests)
        state.deadline_ns = now_ns + timeout_ns
        return state.deadline_ns

    def activate(self, group: str, slot: int) -> bool:
        """Set the slot's active bit; tell whether that opened the gate, by our clock."""
        assert slot in SLOTS
        state = self._memory.slots[group][slot]
        state.active = True
        self._transact_or_restore(gate_rules.activate(self.layout, self.name, group, slot))
        return state.deadline_ns > self._clock()

    def close(self, group: str) -> None:
        """Close the gate of a group; when this returns the kernel has done so."""
        for state in self._memory.slots[group]:
            state.deadline_ns, state.active = 0, False
        self._transact_or_restore(gate_rules.close(self.layout, self.name, group))

    def is_open(self, group: str) -> bool:
        """Tell whether the gate is open, from memory and clock, without asking the kernel."""
        now_ns = self._clock()
        return any(state.active and state.deadline_ns > now_ns for state in self._memory.slots.get(group, ()))

    def state(self, group: str) -> GateState:
        """Read a group's state from the kernel. Of several tables the one that is open longest counts."""
        best = GateState()
        for table in gate_rules.tables(self.layout, self.name):
            remaining, active = [], []
            for slot in SLOTS:
                timers = self._elements(table, gate_rules.armed(slot, group))
                remaining.append(max((one.expires_ns for one in timers), default=0))
                active.append(bool(self._elements(table, gate_rules.active(slot, group))))
            seen = GateState((remaining[0], remaining[1]), (active[0], active[1]))
            if seen.open_for_ns >= best.open_for_ns:
                best = seen
        return best

    # -- when somebody else changes it --

    def handle_changes(self) -> Restored | None:
        """Read what others changed, and put the gate back if it was ours. Call it when `listener` is readable."""
        if self.listener is None:
            return None
        drained = self.listener.drain()
        ours = set(gate_rules.tables(self.layout, self.name))
        touched = drained.lost
        for message in drained.messages:
            kind = nft.message_kind(message.kind)
            # Port 0 is the kernel itself: elements whose timers ran out.
            if kind is None or message.port in (0, self._port):
                continue
            touched = touched or nft.table_name(kind, message.body) in ours
        return self.mend() if touched else None

    def mend(self) -> Restored | None:
        """Put the gate back if the kernel has not what was installed. Raises KernelError when it refuses."""
        problem = self.verify()
        return self.restore(problem) if problem else None

    def restore(self, reason: str) -> Restored:
        """Put everything back as it was asked for, with what the timers have left.

        The tables may hold anything: they are deleted and made again in one transaction.
        """
        began_ns = self._clock()
        was_open = [group for group in self._memory.slots if self.is_open(group)]
        existing = [table for table in gate_rules.tables(self.layout, self.name) if self._exists(table)]
        now_ns = self._clock()
        wipe = [nft.delete_table(table) for table in existing]
        self._transact([*wipe, *self._installation(self._memory, fresh=True), *self._rearm(now_ns)])
        opened = []
        if self._clock() - now_ns <= RESTORE_SLACK_NS:
            # The timers end no later than they would have: whatever happens to us now, activating is safe.
            opened = was_open
            self._transact(self._reactivate())
        else:
            for states in self._memory.slots.values():
                for state in states:
                    state.active = False
        still = tuple(group for group in opened if self.is_open(group))
        closed = tuple(group for group in was_open if group not in still)
        return Restored(reason, self._clock() - began_ns, still, closed)

    # -- inside --

    def _rearm(self, now_ns: int) -> list[Request]:
        requests: list[Request] = []
        for group, states in self._memory.slots.items():
            for slot, state in enumerate(states):
                left_ns = state.deadline_ns - now_ns - RESTORE_SLACK_NS
                if left_ns >= NS_PER_MS:
                    requests.extend(gate_rules.arm(self.layout, self.name, group, slot, left_ns))
        return requests

    def _reactivate(self) -> list[Request]:
        requests: list[Request] = []
        for group, states in self._memory.slots.items():
            for slot, state in enumerate(states):
                if state.active:
                    requests.extend(gate_rules.activate(self.layout, self.name, group, slot))
        return requests

    def _installation(self, memory: _Memory, *, fresh: bool = False) -> list[Request]:
        """Return what turns whatever the kernel has into the gate; `fresh`: the tables are empty."""
        flags = nft.TABLE_OWNER | nft.TABLE_PERSIST if self.owned else 0
        requests = gate_rules.install(self.layout, self.name, memory.groups, flags)
        stale: set[str] = set()
        for table in gate_rules.tables(self.layout, self.name):
            names = [] if fresh else nft.parse_set_names(self._dump(nft.get_sets(table)))
            stale |= gate_rules.labels_of_sets(names) - {gate_rules.label(group) for group in memory.groups}
            macs = {} if fresh else {one.key: "" for one in self._elements(table, gate_rules.FORWARDERS)}
            wanted = dict.fromkeys(memory.forwarders, "")
            requests.extend(gate_rules.map_changes(table, gate_rules.FORWARDERS, macs, wanted))
        for (table, name), wanted in gate_rules.map_elements(self.layout, self.name, memory.groups).items():
            have = {} if fresh else {one.key: one.jump for one in self._elements(table, name)}
            requests.extend(gate_rules.map_changes(table, name, have, wanted))
        return [*requests, *gate_rules.retire(self.layout, self.name, sorted(stale))]

    def _verify(self) -> str:
        wanted = gate_rules.rule_counts(self.layout, self.name, self._memory.groups)
        seen: dict[tuple[nft.Table, str], int] = {}
        for table in gate_rules.tables(self.layout, self.name):
            if not self._exists(table):
                return f"table {table.family.name.lower()} {table.name} is gone"
            for chain in nft.parse_rule_chains(self._dump(nft.get_rules(table))):
                seen[table, chain] = seen.get((table, chain), 0) + 1
        if seen != wanted:
            return f"rules of table {self.name} were changed"
        members = gate_rules.map_elements(self.layout, self.name, self._memory.groups)
        for table in gate_rules.tables(self.layout, self.name):
            members[table, gate_rules.FORWARDERS] = dict.fromkeys(self._memory.forwarders, "")
        for (table, name), elements in members.items():
            if {one.key: one.jump for one in self._elements(table, name)} != elements:
                kind = "set" if name == gate_rules.FORWARDERS else "map"
                return f"{kind} {name} of table {self.name} was changed"
        for group in self._memory.slots:
            if self.is_open(group) and not self.state(group).open:
                return f"the gate of group {group} was closed by somebody else"
        return ""

    def _exists(self, table: nft.Table) -> bool:
        try:
            self._netlink.request(nft.get_table(table))
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return True

    def _dump(self, request: Request) -> list[Reply]:
        try:
            return self._netlink.dump(request)
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return []
            raise

    def _elements(self, table: nft.Table, set_name: str) -> list[nft.Element]:
        return nft.parse_elements(self._dump(nft.get_elements(table, set_name)))

    def _transact(self, requests: Sequence[Request]) -> None:
        if requests:
            self._netlink.send_transaction(requests, nft.SUBSYSTEM)

    def _transact_or_restore(self, requests: Sequence[Request]) -> None:
        """Send a transaction that finds the gate in place, or put it back first."""
        for _ in range(ARM_TRIES):
            try:
                return self._transact(requests)
            except KernelError as error:
                if error.errno != errno.ENOENT:
                    raise
                problem = self.verify()
                if problem:
                    self.restore(problem)
        return self._transact(requests)


def _open_netlink() -> NetlinkSocket:
    """Return a socket; raise KernelError where there is none, ENOTSUP where the kernel does not know its kind."""
    try:
        return NetlinkSocket(NETLINK_NETFILTER)
    except KernelError as error:
        if error.errno == errno.EPROTONOSUPPORT:
            raise KernelError(f"{NO_NFTABLES}: {error}", errno.ENOTSUP) from error
        raise


def _probe(netlink: NetlinkSocket, name: str, layouts: tuple[Layout, ...], *, own: bool) -> tuple[Layout, bool]:
    """Make the tables of the first layout that the kernel takes, owned if it knows that."""
    refusal = KernelError(NO_NFTABLES, errno.ENOTSUP)
    for layout in layouts:
        for flags in (nft.TABLE_OWNER | nft.TABLE_PERSIST, 0) if own else (0,):
            try:
                netlink.send_transaction(
                    [nft.new_table(table, flags) for table in gate_rules.tables(layout, name)], nft.SUBSYSTEM
                )
            except KernelError as error:
                if error.errno == errno.EPERM:
                    raise KernelError(
                        f"nftables: table {name} is owned by another process, or we lack CAP_NET_ADMIN", errno.EPERM
                    ) from error
                refusal = KernelError(f"{NO_NFTABLES}: {error}", errno.ENOTSUP)
                if error.errno not in _UNKNOWN_FLAGS:
                    raise
            else:
                return layout, bool(flags)
    raise refusal


def _packed(macs: Iterable[str]) -> frozenset[bytes]:
    return frozenset(bytes.fromhex(mac.replace(":", "")) for mac in macs)


def _port_of(netlink: NetlinkSocket) -> int:
    with socket.socket(fileno=os.dup(netlink.fileno())) as twin:
        port: int = twin.getsockname()[0]
        return port


def remove_gate(name: str = TABLE_NAME) -> bool:
    """Delete a gate that a former process left, in whatever layout; tell whether there was one.

    For a director that shares its groups no more: a gate without a lease stays closed for ever. Raises KernelError when
    another process owns it.
    """
    try:
        netlink = _open_netlink()
    except KernelError as error:
        if error.errno == errno.ENOTSUP:
            return False
        raise
    found = False
    try:
        for table in {table for layout in Layout for table in gate_rules.tables(layout, name)}:
            try:
                netlink.request(nft.get_table(table))
            except KernelError:  # no such table, no such family, or no nftables at all
                continue
            found = True
            netlink.send_transaction([nft.delete_table(table)], nft.SUBSYSTEM)
    finally:
        netlink.close()
    return found
