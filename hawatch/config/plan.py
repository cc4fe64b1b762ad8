"""From the configuration to what a node does: services to keep in IPVS, and checks to run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from hawatch.config.fields import split_host_port
from hawatch.config.probes import INSTALLED, ProbeTypes, complete_options
from hawatch.config.problems import nearest
from hawatch.config.schema import Config, ProbeConfig, Server, Service, TunnelConfig
from hawatch.config.service import KERNEL_FLAGS
from hawatch.errors import ConfigError
from hawatch.model import (
    NS_PER_S,
    Check,
    Destination,
    DestinationKey,
    Family,
    Forward,
    IpvsTimeouts,
    OnAllDown,
    OnFail,
    Plan,
    Protocol,
    Route,
    ServerPlan,
    ServiceKey,
    ServicePlan,
    Tunnel,
    VirtualService,
)

CHECK_ID_BYTES = 12
"""96 bits: no two of a million checks share an id by chance."""


def find_node(config: Config, wanted: str, hostname: str) -> str:
    """Return the name of this node: what `--node` wants, else the host name, in full or up to its first dot.

    A single director that no one named otherwise is itself, whatever its host is called. Without any director in the
    file the host's short name will do. Raises ConfigError with the known names.
    """
    names = [node.name for node in (*config.director, *config.witness)]
    short = hostname.partition(".")[0]
    if wanted:
        if wanted in names or not names:
            return wanted
        raise ConfigError(f'no director or witness is named "{wanted}"{nearest(wanted, names)}; {known(names)}')
    for candidate in (hostname, short):
        if candidate in names:
            return candidate
    if len(config.director) == 1 and not config.witness:
        return config.director[0].name
    if not names:
        return short or "localhost"
    raise ConfigError(f'this host is "{hostname}", which is no director or witness; {known(names)}; or say --node NAME')


def known(names: list[str]) -> str:
    """Return the words that list the known nodes."""
    return "there are: " + ", ".join(names)


def make_plan(config: Config, node: str, probes: ProbeTypes = INSTALLED) -> Plan:
    """Return what the configuration means to a node; a witness has no service and no check.

    Raises ConfigError where a probe's type is not installed, which `load` has told before.
    """
    ipvs = config.ipvs
    timeouts = IpvsTimeouts(seconds(ipvs.tcp), seconds(ipvs.tcpfin), seconds(ipvs.udp))
    if node in {witness.name for witness in config.witness}:
        return Plan(services=(), checks={}, timeouts=timeouts)
    checks: dict[str, Check] = {}
    services = tuple(plan_service(service, checks, probes) for service in config.service)
    return Plan(services=services, checks=checks, timeouts=timeouts)


def seconds(duration_ns: int | None) -> int:
    """Return whole seconds, rounded up so that something never becomes nothing."""
    return -(-(duration_ns or 0) // NS_PER_S)


def plan_service(service: Service, checks: dict[str, Check], probes: ProbeTypes) -> ServicePlan:
    """Return one service's plan, and add the checks that it needs to `checks`."""
    asked = [make_question(service, probe, probes) for probe in service.probe]
    servers = tuple(
        ServerPlan(
            destination=destination_of(service, server),
            checks=tuple(
                add_check(
                    checks,
                    question,
                    question.probe.address or server.address,
                    service.port_of(server),
                    server.probe_mark,
                )
                for question in asked
            ),
        )
        for server in service.server
    )
    return ServicePlan(
        name=service.name,
        group=service.group,
        virtual=virtual_service(service),
        servers=servers,
        sorry=plan_sorry(service, asked, checks),
        on_fail=OnFail(service.on_fail),
        on_all_down=OnAllDown(service.when_all_down),
        min_weight=service.min_weight,
        hysteresis=service.hysteresis,
    )


def virtual_service(service: Service) -> VirtualService:
    """Return the service as the kernel is told of it."""
    family = Family.IPV6 if service.is_ipv6 else Family.IPV4
    if service.fwmark:
        key = ServiceKey(family=family, fwmark=service.fwmark)
    else:
        key = ServiceKey(family, str(Protocol(service.protocol)), service.address, service.port or 0)
    host_prefix = 128 if service.is_ipv6 else 32
    return VirtualService(
        key=key,
        scheduler=service.scheduler,
        scheduler_flags=frozenset(KERNEL_FLAGS.get(flag, flag) for flag in service.scheduler_flags),
        persistence_s=seconds(service.persistence),
        persistence_prefix=(service.persistence_mask or host_prefix) if service.persistence else 0,
        persistence_engine=service.persistence_engine or "",
        one_packet=service.one_packet,
    )


