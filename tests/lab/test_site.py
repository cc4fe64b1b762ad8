"""The lab is what it claims to be, proven with ipvsadm and without the agent."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.lab import client
from tests.lab.daemons import bind, dovecot, nginx, postfix
from tests.lab.netns import call_in_namespace
from tests.lab.site import VIP, Site, open_site

pytestmark = pytest.mark.kernel


def balance(site: Site, port: int, flag: str, method: str) -> None:
    site.add_vip()
    site.director.run("ipvsadm", "-A", flag, f"{VIP}:{port}", "-s", "rr")
    for server in site.servers:
        site.director.run("ipvsadm", "-a", flag, f"{VIP}:{port}", "-r", f"{server.address}:{port}", method)


@pytest.mark.parametrize("masquerade", [False, True])
def test_clients_reach_every_web_server(masquerade):
    with open_site(masquerade=masquerade) as site:
        daemons = [nginx(site, server) for server in site.servers]
        for daemon in daemons:
            daemon.start()
        for daemon in daemons:
            daemon.wait()
        balance(site, 80, "-t", "-m" if masquerade else "-g")
        found = {call_in_namespace(site.clients[0].namespace, lambda: client.ask_http(VIP)) for _ in range(6)}
        assert found == {"server1", "server2", "server3"}
        namespaces = [host.namespace for host in site.hosts]
        folder = site.folder
    left = subprocess.run(["ip", "netns"], check=True, capture_output=True, text=True).stdout
    assert not any(namespace in left for namespace in namespaces)
    assert not folder.exists()


@pytest.mark.timeout(240)
def test_mail_and_name_servers_answer_through_the_vip():
    with open_site() as site:
        site.add_vip()
        server = site.servers[0]
        daemons = [make(site, server) for make in (postfix, dovecot, bind)]
        for daemon in daemons:
            daemon.start()
        for daemon in daemons:
            daemon.wait()
        for port, flag in ((25, "-t"), (110, "-t"), (53, "-u")):
            site.director.run("ipvsadm", "-A", flag, f"{VIP}:{port}")
            site.director.run("ipvsadm", "-a", flag, f"{VIP}:{port}", "-r", f"{server.address}:{port}", "-g")

        def ask() -> tuple[str, str, str]:
            mail = client.ask_line(VIP, 25, b"220", b"QUIT\r\n")
            return mail, client.ask_line(VIP, 110, b"+OK", b"QUIT\r\n"), client.ask_dns(VIP)

        assert call_in_namespace(site.clients[0].namespace, ask) == ("server1", "Dovecot", VIP)


SAME_SITE = """\
[[director]]
name = "lvs1"
links = ["192.168.1.5"]

[[service]]
name = "http"
address = "192.168.1.110"
port = 80
probe = { type = "http", address = "192.168.1.110", source = ["192.168.1.6", "192.168.1.5"], interval = "500ms", \
timeout = "400ms", rise = 1, fall = 2 }
"""


@pytest.mark.timeout(240)
def test_the_vip_is_asked_at_each_server():
    """As docs/howto/probe-the-vip.md has it."""
    with open_site() as site:
        daemons = [nginx(site, server) for server in site.servers]
        for daemon in daemons:
            daemon.start()
        for daemon in daemons:
            daemon.wait()
        config = SAME_SITE
        for number, server in enumerate(site.servers, 1):
            config += f'[[service.server]]\naddress = "{server.address}"\nprobe_mark = {1000 + number}\n'
        for number, server in enumerate(site.servers, 1):
            config += f'[[service]]\nname = "probe-{number}"\nfwmark = {1000 + number}\non_all_down = "empty"\n'
            config += f'server = [{{ address = "{server.address}" }}]\n'
        (site.folder / "hawatch.toml").write_text(config)
        site.director.run("sysctl", "-qw", "net.ipv4.conf.eth0.accept_local=1")
        program = (str(Path(sys.executable).with_name("hawatch")),)
        places = ("--runtime-dir", str(site.folder / "run"))
        agent = (*program, "run", "-c", str(site.folder / "hawatch.toml"), *places)
        site.director.start((*agent, "--state-dir", str(site.folder / "state")), site.folder / "agent.log")

        def states() -> list[str]:
            text = site.director.run(*program, "ctl", *places, "status", "--json", check=False)
            return [one["state"] for one in json.loads(text)["services"][0]["servers"]] if text else []

        wait_for(states, ["up", "up", "up"])
        daemons[1].stop()
        wait_for(states, ["up", "down", "up"])


def wait_for(states, wanted):
    found = []
    for _ in range(60):
        found = states()
        if found == wanted:
            return
        time.sleep(0.5)
    raise AssertionError(f"{found}, wanted {wanted}")
