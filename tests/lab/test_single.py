"""A single director as outsiders see it: the real command line, in a network namespace, without IPVS."""

from __future__ import annotations

import grp
import json
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.lab.outsider import HAWATCH, Agent, as_user, command, until
from tests.lab.pair.site import site
from tests.lab.promise import DONE, REFUSED, STATUS, UNAVAILABLE, differences, wrong_event, wrong_states

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(180)]
VIP, VIP6, NOBODY = "192.168.1.110", "fd00::110", 65534
FILE = """\
[control]
group = "daemon"

[[director]]
name = "lvs1"

[[group]]
name = "web"
addresses = [{ address = "192.168.1.110/32", interface = "eth0" }, { address = "fd00::110/128", interface = "eth0" }]
"""


@pytest.fixture(scope="module")
def one() -> Iterator[Agent]:
    with site(servers=False) as made:
        agent = Agent(made.director, FILE)
        agent.start()
        until(lambda: agent.has(VIP) and agent.has(VIP6), "the addresses are up")
        yield agent


def test_a_single_director_owns_its_groups_and_brings_their_addresses_up(one: Agent) -> None:
    until(lambda: one.has(VIP) and one.has(VIP6), "the addresses are up")
    group = one.group()
    assert (group["state"], group["owner"]) == ("owner", "lvs1")
    assert group["addresses"] == ["192.168.1.110/32", "fd00::110/128"]
    status = one.status()
    assert differences(status, STATUS) == []
    assert wrong_states(status) == []
    assert status["directors"] == []
    for words in ("switchover", "switchover --group web", "takeover --force --group web", "giveaway", "resume"):
        said = one.ctl(*words.split())
        assert (said.status, said.out) == (REFUSED, ""), words
        assert "lvs1 is a single director" in said.err
    shown = one.node.run("ip", "-o", "address", "show", "scope", "global", "dev", "eth0")
    assert one.stop() == 0
    assert one.ctl("status").status == UNAVAILABLE
    assert one.has(VIP)
    one.start()
    one.kill()
    assert one.has(VIP)
    one.start()
    assert one.node.run("ip", "-o", "address", "show", "scope", "global", "dev", "eth0") == shown
    told = len(one.events())
    one.node.ip(f"address del {VIP}/32 dev eth0")
    restored = until(
        lambda: [event for event in one.events()[told:] if event["name"] == "vip_restored"], "that is told"
    )
    assert [event["reason"] for event in restored] == [f"somebody removed {VIP}: put back"]
    assert one.has(VIP)


def test_a_reload_applies_all_or_nothing(one: Agent) -> None:
    before = [event["name"] for event in one.events()]
    fewer = FILE.replace(', { address = "fd00::110/128", interface = "eth0" }', "")
    one.write(fewer.replace('interface = "eth0"', 'interfaec = "eth0"'))
    said = one.ctl("reload")
    assert said.status == REFUSED
    assert "interfaec" in said.err
    assert one.ctl("reload", "--json").json["problems"]
    assert one.has(VIP6)
    one.write(fewer)
    said = one.ctl("reload", "--json")
    assert said.status == DONE
    assert said.json["changes"]
    until(lambda: not one.has(VIP6), "the address that left the file is taken down")
    assert one.has(VIP)
    one.write(FILE)
    assert one.process is not None
    one.process.send_signal(signal.SIGHUP)
    until(lambda: one.has(VIP6), "SIGHUP does the same")
    names = [event["name"] for event in one.events()][len(before) :]
    assert [name for name in names if name.startswith("config")] == ["config_rejected"] * 2 + ["config_reloaded"] * 2


def test_an_interface_that_is_not_there_is_a_warning_and_no_stop(one: Agent) -> None:
    one.write(FILE.replace(f'"{VIP6}/128", interface = "eth0"', f'"{VIP6}/128", interface = "eth9"'))
    assert one.ctl("reload").status == DONE
    warnings = until(lambda: one.status()["warnings"], "the status warns")
    assert warnings == [f"{VIP6} cannot be put on eth9: there is no such interface"]
    group = one.group()
    assert (group["state"], group["reason"]) == ("owner", warnings[0])
    assert one.has(VIP)
    assert warnings[0] in one.ctl("status").out
    one.write(FILE)
    assert one.ctl("reload").status == DONE
    until(lambda: one.has(VIP6) and not one.status()["warnings"], "all is well again")


