"""The acceptor: promises each group's lease to one node at a time, in memory only.

Theory of operation. An acceptor says yes when it has promised the group to nobody, when the promise has run out on
its own clock, or when the asker is the node that has it. Having no disk it forgets at a restart; so for `silence_ns`
after its start it promises nothing, by which time everything that it could have promised has run out.
The same holds for a group that a reload of the configuration names anew, and one that it names no more gets no promise:
its addresses may be in a group of another name now, which another node has promised by its own configuration.
A list of members that differs from the one of the former process does not take effect at once either; see `settling`.
Requests and releases of a node are ordered by (boot, round): what is not newer than the newest seen is ignored, so
that a delayed or repeated datagram can neither take nor clear a lease. The newest request itself may come again,
because the answer to it was lost: it is answered again and extends nothing. A refusal changes nothing.
A promise is never made shorter but by a release: a holder that was restarted with a shorter lease asks for less than
the gate that its former process left open still has.
An asker must only use a yes for a gate whose timer it started before it asked; see `ownership`.

References: Gray and Cheriton 1989 (leases); PaxosLease (acceptors without disks, silence after a start).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from hawatch.cluster.parameters import LeaseParameters
from hawatch.cluster.wire import DenyReason


@dataclass(frozen=True, slots=True)
class Lease:
    """A promise."""

    holder: int
    boot: int
    round: int
    expires_ns: int


@dataclass(frozen=True, slots=True)
class Granted:
    """Yes."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Denied:
    """No, and why."""

    reason: DenyReason
    holder: int
    remaining_ns: int
    epoch: int


@dataclass(slots=True)
class GroupMemory:
    """What an acceptor remembers of one group."""

    lease: Lease | None = None
    last_holder: int = 0
    epoch: int = 0
    newest: dict[int, tuple[int, int]] = field(default_factory=dict)
    """For each node the highest (boot, round) of its requests and releases."""


class Acceptor:
    """The promises of one node."""

    def __init__(
        self, parameters: LeaseParameters, groups: Iterable[int], started_ns: int, *, silent: bool = True
    ) -> None:
        assert started_ns >= 0
        self.parameters = parameters
        self.memory = {group: GroupMemory() for group in groups}
        self.named = frozenset(self.memory)
        """Groups that the configuration names; others are remembered only."""
        self.quiet_until_ns: dict[int, int] = {}
        """The end of the silence about groups that a reload named and the configuration before it did not."""
        self.silent_until_ns = started_ns + (parameters.silence_ns if silent else 0)
        self.settled = True
        """The list of members is in effect: every member is known to have it."""
        assert self.silent_until_ns >= started_ns

    def change(self, groups: Iterable[int], now_ns: int) -> None:
        """Promise these groups and no others. Nothing is forgotten of those that are not named any more."""
        named = frozenset(groups)
        self.quiet_until_ns = {group: end_ns for group, end_ns in self.quiet_until_ns.items() if end_ns > now_ns}
        for group in named - self.named:
            self.memory.setdefault(group, GroupMemory())
            self.quiet_until_ns[group] = now_ns + self.parameters.silence_ns
        self.named = named

    def silence_ends_ns(self, group: int) -> int:
        """Return until when nothing is promised of a group, because something promised before could still be out."""
        return max(self.silent_until_ns, self.quiet_until_ns.get(group, 0))

    def request(
        self, asker: int, order: tuple[int, int], group: int, lease_ns: int, epoch: int, now_ns: int
    ) -> Granted | Denied | None:
        """Decide on a request of `asker` with (boot, round) `order`; None: not worth an answer."""
        assert lease_ns > 0
        assert asker != 0
        memory = self.memory.get(group)
        if memory is None or group not in self.named:
            return Denied(DenyReason.UNKNOWN, 0, 0, 0)
        if order < memory.newest.get(asker, (-1, -1)):
            return None
        if order == memory.newest.get(asker):
            kept = self.lease(group, now_ns)
            return Granted(memory.epoch) if kept and (kept.holder, kept.boot, kept.round) == (asker, *order) else None
        if not self.settled:
            return Denied(DenyReason.MEMBERS, 0, 0, memory.epoch)
        if now_ns < self.silence_ends_ns(group):
            return Denied(DenyReason.SILENT, 0, self.silence_ends_ns(group) - now_ns, memory.epoch)
        if lease_ns > self.parameters.longest_lease_ns:
            return Denied(DenyReason.TOO_LONG, 0, self.parameters.lease_ns, memory.epoch)
        lease = memory.lease
        if lease is not None and lease.holder != asker and now_ns < lease.expires_ns:
            return Denied(DenyReason.HELD, lease.holder, lease.expires_ns - now_ns, memory.epoch)
        memory.newest[asker] = order
        memory.epoch = max(memory.epoch + (memory.last_holder != asker), epoch)
        memory.last_holder = asker
        kept_ns = lease.expires_ns if lease is not None and lease.holder == asker else 0
        memory.lease = Lease(asker, order[0], order[1], max(now_ns + lease_ns, kept_ns))
        assert memory.lease.expires_ns > now_ns
        return Granted(memory.epoch)

    def release(self, asker: int, order: tuple[int, int], group: int) -> bool:
        """Forget what was promised to `asker` up to `order`; return whether a lease was cleared."""
        assert asker != 0
        assert order >= (0, 0)
        memory = self.memory.get(group)
        if memory is None:
            return False
        memory.newest[asker] = max(order, memory.newest.get(asker, (-1, -1)))
        lease = memory.lease
        if lease is None or lease.holder != asker or (lease.boot, lease.round) > order:
            return False
        memory.lease = None
        return True

    def lease(self, group: int, now_ns: int) -> Lease | None:
        """Return the lease that is out, as far as this acceptor knows."""
        memory = self.memory[group]
        lease = memory.lease
        return lease if lease is not None and now_ns < lease.expires_ns else None
