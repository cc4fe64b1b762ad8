"""IPVS's generic netlink messages: from the model to bytes and back. No I/O.

Numbers are from Linux's ``linux/ip_vs.h`` (UAPI): IPVS_CMD_, IPVS_CMD_ATTR_, IPVS_SVC_ATTR_, IPVS_DEST_ATTR_,
IP_VS_SVC_F_, IP_VS_CONN_F_. How they are taken: ``net/netfilter/ipvs/ip_vs_ctl.c``.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from hawatch.actions.netlink_codec import (
    GENERIC,
    Reply,
    Request,
    attribute,
    attribute_be16,
    attribute_string,
    attribute_u8,
    attribute_u16,
    attribute_u32,
    generic,
    nested,
    parse_attributes,
    to_int,
    to_text,
)
from hawatch.health.table import (
    AddDestination,
    AddService,
    Change,
    DeleteDestination,
    DeleteService,
    SetDestination,
    SetService,
)
from hawatch.model import (
    Destination,
    DestinationKey,
    Family,
    Forward,
    IpvsTimeouts,
    Protocol,
    ServiceKey,
    Tunnel,
    TunnelChecksum,
    TunnelType,
    VirtualService,
)

FAMILY_NAME = "IPVS"
VERSION = 1

CMD_NEW_SERVICE, CMD_SET_SERVICE, CMD_DEL_SERVICE, CMD_GET_SERVICE = 1, 2, 3, 4
CMD_NEW_DEST, CMD_SET_DEST, CMD_DEL_DEST, CMD_GET_DEST = 5, 6, 7, 8
CMD_NEW_DAEMON, CMD_GET_DAEMON = 9, 11
CMD_SET_CONFIG, CMD_GET_CONFIG = 12, 13

ATTR_SERVICE, ATTR_DEST = 1, 2
ATTR_TIMEOUT_TCP, ATTR_TIMEOUT_TCP_FIN, ATTR_TIMEOUT_UDP = 4, 5, 6

SVC_AF, SVC_PROTOCOL, SVC_ADDR, SVC_PORT, SVC_FWMARK, SVC_SCHED_NAME = 1, 2, 3, 4, 5, 6
SVC_FLAGS, SVC_TIMEOUT, SVC_NETMASK, SVC_PE_NAME, SVC_STATS64 = 7, 8, 9, 11, 12

DEST_ADDR, DEST_PORT, DEST_FWD_METHOD, DEST_WEIGHT, DEST_U_THRESH, DEST_L_THRESH = 1, 2, 3, 4, 5, 6
DEST_ACTIVE_CONNS, DEST_INACT_CONNS, DEST_PERSIST_CONNS = 7, 8, 9
DEST_ADDR_FAMILY, DEST_STATS64, DEST_TUN_TYPE, DEST_TUN_PORT, DEST_TUN_FLAGS = 11, 12, 13, 14, 15

STATS_CONNS, STATS_INPKTS, STATS_OUTPKTS, STATS_INBYTES, STATS_OUTBYTES, STATS_CPS = 1, 2, 3, 4, 5, 6
STATS_INPPS, STATS_OUTPPS, STATS_INBPS, STATS_OUTBPS = 7, 8, 9, 10
STATS_KINDS = (
    STATS_CONNS, STATS_INPKTS, STATS_OUTPKTS, STATS_INBYTES, STATS_OUTBYTES,
    STATS_CPS, STATS_INPPS, STATS_OUTPPS, STATS_INBPS, STATS_OUTBPS,
)  # fmt: skip
"""In the order of `Counts`."""

SVC_F_PERSISTENT, SVC_F_ONEPACKET = 0x1, 0x4
SCHEDULER_FLAGS = {"flag-1": 0x8, "flag-2": 0x10, "flag-3": 0x20}
SETTABLE_FLAGS = SVC_F_PERSISTENT | SVC_F_ONEPACKET | sum(SCHEDULER_FLAGS.values())

PROTOCOL_NUMBERS = {Protocol.TCP: 6, Protocol.UDP: 17, Protocol.SCTP: 132}
PROTOCOL_NAMES = {number: protocol for protocol, number in PROTOCOL_NUMBERS.items()}
FORWARD_NUMBERS = {Forward.MASQUERADE: 0, Forward.TUNNEL: 2, Forward.DIRECT: 3}
FORWARD_NAMES = {number: forward for forward, number in FORWARD_NUMBERS.items()}
FORWARD_MASK = 7
FORWARD_LOCAL = 1
"""IP_VS_CONN_F_LOCALNODE: what kernels before 2.6.37 made of a destination that is the director itself."""
TUNNEL_NUMBERS = {TunnelType.IPIP: 0, TunnelType.GUE: 1, TunnelType.GRE: 2}
TUNNEL_NAMES = {number: kind for kind, number in TUNNEL_NUMBERS.items()}
CHECKSUM_NUMBERS = {TunnelChecksum.NONE: 0, TunnelChecksum.CHECKSUM: 1, TunnelChecksum.REMOTE: 2}
CHECKSUM_NAMES = {number: kind for kind, number in CHECKSUM_NUMBERS.items()}

_FLAGS = struct.Struct("=II")
_FULL_MASK = {Family.IPV4: 32, Family.IPV6: 128}


class Counts(NamedTuple):
    """What the kernel counts of a destination, or of a service as a whole."""

    active: int
    """Connections that are established."""
    inactive: int
    """Connections in any other state, such as TIME_WAIT."""
    persistent: int
    connections: int = 0
    """All since the destination was added."""
    packets_in: int = 0
    packets_out: int = 0
    """0 where servers answer clients directly: the director does not see it."""
    bytes_in: int = 0
    bytes_out: int = 0
    connections_per_s: int = 0
    """A running mean of the kernel's, as the other rates."""
    packets_in_per_s: int = 0
    packets_out_per_s: int = 0
    bytes_in_per_s: int = 0
    bytes_out_per_s: int = 0


