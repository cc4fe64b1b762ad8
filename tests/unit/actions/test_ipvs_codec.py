"""Bytes to and from the kernel that need no kernel to be checked."""

from __future__ import annotations

from hawatch.actions.ipvs import missing_modules
from hawatch.actions.ipvs_codec import CMD_NEW_DEST, CMD_SET_DEST, encode_change, encode_service
from hawatch.actions.netlink_codec import parse_attributes
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
