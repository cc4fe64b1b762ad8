"""The configuration file as pydantic models: every key, its meaning, its limits and its default."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Duration = Annotated[int, Field(description='nanoseconds; written with a unit: "100ms", "2s", "5m"')]


class Cluster(Section):
    """``[cluster]``"""

    name: str = "default"
    key_file: str = ""
    port: int = 694
    profile: Literal["fast", "default", "vm"] = "default"
    lease: Duration | None = None
    heartbeat: Duration | None = None
    quorum: Literal["witness", "gateway", "none"] = "witness"
    gateway: tuple[str, ...] = ()


class Node(Section):
    """``[[director]]`` or ``[[witness]]``"""

    name: str
    links: tuple[str, ...] = ()


class Vip(Section):
    """One of a group's addresses."""

    address: str
    """With prefix length: "192.168.1.110/32"."""
    interface: str
    label: str = ""


class Sync(Section):
    """IPVS connection synchronisation of a group."""

    interface: str
    id: int


class Group(Section):
    """``[[group]]``: VIPs that move together."""

    name: str
    prefer: str = ""
    failback: Literal["auto", "manual"] = "auto"
    addresses: tuple[Vip, ...] = ()
    sync: Sync | None = None
    ipvs: Literal["always", "owner"] = "always"


class ProbeConfig(BaseModel):
    """``probe``: the keys that every probe has; the others are the options of its type."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str
    interval: Duration
    timeout: Duration
    rise: int = 2
    fall: int = 3
    port: int | None = None
    address: str = ""


class Server(Section):
    """``[[service.server]]``"""

    address: str
    port: int | None = None
    weight: int = 1


class Service(Section):
    """``[[service]]``"""

    name: str
    group: str = ""
    address: str = ""
    fwmark: int = 0
    port: int | None = None
    protocol: Literal["tcp", "udp", "sctp"] = "tcp"
    scheduler: str = "wlc"
    forward: Literal["direct", "tunnel", "masquerade"] = "direct"
    persistence: Duration | None = None
    on_fail: Literal["remove", "quiesce"] = "remove"
    sorry_server: str = ""
    on_all_down: Literal["sorry", "keep_last", "keep_all", "empty"] | None = None
    probe: tuple[ProbeConfig, ...] = ()
    server: tuple[Server, ...] = ()


class Config(Section):
    """The whole file."""

    cluster: Cluster = Cluster()
    director: tuple[Node, ...] = ()
    witness: tuple[Node, ...] = ()
    group: tuple[Group, ...] = ()
    service: tuple[Service, ...] = ()
