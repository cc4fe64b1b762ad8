"""Which director tells: of what all of them see, the one that owns the group.

Theory of operation
-------------------
Every director probes every server, so that each of them sees each failure; an administrator wants to hear of it once.
Failures of servers and services are told by the director that owns the service's group (services without a group: the
first group of the configuration; where there is no group at all: the first director that is alive). The others
remember that they left them to it. Everything else is a director's own matter, and it tells it itself: its links, its
processes, that the other one is dead, that it took over.

Two rules keep anything from being left to each other. Who told that something fails tells its end, too, whoever owns
the group by then. And who finds itself the owner tells what it had left to another and what still fails: the other one
may have died with the message, or may not have seen the failure at all. Where no owner is known everybody tells, a
little later: twice is better than not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from hawatch.agent.events import Record
from hawatch.console.history import Entry, History, Key, Owner, Told, Trouble
from hawatch.console.rules import Policy, Rule
from hawatch.console.subjects import noun_of

SHARED = frozenset({"server", "service"})
"""What every director sees."""


def is_shared(policy: Policy, record: Record) -> bool:
    """Tell whether other directors see the same failure."""
    return bool(policy.node) and noun_of(record) in SHARED


def group_of(policy: Policy, record: Record) -> str:
    """Return the group whose owner tells of a failure that all see, "" where there is no group at all."""
    return record.group or policy.first_group


def owner_of(policy: Policy, get: Callable[[Key], Entry | None], record: Record) -> str:
    """Return the director that tells of a failure that all see, "" when nobody is known to; `get` finds an entry."""
    group = group_of(policy, record)
    if group:
        owner = get(("owner", group))
        return owner.node if isinstance(owner, Owner) else ""
    return next((name for name in policy.directors if not _is_dead(policy, get, name)), "")


def _is_dead(policy: Policy, get: Callable[[Key], Entry | None], director: str) -> bool:
    trouble = get(("trouble", f"director {director} {policy.node}"))
    return isinstance(trouble, Trouble) and not trouble.over_ns


def left_to(policy: Policy, rule: Rule, record: Record, owner: str) -> str:
    """Return the director that tells of an event instead of this one, "" if this one does."""
    return "" if rule.everywhere or not is_shared(policy, record) or owner == policy.node else owner


def note_owners(
    policy: Policy, history: History, owners: Mapping[str, str], now_ns: int
) -> dict[Key, Owner | Told | None]:
    """Return what changes when the groups' owners are these, "" for one that is not known."""
    changes: dict[Key, Owner | Told | None] = {}
    for key, entry in history.entries.items():
        if isinstance(entry, Owner) and key[1] not in owners:
            changes[key] = None
    for group, node in owners.items():
        if history.entries.get(("owner", group)) == Owner(node):
            continue
        changes["owner", group] = Owner(node)
        if node in ("", policy.node):
            changes |= look_again(policy, history.entries, group, now_ns)
    return changes


def look_again(policy: Policy, entries: Mapping[Key, Entry | None], group: str, now_ns: int) -> dict[Key, Told]:
    """Have a look soon at what was left to another director, which owns this group no more."""
    soon_ns = now_ns + policy.settle_ns
    found: dict[Key, Told] = {}
    for key, told in entries.items():
        if not isinstance(told, Told) or not told.left_ns:
            continue
        trouble = entries.get(("trouble", key[2]))
        if isinstance(trouble, Trouble) and not trouble.over_ns and group_of(policy, trouble.record) == group:
            found[key] = msgspec.structs.replace(told, due_ns=min(told.due_ns or soon_ns, soon_ns))
    return found
