"""A group of many VIPs that moves: how soon each of them is announced, by the kernel's own stamps on the wire.

python -m tests.lab.pair.many [COUNT] [RUNS]
"""

from __future__ import annotations

import ipaddress
import socket
import statistics
import struct
import sys
import threading
from dataclasses import dataclass

from hawatch.control import protocol
from tests.lab.netns import enter_namespace
from tests.lab.pair.arp import ARP, ETH_P_ARP
from tests.lab.pair.hawatch import Hawatch
from tests.lab.pair.machine import wait_owner
from tests.lab.pair.scene import Scene
from tests.lab.pair.shell import LabError, ended_by_signals, wait_until
from tests.lab.pair.site import mac_of, site

COUNT = 250
NETWORK = ipaddress.ip_network("10.200.0.0/16")
SO_TIMESTAMPNS = 35
SO_RCVBUFFORCE = 33
BUFFER_BYTES = 8 << 20
QUIET_S = 0.3
"""The capture ends when nothing has come for so long after the first frame."""
STAMP = struct.Struct("@qq")


@dataclass(frozen=True, slots=True)
class Moved:
    """One move of all VIPs."""

    took_ms: float
    """From the administrator's word until the new owner said that it answers."""
    last_first_ms: float
    """From the first frame of all to the first frame of the VIP that came last."""


def addresses(count: int = COUNT) -> list[str]:
    """Return so many VIPs, in a network of their own."""
    return [str(NETWORK[256 + number]) for number in range(count)]


class Capture:
    """Takes down when the announcements of a machine come by; the stamps are the kernel's."""

    def __init__(self, namespace: str, mac: str) -> None:
        self.mac = mac
        self.first: dict[str, int] = {}
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(namespace,), daemon=True)
        self.thread.start()
        if not self.ready.wait(10):
            raise LabError("the capture did not start")

    def _run(self, namespace: str) -> None:
        enter_namespace(namespace)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ARP)) as wire:
            wire.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
            wire.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            wire.bind(("eth0", ETH_P_ARP))
            wire.settimeout(10)
            self.ready.set()
            try:
                while True:
                    frame, ancillary, _flags, _address = wire.recvmsg(256, 64)
                    self._take(frame, ancillary)
                    if self.first:
                        wire.settimeout(QUIET_S)
            except TimeoutError:
                return

    def _take(self, frame: bytes, ancillary: list[tuple[int, int, bytes]]) -> None:
        if len(frame) < ARP.size:
            return
        fields = ARP.unpack_from(frame)
        sender_mac, sender, target = fields[8], fields[9], fields[11]
        if sender_mac.hex(":") != self.mac or sender != target:
            return
        seconds, nanoseconds = STAMP.unpack_from(ancillary[0][2])
        self.first.setdefault(socket.inet_ntoa(sender), seconds * 1_000_000_000 + nanoseconds)

    def result(self) -> dict[str, int]:
        """Return when each address was announced first."""
        self.thread.join(20)
        return self.first


def move(scene: Scene, vips: list[str]) -> Moved:
    """Switch all VIPs over, and take down what came by."""
    agent = scene.adapter
    assert isinstance(agent, Hawatch)
    owner, standby = scene.owner, scene.standby
    capture = Capture(scene.pair.node("c2").namespace, mac_of(standby.name))
    said = agent.ask(owner, protocol.Switchover(group="web", to=standby.name))
    first = capture.result()
    missing = set(vips) - first.keys()
    if missing:
        raise LabError(f"{len(missing)} of {len(vips)} VIPs were not announced")
    spread_ms = (max(first.values()) - min(first.values())) / 1e6
    scene.owner = wait_owner(scene.directors, vips[0])
    return Moved(float(said["took_ms"]), spread_ms)


def moves(count: int, runs: int) -> list[Moved]:
    """Make a pair with so many VIPs and move them so often."""
    vips = addresses(count)
    agent = Hawatch("default", addresses=vips)
    with site(directors=("lvs1", "lvs2"), servers=False, witness=True) as pair:
        scene = Scene(pair, agent)
        wait_until(lambda: all(map(agent.ready, scene.machines)), "the agents work", limit_s=60)
        wait_until(lambda: agent.well(scene.directors), "the pair is well", limit_s=60)
        scene.owner = wait_owner(scene.directors, vips[0])
        found = []
        for _ in range(runs):
            wait_until(lambda: agent.well(scene.directors), "the pair is well", limit_s=60)
            found.append(move(scene, vips))
        return found


def main() -> int:
    """Print the figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with ended_by_signals():
        found = moves(count, runs)
    for what, values in (
        ("first announcement of each, after the first of all", [one.last_first_ms for one in found]),
        ("switchover, from the word to the new owner's answer", [one.took_ms for one in found]),
    ):
        print(f"{count} VIPs: {what:52} median {statistics.median(values):6.1f} ms  max {max(values):6.1f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
