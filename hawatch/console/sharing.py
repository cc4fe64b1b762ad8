"""Which director tells: of what all of them see, the one that owns the group.

Theory of operation
-------------------
Every director probes every server, so that each of them sees each failure; an administrator wants to hear of it once.
Failures of servers and services are told by the director that owns the service's group (services without a group: the
first group of the configuration). The others remember them as told, so that whoever owns the group later can tell the
end. Everything else is a director's own matter, and it tells it itself: its links, its processes, that the other one
is dead, that it took over.

A message may be lost: with an owner that dies before it is sent. So who finds itself the owner, while the other
director is dead, tells again what was left to that one in its last minutes. Where no owner is known everybody
tells, a little later: twice is better than not at all.
"""

from __future__ import annotations

from collections.abc import Mapping

from hawatch.agent.events import Record
from hawatch.console.history import History, Key, Owner, Told, Trouble
from hawatch.console.rules import Policy, Rule
from hawatch.console.subjects import noun_of
from hawatch.model import NS_PER_S

SHARED = frozenset({"server", "service"})
"""What every director sees."""
DOUBT_NS = 120 * NS_PER_S
"""What was left to another director for less time than this may not have left it."""


def is_shared(policy: Policy, record: Record) -> bool:
    """Tell whether other directors see the same failure."""
    return bool(policy.node) and noun_of(record) in SHARED


def group_of(policy: Policy, record: Record) -> str:
    """Return the group whose owner tells of a failure that all see."""
    return record.group or policy.first_group


def left_to(policy: Policy, rule: Rule, record: Record, owner: Owner | None) -> str:
    """Return the director that tells of an event instead of this one, "" if this one does."""
    if rule.everywhere or owner is None or not is_shared(policy, record):
        return ""
    return "" if owner.node == policy.node else owner.node


def note_owners(
    policy: Policy, history: History, owners: Mapping[str, str], now_ns: int
) -> dict[Key, Owner | Told | None]:
    """Return what changes when the groups' owners are these, "" for one that is not known."""
    changes: dict[Key, Owner | Told | None] = {}
    for key, entry in history.entries.items():
        if isinstance(entry, Owner) and key[1] not in owners:
            changes[key] = None
    for group, node in owners.items():
        before = history.entries.get(("owner", group))
        assert before is None or isinstance(before, Owner), before
        if before is None or before.node != node:
            changes["owner", group] = Owner(node)
        if before is not None and before.node not in ("", policy.node) and node != before.node:
            changes |= _doubts(policy, history, group, now_ns)
    return changes


def _doubts(policy: Policy, history: History, group: str, now_ns: int) -> dict[Key, Told]:
    """Have a look soon at what was left to the owner that this group has no more."""
    found: dict[Key, Told] = {}
    for key, told in history.entries.items():
        if not isinstance(told, Told) or not told.left_ns or now_ns - told.left_ns > DOUBT_NS:
            continue
        trouble = history.entries.get(("trouble", key[2]))
        if isinstance(trouble, Trouble) and not trouble.over_ns and group_of(policy, trouble.record) == group:
            found[key] = Told(now_ns + policy.settle_ns, told.count, left_ns=told.left_ns, doubt=True)
    return found
