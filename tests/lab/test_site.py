"""The lab is what it claims to be, proven with ipvsadm and without the agent."""

from __future__ import annotations

import subprocess

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
