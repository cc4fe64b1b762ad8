"""How things stand around what a message tells of: the service's servers, the group's owner, from the status."""

from __future__ import annotations

import msgspec

from hawatch.model import DestinationKey

SERVERS_MAX = 20
"""Servers that are listed; those that are not up come first."""


class Server(msgspec.Struct):
    """A server in the status."""

    address: str
    port: int = 0
    state: str = ""
    reason: str = ""
    sorry: bool = False
    """It stands in for the others: not counted among them."""


class Service(msgspec.Struct):
    """A service in the status."""

    name: str
    state: str = ""
    servers: list[Server] = []


class Group(msgspec.Struct):
    """A group in the status."""

    name: str
    state: str = ""
    owner: str = ""
    reason: str = ""


class Status(msgspec.Struct):
    """What of the status is looked at here."""

    node: str
    time: str
    services: list[Service] = []
    groups: list[Group] = []


def surroundings(data: bytes, service: str, group: str) -> str:
    """Return the state of a service, or of a group, in lines; "" where the status does not tell."""
    try:
        status = msgspec.json.decode(data, type=Status)
    except msgspec.MsgspecError:
        return ""
    found = next((each for each in status.services if each.name == service), None)
    if found is not None:
        return _service(found, status.time)
    of_group = next((each for each in status.groups if each.name == group), None)
    return _group(of_group, status) if of_group is not None else ""


def _service(service: Service, time: str) -> str:
    real = [server for server in service.servers if not server.sorry]
    up = sum(server.state == "up" for server in real)
    lines = [f"{service.name} at {time}: {service.state}, {up} of {len(real)} servers up"]
    shown = sorted(service.servers, key=lambda server: server.state == "up")[:SERVERS_MAX]
    names = [str(DestinationKey(server.address, server.port)) for server in shown]
    width = max(map(len, names), default=0)
    for name, server in zip(names, shown, strict=True):
        state = f"{server.state} (sorry)" if server.sorry else server.state
        lines.append(f"  {name:<{width}}  {state}  {server.reason}".rstrip())
    if len(service.servers) > len(shown):
        lines.append(f"  ... and {len(service.servers) - len(shown)} more")
    return "\n".join(lines) + "\n"


def _group(group: Group, status: Status) -> str:
    owner = f"{group.owner} owns it" if group.owner else "nobody is known to own it"
    return f"{group.name} at {status.time}: {owner}; {status.node} is {group.state}: {group.reason}".rstrip(": ") + "\n"
