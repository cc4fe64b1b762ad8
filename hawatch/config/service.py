"""Sections of the configuration about virtual services: ``[[service]]``, its servers and its probes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from hawatch.config.durations import DurationBetween
from hawatch.config.fields import (
    PORT_MAX,
    Address,
    Boolean,
    Integer,
    Interface,
    Name,
    PersistenceMask,
    Section,
    SorryAddress,
    listed,
)
from hawatch.model import NS_PER_S, TunnelChecksum, TunnelType

WEIGHT_MAX = 65535
MIN_WEIGHT_MAX = WEIGHT_MAX * 1024
THRESHOLD_MAX = 2**32 - 1
FWMARK_MAX = 2**32 - 1
RISE_FALL_MAX = 1000
SERVERS_MAX = 1024
"""Servers of one service."""
SOURCES_MAX = 16
"""Source addresses of one probe."""
PROBES_MAX = 16
"""Probes of one service."""

Scheduler = Literal[
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "fo", "ovf", "twos"
]  # fmt: skip
SchedulerFlag = Literal["sh-fallback", "sh-port", "mh-fallback", "mh-port", "flag-1", "flag-2", "flag-3"]
KERNEL_FLAGS = {"sh-fallback": "flag-1", "sh-port": "flag-2", "mh-fallback": "flag-1", "mh-port": "flag-2"}
"""The kernel's name of each readable flag; the others are the kernel's already."""
ForwardName = Literal["direct", "tunnel", "masquerade"]

ServicePort = Annotated[Integer, Field(ge=0, le=PORT_MAX)]
Port = Annotated[Integer, Field(ge=1, le=PORT_MAX)]
Mark = Annotated[Integer, Field(ge=0, le=FWMARK_MAX)]
Threshold = Annotated[Integer, Field(ge=0, le=THRESHOLD_MAX)]


class TunnelConfig(Section):
    """``tunnel``: how packets to a server are wrapped when forward is "tunnel"."""

    type: TunnelType = Field(default=TunnelType.IPIP, description="encapsulation")
    port: Port | None = Field(default=None, description="UDP port of GUE at the server; GUE only, and required there")
    checksum: TunnelChecksum = Field(
        default=TunnelChecksum.NONE, description="checksum in the outer header: GUE and GRE; remote: GUE only"
    )


class ProbeConfig(BaseModel):
    """``probe``: the keys that every probe has; the others are the options of its type."""

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)

    type: Name = Field(description="what kind of probe; each type has options of its own")
    interval: Annotated[int, DurationBetween("50ms", "1d")] = Field(
        default=2 * NS_PER_S, description="from the start of one run to the start of the next"
    )
    timeout: Annotated[int, DurationBetween("10ms", "1h")] = Field(
        default=NS_PER_S, description="a run that takes longer is cut off and counts as a failure"
    )
    rise: Annotated[Integer, Field(ge=1, le=RISE_FALL_MAX)] = Field(
        default=2, description="successes in a row that make a server up"
    )
    fall: Annotated[Integer, Field(ge=1, le=RISE_FALL_MAX)] = Field(
        default=3, description="failures in a row that make a server down"
    )
    port: Port | None = Field(default=None, description="port to ask; default: the server's")
    address: Address = Field(default="", description="address to ask; default: the server's")
    source: Annotated[tuple[Address, ...], BeforeValidator(listed, json_schema_input_type=str | tuple[str, ...])] = (
        Field(
            default=(),
            max_length=SOURCES_MAX,
            description="address to ask from, or one for each director: the first that this machine has",
        )
    )
    interface: Interface = Field(default="", description="interface to ask through; default: the routing table says")
    mark: Mark = Field(default=0, description="firewall mark of the packets, for policy routing; 0: none")

    @property
    def options(self) -> dict[str, object]:
        """The options of the probe's own type, as they stand in the file."""
        return dict(self.model_extra or {})


