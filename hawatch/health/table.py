"""The smallest change that makes the kernel's IPVS table what it should be.

Theory of operation: the wanted table is decided elsewhere (`hawatch.health.decide`); here two tables are compared. A
service is ours when it is wanted, or when we remember having wanted it (`owned`); all others are foreign, and no change
ever names one. Changes come in an order in which a service never loses its last destination before it has another:
services first, then destinations added, then altered, then removed; services that go, last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from hawatch.model import Destination, DestinationKey, ServiceKey, Table, TableEntry, TunnelChecksum, VirtualService


@dataclass(frozen=True, slots=True)
class AddService:
    """Create a virtual service without destinations."""

    service: VirtualService


@dataclass(frozen=True, slots=True)
class SetService:
    """Alter a virtual service; its destinations and connections stay."""

    service: VirtualService


@dataclass(frozen=True, slots=True)
class DeleteService:
    """Remove a virtual service with its destinations."""

    key: ServiceKey


@dataclass(frozen=True, slots=True)
class AddDestination:
    """Add a destination to a service."""

    service: ServiceKey
    destination: Destination


@dataclass(frozen=True, slots=True)
class SetDestination:
    """Alter a destination; its connections stay."""

    service: ServiceKey
    destination: Destination


@dataclass(frozen=True, slots=True)
class DeleteDestination:
    """Remove a destination from a service."""

    service: ServiceKey
    key: DestinationKey


Change = AddService | SetService | DeleteService | AddDestination | SetDestination | DeleteDestination


def diff(kernel: Table, wanted: Table, owned: Collection[ServiceKey] = ()) -> tuple[Change, ...]:
    """Return the changes that turn `kernel` into `wanted`, in the order in which to make them.

    `owned` are the services that an earlier configuration of ours made: those no longer wanted are removed.
    """
    changes: list[Change] = []
    for key, entry in wanted.items():
        changes.extend(_service_changes(kernel.get(key), entry))
    changes.extend(DeleteService(key) for key in owned if key in kernel and key not in wanted)
    return tuple(changes)


def _service_changes(have: TableEntry | None, want: TableEntry) -> Iterator[Change]:
    key = want.service.key
    if have is None:
        yield AddService(want.service)
        for destination in want.destinations.values():
            yield AddDestination(key, destination)
        return
    if have.service != want.service:
        yield SetService(want.service)
    altered = []
    for address, destination in want.destinations.items():
        present = have.destinations.get(address)
        if present is None:
            yield AddDestination(key, destination)
        elif present != destination:
            altered.append(destination)
    for destination in altered:
        yield SetDestination(key, destination)
    for address in have.destinations:
        if address not in want.destinations:
            yield DeleteDestination(key, address)


def apply_to(table: Table, changes: Collection[Change]) -> dict[ServiceKey, TableEntry]:
    """Return the table that `changes` make of `table`: what the kernel holds after they were accepted.

    Raises KeyError for a change of something that is not there.
    """
    services = {key: entry.service for key, entry in table.items()}
    destinations = {key: dict(entry.destinations) for key, entry in table.items()}
    for change in changes:
        match change:
            case AddService(service):
                services[service.key] = service
                destinations[service.key] = {}
            case SetService(service):
                assert service.key in services, f"set of a service that is not there: {service.key}"
                services[service.key] = service
            case DeleteService(key):
                del services[key], destinations[key]
            case AddDestination(key, destination) | SetDestination(key, destination):
                destinations[key][destination.key] = destination
            case DeleteDestination(key, address):
                del destinations[key][address]
    return {key: TableEntry(service, destinations[key]) for key, service in services.items()}


def service_of(change: Change) -> ServiceKey:
    """Return the service that a change is about."""
    match change:
        case AddService(service=service) | SetService(service=service):
            return service.key
        case DeleteService(key=key):
            return key
        case AddDestination(service=key) | SetDestination(service=key) | DeleteDestination(service=key):
            return key


def describe(change: Change) -> str:
    """Say a change in words, as the event tells it that puts right what somebody else did."""
    match change:
        case AddService(service):
            return f"{service.key} was missing"
        case SetService(service):
            return f"{service.key} had other settings than {_service_words(service)}"
        case DeleteService(key):
            return f"{key} is no longer configured"
        case AddDestination(key, destination):
            return f"{destination.key} was missing from {key}"
        case SetDestination(key, destination):
            return f"{destination.key} in {key} was not {_destination_words(destination)}"
        case DeleteDestination(key, address):
            return f"{address} was in {key} and should not be"


def _service_words(service: VirtualService) -> str:
    words = f"scheduler {service.scheduler}"
    if service.scheduler_flags:
        words += " " + ",".join(sorted(service.scheduler_flags))
    if service.persistence_s:
        words += f", persistent for {service.persistence_s} s by /{service.persistence_prefix}"
    if service.persistence_engine:
        words += f", engine {service.persistence_engine}"
    return words + (", one-packet" if service.one_packet else "")


def _destination_words(destination: Destination) -> str:
    words = f"{destination.forward} weight {destination.weight}"
    if destination.upper_threshold or destination.lower_threshold:
        words += f", thresholds {destination.lower_threshold} to {destination.upper_threshold}"
    if destination.tunnel:
        tunnel = destination.tunnel
        words += f", {tunnel.type}" + (f" to port {tunnel.port}" if tunnel.port else "")
        words += f" with {tunnel.checksum} checksum" if tunnel.checksum is not TunnelChecksum.NONE else ""
    return words
