"""Letting go of a group: the gate first, the addresses next, the lease when the kernel has confirmed.

Theory of operation. A lease that is released may be promised to another in the same millisecond. So the order is
fixed: the gate is ordered closed; when the kernel has confirmed it the addresses are taken down and the release
leaves. An order that the kernel does not confirm is given again every heartbeat; until then the lease is not released,
and ends by itself.

Invariant: a release leaves only after the kernel has confirmed that the gate is closed, or when this director has not
opened it since it was confirmed closed.
"""

from __future__ import annotations

from hawatch.cluster.effects import CloseGate, RemoveAddresses
from hawatch.cluster.group import Group
from hawatch.cluster.quorum import Phase
from hawatch.cluster.states import Trigger
from hawatch.cluster.wire import BY_ADMIN, GroupState, Release


def close(group: Group, reason: str, now_ns: int, *, successor: int = 0, by_admin: bool = False) -> None:
    """Stop owning: the gate first; the rest when the kernel has confirmed that it is closed."""
    assert group.state is GroupState.OWNER
    group.move(Trigger.CLOSE, reason)
    order_close(group, now_ns)
    group.successor = successor
    group.release_flags = BY_ADMIN if by_admin else 0


def tidy(group: Group, reason: str, now_ns: int) -> None:
    """Close a gate that a former process of this node left behind."""
    assert group.state is GroupState.STANDBY
    assert group.slot_in_use is not None
    group.move(Trigger.TIDY, reason)
    order_close(group, now_ns)
    group.successor = group.release_flags = 0


def order_close(group: Group, now_ns: int) -> None:
    """Order the gate closed; whatever is under way ends."""
    assert group.state is GroupState.CLOSING
    if group.round is not None:
        group.round.phase = Phase.DONE
        group.round = None
    group.close_ordered_ns = now_ns
    group.forced = group.wants_round = group.opening = group.opened = False
    group.site.commands.append(CloseGate(group.name))
    group.pin(pinned=False)


def order_close_again(group: Group, now_ns: int) -> None:
    """Order the gate closed again when the kernel keeps silent."""
    assert group.state is GroupState.CLOSING
    assert group.close_ordered_ns >= 0
    if now_ns - group.close_ordered_ns >= group.site.parameters.heartbeat_ns:
        group.close_ordered_ns = now_ns
        group.site.commands.append(CloseGate(group.name))


def closed(group: Group, now_ns: int) -> None:
    """The kernel has closed the gate: clear away, and release the lease."""
    if group.state is not GroupState.CLOSING:
        return
    group.slot_in_use, group.confirmed = None, (None, 0)
    group.adopted_until_ns = group.end_ns = 0
    reason = group.reason
    group.move(Trigger.CLOSED, reason)
    group.site.commands.append(RemoveAddresses(group.name))
    let_go(group, group.successor, group.release_flags, now_ns)
    wait_ns = group.site.parameters.heartbeat_ns * 2
    group.not_before_ns = max(group.not_before_ns, now_ns + wait_ns) if group.successor else now_ns
    group.close_ordered_ns = -1
    group.site.emit("release", reason, group.name, epoch=group.epoch)


def let_go(group: Group, successor: int, flags: int, now_ns: int) -> None:
    """Release the lease everywhere. Only with the gate closed."""
    assert group.slot_in_use is None, "a release with the gate open"
    assert group.state is GroupState.STANDBY
    site = group.site
    message = Release(group.group, group.number, successor, flags)
    site.acceptor.release(site.me, (site.boot, group.number), group.group)
    site.send(message)
    group.release, group.release_until_ns = message, now_ns + (site.parameters.lease_ns if successor else 0)
