"""Drain, undrain, disable and enable: whom a command means, and what it changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from hawatch.agent.state import AdminState
from hawatch.control.protocol import ALL
from hawatch.errors import RefusedError
from hawatch.model import Admin, DestinationKey, Event, Plan, ServicePlan


class Verb(Enum):
    """What an administrator says of a server."""

    DRAIN = "drain"
    UNDRAIN = "undrain"
    DISABLE = "disable"
    ENABLE = "enable"


OUTCOME: dict[tuple[Verb, Admin], Admin] = {
    (Verb.DRAIN, Admin.NONE): Admin.DRAINED,
    (Verb.DRAIN, Admin.DRAINED): Admin.DRAINED,
    (Verb.UNDRAIN, Admin.NONE): Admin.NONE,
    (Verb.UNDRAIN, Admin.DRAINED): Admin.NONE,
    (Verb.UNDRAIN, Admin.DISABLED): Admin.DISABLED,
    (Verb.DISABLE, Admin.NONE): Admin.DISABLED,
    (Verb.DISABLE, Admin.DRAINED): Admin.DISABLED,
    (Verb.DISABLE, Admin.DISABLED): Admin.DISABLED,
    (Verb.ENABLE, Admin.NONE): Admin.NONE,
    (Verb.ENABLE, Admin.DRAINED): Admin.DRAINED,
    (Verb.ENABLE, Admin.DISABLED): Admin.NONE,
}
"""What comes of a word, by what was said before. To drain what is disabled is refused: it would come back in."""

PAST = {
    Verb.DRAIN: ("server_drained", "drained by"),
    Verb.UNDRAIN: ("server_undrained", "its drain was ended by"),
    Verb.DISABLE: ("server_disabled", "disabled by"),
    Verb.ENABLE: ("server_enabled", "enabled by"),
}
"""Name and reason of the event of a word that changed something."""
ADMINISTRATOR = "the administrator"
"""Who did it, where nobody is named."""


@dataclass(frozen=True, slots=True)
class Change:
    """One server about which something new was said."""

    service: str
    server: DestinationKey
    admin: Admin


def find_servers(plan: Plan, service: str, server: str) -> list[tuple[ServicePlan, DestinationKey]]:
    """Return the servers that a command names; raise RefusedError with the known names when there is none.

    A sorry server is meant only where it is named: it stands in when all others are taken out.
    """
    services = [each for each in plan.services if service in (ALL, each.name)]
    if not services:
        known = ", ".join(each.name for each in plan.services) or "none"
        raise RefusedError(f'there is no service "{service}"; known services: {known}')
    found: list[tuple[ServicePlan, DestinationKey]] = []
    for each in services:
        found += [(each, key) for key in _server_keys(each) if _means(server, key)]
        if each.sorry and server != ALL and _means(server, each.sorry.destination.key):
            found.append((each, each.sorry.destination.key))
    if not found:
        sorry = [each.sorry.destination.key for each in services if each.sorry]
        keys = dict.fromkeys(map(str, (*(key for each in services for key in _server_keys(each)), *sorry)))
        where = f'service "{service}"' if service != ALL else "any service"
        raise RefusedError(f'there is no server "{server}" in {where}; known servers: {", ".join(keys) or "none"}')
    return found


def _server_keys(service: ServicePlan) -> Iterable[DestinationKey]:
    return (server.destination.key for server in service.servers)


def _means(name: str, key: DestinationKey) -> bool:
    return name in (ALL, key.address, str(key), f"[{key.address}]", f"{key.address}:{key.port}")


def decide_admin(
    verb: Verb, servers: Iterable[tuple[ServicePlan, DestinationKey]], state: AdminState, who: str = ""
) -> tuple[list[Change], list[Event]]:
    """Return what a word changes, and the events that tell of it. Nothing is changed yet.

    A server of several whose disablement contradicts a drain stays disabled. Raises RefusedError when that leaves
    nothing to do.
    """
    changes, events, contradicted = [], [], []
    for service, key in servers:
        before = state.of(service.name, str(key))
        after = OUTCOME.get((verb, before))
        if after is None:
            contradicted.append(f"{service.name} {key}")
        elif after is not before:
            changes.append(Change(service.name, key, after))
            name, reason = PAST[verb]
            reason = f"{reason} {who or ADMINISTRATOR}"
            events.append(Event(name, reason, group=service.group, service=service.name, server=str(key)))
    if contradicted and not changes:
        raise RefusedError(f"disabled already, so nothing to drain: {', '.join(contradicted)}")
    return changes, events


def drain_ended(servers: Iterable[tuple[ServicePlan, DestinationKey]], plan: Plan, state: AdminState) -> str:
    """Return why nobody can wait any more for the connections of servers that were drained; "" where it goes on."""
    now = {service.virtual.key: service for service in plan.services}
    for service, key in servers:
        found = now.get(service.virtual.key)
        known = found and (*_server_keys(found), *((found.sorry.destination.key,) if found.sorry else ()))
        if found is None or not known or key not in known:
            return f"{service.name} {key} is in the configuration no more"
        if state.of(found.name, str(key)) is Admin.NONE:
            return f"{found.name} {key} is no longer drained"
    return ""


def apply_changes(state: AdminState, changes: Iterable[Change]) -> AdminState:
    """Return a new state with the changes made."""
    new = AdminState(state.to_file())
    for change in changes:
        new.set(change.service, str(change.server), change.admin)
    return new
