"""The kernel's own IPVS: what is written is what is read, and what is right is left alone."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from hawatch.actions.ipvs import Ipvs, check_capabilities
from hawatch.actions.ipvs_codec import SVC_PROTOCOL, encode_change
from hawatch.actions.netlink_codec import Request, attribute_u16
from hawatch.health.table import AddDestination, AddService, DeleteDestination, SetDestination, diff
from hawatch.model import (
    Destination,
    DestinationKey,
    Family,
    Forward,
    IpvsTimeouts,
    OnAllDown,
    OnFail,
    Plan,
    ServiceKey,
    ServicePlan,
    TableEntry,
    Tunnel,
    TunnelChecksum,
    TunnelType,
    VirtualService,
)

pytestmark = pytest.mark.kernel

FOUR = ServiceKey(Family.IPV4, "tcp", "192.0.2.1", 80)
SIX = ServiceKey(Family.IPV6, "tcp", "2001:db8::1", 80)
SERVER = DestinationKey("198.51.100.1", 80)
SERVER_SIX = DestinationKey("2001:db8:1::1", 80)
SCHEDULERS = ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "fo", "ovf"]


def ipvsadm(*words: str) -> str:
    return subprocess.run(["ipvsadm", *words], check=True, capture_output=True, text=True, timeout=30).stdout


@pytest.fixture
def ipvs() -> Iterator[Ipvs]:
    ipvsadm("-C")
    with Ipvs.open() as opened:
        yield opened
    ipvsadm("-C")


def table(service: VirtualService, *destinations: Destination) -> dict[ServiceKey, TableEntry]:
    return {service.key: TableEntry(service, {one.key: one for one in destinations})}


def tunnel(kind: TunnelType, port: int = 0, checksum: TunnelChecksum = TunnelChecksum.NONE) -> Destination:
    return Destination(SERVER, Forward.TUNNEL, tunnel=Tunnel(kind, port, checksum))


FLAGGED = [("sh", {"flag-1"}), ("sh", {"flag-1", "flag-2"}), ("mh", {"flag-2"})]
DNS = VirtualService(ServiceKey(Family.IPV4, "udp", "192.0.2.1", 53), one_packet=True)
SIP = VirtualService(
    ServiceKey(Family.IPV4, "udp", "192.0.2.1", 5060),
    persistence_s=60,
    persistence_prefix=32,
    persistence_engine="sip",
)
SCTP = VirtualService(ServiceKey(Family.IPV4, "sctp", "192.0.2.1", 99))
WANTED = [
    *(table(VirtualService(FOUR, name), Destination(SERVER)) for name in SCHEDULERS),
    *(table(VirtualService(FOUR, name, frozenset(flags)), Destination(SERVER)) for name, flags in FLAGGED),
    table(VirtualService(SIX), Destination(SERVER_SIX, weight=0)),
    table(DNS, Destination(DestinationKey("198.51.100.1", 53))),
    table(SCTP, Destination(DestinationKey("198.51.100.1", 99))),
    table(VirtualService(ServiceKey(Family.IPV4, fwmark=7)), Destination(DestinationKey("198.51.100.1", 0))),
    table(VirtualService(ServiceKey(Family.IPV6, fwmark=7)), Destination(DestinationKey("2001:db8:1::1", 0))),
    table(VirtualService(FOUR, persistence_s=300, persistence_prefix=32), Destination(SERVER)),
    table(VirtualService(FOUR, persistence_s=360, persistence_prefix=24), Destination(SERVER)),
    table(VirtualService(SIX, persistence_s=60, persistence_prefix=64), Destination(SERVER_SIX)),
    table(SIP, Destination(DestinationKey("198.51.100.1", 5060))),
    table(VirtualService(FOUR), Destination(DestinationKey("198.51.100.1", 8080), Forward.MASQUERADE, weight=65535)),
    table(VirtualService(FOUR), Destination(SERVER, upper_threshold=100, lower_threshold=50)),
    table(VirtualService(FOUR), tunnel(TunnelType.IPIP)),
    table(VirtualService(FOUR), tunnel(TunnelType.GUE, 6080)),
    table(VirtualService(FOUR), tunnel(TunnelType.GUE, 6080, TunnelChecksum.CHECKSUM)),
    table(VirtualService(FOUR), tunnel(TunnelType.GUE, 6080, TunnelChecksum.REMOTE)),
    table(VirtualService(FOUR), tunnel(TunnelType.GRE, 0, TunnelChecksum.CHECKSUM)),
    table(VirtualService(FOUR), Destination(SERVER_SIX, Forward.TUNNEL, tunnel=Tunnel())),
]  # fmt: skip


@pytest.mark.parametrize("wanted", WANTED, ids=lambda wanted: str(next(iter(wanted.values())))[:60])
def test_what_is_written_is_what_is_read(ipvs: Ipvs, wanted):
    assert ipvs.apply(diff(ipvs.read(), wanted)) == ()
    found = ipvs.read()
    assert found == wanted
    assert diff(found, wanted) == ()


def test_altering_keeps_the_service_and_its_connections(ipvs: Ipvs):
    ipvs.apply(diff({}, table(VirtualService(FOUR, "rr"), Destination(SERVER, weight=1))))
    changed = table(
        VirtualService(FOUR, "wlc", persistence_s=60, persistence_prefix=32),
        Destination(SERVER, Forward.MASQUERADE, weight=9),
    )
    assert ipvs.apply(diff(ipvs.read(), changed)) == ()
    assert ipvs.read() == changed
    assert "-A -t 192.0.2.1:80 -s wlc -p 60" in ipvsadm("-Sn")
    assert "-m -w 9" in ipvsadm("-Sn")


def test_foreign_services_stay(ipvs: Ipvs):
    ipvsadm("-A", "-t", "203.0.113.9:443", "-s", "rr")
    ipvs.apply(diff(ipvs.read(), table(VirtualService(FOUR), Destination(SERVER))))
    ipvs.apply(diff(ipvs.read(), {}, owned=[FOUR]))
    assert ipvsadm("-Sn").strip() == "-A -t 203.0.113.9:443 -s rr"


def test_a_service_of_no_protocol_that_we_know_is_passed_over(ipvs: Ipvs):
    """A program that forgets the protocol makes one of number 0."""
    made = encode_change(ipvs._family, AddService(VirtualService(FOUR)))
    tcp = attribute_u16(SVC_PROTOCOL, 6)
    assert made.body.count(tcp) == 1
    ipvs._netlink.request(Request(made.type, made.body.replace(tcp, attribute_u16(SVC_PROTOCOL, 0)), made.flags))
    assert ipvsadm("-Ln").count("192.0.2.1:80") == 1
    assert ipvs.read() == {}
    ours = table(VirtualService(FOUR), Destination(SERVER))
    assert ipvs.apply(diff({}, ours)) == ()
    assert ipvs.read() == ours
    assert ipvsadm("-Ln").count("192.0.2.1:80") == 2


def test_a_refusal_names_the_change_and_the_others_are_made(ipvs: Ipvs):
    bad = VirtualService(ServiceKey(Family.IPV4, "tcp", "192.0.2.2", 80), "nosuch")
    failures = ipvs.apply(
        [AddService(bad), AddService(VirtualService(FOUR)), AddDestination(FOUR, Destination(SERVER))]
    )
    assert [failure.change for failure in failures] == [AddService(bad)]
    assert "scheduler" in failures[0].reason
    assert list(ipvs.read()) == [FOUR]


def test_removing_what_is_gone_is_no_failure(ipvs: Ipvs):
    ipvs.apply([AddService(VirtualService(FOUR))])
    assert ipvs.apply([DeleteDestination(FOUR, SERVER)]) == ()
    assert len(ipvs.apply([SetDestination(FOUR, Destination(SERVER))])) == 1


def test_two_thousand_destinations_at_once(ipvs: Ipvs):
    wanted = {}
    for one in range(100):
        service = VirtualService(ServiceKey(Family.IPV4, "tcp", f"192.0.2.{one}", 80))
        held = [Destination(DestinationKey(f"198.51.{one}.{n}", 80)) for n in range(20)]
        wanted |= table(service, *held)
    assert ipvs.apply(diff({}, wanted)) == ()
    assert ipvs.read() == wanted


def test_timeouts(ipvs: Ipvs):
    before = ipvs.read_timeouts()
    try:
        assert ipvs.set_timeouts(IpvsTimeouts(tcp_s=1234))
        now = ipvs.read_timeouts()
        assert now == IpvsTimeouts(1234, before.tcpfin_s, before.udp_s)
        assert not ipvs.set_timeouts(now)
    finally:
        ipvs.set_timeouts(before)


def test_counts(ipvs: Ipvs):
    ipvs.apply(diff({}, table(VirtualService(FOUR), Destination(SERVER))))
    counts = ipvs.read_counts([FOUR, SIX])
    assert counts[FOUR][SERVER].active == 0
    assert SIX not in counts or counts[SIX] == {}


def test_this_kernel_has_every_scheduler():
    services = tuple(
        ServicePlan(name, "", VirtualService(FOUR, name), (), None, OnFail.REMOVE, OnAllDown.EMPTY)
        for name in SCHEDULERS
    )
    assert check_capabilities(Plan(services, {})) == []
    odd = ServicePlan("odd", "", VirtualService(FOUR, "nosuch"), (), None, OnFail.REMOVE, OnAllDown.EMPTY)
    assert "nosuch" in check_capabilities(Plan((odd,), {}))[0]
