"""Rules about virtual services and their servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hawatch.config.fields import split_host_port
from hawatch.config.positions import Path
from hawatch.config.problems import Finding, nearest
from hawatch.config.rules_group import vip_owners
from hawatch.config.rules_server import SERVER_RULES
from hawatch.config.schema import Config, Service
from hawatch.model import NS_PER_S

ServiceRule = Callable[[Service, Path], Iterator[Finding]]


def service_names(config: Config) -> Iterator[Finding]:
    """Every service has a name of its own."""
    seen: set[str] = set()
    for number, service in enumerate(config.service):
        if service.name in seen:
            yield Finding(
                ("service", number, "name"), f'a second service named "{service.name}"', "a name for each service"
            )
        seen.add(service.name)


def kernel_key(service: Service) -> str:
    """Return what the kernel tells services apart by, in words; "" where the service is incomplete."""
    if service.fwmark:
        return f"fwmark {service.fwmark}" + (" (IPv6)" if service.is_ipv6 else "")
    if not service.address or service.port is None:
        return ""
    shown = f"[{service.address}]" if ":" in service.address else service.address
    return f"{service.protocol} {shown}:{service.port}"


def kernel_keys(config: Config) -> Iterator[Finding]:
    """The kernel knows a service by protocol, address and port, or by its mark: each once."""
    seen: dict[str, str] = {}
    for number, service in enumerate(config.service):
        key = kernel_key(service)
        here = ("service", number)
        if key and key in seen:
            depends = tuple((*here, name) for name in ("address", "port", "protocol", "fwmark", "family"))
            yield Finding(
                (*here, "fwmark" if service.fwmark else "address"),
                f'{key} is service "{seen[key]}" already',
                "another address, port, protocol or fwmark",
                depends=depends,
            )
        seen.setdefault(key, service.name)


def groups(config: Config) -> Iterator[Finding]:
    """A service's group exists, and the service's address is one of its VIPs."""
    by_name = {group.name: group for group in config.group}
    owners = vip_owners(config)
    depends: tuple[Path, ...] = (("group", "*", "name"), ("group", "*", "addresses", "*", "address"))
    for number, service in enumerate(config.service):
        here = ("service", number)
        if not service.group:
            continue
        group = by_name.get(service.group)
        if group is None:
            known = ", ".join(by_name) or "no group is named in this file: leave it out"
            hint = nearest(service.group, list(by_name))
            yield Finding((*here, "group"), f"no group of this name{hint}", known, depends=depends[:1])
        elif service.address and all(service.address != vip.address.partition("/")[0] for vip in group.addresses):
            other = owners.get(service.address)
            of_other = f' (it is one of group "{other.name}")' if other else ""
            yield Finding(
                (*here, "address"),
                f'no VIP of group "{group.name}"{of_other}',
                ", ".join(vip.address.partition("/")[0] for vip in group.addresses),
                depends=(*depends, (*here, "group")),
            )


def identity(service: Service, here: Path) -> Iterator[Finding]:
    """A service is an address and a port, or a firewall mark."""
    if service.fwmark:
        if service.address:
            yield Finding((*here, "address"), "address and fwmark", "one of them")
        if service.port is not None:
            yield Finding(
                (*here, "port"), "a port with fwmark: the mark says which", "no port; for a probe, probe.port"
            )
        return
    if not service.address:
        yield Finding((*here, "address"), "missing", "the virtual address, or fwmark", depends=((*here, "fwmark"),))
    elif service.port is None:
        yield Finding((*here, "port"), "missing", "the virtual port, 1 to 65535; 0 for all, with persistence")
    elif service.port == 0 and service.persistence is None:
        yield Finding(
            (*here, "port"), "port 0 (all ports) without persistence", "1 to 65535; 0 with persistence",
            depends=((*here, "persistence"),),
        )  # fmt: skip
    if service.address and service.family and (service.family == "ipv6") != (":" in service.address):
        yield Finding((*here, "family"), "not the family of the address", "leave it out: the address tells")


def scheduler_flags(service: Service, here: Path) -> Iterator[Finding]:
    """A flag is its scheduler's."""
    for number, flag in enumerate(service.scheduler_flags):
        owner = flag.partition("-")[0]
        if owner in {"sh", "mh"} and owner != service.scheduler:
            yield Finding(
                (*here, "scheduler_flags", number),
                f'a flag of scheduler "{owner}", not of "{service.scheduler}"',
                f'scheduler = "{owner}", or another flag',
                depends=((*here, "scheduler"),),
            )


