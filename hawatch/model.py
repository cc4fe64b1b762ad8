"""The vocabulary as frozen dataclasses: what the parts of hawatch tell each other.

Pure data: no I/O, no clock. Durations and instants are integer nanoseconds (`_ns`); instants are CLOCK_BOOTTIME
unless the name says `wall`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from ipaddress import ip_address

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


class Family(IntEnum):
    """Address family, with the numbers of Linux's AF_INET and AF_INET6."""

    IPV4 = 2
    IPV6 = 10

    @classmethod
    def of(cls, address: str) -> Family:
        """Return the family of a literal address; raise ValueError for anything else."""
        return cls.IPV4 if ip_address(address).version == 4 else cls.IPV6


class Protocol(StrEnum):
    """Transport of a virtual service."""

    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"


class Forward(StrEnum):
    """Forwarding method of a destination."""

    DIRECT = "direct"
    TUNNEL = "tunnel"
    MASQUERADE = "masquerade"


class TunnelType(StrEnum):
    """Encapsulation of a tunnel destination."""

    IPIP = "ipip"
    GUE = "gue"
    GRE = "gre"


class TunnelChecksum(StrEnum):
    """Checksum in a GUE or GRE header."""

    NONE = "none"
    CHECKSUM = "checksum"
    REMOTE = "remote"
    """Remote checksum offload, GUE only."""


# --- The IPVS table ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class ServiceKey:
    """What identifies a virtual service in the kernel: protocol, address and port, or a firewall mark."""

    family: Family
    protocol: str = ""
    address: str = ""
    port: int = 0
    fwmark: int = 0

    def __str__(self) -> str:
        if self.fwmark:
            return f"fwmark {self.fwmark}" + (" (IPv6)" if self.family is Family.IPV6 else "")
        host = f"[{self.address}]" if self.family is Family.IPV6 else self.address
        return f"{self.protocol} {host}:{self.port}"


@dataclass(frozen=True, slots=True)
class VirtualService:
    """A virtual service as the kernel knows it, without its destinations."""

    key: ServiceKey
    scheduler: str = "wlc"
    scheduler_flags: frozenset[str] = frozenset()
    """Of "flag-1" "flag-2" "flag-3" (sh-fallback, sh-port, mh-fallback, mh-port are flags 1 and 2)."""
    persistence_s: int = 0
    """Seconds; 0 is not persistent."""
    persistence_prefix: int = 0
    """Prefix length of the client network that persistence groups by; 0 when not persistent, else 1-32 or 1-128."""
    persistence_engine: str = ""
    one_packet: bool = False


@dataclass(frozen=True, slots=True, order=True)
class DestinationKey:
    """What identifies a destination within its service: literal address and port."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Tunnel:
    """How packets to a tunnel destination are wrapped."""

    type: TunnelType = TunnelType.IPIP
    port: int = 0
    """UDP port of GUE; 0 otherwise."""
    checksum: TunnelChecksum = TunnelChecksum.NONE


@dataclass(frozen=True, slots=True)
class Destination:
    """A real server inside a virtual service as the kernel knows it."""

    key: DestinationKey
    forward: Forward = Forward.DIRECT
    weight: int = 1
    upper_threshold: int = 0
    """Connections above which it gets no new ones; 0 is no limit."""
    lower_threshold: int = 0
    tunnel: Tunnel | None = None
    """Set exactly when `forward` is TUNNEL."""


@dataclass(frozen=True, slots=True)
class TableEntry:
    """A virtual service with its destinations."""

    service: VirtualService
    destinations: Mapping[DestinationKey, Destination] = field(default_factory=dict)


Table = Mapping[ServiceKey, TableEntry]
"""An IPVS table, read from the kernel or wanted there."""


@dataclass(frozen=True, slots=True)
class IpvsTimeouts:
    """IPVS's connection timeouts in seconds; 0 leaves the kernel's value."""

    tcp_s: int = 0
    tcpfin_s: int = 0
    udp_s: int = 0


# --- Probing ----------------------------------------------------------------------------------------------


class CheckState(StrEnum):
    """What is known of one check."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Route:
    """How the packets of a check leave this machine, where the routing table alone does not say it."""

    source: tuple[str, ...] = ()
    """Addresses to ask from: the first that this machine has. None: as the kernel chooses."""
    interface: str = ""
    mark: int = 0
    """Firewall mark, for rules of policy routing; 0: none."""


@dataclass(frozen=True, slots=True)
class Check:
    """One probe against one target on a schedule. Identical checks of several services are one check.

    `id` is a stable hash of what is asked of whom, not of how often.
    """

    id: str
    type: str
    options: Mapping[str, object]
    """The probe's own options in JSON form, complete with defaults."""
    address: str
    port: int | None
    interval_ns: int
    timeout_ns: int
    rise: int
    fall: int
    service: str = ""
    """Set only for probes that declare `per_service`, which are then not shared between services."""
    group: str = ""
    plugin: bool = False
    """The probe is an outsider's plug-in and runs apart from the built-in ones."""
    route: Route | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the results of a check amount to."""

    check: str
    state: CheckState
    reason: str = ""
    """Why it is down, or "" when it is up."""
    since_wall_ns: int = 0
    held_until_wall_ns: int = 0
    """Flap damping keeps it down until then though probes succeed; 0 when not held."""
    penalty: float = 0.0
    """Flap damping's penalty at `penalty_wall_ns`."""
    penalty_wall_ns: int = 0


class ServerState(StrEnum):
    """State of a real server in a service, as status shows it."""

    UP = "up"
    DOWN = "down"
    DRAINING = "draining"
    DISABLED = "disabled"
    UNKNOWN = "unknown"


class OnFail(StrEnum):
    """What becomes of a destination whose server is down."""

    REMOVE = "remove"
    QUIESCE = "quiesce"


class OnAllDown(StrEnum):
    """What becomes of a service all of whose servers are down."""

    SORRY = "sorry"
    KEEP_LAST = "keep_last"
    KEEP_ALL = "keep_all"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """A server as configured in a service: its destination when all is well, and the checks that must pass."""

    destination: Destination
    checks: tuple[str, ...]
    """Check ids; all must be up. None: the server always counts as up."""


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """A service as configured."""

    name: str
    group: str
    virtual: VirtualService
    servers: tuple[ServerPlan, ...]
    sorry: ServerPlan | None
    on_fail: OnFail
    on_all_down: OnAllDown
    min_weight: int = 1
    """Weights of the servers that serve, added up, below which the service is down."""
    hysteresis: int = 0
    """It goes down only so far below that, and comes up only so far above."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a configuration means to this node: services to keep in IPVS and checks to run."""

    services: tuple[ServicePlan, ...]
    checks: Mapping[str, Check]
    timeouts: IpvsTimeouts = IpvsTimeouts()


class Admin(StrEnum):
    """What an administrator said of a server; survives restarts."""

    NONE = ""
    DRAINED = "drained"
    DISABLED = "disabled"


# --- Events -----------------------------------------------------------------------------------------------


class Severity(StrEnum):
    """How loud an event is."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Event:
    """One state change, told once; logs, alerts, journal, metrics and ctl are views of it."""

    name: str
    reason: str
    severity: Severity = Severity.INFO
    group: str = ""
    service: str = ""
    server: str = ""
    numbers: Mapping[str, int | float | str] = field(default_factory=dict)
