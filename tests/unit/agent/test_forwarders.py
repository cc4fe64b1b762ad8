from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hawatch.agent.forwarders import Forwarders, shared_groups
from hawatch.agent.places import Places
from hawatch.agent.settings import Settings, load_settings
from hawatch.cli.main import main
from tests.unit.actions.two_hosts import MAC_C, TwoHosts, two_hosts

pytestmark = [pytest.mark.netns, pytest.mark.slow]
CONFIG = """\
[cluster]
key_file = "{home}/keys"
quorum = "none"

[[director]]
name = "lvs1"
links = ["10.99.0.1", "192.0.2.1"]

[[director]]
name = "lvs2"
links = ["10.99.0.2", "192.0.2.2"]

[[group]]
name = "web"
ipvs = "owner"
addresses = [{{ address = "192.0.2.110/32", interface = "eth0" }}, {{ address = "192.0.2.111/32", interface = "lo" }}]

[[group]]
name = "mail"
addresses = [{{ address = "192.0.2.112/32", interface = "eth9" }}]
"""
UNKNOWN = (
    "director lvs2 was never heard on {} by a heartbeat link: what it forwards to this director as a real server is"
    " dropped"
)


@pytest.fixture
def hosts() -> Iterator[TwoHosts]:
    with two_hosts() as found:
        yield found


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    assert main(["keygen", str(tmp_path / "keys")]) == 0
    (tmp_path / "hawatch.toml").write_text(CONFIG.format(home=tmp_path))
    return load_settings(Places(tmp_path / "hawatch.toml", tmp_path, tmp_path), "lvs1")


def neighbour(hosts: TwoHosts, *words: str) -> None:
    subprocess.run(["ip", "-n", hosts.a, "neigh", *words, "dev", "eth0"], check=True)


def test_forwarders_are_the_other_directors_where_the_vips_of_shared_groups_are(
    hosts: TwoHosts, settings: Settings
) -> None:
    assert shared_groups(settings) == {"web"}
    forwarders = hosts.on_a(Forwarders)
    assert forwarders.problems() == []
    forwarders.set_settings(settings)
    assert hosts.on_a(forwarders.look) == frozenset()
    assert forwarders.problems() == [UNKNOWN.format("eth0"), UNKNOWN.format("lo")]
    hosts.on_a(lambda: subprocess.run(["ping", "-q", "-c1", "-W5", "192.0.2.2"], check=True, capture_output=True))
    assert hosts.on_a(forwarders.look) == {MAC_C}
    assert forwarders.problems() == [UNKNOWN.format("lo")]
    neighbour(hosts, "replace", "192.0.2.3", "lladdr", "02:00:00:00:00:33")
    assert hosts.on_a(forwarders.look) == {MAC_C}, "nobody else is one"
    neighbour(hosts, "del", "192.0.2.2")
    assert hosts.on_a(forwarders.look) == {MAC_C}, "a director that is silent is known on"
    neighbour(hosts, "replace", "192.0.2.2", "lladdr", "02:00:00:00:00:44")
    assert hosts.on_a(forwarders.look) == {"02:00:00:00:00:44"}, "another card takes the place of the former"
    group = settings.config.group[0].model_copy(update={"ipvs": "always"})
    always = settings.config.model_copy(update={"group": (group, *settings.config.group[1:])})
    forwarders.set_settings(replace(settings, config=always))
    assert hosts.on_a(forwarders.look) == frozenset()
    assert forwarders.problems() == []
    forwarders.close()


def test_a_kernel_that_does_not_tell_is_a_problem_and_takes_nobody_away(hosts: TwoHosts, settings: Settings) -> None:
    forwarders = hosts.on_a(Forwarders)
    forwarders.set_settings(settings)
    neighbour(hosts, "replace", "192.0.2.2", "lladdr", MAC_C)
    assert hosts.on_a(forwarders.look) == {MAC_C}
    forwarders.close()
    assert hosts.on_a(forwarders.look) == {MAC_C}
    assert forwarders.problems()[0].startswith("the kernel does not tell its neighbours' hardware addresses: ")
