"""What changed from one configuration to another, in words: reload's answer and its event."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel

from hawatch.config.problems import SECRET_KEYS, show_value
from hawatch.config.schema import Config, Group, Node, ProbeConfig, Server, Service

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

TOP_LEVEL_LIVE = ("ipvs", "control", "console")
"""Sections without names in them that a reload applies."""
UNSHOWN_KEYS = SECRET_KEYS | {"url"}
"""Keys whose values no answer and no log may hold: the URL of a webhook is as good as a password."""


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """One difference, in words."""

    text: str
    needs_restart: bool = False
    """A reload cannot apply it: the agent keeps the old value until it is restarted."""

    def __str__(self) -> str:
        return f"{self.text} (needs a restart)" if self.needs_restart else self.text


def describe_changes(old: Config, new: Config) -> tuple[ConfigChange, ...]:
    """Return what changed, in the order of the file's sections; nothing for equal configurations."""
    return tuple(all_changes(old, new))


def all_changes(old: Config, new: Config) -> Iterator[ConfigChange]:
    """Yield every difference."""
    for text in changed_keys(old.cluster, new.cluster):
        yield ConfigChange(f"cluster: {text}", needs_restart=True)
    for role, before, after in (("director", old.director, new.director), ("witness", old.witness, new.witness)):
        for text in node_changes(before, after):
            yield ConfigChange(f"{role} {text}", needs_restart=True)
    for text in group_changes(old.group, new.group):
        yield ConfigChange(f"group {text}")
    for text in service_changes(old.service, new.service):
        yield ConfigChange(f"service {text}")
    for section in TOP_LEVEL_LIVE:
        for text in changed_keys(getattr(old, section), getattr(new, section)):
            yield ConfigChange(f"{section}: {text}")
    for text in alert_changes(old, new):
        yield ConfigChange(text)


def alert_changes(old: Config, new: Config) -> Iterator[str]:
    """Yield every difference of who is told what."""
    for kind in ("email", "webhook", "program"):
        for text in table_changes(getattr(old.alert, kind), getattr(new.alert, kind)):
            yield f"alert {kind} {text}"
    if old.depend != new.depend:
        yield f"depend: {len(old.depend)} -> {len(new.depend)} entries, or others"


def paired(before: Mapping[K, V], after: Mapping[K, V]) -> Iterator[tuple[K, V | None, V | None]]:
    """Yield what has the same name on both sides, then what is new; None on the side that lacks it."""
    for name, value in before.items():
        yield name, value, after.get(name)
    for name, value in after.items():
        if name not in before:
            yield name, None, value


def changed_keys(old: BaseModel, new: BaseModel, skip: Iterable[str] = ()) -> Iterator[str]:
    """Yield "key old -> new" for each key that differs."""
    before, after = old.model_dump(mode="json", by_alias=True), new.model_dump(mode="json", by_alias=True)
    for key, old_value, new_value in paired(before, after):
        if key in skip or old_value == new_value:
            continue
        if key in UNSHOWN_KEYS:
            yield f"{key} changed"
        else:
            yield f"{key} {show(old_value)} -> {show(new_value)}"


def show(value: object) -> str:
    """Return a value in words: short ones as in the file, tables and arrays in full where that is short."""
    if value is None or value == "":
        return "none"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {show(member)}" for key, member in value.items() if member is not None) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(show, value)) + "]" if value else "none"
    return show_value(value).strip('"')


def node_changes(before: tuple[Node, ...], after: tuple[Node, ...]) -> Iterator[str]:
    """Yield what changed among nodes of one role."""
    yield from table_changes({node.name: node for node in before}, {node.name: node for node in after})


def table_changes(before: Mapping[str, BaseModel], after: Mapping[str, BaseModel]) -> Iterator[str]:
    """Yield what was added, removed and changed among named tables."""
    for name, old, new in paired(before, after):
        if old is None:
            yield f"{name}: added"
        elif new is None:
            yield f"{name}: removed"
        else:
            yield from (f"{name}: {text}" for text in changed_keys(old, new, skip=("name",)))


