"""Two hosts on one cable, as network namespaces: `a` has the VIPs, `c` is a client."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from hawatch.actions.arp import Wire
from tests.lab.netns import call_in_namespace
from tests.lab.pair.shell import wait_until

VIP, VIP6 = "192.0.2.110", "2001:db8::110"
MAC_A, MAC_C = "02:00:00:00:02:01", "02:00:00:00:02:02"
PORT = 7777
T = TypeVar("T")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@dataclass
class TwoHosts:
    a: str
    c: str

    def on_a(self, work: Callable[[], T]) -> T:
        return call_in_namespace(self.a, work)

    def on_c(self, work: Callable[[], T]) -> T:
        return call_in_namespace(self.c, work)

    def add_vips(self) -> None:
        ip("-n", self.a, "address", "add", f"{VIP}/32", "dev", "eth0")
        ip("-n", self.a, "address", "add", f"{VIP6}/128", "dev", "eth0", "nodad")

    def addresses(self) -> str:
        done = subprocess.run(
            ["ip", "-n", self.a, "-o", "address", "show", "dev", "eth0"], capture_output=True, text=True, check=True
        )
        return done.stdout


def is_up(name: str) -> bool:
    """Tell whether the kernel uses a host's link."""
    words = ["ip", "-n", name, "-brief", "link", "show", "dev", "eth0"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[1] == "UP"


@contextmanager
def two_hosts() -> Iterator[TwoHosts]:
    """Make them; they are gone afterwards."""
    a, c = f"hwgate{os.getpid()}a", f"hwgate{os.getpid()}c"
    try:
        for name in (a, c):
            ip("netns", "add", name)
            for setting in ("net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0"):
                subprocess.run(["ip", "netns", "exec", name, "sysctl", "-qw", setting], check=True)
        ip("-n", a, "link", "add", "eth0", "address", MAC_A, "type", "veth",
           "peer", "name", "eth0", "address", MAC_C, "netns", c)  # fmt: skip
        for name, number in ((a, 1), (c, 2)):
            ip("-n", name, "address", "add", f"192.0.2.{number}/24", "dev", "eth0")
            ip("-n", name, "address", "add", f"2001:db8::{number}/64", "dev", "eth0", "nodad")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", "eth0", "up")
        for name in (a, c):  # what is sent before the kernel has begun to use a link is lost without a word
            wait_until(lambda name=name: is_up(name), f"the link of {name} is used", limit_s=10)
        yield TwoHosts(a, c)
    finally:
        for name in (a, c):
            subprocess.run(["ip", "netns", "delete", name], check=False)


class Asker:
    """Looks from the client whether `a` answers for its VIPs: by ARP or neighbour discovery, and by UDP."""

    def __init__(self, hosts: TwoHosts) -> None:
        self.wire = hosts.on_c(lambda: Wire("eth0"))
        self.servers: list[socket.socket] = []
        self.clients: dict[str, socket.socket] = {}
        for address, family in ((VIP, socket.AF_INET), (VIP6, socket.AF_INET6)):
            server = hosts.on_a(lambda family=family: socket.socket(family, socket.SOCK_DGRAM))
            server.bind((address, PORT))
            server.setblocking(False)
            self.servers.append(server)
            self.clients[address] = hosts.on_c(lambda family=family: socket.socket(family, socket.SOCK_DGRAM))
            self.clients[address].setblocking(False)
        for family, address, mac in ((4, VIP, MAC_A), (6, VIP6, MAC_A)):
            ip(
                "-n",
                hosts.c,
                f"-{family}",
                "neigh",
                "replace",
                address,
                "lladdr",
                mac,
                "dev",
                "eth0",
                "nud",
                "permanent",
            )

    def close(self) -> None:
        self.wire.close()
        for each in (*self.servers, *self.clients.values()):
            each.close()

    def told(self, address: str, wait_s: float = 0.05) -> bool:
        """Ask who has the address; tell whether somebody answers."""
        self.wire.heard()
        self.wire.ask([address])
        until = time.monotonic() + wait_s
        while (left := until - time.monotonic()) > 0:
            select.select([self.wire], [], [], left)
            if any(told.address == address and not told.probe for told in self.wire.heard()):
                return True
        return False

    def reached(self, address: str, wait_s: float = 0.05) -> bool:
        """Send a datagram, past address resolution; tell whether it comes in."""
        server = self.servers[(VIP, VIP6).index(address)]
        self.clients[address].sendto(b"?", (address, PORT))
        came = bool(select.select([server], [], [], wait_s)[0])
        if came:
            server.recv(16)
        return came

    def answers(self) -> dict[str, bool]:
        """Return what works."""
        return {
            "arp": self.told(VIP), "nd": self.told(VIP6), "ipv4": self.reached(VIP), "ipv6": self.reached(VIP6)
        }  # fmt: skip


ALL = {"arp": True, "nd": True, "ipv4": True, "ipv6": True}
NOTHING = dict.fromkeys(ALL, False)
