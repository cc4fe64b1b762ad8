"""The site: directors, three real servers and two clients on one network.

    lan 192.168.1.0/24, fd00::/64      lvs1 .5   lvs2 .6   rs1 .1  rs2 .2  rs3 .3   c1 .10  c2 .11   gw .254
    hb  10.99.0.0/24                   lvs1 .1   lvs2 .2   rs1 .3 (the witness)
    VIP 192.168.1.110, fd00::110

With direct routing the servers carry the VIP on lo and keep quiet about it (arp_ignore, arp_announce). With
masquerading they sit in a network of their own behind the director (10.1.0.0/24, fd01::/64), which is their gateway.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.lab.pair.namespaces import Lab, Link, Node
from tests.lab.uml import has_ipvs

if TYPE_CHECKING:
    from collections.abc import Iterator

VIP = "192.168.1.110"
VIP6 = "fd00::110"
DIRECTORS = {"lvs1": 5, "lvs2": 6}
SERVERS = {"rs1": 1, "rs2": 2, "rs3": 3}
CLIENTS = {"c1": 10, "c2": 11}
GATEWAY = {"gw": 254}
HEARTBEAT = {"lvs1": 1, "lvs2": 2, "rs1": 3}
LAN, HB, INNER = "lan", "hb", "inner"
DIRECTOR_INNER = 254
QUIET_ABOUT_VIP = {"net.ipv4.conf.all.arp_ignore": "1", "net.ipv4.conf.all.arp_announce": "2"}
FORWARDS = {
    "net.ipv4.ip_forward": "1",
    "net.ipv6.conf.all.forwarding": "1",
    "net.ipv4.conf.all.send_redirects": "0",
    "net.ipv4.conf.default.send_redirects": "0",
}
HOSTS = {**DIRECTORS, **SERVERS, **CLIENTS, **GATEWAY}


def address_of(name: str) -> str:
    """Return a node's address on the clients' network."""
    return f"192.168.1.{HOSTS[name]}"


def lan(name: str) -> Link:
    """Return a node's link on the clients' network."""
    number = HOSTS[name]
    return Link("eth0", LAN, (f"192.168.1.{number}/24", f"fd00::{number}/64"), mac_of(name))


def mac_of(name: str) -> str:
    """Return the hardware address of a node's eth0: it ends with the node's number, for people who read captures."""
    return f"02:00:00:00:00:{HOSTS[name]:02x}"


def heartbeat(name: str) -> Link:
    """Return a node's link on the heartbeat network."""
    number = HEARTBEAT[name]
    return Link("eth1", HB, (f"10.99.0.{number}/24",), f"02:00:00:00:99:{number:02x}")


class Site:
    """The nodes by role. `masquerade` puts the servers behind the (one) director."""

    def __init__(
        self,
        lab: Lab,
        *,
        directors: Sequence[str] = ("lvs1",),
        masquerade: bool = False,
        servers: bool = True,
        witness: bool = False,
    ) -> None:
        self.lab = lab
        self.masquerade = masquerade
        self.directors = [self._director(name) for name in directors]
        self.servers = [self._server(name) for name in SERVERS] if servers else []
        self.witness = self.servers[0] if servers else self._witness() if witness else None
        self.clients = [lab.add(Node(lab, name, (lan(name),))) for name in CLIENTS]
        self.gateway = lab.add(Node(lab, "gw", (lan("gw"),)))

    @property
    def director(self) -> Node:
        """The first director."""
        return self.directors[0]

    def node(self, name: str) -> Node:
        """Return a node by name."""
        return self.lab.nodes[name]

    def add_vip(self, node: Node) -> None:
        """Bring the VIP up on a director by hand, as someone does who runs no failover."""
        node.ip(f"address replace {VIP}/32 dev eth0", f"address replace {VIP6}/128 dev eth0 nodad")

    def _director(self, name: str) -> Node:
        links = [replace(lan(name), bridged=has_ipvs()), heartbeat(name)]
        if self.masquerade:
            own = DIRECTOR_INNER
            links.append(Link("eth2", INNER, (f"10.1.0.{own}/24", f"fd01::{own}/64"), f"02:00:00:00:01:{own:02x}"))
        settings = {**FORWARDS, "net.ipv4.vs.conntrack": "1"} if self.masquerade else FORWARDS
        settings = {key: value for key, value in settings.items() if not key.startswith("net.ipv4.vs") or has_ipvs()}
        return self.lab.add(Node(self.lab, name, tuple(links), settings))

    def _witness(self) -> Node:
        return self.lab.add(Node(self.lab, "rs1", (lan("rs1"), heartbeat("rs1"))))

    def _server(self, name: str) -> Node:
        number = SERVERS[name]
        if self.masquerade:
            inner = Link("eth0", INNER, (f"10.1.0.{number}/24", f"fd01::{number}/64"), f"02:00:00:00:01:{number:02x}")
            gateway = (
                f"route add default via 10.1.0.{DIRECTOR_INNER}",
                f"route add default via fd01::{DIRECTOR_INNER}",
            )
            return self.lab.add(Node(self.lab, name, (inner,), {}, gateway))
        links = (lan(name), heartbeat(name)) if name in HEARTBEAT else (lan(name),)
        vip = (f"address add {VIP}/32 dev lo", f"address add {VIP6}/128 dev lo nodad")
        return self.lab.add(Node(self.lab, name, links, QUIET_ABOUT_VIP, vip))


@contextmanager
def site(
    *, directors: Sequence[str] = ("lvs1",), masquerade: bool = False, servers: bool = True, witness: bool = False
) -> Iterator[Site]:
    """Make the site (without the real servers, where only the VIP matters); it is gone afterwards."""
    bridges = (LAN, HB, INNER) if masquerade else (LAN, HB)
    with Lab(bridges) as lab:
        yield Site(lab, directors=directors, masquerade=masquerade, servers=servers, witness=witness)