# --- To the kernel ----------------------------------------------------------------------------------------


def encode_change(family: int, change: Change) -> Request:
    """Return the request that makes a change; `family` is the number of IPVS's generic netlink family."""
    match change:
        case AddService(service):
            return generic(family, CMD_NEW_SERVICE, VERSION, encode_service(service))
        case SetService(service):
            return generic(family, CMD_SET_SERVICE, VERSION, encode_service(service))
        case DeleteService(key):
            return generic(family, CMD_DEL_SERVICE, VERSION, encode_service_key(key))
        case AddDestination(key, destination):
            return generic(family, CMD_NEW_DEST, VERSION, encode_service_key(key), encode_destination(destination))
        case SetDestination(key, destination):
            return generic(family, CMD_SET_DEST, VERSION, encode_service_key(key), encode_destination(destination))
        case DeleteDestination(key, address):
            return generic(family, CMD_DEL_DEST, VERSION, encode_service_key(key), encode_destination_key(address))


def encode_service_key(key: ServiceKey) -> bytes:
    """Return the attribute that names a service."""
    return nested(ATTR_SERVICE, *_service_key(key))


def encode_service(service: VirtualService) -> bytes:
    """Return the attribute that describes a service whole."""
    flags = sum(SCHEDULER_FLAGS[name] for name in service.scheduler_flags)
    if service.persistence_s:
        flags |= SVC_F_PERSISTENT
    if service.one_packet:
        flags |= SVC_F_ONEPACKET
    family = service.key.family
    return nested(
        ATTR_SERVICE,
        *_service_key(service.key),
        attribute_string(SVC_SCHED_NAME, service.scheduler),
        attribute_string(SVC_PE_NAME, service.persistence_engine) if service.persistence_engine else b"",
        attribute(SVC_FLAGS, _FLAGS.pack(flags, SETTABLE_FLAGS)),
        attribute_u32(SVC_TIMEOUT, service.persistence_s),
        attribute(SVC_NETMASK, _encode_mask(family, service.persistence_prefix or _FULL_MASK[family])),
    )


