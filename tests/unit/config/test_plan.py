"""What a configuration means to a node."""

from __future__ import annotations

import pickle

import pytest

from hawatch.config.load import load_text
from hawatch.config.plan import find_node, make_plan
from hawatch.errors import ConfigError
from hawatch.model import (
    Check,
    Destination,
    DestinationKey,
    Family,
    Forward,
    IpvsTimeouts,
    OnAllDown,
    OnFail,
    Route,
    ServiceKey,
    Tunnel,
    TunnelChecksum,
    TunnelType,
    VirtualService,
)
from tests.unit.config.fakes import FAKES, PAIR, SERVICE, SITE

NS = 1_000_000_000
ALONE = SERVICE.replace('group = "web"\n', "")


def plan_of(text, node="lvs1"):
    return make_plan(load_text(text, probes=FAKES), node, FAKES)


def service(keys, text=ALONE):
    return text.replace('name = "http"\n', f'name = "http"\n{keys}\n')


def test_a_service_and_its_check():
    plan = plan_of(SITE)
    (found,) = plan.services
    assert (found.name, found.group, found.sorry) == ("http", "web", None)
    assert (found.on_fail, found.on_all_down) == (OnFail.REMOVE, OnAllDown.KEEP_LAST)
    assert found.virtual == VirtualService(ServiceKey(Family.IPV4, "tcp", "192.168.1.110", 80))
    (server,) = found.servers
    assert server.destination == Destination(DestinationKey("192.168.1.1", 80))
    (check_id,) = server.checks
    assert plan.checks == {
        check_id: Check(check_id, "tcp", {"send": "", "expect": ""}, "192.168.1.1", 80, 2 * NS, NS, 2, 3)
    }


def test_ids_are_the_same_in_every_process():
    """A verdict is kept under its id through restarts and upgrades: this number changes only with intent."""
    assert list(plan_of(SITE).checks) == ["e633f9e08ee8522f5c3b1a91"]


def test_all_that_the_kernel_is_told():
    text = service(
        'persistence = "90s"\npersistence_mask = 24\npersistence_engine = "sip"\nprotocol = "udp"\none_packet = true\n'
        'scheduler = "mh"\nscheduler_flags = ["mh-port", "mh-fallback", "flag-3"]\nforward = "tunnel"\n'
        'tunnel = { type = "gue", port = 6080, checksum = "remote" }\non_fail = "quiesce"'
    )
    text += "weight = 7\nupper_threshold = 9\nlower_threshold = 8\n" + '[ipvs]\ntcp = "15m"\nudp = "1500ms"\n'
    plan = plan_of(text)
    (found,) = plan.services
    assert found.on_fail is OnFail.QUIESCE
    assert found.virtual == VirtualService(
        ServiceKey(Family.IPV4, "udp", "192.168.1.110", 80),
        "mh", frozenset({"flag-1", "flag-2", "flag-3"}), 90, 24, "sip", one_packet=True,
    )  # fmt: skip
    assert found.servers[0].destination == Destination(
        DestinationKey("192.168.1.1", 80), Forward.TUNNEL, 7, 9, 8,
        Tunnel(TunnelType.GUE, 6080, TunnelChecksum.REMOTE),
    )  # fmt: skip
    assert plan.timeouts == IpvsTimeouts(900, 0, 2)


@pytest.mark.parametrize(
    ("keys", "key", "prefix"),
    [
        ('persistence = "1s"', ServiceKey(Family.IPV4, "tcp", "192.168.1.110", 80), 32),
        ("", ServiceKey(Family.IPV4, "tcp", "192.168.1.110", 80), 0),
        ("fwmark = 7", ServiceKey(Family.IPV4, fwmark=7), 0),
        ('fwmark = 7\nfamily = "ipv6"\nforward = "tunnel"', ServiceKey(Family.IPV6, fwmark=7), 0),
        ('fwmark = 7\nfamily = "ipv6"\nforward = "tunnel"\npersistence = "1s"', ServiceKey(Family.IPV6, fwmark=7), 128),
    ],
)
def test_keys(keys, key, prefix):
    text = service(keys)
    if "fwmark" in keys:
        text = text.replace('address = "192.168.1.110"\nport = 80\n', "").replace('"tcp" }', '"tcp", port = 9 }')
    virtual = plan_of(text).services[0].virtual
    assert (virtual.key, virtual.persistence_prefix) == (key, prefix)


def test_a_server_overrides():
    text = ALONE + 'forward = "masquerade"\nport = 8080\n[[service.server]]\naddress = "fd00::2"\nforward = "tunnel"\n'
    first, second = plan_of(text).services[0].servers
    assert first.destination == Destination(DestinationKey("192.168.1.1", 8080), Forward.MASQUERADE)
    assert second.destination == Destination(DestinationKey("fd00::2", 80), Forward.TUNNEL, tunnel=Tunnel())


def test_the_same_check_of_two_services_is_one():
    plan = plan_of(ALONE + service('protocol = "udp"').replace('"http"', '"two"'))
    first, second = (found.servers[0].checks for found in plan.services)
    assert first == second
    assert len(plan.checks) == 1


