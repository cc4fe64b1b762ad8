"""From numbers to metrics: each value where it belongs, and nothing where nothing is known."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hawatch.actions.ipvs_codec import Counts
from hawatch.agent.ownership import SingleOwnership
from hawatch.cluster.report import report
from hawatch.config.alerts import Detail
from hawatch.console.catalogue import CATALOGUE
from hawatch.console.collector import OPEN, TOTALS, Families
from hawatch.console.exposition import portions
from hawatch.console.text_format import LINES_PER_PORTION, label_text
from tests.unit.agent.keeper_site import settings
from tests.unit.cluster.small_site import T_NS, SmallSite
from tests.unit.console.numbers import PLAN, measures, render, snapshot


def scrape(found, detail=Detail.CHECK):
    """Return each sample's value by name and labels."""
    samples = {}
    for family in text_string_to_metric_families(render(found, detail).decode()):
        for sample in family.samples:
            key = sample.name, *sorted(sample.labels.items())
            assert key not in samples, "the same series twice"
            samples[key] = sample.value
    return samples


def value(samples, name, /, **labels):
    return samples.get((f"hawatch_{name}", *sorted(labels.items())))


@pytest.mark.parametrize(
    ("name", "labels", "wanted"),
    [
        ("core_up", {}, 1),
        ("service_up", {"service": "http"}, 1),
        ("service_up", {"service": "six"}, None),
        ("service_servers", {"service": "http"}, 2),
        ("service_servers_up", {"service": "http"}, 1),
        ("server_up", {"service": "http", "server": "192.0.2.1:80"}, 1),
        ("server_up", {"service": "http", "server": "192.0.2.2:80"}, 0),
        ("server_drained", {"service": "http", "server": "192.0.2.2:80"}, 1),
        ("server_up", {"service": "six", "server": "[2001:db8::1]:80"}, None),
        ("server_weight_configured", {"service": "http", "server": "192.0.2.1:80"}, 3),
        ("server_latency_seconds", {"service": "http", "server": "192.0.2.1:80"}, 0.00084),
        ("server_latency_seconds", {"service": "http", "server": "192.0.2.2:80"}, None),
        ("ipvs_service_connections_total", {"service": "http"}, 40),
        ("ipvs_service_outgoing_bytes_per_second", {"service": "http"}, 300),
        ("ipvs_server_active_connections", {"service": "http", "server": "192.0.2.1:80"}, 5),
        ("ipvs_server_incoming_packets_total", {"service": "http", "server": "192.0.2.1:80"}, 400),
        ("ipvs_server_incoming_packets_total", {"service": "http", "server": "192.0.2.2:80"}, None),
        ("group_owner", {"group": "web"}, 1),
        ("group_owner", {"group": "mail"}, 0),
        ("group_state", {"group": "mail", "state": "standby"}, 1),
        ("group_state", {"group": "mail", "state": "conflict"}, 0),
        ("lease_remaining_seconds", {"group": "web"}, 1.234),
        ("lease_remaining_seconds", {"group": "mail"}, None),
        ("lease_renewals_total", {"group": "mail"}, 0),
        ("lease_refusals_total", {"group": "web", "acceptor": "rs1", "reason": "held"}, 2),
        ("peer_up", {"peer": "lvs2", "role": "director"}, 1),
        ("peer_up", {"peer": "rs1", "role": "witness"}, 0),
        ("link_heartbeats_lost_total", {"peer": "lvs2", "address": "10.99.0.2"}, 2),
        ("link_round_trip_seconds", {"peer": "lvs2", "address": "10.99.0.2"}, 0.00025),
        ("link_round_trip_seconds", {"peer": "lvs2", "address": "192.0.2.6"}, None),
        ("worker_restarts_total", {"worker": "prober"}, 2),
        ("worker_late_checks_total", {"worker": "prober"}, 1),
        ("worker_skipped_checks_total", {"worker": "prober"}, 2),
        ("worker_late_checks_total", {"worker": "core"}, None),
        ("core_lag_seconds_count", {}, 2),
        ("core_lag_seconds_bucket", {"le": "0.0005"}, 1),
        ("core_lag_seconds_bucket", {"le": "+Inf"}, 2),
        ("events_total", {"name": "server_down"}, 7),
        ("alerts_waiting", {"alert": "email/ops"}, 2),
        ("alerts_waiting", {"alert": "webhook/chat"}, 0),
        ("alerts_oldest_waiting_timestamp_seconds", {"alert": "webhook/chat"}, None),
        ("process_cpu_seconds_total", {"worker": "core"}, 1.25),
    ],
)  # fmt: skip
def test_value(name, labels, wanted):
    assert value(scrape(measures()), name, **labels) == wanted


