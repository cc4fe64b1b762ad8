"""The configuration file as pydantic models: every key, its meaning, its limits and its default."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from hawatch.cluster.parameters import PROFILES, LeaseParameters
from hawatch.config.alerts import (
    DEPENDENCIES_MAX,
    Alerts,
    Chosen,
    ConsoleConfig,
    Depend,
    EmailAlert,
    GroupNotify,
    PageUser,
    ProgramAlert,
    WebhookAlert,
)
from hawatch.config.durations import DurationBetween
from hawatch.config.fields import (
    PORT_MAX,
    Address,
    FilePath,
    Integer,
    Interface,
    Name,
    Section,
    VipAddress,
    listed,
)
from hawatch.config.service import ProbeConfig, Server, Service, TunnelConfig

__all__ = [
    "Alerts", "Chosen", "Cluster", "Config", "ConsoleConfig", "Control", "Depend", "EmailAlert", "Group",
    "GroupNotify", "Ipvs", "Node", "PageUser", "ProbeConfig", "ProgramAlert", "Section", "Server", "Service", "Sync",
    "TunnelConfig", "Vip", "WebhookAlert",
]  # fmt: skip

LINKS_MAX = 8
"""Heartbeat paths of a node."""
DIRECTORS_MAX = 7
WITNESSES_MAX = 8
GROUPS_MAX = 64
VIPS_MAX = 1024
"""Addresses of one group."""
GATEWAYS_MAX = 8
SERVICES_MAX = 4096
LABEL_BYTES_MAX = 15
SYNC_ID_MAX = 255

IpvsTimeout = Annotated[int, DurationBetween("1s", "31d")]


class Cluster(Section):
    """``[cluster]``: what all nodes share."""

    name: Name = Field(default="default", description="name of the cluster; datagrams of another one are ignored")
    key_file: FilePath = Field(default="", description="numbered keys, one active; mode 0600")
    port: Annotated[Integer, Field(ge=1, le=PORT_MAX)] = Field(default=694, description="UDP port of the heartbeats")
    profile: Literal["fast", "default", "vm"] = Field(default="default", description="lease and heartbeat by name")
    lease: Annotated[int, DurationBetween("200ms", "60s")] | None = Field(
        default=None, description="how long ownership outlives its last renewal; with heartbeat"
    )
    heartbeat: Annotated[int, DurationBetween("20ms", "15s")] | None = Field(
        default=None, description="period of heartbeats and renewals, at most a quarter of the lease; with lease"
    )
    quorum: Literal["witness", "gateway", "none"] = Field(
        default="witness", description="what decides when the directors cannot hear each other"
    )
    gateway: Annotated[tuple[Address, ...], BeforeValidator(listed)] = Field(
        default=(), max_length=GATEWAYS_MAX, description='asked by ping, for quorum = "gateway" and for fitness'
    )

    @property
    def parameters(self) -> LeaseParameters:
        """The lease's durations: the file's own, else the profile's."""
        if self.lease is not None and self.heartbeat is not None:
            return LeaseParameters(lease_ns=self.lease, heartbeat_ns=self.heartbeat)
        return PROFILES[self.profile]


class Node(Section):
    """``[[director]]`` or ``[[witness]]``: a member of the cluster."""

    name: Name = Field(description="its host name, or what --node says")
    links: Annotated[tuple[Address, ...], BeforeValidator(listed)] = Field(
        default=(),
        max_length=LINKS_MAX,
        description="its addresses, one a heartbeat path, in the same order everywhere",
    )


class Vip(Section):
    """One of a group's addresses."""

    address: VipAddress = Field(description='with prefix length: "192.168.1.110/32"')
    interface: Interface = Field(description="the interface that it is put on")
    label: str = Field(
        default="", max_length=LABEL_BYTES_MAX, description='IPv4: label of the address, like "eth0:web"'
    )


class Sync(Section):
    """``sync``: IPVS connection synchronisation of a group."""

    interface: Interface = Field(description="the interface that connections are told to the other director on")
    id: Annotated[Integer, Field(ge=0, le=SYNC_ID_MAX)] = Field(description="number of the synchronised pair")


class Group(Section):
    """``[[group]]``: VIPs that move together."""

    name: Name = Field(description="its name in commands, logs and status")
    prefer: Name = Field(default="", description="the director that owns it when all is well")
    failback: Literal["auto", "manual"] = Field(
        default="auto", description="whether it goes back to the preferred director by itself"
    )
    addresses: tuple[Vip, ...] = Field(default=(), max_length=VIPS_MAX, description="the VIPs")
    sync: Sync | None = Field(default=None, description="connection synchronisation; none: connections break")
    ipvs: Literal["always", "owner"] = Field(
        default="always", description="which directors keep the IPVS table: both, or only the owner"
    )
    notify: GroupNotify | None = Field(default=None, description="programs that are told of its state")


class Ipvs(Section):
    """``[ipvs]``: the kernel's connection timeouts; what is left out stays as the kernel has it."""

    tcp: IpvsTimeout | None = Field(default=None, description="idle TCP connections; whole seconds")
    tcpfin: IpvsTimeout | None = Field(default=None, description="TCP connections after a FIN; whole seconds")
    udp: IpvsTimeout | None = Field(default=None, description="UDP and idle datagram flows; whole seconds")


class Control(Section):
    """``[control]``: who may use `hawatch ctl`."""

    group: str = Field(
        default="", max_length=32, description="Unix group whose members may, besides root and the agent's own user"
    )


class Config(Section):
    """The whole file."""

    cluster: Cluster = Field(default=Cluster(), description="what all nodes share")
    director: tuple[Node, ...] = Field(default=(), max_length=DIRECTORS_MAX, description="the directors")
    witness: tuple[Node, ...] = Field(default=(), max_length=WITNESSES_MAX, description="the witnesses")
    group: tuple[Group, ...] = Field(default=(), max_length=GROUPS_MAX, description="VIPs that move together")
    service: tuple[Service, ...] = Field(default=(), max_length=SERVICES_MAX, description="the virtual services")
    ipvs: Ipvs = Field(default=Ipvs(), description="the kernel's connection timeouts")
    control: Control = Field(default=Control(), description="who may use `hawatch ctl`")
    alert: Alerts = Field(default=Alerts(), description="who is told of events")
    depend: tuple[Depend, ...] = Field(
        default=(), max_length=DEPENDENCIES_MAX, description="failures that explain others"
    )
    console: ConsoleConfig = Field(default=ConsoleConfig(), description="the journal, the page and the metrics")

    @property
    def leased(self) -> bool:
        """Whether ownership is decided by a lease between nodes: false for a single director."""
        return len(self.director) + len(self.witness) > 1
