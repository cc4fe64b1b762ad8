"""The second half of `make demo`: two directors and a witness, broken in several ways, under client load.

The owner forwards to three web servers by IPVS with direct routing; one of them is the witness, too. For each event it
prints how long a client waited, who answered ARP for the VIP, and how often two machines did. A connection that is kept
open shows that established connections go on after a planned move.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.lab.demo import Story
from tests.lab.pair.arp import answers, read_seen, two_owners
from tests.lab.pair.director import Director, wait_owner
from tests.lab.pair.events import core_of, links_of, serve, start_asker
from tests.lab.pair.hawatch import Hawatch
from tests.lab.pair.shell import ended_by_signals, now_ns, signal_all, wait_until
from tests.lab.pair.site import SERVERS, VIP, Site, mac_of, site
from tests.lab.pair.traffic import Reply, Traffic, by_server, outage_ms, stream

EVERY_MS, KEEP_EVERY_MS = 20, 100
LEASE_S = 1.5
NOISE_S = 0.5
"""What the guest kernel's one slow processor adds to a request now and then."""
FREEZE_S = 4.0
SETTLE_S = 2.0
SERVICES = """sync = {{ interface = "eth1", id = 51 }}

[[service]]
name = "http"
group = "web"
address = "{vip}"
port = 80
scheduler = "rr"
forward = "direct"
probe = {{ type = "http", interval = "1s", timeout = "800ms", rise = 1, fall = 2 }}
server = [{servers}]
"""


def services() -> str:
    """Return the configuration's services."""
    servers = ", ".join(f'{{ address = "192.168.1.{number}", port = 80 }}' for number in SERVERS.values())
    return SERVICES.format(vip=VIP, servers=servers)


class PairDemo:
    """One site, from its start to its last power cut."""

    def __init__(self, pair: Site, story: Story) -> None:
        self.pair = pair
        self.story = story
        self.agent = Hawatch("default", extra=services())
        self.agent.prepare(pair)
        for server in pair.servers:
            serve(server)
        self.directors = [Director(node, self.agent) for node in pair.directors]
        for director in self.directors:
            director.start()
        self.owner = wait_owner(self.directors, VIP)
        self.asker = start_asker(pair.node("c2"))
        self.traffic = Traffic(
            pair.node("c1"),
            [
                stream("http", VIP, 80, every_ms=EVERY_MS, limit_ms=900),
                stream("keep", VIP, 80, every_ms=KEEP_EVERY_MS, limit_ms=2500),
            ],
        )
        self.traffic.wait_served(("http", "keep"), limit_s=60)

    @property
    def standby(self) -> Director:
        """Return the director that does not own."""
        return next(one for one in self.directors if one is not self.owner)

    @contextmanager
    def event(self, title: str, promised_s: float, after: str, *, keeps: bool = False) -> Iterator[None]:
        """Tell a step, let it happen in the block, look on, and say what clients lived through."""
        story = self.story
        story.step(title)
        start = now_ns()
        yield
        time.sleep(SETTLE_S)
        end = now_ns()
        replies = self.replies_until(end)
        http = [reply for reply in replies if reply.stream == "http"]
        seen = read_seen(self.pair.node("c2").scratch / "arp.tsv")
        for mac, (count, first, last) in answers(seen, start, end).items():
            name = next((each for each in ("lvs1", "lvs2") if mac_of(each) == mac), mac)
            times = f"from {(first - start) / 1e6:.0f} ms to {(last - start) / 1e6:.0f} ms"
            story.show("ARP  ", f"{name} answered {count} times, {times}")
        story.check(two_owners(seen, start, end) == 0, "no instant with two owners")
        story.measure(f"{title}: clients waited", outage_ms(http, start, end) / 1000, promised_s + NOISE_S)
        story.check(self.owns(after), f"{after} owns the VIP now")
        if keeps:
            story.check(not broken(replies, start, end), "connections that were open went on")

    def replies_until(self, end_ns: int) -> list[Reply]:
        """Return what clients got, when it is complete up to an instant, or a second later."""
        replies: list[Reply] = []

        def complete() -> bool:
            replies[:] = self.traffic.so_far()
            return any(reply.end_ns >= end_ns for reply in replies) or now_ns() > end_ns + 1_000_000_000

        wait_until(complete, "the clients write down what they got", limit_s=10, poll_s=0.1)
        return replies

    def owns(self, name: str) -> bool:
        """Return whether a director has the VIP; it is the owner from now on."""
        owner = wait_owner(self.directors, VIP, limit_s=10)
        self.owner = owner
        return owner.node.name == name

    def run(self) -> None:
        """Tell everything."""
        story = self.story
        story.step("Two directors share a VIP; a real server is the witness")
        first, second = self.owner.node.name, self.standby.node.name
        story.show("ctl  ", self.agent.ctl(self.owner.node, "status"))
        counts = by_server(self.traffic.so_far())
        story.check(len(counts) == len(SERVERS), f"clients are served by {', '.join(counts)} through {first}")
        with self.event(f"An administrator switches over to {second}", 0.05, second, keeps=True):
            story.show("ctl  ", self.agent.ctl(self.owner.node, "switchover", "--group", "web", "--to", second))
        with self.event("The owner's deciding process is killed", 0.0, second, keeps=True):
            signal_all([core_of(self.owner)], 9)
        with self.event("Every path between the directors is cut for a while", 0.0, second, keeps=True):
            for one, other in ((self.owner, self.standby), (self.standby, self.owner)):
                one.node.ip(*(f"route add blackhole {address}/32" for address in links_of(other)))
            time.sleep(2 * LEASE_S)
        for one, other in ((self.owner, self.standby), (self.standby, self.owner)):
            one.node.ip(*(f"route del blackhole {address}/32" for address in links_of(other)))
        with self.event(f"The owner's agent freezes for {FREEZE_S:.0f} s", LEASE_S + 0.06, first):
            frozen = self.owner
            frozen.freeze()
            time.sleep(FREEZE_S)
            frozen.thaw()
        with self.event("The owner loses power", LEASE_S + 0.06, second):
            self.owner.power_off()
        story.show("ctl  ", self.agent.ctl(self.owner.node, "events", "-n", "6"))

    def stop(self) -> None:
        """End the clients."""
        self.traffic.stop()
        self.asker.terminate()
        self.asker.wait(timeout=10)


def broken(replies: list[Reply], start_ns: int, end_ns: int) -> list[Reply]:
    """Return the requests on kept connections that failed."""
    return [one for one in replies if one.stream == "keep" and start_ns <= one.start_ns < end_ns and not one.ok]


def main() -> int:
    """Run it and return the exit status."""
    story = Story()
    with ended_by_signals(), site(directors=("lvs1", "lvs2")) as pair:
        demo = PairDemo(pair, story)
        try:
            demo.run()
        finally:
            demo.stop()
    return story.end()


if __name__ == "__main__":
    sys.exit(main())