class Server(Section):
    """``[[service.server]]``: a real server."""

    address: Address = Field(description="literal address of the real server")
    port: ServicePort | None = Field(default=None, description="its port; default: the service's")
    weight: Annotated[Integer, Field(ge=0, le=WEIGHT_MAX)] = Field(
        default=1, description="share of the connections; 0: no new ones"
    )
    forward: ForwardName | None = Field(default=None, description="forwarding method; default: the service's")
    tunnel: TunnelConfig | None = Field(default=None, description="encapsulation; default: the service's")
    upper_threshold: Threshold = Field(default=0, description="connections above which it gets no new ones; 0: any")
    lower_threshold: Threshold = Field(
        default=0, description="connections below which it gets new ones again; 0: the kernel takes 3/4 of the upper"
    )
    probe_mark: Mark = Field(default=0, description="firewall mark of its probes' packets; 0: the probe's")


class Service(Section):
    """``[[service]]``: a virtual service."""

    name: Name = Field(description="its name in commands, logs and status")
    group: Name = Field(
        default="", description="the group that its address belongs to; none: someone else brings it up"
    )
    address: Address = Field(default="", description="the virtual address; or fwmark")
    fwmark: Annotated[Integer, Field(ge=0, le=FWMARK_MAX)] = Field(
        default=0, description="firewall mark that takes the place of address, port and protocol"
    )
    family: Literal["ipv4", "ipv6"] | None = Field(
        default=None, description="family of a fwmark service; default ipv4; with an address: the address's"
    )
    port: ServicePort | None = Field(default=None, description="the virtual port; 0: all ports, with persistence only")
    protocol: Literal["tcp", "udp", "sctp"] = Field(default="tcp", description="transport protocol")
    scheduler: Scheduler = Field(default="wlc", description="how the kernel chooses a server")
    scheduler_flags: Annotated[tuple[SchedulerFlag, ...], BeforeValidator(listed)] = Field(
        default=(), description="flags of the scheduler"
    )
    forward: ForwardName = Field(default="direct", description="forwarding method; a server may override it")
    tunnel: TunnelConfig | None = Field(default=None, description='encapsulation where forward is "tunnel"')
    persistence: Annotated[int, DurationBetween("1s", "31d")] | None = Field(
        default=None, description="a client comes back to its server for so long; whole seconds"
    )
    persistence_mask: PersistenceMask | None = Field(
        default=None, description="clients of one network count as one; prefix length or netmask"
    )
    persistence_engine: Literal["sip"] | None = Field(
        default=None, description='"sip": persistent by the Call-ID of SIP over UDP'
    )
    one_packet: Boolean = Field(default=False, description="udp: schedule every datagram for itself")
    on_fail: Literal["remove", "quiesce"] = Field(
        default="remove", description="a server that is down is removed, or kept with weight 0"
    )
    sorry_server: SorryAddress = Field(default="", description="gets the connections when no server is up")
    sorry_forward: ForwardName | None = Field(
        default=None, description="forwarding method of the sorry server; default: the service's"
    )
    on_all_down: Literal["sorry", "keep_last", "keep_all", "empty"] | None = Field(
        default=None, description='when no server is up; default: "sorry" with a sorry server, else "keep_last"'
    )
    min_weight: Annotated[Integer, Field(ge=1, le=MIN_WEIGHT_MAX)] = Field(
        default=1, description="weights of the servers that serve, added up, below which on_all_down holds"
    )
    hysteresis: Annotated[Integer, Field(ge=0, le=MIN_WEIGHT_MAX)] = Field(
        default=0, description="down only so far below min_weight, up again only so far above"
    )
    probe: Annotated[
        tuple[ProbeConfig, ...],
        BeforeValidator(listed, json_schema_input_type=ProbeConfig | tuple[ProbeConfig, ...]),
    ] = Field(default=(), max_length=PROBES_MAX, description="one probe or several, which must all pass")
    server: tuple[Server, ...] = Field(default=(), max_length=SERVERS_MAX, description="the real servers")

    @property
    def is_ipv6(self) -> bool:
        """The family of the virtual service."""
        return ":" in self.address if self.address else self.family == "ipv6"

    @property
    def when_all_down(self) -> Literal["sorry", "keep_last", "keep_all", "empty"]:
        """`on_all_down` with its default filled in."""
        return self.on_all_down or ("sorry" if self.sorry_server else "keep_last")

    def forward_of(self, server: Server) -> ForwardName:
        """Return a server's forwarding method."""
        return server.forward or self.forward

    def port_of(self, server: Server) -> int:
        """Return a server's port as the kernel is told it; 0 where all ports are meant."""
        return server.port if server.port is not None else self.port or 0