def destination_of(service: Service, server: Server) -> Destination:
    """Return a server as the kernel is told of it when all is well."""
    forward = Forward(service.forward_of(server))
    return Destination(
        key=DestinationKey(server.address, service.port_of(server)),
        forward=forward,
        weight=server.weight,
        upper_threshold=server.upper_threshold,
        lower_threshold=server.lower_threshold,
        tunnel=tunnel_of(server.tunnel or service.tunnel) if forward is Forward.TUNNEL else None,
    )


def tunnel_of(tunnel: TunnelConfig | None) -> Tunnel:
    """Return the encapsulation; IPIP where nothing is said."""
    return Tunnel() if tunnel is None else Tunnel(tunnel.type, tunnel.port or 0, tunnel.checksum)


def plan_sorry(service: Service, asked: list[Question], checks: dict[str, Check]) -> ServerPlan | None:
    """Return the sorry server's plan: the service's probes ask it too, at its own address."""
    if not service.sorry_server:
        return None
    address, own_port = split_host_port(service.sorry_server)
    port = own_port if own_port is not None else service.port or 0
    forward = Forward(service.sorry_forward or service.forward)
    return ServerPlan(
        destination=Destination(
            key=DestinationKey(address, port),
            forward=forward,
            tunnel=tunnel_of(service.tunnel) if forward is Forward.TUNNEL else None,
        ),
        checks=tuple(add_check(checks, question, address, port) for question in asked),
    )


# --- Checks -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Question:
    """What a probe of a service asks, whomever it asks."""

    probe: ProbeConfig
    options: dict[str, object]
    text: bytes
    """All that tells this question from others."""
    uses_port: bool
    service: str
    group: str
    plugin: bool


def make_question(service: Service, probe: ProbeConfig, probes: ProbeTypes) -> Question:
    """Return the question that a probe asks, with the options' defaults filled in."""
    probe_class = probes.find(probe.type)
    options: dict[str, object] = complete_options(probe_class, probe.options).model_dump(mode="json", by_alias=True)
    of_service = (service.name, service.group) if probe_class.per_service else ("", "")
    text = json.dumps([probe.type, options, *of_service], sort_keys=True, separators=(",", ":")).encode()
    return Question(
        probe=probe,
        options=options,
        text=text,
        uses_port=probe_class.uses_port,
        service=of_service[0],
        group=of_service[1],
        plugin=not probes.is_built_in(probe.type),
    )


def route_of(probe: ProbeConfig, server_mark: int = 0) -> Route | None:
    """Return the way that a probe's packets take; None where it is the usual one."""
    route = Route(probe.source, probe.interface, server_mark or probe.mark)
    return None if route == Route() else route


def add_check(
    checks: dict[str, Check], question: Question, address: str, server_port: int, server_mark: int = 0
) -> str:
    """Return the id of the check that puts a question to a target; add it where no other service has.

    What is asked of whom makes the id, so that it outlives a change of interval. Where services ask the same at
    different intervals, the first in the file has this id, and the schedule is part of the others'.
    """
    probe = question.probe
    port = (probe.port or server_port or None) if question.uses_port else None
    route = route_of(probe, server_mark)
    way = f" {' '.join(route.source)} {route.interface} {route.mark}" if route else ""
    for schedule in ("", f"{probe.interval} {probe.timeout} {probe.rise} {probe.fall}"):
        check = Check(
            id=check_id(question.text, f"{address} {port} {schedule}{way}"),
            type=probe.type,
            options=question.options,
            address=address,
            port=port,
            interval_ns=probe.interval,
            timeout_ns=probe.timeout,
            rise=probe.rise,
            fall=probe.fall,
            service=question.service,
            group=question.group,
            plugin=question.plugin,
            route=route,
        )
        if checks.setdefault(check.id, check) == check:
            return check.id
    raise AssertionError(f"two checks with the id of {probe.type} {address}")


def check_id(question: bytes, target: str) -> str:
    """Return a stable id: the same in every process and after every restart."""
    return hashlib.blake2b(question + b"\0" + target.encode(), digest_size=CHECK_ID_BYTES).hexdigest()


def checks_per_second(plan: Plan) -> float:
    """Return how many checks a second the plan asks for."""
    return sum(intervals(plan))


def intervals(plan: Plan) -> Iterator[float]:
    """Yield each check's runs a second."""
    for check in plan.checks.values():
        yield NS_PER_S / check.interval_ns
