"""Rules about probes: schedule, type, the type's own options, and what is asked."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from hawatch.config.durations import format_duration
from hawatch.config.positions import Path
from hawatch.config.probes import ProbeTypes, complete_options
from hawatch.config.problems import Finding, nearest
from hawatch.config.schema import Config, ProbeConfig, Service
from hawatch.config.validation import describe
from hawatch.errors import ConfigError
from hawatch.plugin import Probe

COMMON_KEYS = ("type", "interval", "timeout", "rise", "fall", "port", "address", "source", "interface", "mark")


def find_errors(config: Config, probes: ProbeTypes) -> Iterator[Finding]:
    """Yield what is wrong with the probes of all services."""
    for number, service in enumerate(config.service):
        for place, probe in enumerate(service.probe):
            here = ("service", number, "probe", place)
            yield from schedule(probe, here)
            try:
                probe_class = probes.find(probe.type)
            except ConfigError as error:
                yield unknown_type(probe, here, probes, error)
                continue
            yield from own_options(probe, here, probe_class)
            yield from port(service, probe, here, probe_class)
            yield from source(service, probe, here)


def schedule(probe: ProbeConfig, here: Path) -> Iterator[Finding]:
    """A run is over before the next one starts."""
    if probe.timeout > probe.interval:
        depends = ((*here, "interval"), (*here, "timeout"))
        yield Finding(
            (*here, "timeout"), f"a timeout of {format_duration(probe.timeout)} is longer than the interval",
            f"at most the interval, {format_duration(probe.interval)}", depends=depends,
        )  # fmt: skip


def unknown_type(probe: ProbeConfig, here: Path, probes: ProbeTypes, error: ConfigError) -> Finding:
    """Return the finding of a type that is not installed, or is broken."""
    names = probes.names()
    if probe.type in names:
        return Finding((*here, "type"), str(error), "a probe that can be loaded")
    return Finding((*here, "type"), f"no probe of this type is installed{nearest(probe.type, names)}", ", ".join(names))


def own_options(probe: ProbeConfig, here: Path, probe_class: type[Probe]) -> Iterator[Finding]:
    """The type accepts its options."""
    try:
        options = complete_options(probe_class, probe.options)
        for key in ("source", "interface", "mark"):
            if getattr(probe, key) and (why := probe_class.no_route(options)):
                yield Finding((*here, key), why, f"no {key}")
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            finding = describe(detail, probe.options, probe_class.options_type)
            accepted = finding.accepted
            if detail["type"] == "extra_forbidden" and len(detail["loc"]) == 1:
                known = sorted({*accepted.split(", "), *COMMON_KEYS} - {""})
                hint = nearest(str(detail["loc"][0]), known)
                yield Finding((*here, *finding.path), f'unknown key of probe "{probe.type}"{hint}', ", ".join(known))
            else:
                yield Finding((*here, *finding.path), finding.message, accepted)


def port(service: Service, probe: ProbeConfig, here: Path, probe_class: type[Probe]) -> Iterator[Finding]:
    """A probe that asks at a port knows which."""
    if not probe_class.uses_port or probe_class.port_optional or probe.port is not None:
        return
    if all(service.port_of(server) for server in service.server):
        return
    if not service.fwmark and service.port is None:
        return  # told already, as the service's own mistake
    what = "a fwmark service" if service.fwmark else "a service of all ports"
    service_path = here[:2]
    yield Finding(
        (*here, "port"), f'missing: {what} names no port for probe "{probe.type}"', "the port to ask, 1 to 65535",
        depends=((*service_path, "port"), (*service_path, "server", "*", "port"), (*service_path, "fwmark")),
    )  # fmt: skip


def source(service: Service, probe: ProbeConfig, here: Path) -> Iterator[Finding]:
    """One asks from an address of the family that is asked."""
    asked = [probe.address] if probe.address else [server.address for server in service.server]
    families = {":" in address for address in asked if address}
    if any({":" in one} != families for one in probe.source if families):
        yield Finding(
            (*here, "source"), "not of the family of what is asked", "addresses of the directors, of that family",
            depends=((*here, "address"), (*here[:2], "server", "*", "address")),
        )  # fmt: skip