def test_who_may_steer_it(one: Agent) -> None:
    words = ("ctl", "--runtime-dir", one.home / "run", "status", "--json")
    member, stranger = grp.getgrnam("daemon").gr_gid, 65533
    said = as_user(NOBODY, [], *words)
    assert (said.status, said.out) == (REFUSED, "")
    assert "may not" in said.err
    assert as_user(NOBODY, [stranger], *words).status == REFUSED
    said = as_user(NOBODY, [member], *words)
    assert said.status == DONE
    assert said.json["node"] == "lvs1"
    (one.home / "run" / "ctl.sock").chmod(0o666)  # even one who gets as far as the socket is looked at
    said = as_user(NOBODY, [], *words)
    assert said.status == REFUSED
    assert f"user {NOBODY} may not" in said.err


def test_events_are_lines_of_json_and_can_be_followed(one: Agent) -> None:
    events = one.events()
    assert [line for event in events for line in wrong_event(event)] == []
    assert sorted(events, key=lambda event: event["time"]) == events
    words = [HAWATCH, "ctl", "--runtime-dir", str(one.home / "run"), "events", "--follow", "--json"]
    with subprocess.Popen(one.node.argv(words), stdout=subprocess.PIPE, text=True) as follower:
        try:
            assert follower.stdout is not None
            seen = [json.loads(follower.stdout.readline())["name"] for _ in events]
            assert seen == [event["name"] for event in events]
            assert one.ctl("reload").status == DONE
            assert json.loads(follower.stdout.readline())["name"] == "config_reloaded"
        finally:
            follower.kill()


def test_the_status_is_shown_anew_until_one_has_seen_enough(one: Agent) -> None:
    words = ["env", "--default-signal=INT", HAWATCH, "ctl", "--runtime-dir", str(one.home / "run"), "status", "--watch"]
    with subprocess.Popen(one.node.argv(words), stdout=subprocess.PIPE, text=True) as watcher:
        assert watcher.stdout is not None
        heads = 0
        while heads < 2:
            heads += watcher.stdout.readline().startswith("lvs1")
        watcher.send_signal(signal.SIGINT)
        assert watcher.wait(60) == DONE


def test_several_agents_on_one_machine(one: Agent) -> None:
    """In one namespace, even: places of their own are enough for them."""
    text = '[cluster]\nname = "other"\n[[director]]\nname = "lvs1"\n'
    second = Agent(one.node, text, folder="second")
    second.start()
    assert (second.status()["cluster"], one.status()["cluster"]) == ("other", "default")
    words = ("run", "-c", second.file, "--runtime-dir", one.home / "run", "--state-dir", second.home / "third")
    said = command(*words, node=one.node)
    assert said.status == REFUSED
    assert "--runtime-dir" in said.err
    assert second.stop() == 0
    assert one.ctl("status").status == DONE


def test_one_director_becomes_two_and_one_again(one: Agent) -> None:
    """On another machine of the site; the second director is never there."""
    address = "192.168.1.120"
    group = f'[[group]]\nname = "web"\naddresses = [{{ address = "{address}/32", interface = "eth0" }}]\n'
    alone = f'[[director]]\nname = "c1"\nlinks = ["192.168.1.10"]\n{group}'
    shared = '[cluster]\nkey_file = "HOME/cluster.key"\nprofile = "fast"\nquorum = "none"\n'
    shared += f'[[director]]\nname = "c2"\nlinks = ["192.168.1.11"]\n{alone}'
    agent = Agent(one.node.lab.nodes["c1"], alone)

    def lifetime() -> str:
        return agent.node.run("ip", "-o", "address", "show", "to", address)

    agent.start()
    until(lambda: "valid_lft forever" in lifetime(), "a single director has it for good")
    assert agent.stop() == 0
    agent.write(shared)
    agent.start()
    until(lambda: agent.group()["state"] == "owner" and agent.has(address), "it has the lease")
    assert "valid_lft forever" not in lifetime()
    assert agent.group()["gate"] == "nftables"
    assert "hawatch" in agent.node.run("nft", "list", "tables")
    agent.kill()
    agent.write(alone)
    agent.start()
    until(lambda: "valid_lft forever" in lifetime(), "it is for good again")
    assert "hawatch" not in agent.node.run("nft", "list", "tables")
    assert one.node.run("ping", "-c", "1", "-W", "5", address)
    assert agent.group()["gate"] == "none"
    assert agent.stop() == 0