def test_probes():
    samples = scrape(measures())
    first = next(iter(PLAN.checks.values()))
    labels = {"check": first.id, "probe": "http", "target": "192.0.2.1:80"}
    assert value(samples, "probe_up", **labels) == 1
    assert value(samples, "probe_runs_total", **labels) == 10
    assert value(samples, "probe_failures_total", **labels) == 4
    for name, which, times in (
        ("check_latency_seconds", labels, 1),
        ("probe_latency_seconds", {"service": "http", "probe": "http"}, 2),
    ):
        assert value(samples, f"{name}_bucket", **which, le="0.001") == 2 * times
        assert value(samples, f"{name}_bucket", **which, le="0.05") == 3 * times
        assert value(samples, f"{name}_bucket", **which, le="+Inf") == 4 * times
        assert value(samples, f"{name}_count", **which) == 4 * times
        assert value(samples, f"{name}_sum", **which) == pytest.approx(9.0316 * times)
    assert value(samples, "probe_info", **labels, service="http", server="192.0.2.1:80") == 1
    ping = next(check for check in PLAN.checks.values() if check.type == "ping")
    info = {"check": ping.id, "probe": "ping", "target": "2001:db8::1"}
    assert value(samples, "probe_info", **info, service="six", server="[2001:db8::1]:80") == 1
    assert not any("an earlier configuration" in str(key) for key in samples)


def test_what_a_node_reports_is_understood():
    """The collector and the report of a real node agree on the words."""
    cluster = SmallSite()
    cluster.run(4 * T_NS)
    for name, owner in (("a", 1), ("b", 0)):
        samples = scrape(measures(report(cluster.node(name), cluster.now_ns)))
        assert value(samples, "group_owner", group="web") == owner
        assert value(samples, "quorum_reachable") == 3
        assert value(samples, "lease_duration_seconds") == T_NS / 1e9
        assert sum(key[0] == "hawatch_peer_up" and samples[key] == 1 for key in samples) == 2
        assert sum(key[0] == "hawatch_link_round_trip_seconds" for key in samples) >= 2
        remaining = value(samples, "lease_remaining_seconds", group="web")
        assert (remaining is not None and 0 < remaining <= T_NS / 1e9) if owner else remaining is None


def test_without_a_core_only_the_console_speaks():
    samples = scrape(None)
    assert value(samples, "core_up") == 0
    assert value(samples, "events_total", name="server_down") == 7
    assert not any(key[0].startswith(("hawatch_server", "hawatch_group", "hawatch_lease")) for key in samples)


def test_a_single_director_has_groups_and_no_lease():
    status = SingleOwnership(settings()).status()
    groups = [{"name": "web", "state": "owner", "owner": "lvs1", "epoch": 0}]
    samples = scrape(measures({**status, "groups": groups}))
    assert value(samples, "quorum_held") == 1
    assert value(samples, "group_owner", group="web") == 1
    assert value(samples, "lease_remaining_seconds", group="web") is None
    assert value(samples, "lease_duration_seconds") is None


@pytest.mark.parametrize(
    ("detail", "labels", "gone"),
    [
        (Detail.SERVICE, {"server", "check"}, None),
        (Detail.SERVER, set(), "hawatch_check_latency_seconds"),
    ],
)
def test_how_far_down_it_goes(detail, labels, gone):
    every, found = scrape(measures()), scrape(measures(), detail)
    lacking = {key for key in every if key not in found}
    assert lacking == {
        key for key in every
        if {name for name, _ in key[1:]} & labels or (gone and key[0].startswith(gone))
    }  # fmt: skip
    assert lacking
    assert value(found, "probe_latency_seconds_count", service="http", probe="http") == 8


def test_labels_may_be_anything():
    assert label_text(("a", "b"), ('quo"te', "back\\slash\nline")) == 'a="quo\\"te",b="back\\\\slash\\nline"'


def test_the_text_comes_in_portions():
    made = list(portions(snapshot(measures(many=300))))
    assert max(part.count(b"\n") for part in made) <= LINES_PER_PORTION + 2
    assert len(made) > 300, "and gathering it as well"


def test_every_metric_of_the_catalogue_has_a_value_here():
    lines = render(measures(), Detail.CHECK).decode().splitlines()
    types = dict(line.split()[2:] for line in lines if line.startswith("# TYPE "))
    assert types == {spec.name: str(spec.kind) for spec in CATALOGUE.values()}


def test_every_count_of_the_kernel_is_told():
    assert sorted({**TOTALS, **OPEN}.values()) == sorted(Counts._fields)


def test_what_is_not_in_the_catalogue_cannot_be_added():
    with pytest.raises(KeyError):
        Families().add("news", 1)
    with pytest.raises(AssertionError):
        Families().add("core_lag_seconds", 1)