def persistence(service: Service, here: Path) -> Iterator[Finding]:
    """Mask and engine are persistence's, and persistence is in whole seconds."""
    depends = ((*here, "persistence"),)
    if service.persistence is None:
        for key in ("persistence_mask", "persistence_engine"):
            if getattr(service, key) is not None:
                yield Finding((*here, key), f"{key} without persistence", "persistence as well", depends=depends)
    elif service.persistence % NS_PER_S:
        yield Finding((*here, "persistence"), "a part of a second", "whole seconds")
    if service.persistence_mask is not None and service.persistence_mask > 32 and not service.is_ipv6:
        yield Finding((*here, "persistence_mask"), "a prefix length of IPv6 in an IPv4 service", "1 to 32")
    if service.persistence_engine == "sip" and service.protocol != "udp" and not service.fwmark:
        yield Finding(
            (*here, "persistence_engine"), f"the kernel reads SIP in UDP only, not {service.protocol}",
            'protocol = "udp"', depends=((*here, "protocol"), (*here, "fwmark")),
        )  # fmt: skip


def one_packet(service: Service, here: Path) -> Iterator[Finding]:
    """Scheduling of single packets is UDP's."""
    if service.one_packet and service.protocol != "udp" and not service.fwmark:
        yield Finding(
            (*here, "one_packet"), f"one_packet with {service.protocol}", 'protocol = "udp"',
            depends=((*here, "protocol"), (*here, "fwmark")),
        )  # fmt: skip


def sorry(service: Service, here: Path) -> Iterator[Finding]:
    """A sorry server is there when it is wanted, can be reached as it is forwarded to, and is no real server."""
    if not service.sorry_server:
        if service.on_all_down == "sorry":
            yield Finding(
                (*here, "on_all_down"), "no sorry_server to send to", "sorry_server, or keep_last, keep_all or empty",
                depends=((*here, "sorry_server"),),
            )  # fmt: skip
        if service.sorry_forward:
            yield Finding((*here, "sorry_forward"), "sorry_forward without sorry_server", "sorry_server as well",
                          depends=((*here, "sorry_server"),))  # fmt: skip
        return
    address, port = split_host_port(service.sorry_server)
    forward = service.sorry_forward or service.forward
    path = (*here, "sorry_server")
    if forward != "masquerade" and port is not None and port != (service.port or 0):
        yield Finding(
            path, f'forward "{forward}" cannot change the port {service.port or 0}',
            'the service\'s port, or sorry_forward = "masquerade"', depends=((*here, "port"), (*here, "forward")),
        )  # fmt: skip
    if forward != "tunnel" and (":" in address) != service.is_ipv6:
        yield Finding(
            path, f'another address family than the service, with forward "{forward}"',
            'an address of the service\'s family, or sorry_forward = "tunnel"', depends=((*here, "forward"),),
        )  # fmt: skip
    sorry_port = port if port is not None else service.port or 0
    if any((server.address, service.port_of(server)) == (address, sorry_port) for server in service.server):
        yield Finding(path, "a real server of this service already", "another server")


def least_weight(service: Service, here: Path) -> Iterator[Finding]:
    """What a service needs to be up can be had, and what takes it down is not nothing."""
    if service.hysteresis >= service.min_weight and service.hysteresis:
        yield Finding(
            (*here, "hysteresis"), f"as much as min_weight ({service.min_weight}), or more",
            f"0 to {service.min_weight - 1}", depends=((*here, "min_weight"),),
        )  # fmt: skip
    asked_for = any("weight_from_status" in probe.options for probe in service.probe)
    most = sum(server.weight for server in service.server)
    if not asked_for and service.min_weight > 1 and service.min_weight + service.hysteresis > most:
        yield Finding(
            (*here, "min_weight"), f"with hysteresis more than the weights of all its servers ({most}): never up",
            f"at most {most}, with hysteresis", depends=((*here, "hysteresis"), (*here, "server", "*", "weight")),
        )  # fmt: skip


def each_service(rule: ServiceRule) -> Callable[[Config], Iterator[Finding]]:
    """Make a rule of the configuration of one about a service."""

    def rule_of_config(config: Config) -> Iterator[Finding]:
        for number, service in enumerate(config.service):
            yield from rule(service, ("service", number))

    rule_of_config.__name__ = getattr(rule, "__name__", "rule")
    return rule_of_config


def mixed_families_synchronised(config: Config) -> Iterator[Finding]:
    """The kernel refuses servers of another family while its connection synchronisation runs."""
    if not any(group.sync for group in config.group):
        return
    for number, service in enumerate(config.service):
        for place, server in enumerate(service.server):
            if (":" in server.address) != service.is_ipv6 and service.forward_of(server) == "tunnel":
                yield Finding(
                    ("service", number, "server", place, "address"),
                    "another address family than the service, while a group has sync: the kernel refuses that",
                    "a server of the service's family, or no sync in any group",
                    depends=(("group", "*", "sync"), ("service", number, "family")),
                )


RULES = (
    service_names,
    kernel_keys,
    groups,
    mixed_families_synchronised,
    *map(each_service, (identity, scheduler_flags, persistence, one_packet, sorry, least_weight, *SERVER_RULES)),
)
