"""Bytes to and from the kernel that need no kernel to be checked."""

from __future__ import annotations

import struct

from hawatch.actions.ipvs import missing_modules
from hawatch.actions.ipvs_codec import (
    ATTR_DEST,
    CMD_NEW_DEST,
    CMD_SET_DEST,
    DEST_ADDR,
    DEST_PORT,
    DEST_STATS64,
    decode_destination,
    encode_change,
    encode_service,
)
from hawatch.actions.netlink_codec import (
    GENERIC,
    Reply,
    attribute,
    attribute_be16,
    attribute_u32,
    nested,
    parse_attributes,
)
from hawatch.health.table import AddDestination, SetDestination
from hawatch.model import (
    Destination,
    DestinationKey,
    Family,
    OnAllDown,
    OnFail,
    Plan,
    ServiceKey,
    ServicePlan,
    VirtualService,
)

KEY = ServiceKey(Family.IPV4, "tcp", "192.0.2.1", 80)


def plan(scheduler: str, engine: str = "") -> Plan:
    virtual = VirtualService(KEY, scheduler, persistence_engine=engine)
    return Plan((ServicePlan("http", "", virtual, (), None, OnFail.REMOVE, OnAllDown.EMPTY),), {})


def test_an_altered_destination_is_set_and_never_deleted():
    destination = Destination(DestinationKey("198.51.100.1", 80))
    assert encode_change(30, SetDestination(KEY, destination)).body[0] == CMD_SET_DEST
    assert encode_change(30, AddDestination(KEY, destination)).body[0] == CMD_NEW_DEST


def test_netmasks_by_family():
    four = VirtualService(KEY, persistence_s=60, persistence_prefix=24)
    six = VirtualService(ServiceKey(Family.IPV6, "tcp", "2001:db8::1", 80), persistence_s=60, persistence_prefix=64)
    found = [parse_attributes(parse_attributes(encode_service(one))[1])[9] for one in (four, six)]
    assert found[0] == b"\xff\xff\xff\x00"
    assert int.from_bytes(found[1], "little") == 64


def test_a_missing_scheduler_is_told():
    assert missing_modules(plan("wlc"), {"ip_vs", "ip_vs_wlc"}) == []
    told = missing_modules(plan("mh", "sip"), {"ip_vs", "ip_vs_wlc"})
    assert len(told) == 2
    assert "scheduler mh of service http" in told[0]
    assert "ip_vs_pe_sip" in told[1]
    assert missing_modules(plan("mh"), None) == []


def test_each_count_of_the_kernel_has_its_place():
    """Numbers of linux/ip_vs.h, IPVS_STATS_ATTR_: CONNS 1, INPKTS 2 ... OUTBPS 10."""
    stats = b"".join(attribute(kind, struct.pack("=Q", kind * (1 << 33))) for kind in range(1, 11))
    address = attribute(DEST_ADDR, bytes((198, 51, 100, 1)).ljust(16, b"\0"))
    numbers = [attribute_u32(kind, kind) for kind in (3, 4, 5, 6, 7, 8, 9)]
    body = nested(ATTR_DEST, address, attribute_be16(DEST_PORT, 80), *numbers, nested(DEST_STATS64, stats))
    destination, counts = decode_destination(Reply(0, 0, 0, bytes(GENERIC.size) + body), Family.IPV4)
    assert destination.key == DestinationKey("198.51.100.1", 80)
    assert (counts.active, counts.inactive, counts.persistent) == (7, 8, 9)
    wanted = {
        "connections": 1, "packets_in": 2, "packets_out": 3, "bytes_in": 4, "bytes_out": 5, "connections_per_s": 6,
        "packets_in_per_s": 7, "packets_out_per_s": 8, "bytes_in_per_s": 9, "bytes_out_per_s": 10,
    }  # fmt: skip
    assert {name: getattr(counts, name) >> 33 for name in wanted} == wanted


def test_a_kernel_that_counts_nothing():
    address = attribute(DEST_ADDR, bytes(16))
    numbers = [attribute_u32(kind, 1) for kind in (3, 4, 5, 6, 7, 8, 9)]
    body = nested(ATTR_DEST, address, attribute_be16(DEST_PORT, 80), *numbers)
    _, counts = decode_destination(Reply(0, 0, 0, bytes(GENERIC.size) + body), Family.IPV4)
    assert counts == (1, 1, 1, *[0] * 10)