def test_another_schedule_is_another_check_and_the_first_keeps_its_id():
    other = service('protocol = "udp"').replace('"http"', '"two"').replace('"tcp" }', '"tcp", interval = "9s" }')
    alone, both, swapped = plan_of(ALONE), plan_of(ALONE + other), plan_of(other + ALONE)
    assert len(both.checks) == len(swapped.checks) == 2
    assert set(alone.checks) < set(both.checks)
    assert both.services[0].servers[0].checks == alone.services[0].servers[0].checks
    assert {check.interval_ns for check in both.checks.values()} == {2 * NS, 9 * NS}


@pytest.mark.parametrize("options", ['expect = "x"', "port = 81", 'address = "10.0.0.2"'])
def test_another_question_is_another_check(options):
    other = service('protocol = "udp"').replace('"http"', '"two"').replace('"tcp" }', f'"tcp", {options} }}')
    assert len(plan_of(ALONE + other).checks) == 2


def test_a_probe_per_service_is_not_shared():
    text = ALONE.replace('"tcp"', '"outside"')
    plan = plan_of(text + service('protocol = "udp"', text).replace('"http"', '"two"'))
    assert {check.service for check in plan.checks.values()} == {"http", "two"}
    assert all(check.plugin for check in plan.checks.values())


def test_overrides_of_what_is_asked():
    (check,) = plan_of(ALONE.replace('"tcp" }', '"tcp", port = 81, address = "10.0.0.2" }')).checks.values()
    assert (check.address, check.port) == ("10.0.0.2", 81)


def test_a_probe_without_ports_has_none():
    (check,) = plan_of(ALONE.replace('"tcp"', '"ping"')).checks.values()
    assert check.port is None


def test_all_probes_of_a_service():
    text = (
        ALONE.replace('probe = { type = "tcp" }\n', "")
        + '[[service.probe]]\ntype = "tcp"\n[[service.probe]]\ntype = "ping"\n'
    )
    (server,) = plan_of(text).services[0].servers
    assert len(server.checks) == 2


def test_a_service_without_a_probe():
    plan = plan_of(ALONE.replace('probe = { type = "tcp" }\n', ""))
    assert plan.services[0].servers[0].checks == ()
    assert plan.checks == {}


def test_the_sorry_server_is_probed_at_its_own_address():
    plan = plan_of(service('sorry_server = "192.168.1.9:8080"\nsorry_forward = "masquerade"'))
    sorry = plan.services[0].sorry
    assert sorry is not None
    assert sorry.destination == Destination(DestinationKey("192.168.1.9", 8080), Forward.MASQUERADE)
    check = plan.checks[sorry.checks[0]]
    assert (check.address, check.port) == ("192.168.1.9", 8080)
    assert plan.services[0].on_all_down is OnAllDown.SORRY


def test_a_sorry_server_without_a_port_has_the_service_s():
    sorry = plan_of(service('sorry_server = "192.168.1.9"')).services[0].sorry
    assert sorry is not None
    assert sorry.destination == Destination(DestinationKey("192.168.1.9", 80))


def test_a_witness_has_nothing_to_do():
    assert plan_of(SITE, "rs1").services == ()


def test_plans_and_configurations_go_between_processes():
    config = load_text(SITE, probes=FAKES)
    assert pickle.loads(pickle.dumps(config)) == config
    assert pickle.loads(pickle.dumps(make_plan(config, "lvs1", FAKES))) == make_plan(config, "lvs1", FAKES)


@pytest.mark.parametrize(
    ("text", "wanted", "hostname", "name"),
    [
        (PAIR, "", "lvs1", "lvs1"),
        (PAIR, "", "lvs2.example.org", "lvs2"),
        (PAIR.replace('"lvs2"', '"lvs2.example.org"'), "", "lvs2.example.org", "lvs2.example.org"),
        (PAIR, "rs1", "lvs1", "rs1"),
        ('[[director]]\nname = "one"\n', "", "other", "one"),
        ("", "", "host.example.org", "host"),
        ("", "x", "host", "x"),
    ],
)
def test_who_am_i(text, wanted, hostname, name):
    assert find_node(load_text(text, probes=FAKES), wanted, hostname) == name


@pytest.mark.parametrize(
    ("wanted", "hostname", "words"),
    [
        ("lvs3", "lvs1", 'named "lvs3"; did you mean "lvs'),
        ("", "lvs3", "no director or witness; there are: lvs1, lvs2, rs1"),
    ],
)
def test_who_am_i_not(wanted, hostname, words):
    with pytest.raises(ConfigError, match=words):
        find_node(load_text(PAIR, probes=FAKES), wanted, hostname)


def test_a_way_of_its_own_makes_another_check():
    plain = plan_of(SITE)
    way = 'source = ["192.168.1.5", "192.168.1.6"], interface = "eth0", mark = 7'
    routed = plan_of(SITE.replace('"tcp" }', f'"tcp", {way} }}') + "probe_mark = 9\n")
    (check,) = routed.checks.values()
    assert check.route == Route(("192.168.1.5", "192.168.1.6"), "eth0", 9)
    assert check.id not in plain.checks
    marks = [Route(mark=7), Route(mark=8)]
    server = '[[service.server]]\naddress = "192.168.1.{}"\nprobe_mark = {}\n'
    text = SITE.replace('"tcp" }', '"tcp", address = "192.168.1.110" }').partition("[[service.server]]")[0]
    two = plan_of(text + server.format(1, 7) + server.format(2, 8))
    assert [(check.address, check.route) for check in two.checks.values()] == [("192.168.1.110", one) for one in marks]