def encode_destination_key(key: DestinationKey) -> bytes:
    """Return the attribute that names a destination."""
    return nested(ATTR_DEST, *_destination_key(key))


def encode_destination(destination: Destination) -> bytes:
    """Return the attribute that describes a destination whole."""
    tunnel = destination.tunnel or Tunnel()
    assert (destination.forward is Forward.TUNNEL) == (destination.tunnel is not None), destination
    return nested(
        ATTR_DEST,
        *_destination_key(destination.key),
        attribute_u32(DEST_FWD_METHOD, FORWARD_NUMBERS[destination.forward]),
        attribute_u32(DEST_WEIGHT, destination.weight),
        attribute_u32(DEST_U_THRESH, destination.upper_threshold),
        attribute_u32(DEST_L_THRESH, destination.lower_threshold),
        attribute_u8(DEST_TUN_TYPE, TUNNEL_NUMBERS[tunnel.type]),
        attribute_be16(DEST_TUN_PORT, tunnel.port),
        attribute_u16(DEST_TUN_FLAGS, CHECKSUM_NUMBERS[tunnel.checksum]),
    )


def encode_timeouts(family: int, timeouts: IpvsTimeouts) -> Request:
    """Return the request that sets connection timeouts; 0 leaves one as it is."""
    wanted = (
        (ATTR_TIMEOUT_TCP, timeouts.tcp_s),
        (ATTR_TIMEOUT_TCP_FIN, timeouts.tcpfin_s),
        (ATTR_TIMEOUT_UDP, timeouts.udp_s),
    )
    return generic(family, CMD_SET_CONFIG, VERSION, *(attribute_u32(kind, value) for kind, value in wanted))


def _service_key(key: ServiceKey) -> tuple[bytes, ...]:
    if key.fwmark:
        return attribute_u16(SVC_AF, key.family), attribute_u32(SVC_FWMARK, key.fwmark)
    return (
        attribute_u16(SVC_AF, key.family),
        attribute_u16(SVC_PROTOCOL, PROTOCOL_NUMBERS[Protocol(key.protocol)]),
        attribute(SVC_ADDR, ip_address(key.address).packed.ljust(16, b"\0")),
        attribute_be16(SVC_PORT, key.port),
    )


def _destination_key(key: DestinationKey) -> tuple[bytes, ...]:
    address = ip_address(key.address)
    return (
        attribute_u16(DEST_ADDR_FAMILY, Family.IPV4 if address.version == 4 else Family.IPV6),
        attribute(DEST_ADDR, address.packed.ljust(16, b"\0")),
        attribute_be16(DEST_PORT, key.port),
    )