def group_changes(before: tuple[Group, ...], after: tuple[Group, ...]) -> Iterator[str]:
    """Yield what changed among groups."""
    for name, old, new in paired({group.name: group for group in before}, {group.name: group for group in after}):
        if old is None or new is None:
            yield f"{name}: {'added' if old is None else 'removed'}"
            continue
        vips = paired({v.address: v for v in old.addresses}, {v.address: v for v in new.addresses})
        for address, vip_before, vip_after in vips:
            if vip_before is None or vip_after is None:
                yield f"{name}: address {address} {'added' if vip_before is None else 'removed'}"
            else:
                yield from (f"{name}: address {address}: {text}" for text in changed_keys(vip_before, vip_after))
        yield from (f"{name}: {text}" for text in changed_keys(old, new, skip=("name", "addresses")))


def unsafe_moves(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return a sentence for each address that goes from one group to another one at once; given the groups by address.

    A director that has not read the new file yet could own the old group, and one that has the new one. A group that
    only gets another name is no such case: a node votes on what its own configuration names.
    """
    names, later_names = set(before.values()), set(after.values())
    return [
        f"address {address} goes from group {group} to group {after[address]}"
        for address, group in before.items()
        if after.get(address, group) != group and (group in later_names or after[address] in names)
    ]


def groups_of_addresses(groups: Iterable[Group]) -> dict[str, str]:
    """Return the group of each address, whatever its prefix length."""
    return {vip.address.partition("/")[0]: group.name for group in groups for vip in group.addresses}


def service_changes(before: tuple[Service, ...], after: tuple[Service, ...]) -> Iterator[str]:
    """Yield what changed among services."""
    for name, old, new in paired({s.name: s for s in before}, {s.name: s for s in after}):
        if old is None and new is not None:
            yield f"{name}: added, {len(new.server)} servers"
        elif old is not None and new is None:
            yield f"{name}: removed"
        elif old is not None and new is not None and old != new:
            yield from (f"{name}: {text}" for text in one_service(old, new))


def one_service(old: Service, new: Service) -> Iterator[str]:
    """Yield what changed within a service."""
    yield from changed_keys(old, new, skip=("name", "server", "probe"))
    yield from probe_changes(old.probe, new.probe)
    for server_name, before, after in paired(servers_by_name(old), servers_by_name(new)):
        if before is None and after is not None:
            yield f"server {server_name} added, weight {after.weight}"
        elif after is None:
            yield f"server {server_name} removed"
        elif before is not None:
            yield from (f"server {server_name}: {text}" for text in changed_keys(before, after, ("address", "port")))


def servers_by_name(service: Service) -> dict[str, Server]:
    """Return a service's servers by address, with the port where it is not the service's."""
    return {server_name(service, server): server for server in service.server}


def server_name(service: Service, server: Server) -> str:
    """Return how a server is called in words."""
    port = service.port_of(server)
    if port == (service.port or 0):
        return server.address
    return f"[{server.address}]:{port}" if ":" in server.address else f"{server.address}:{port}"


def probe_changes(before: tuple[ProbeConfig, ...], after: tuple[ProbeConfig, ...]) -> Iterator[str]:
    """Yield what changed among a service's probes; those of one type are compared in their order."""
    for name, old, new in paired(probes_by_name(before), probes_by_name(after)):
        if old is None or new is None:
            yield f"probe {name} {'added' if old is None else 'removed'}"
        else:
            yield from (f"probe {name}: {text}" for text in changed_keys(old, new, skip=("type",)))


def probes_by_name(probes: tuple[ProbeConfig, ...]) -> dict[str, ProbeConfig]:
    """Return probes by type, numbered from the second of a type on."""
    named: dict[str, ProbeConfig] = {}
    for probe in probes:
        number = sum(other.type == probe.type for other in named.values()) + 1
        named[probe.type if number == 1 else f"{probe.type} {number}"] = probe
    return named