def _encode_mask(family: Family, prefix: int) -> bytes:
    """Return a netmask as the kernel wants it: a mask for IPv4, for IPv6 the prefix length as a number."""
    if family is Family.IPV6:
        return struct.pack("=I", prefix)
    return ((0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF).to_bytes(4, "big")


# --- From the kernel --------------------------------------------------------------------------------------


def decode_service(reply: Reply) -> tuple[VirtualService, Counts] | None:
    """Return the service of one message of a dump, and what the kernel counts of it; open connections are not told.

    None for one of another protocol than ours: the kernel takes any number, and such a service is nobody's business.
    """
    fields = parse_attributes(parse_attributes(reply.body, GENERIC.size)[ATTR_SERVICE])
    family = Family(to_int(fields[SVC_AF]))
    fwmark = to_int(fields.get(SVC_FWMARK, b""))
    if fwmark:
        key = ServiceKey(family, fwmark=fwmark)
    else:
        protocol = PROTOCOL_NAMES.get(to_int(fields[SVC_PROTOCOL]))
        if protocol is None:
            return None
        address = _decode_address(family, fields[SVC_ADDR])
        key = ServiceKey(family, protocol.value, address, int.from_bytes(fields[SVC_PORT], "big"))
    flags = _FLAGS.unpack(fields[SVC_FLAGS])[0]
    persistent = bool(flags & SVC_F_PERSISTENT)
    service = VirtualService(
        key,
        scheduler=to_text(fields.get(SVC_SCHED_NAME, b"")),
        scheduler_flags=frozenset(name for name, bit in SCHEDULER_FLAGS.items() if flags & bit),
        persistence_s=to_int(fields[SVC_TIMEOUT]) if persistent else 0,
        persistence_prefix=_decode_mask(family, fields[SVC_NETMASK]) if persistent else 0,
        persistence_engine=to_text(fields.get(SVC_PE_NAME, b"")),
        one_packet=bool(flags & SVC_F_ONEPACKET),
    )
    return service, _decode_counts(fields.get(SVC_STATS64, b""))


def decode_destination(reply: Reply, service_family: Family) -> tuple[Destination, Counts]:
    """Return the destination of one message of a dump, and what the kernel counts of it."""
    fields = parse_attributes(parse_attributes(reply.body, GENERIC.size)[ATTR_DEST])
    family = Family(to_int(fields[DEST_ADDR_FAMILY])) if DEST_ADDR_FAMILY in fields else service_family
    method = to_int(fields[DEST_FWD_METHOD]) & FORWARD_MASK
    forward = Forward.DIRECT if method == FORWARD_LOCAL else FORWARD_NAMES.get(method, Forward.DIRECT)
    destination = Destination(
        DestinationKey(_decode_address(family, fields[DEST_ADDR]), int.from_bytes(fields[DEST_PORT], "big")),
        forward=forward,
        weight=to_int(fields[DEST_WEIGHT]),
        upper_threshold=to_int(fields[DEST_U_THRESH]),
        lower_threshold=to_int(fields[DEST_L_THRESH]),
        tunnel=_decode_tunnel(fields) if forward is Forward.TUNNEL else None,
    )
    connections = (to_int(fields[kind]) for kind in (DEST_ACTIVE_CONNS, DEST_INACT_CONNS, DEST_PERSIST_CONNS))
    return destination, _decode_counts(fields.get(DEST_STATS64, b""), *connections)


def decode_timeouts(reply: Reply) -> IpvsTimeouts:
    """Return the connection timeouts that the kernel has now."""
    fields = parse_attributes(reply.body, GENERIC.size)
    return IpvsTimeouts(*(to_int(fields[k]) for k in (ATTR_TIMEOUT_TCP, ATTR_TIMEOUT_TCP_FIN, ATTR_TIMEOUT_UDP)))


def _decode_address(family: Family, packed: bytes) -> str:
    return str(IPv4Address(packed[:4]) if family is Family.IPV4 else IPv6Address(packed[:16]))


def _decode_mask(family: Family, packed: bytes) -> int:
    return to_int(packed) if family is Family.IPV6 else int.from_bytes(packed, "big").bit_count()


def _decode_tunnel(fields: dict[int, bytes]) -> Tunnel:
    """Return how a tunnel wraps; kernels before 5.3 know IPIP only and tell nothing."""
    kind = TUNNEL_NAMES.get(to_int(fields.get(DEST_TUN_TYPE, b"\0")), TunnelType.IPIP)
    port = int.from_bytes(fields.get(DEST_TUN_PORT, b"\0\0"), "big")
    checksum = CHECKSUM_NAMES.get(to_int(fields.get(DEST_TUN_FLAGS, b"\0")), TunnelChecksum.NONE)
    return Tunnel(kind, port, checksum)


def _decode_counts(packed: bytes, active: int = 0, inactive: int = 0, persistent: int = 0) -> Counts:
    stats = {kind: to_int(value) for kind, value in parse_attributes(packed).items()}
    return Counts(active, inactive, persistent, *(stats.get(kind, 0) for kind in STATS_KINDS))
