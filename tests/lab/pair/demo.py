"""The second half of `make demo`: two directors and a witness, broken in several ways, under client load.

The owner forwards to three web servers by IPVS with direct routing; one of them is the witness, too. For each event it
prints how long clients waited, who answered ARP for the VIP and when, and how often two machines did. Connections that
are kept open show that established ones go on. The same clients ask another server directly, past the directors: what
they miss there was this machine's doing and is subtracted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from hawatch.control import protocol
from tests.lab.demo import Story
from tests.lab.pair.arp import read_seen
from tests.lab.pair.events import core_of, cut
from tests.lab.pair.hawatch import Hawatch
from tests.lab.pair.machine import Machine, wait_owner
from tests.lab.pair.measure import NS_PER_MS, asked, outage_ns, two_owners
from tests.lab.pair.scene import serve, start_tool
from tests.lab.pair.shell import ended_by_signals, now_ns, signal_all, wait_until
from tests.lab.pair.site import SERVERS, VIP, VIP6, Site, address_of, mac_of, site
from tests.lab.pair.traffic import Reply, Traffic, by_server, stream

EVERY_MS, KEEP_EVERY_MS, ASK_EVERY_MS = 20, 100, 50
KEPT = 4
"""Connections kept open."""
LEASE_S = 1.5
SLACK_S = 0.2
"""The guest's one processor is shared by directors, servers and clients; a request goes out every 20 ms."""
FREEZE_S = 3.0
SETTLE_S = 1.0
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
        assert pair.witness is not None
        for server in pair.servers:
            serve(server)
        self.directors = [Machine(node, self.agent) for node in pair.directors]
        self.machines = [*self.directors, Machine(pair.witness, self.agent)]
        for machine in self.machines:
            machine.start()
        wait_until(lambda: all(map(self.agent.ready, self.machines)), "the agents work", limit_s=60)
        self.wait_well()
        self.owner = wait_owner(self.directors, VIP)
        client, asker = pair.node("c1"), pair.node("c2")
        self.seen = asker.scratch / "arp.tsv"
        self.asker = start_tool(asker, "arp", str(self.seen), str(ASK_EVERY_MS), VIP, VIP6)
        streams = [
            stream("http", VIP, 80, every_ms=EVERY_MS, limit_ms=900),
            stream("http", address_of("rs3"), 80, every_ms=EVERY_MS, limit_ms=900, name="past"),
        ]
        streams += [stream("keep", VIP, 80, every_ms=KEEP_EVERY_MS, limit_ms=2500) for _ in range(KEPT)]
        self.traffic = Traffic(client, streams)
        self.traffic.wait_served(("http", "past", "keep"), limit_s=60)

    @property
    def standby(self) -> Machine:
        """Return the director that does not own."""
        return next(one for one in self.directors if one is not self.owner)

    def wait_well(self) -> None:
        """Wait until the directors see each other and the witness, and nobody needs to keep silent any more."""
        time.sleep(self.agent.settle_s)
        wait_until(lambda: self.agent.well(self.directors), "the pair is well", limit_s=60)

    @contextmanager
    def event(self, title: str, promised_s: float, after: Machine) -> Iterator[None]:
        """Tell a step, let it happen in the block, look on, and say what clients lived through."""
        story = self.story
        story.step(title)
        start = now_ns()
        yield
        time.sleep(SETTLE_S)
        end = now_ns()
        replies = self.replies_until(end)
        vip, past = (sorted(r.end_ns for r in replies if r.ok and r.stream == name) for name in ("http", "past"))
        seen = read_seen(self.seen)
        for words in who_answered(asked(seen, start, end).values(), start):
            story.show("ARP  ", words)
        story.check(two_owners(seen, start, end) == 0, "instants with two owners: 0")
        silent_s = outage_ns(vip, [past], start, end, EVERY_MS * NS_PER_MS) / 1e9
        story.measure(f"{title}: clients waited", silent_s, promised_s + SLACK_S)
        self.owner = wait_owner(self.directors, VIP, limit_s=10)
        story.check(self.owner is after, f"{after.name} owns the VIP now")
        cut_off = [one for one in replies if one.stream == "keep" and start <= one.start_ns < end and not one.ok]
        story.check(not cut_off, f"{KEPT} connections that were open went on")

    def replies_until(self, end_ns: int) -> list[Reply]:
        """Return what clients got, when it is complete up to an instant, or a second later."""
        replies: list[Reply] = []

        def complete() -> bool:
            replies[:] = self.traffic.so_far()
            return any(reply.end_ns >= end_ns for reply in replies) or now_ns() > end_ns + 1_000_000_000

        wait_until(complete, "the clients write down what they got", limit_s=10, poll_s=0.1)
        return replies

    def back(self, act: Callable[[], None]) -> None:
        """Bring back what an event took away, and wait until everything is well."""
        act()
        wait_until(lambda: all(map(self.agent.ready, self.machines)), "the agents work", limit_s=60)
        self.wait_well()

    def run(self) -> None:
        """Tell everything."""
        story = self.story
        story.step("Two directors share a VIP; a real server is the witness")
        story.show("ctl  ", self.agent.ctl(self.owner.node, "status"))
        counts = by_server(self.traffic.so_far())
        story.check(len(counts) == len(SERVERS), f"clients are served by {', '.join(counts)} through {self.owner.name}")
        first, second = self.owner, self.standby
        with self.event(f"An administrator switches over to {second.name}", 0.05, second):
            self.agent.ask(first, protocol.Switchover(group="web", to=second.name))
        with self.event("The owner's deciding process is killed", 0.0, second):
            signal_all([core_of(second)], 9)
        with self.event("Every heartbeat link is cut for a while", 0.0, second):
            cut(first, second)
            time.sleep(2 * LEASE_S)
            first.heal()
            second.heal()
        with self.event("The owner's agent is killed, all of it", LEASE_S + 0.06, first):
            second.kill()
            time.sleep(LEASE_S)
        self.back(second.start)
        with self.event(f"The owner's agent freezes for {FREEZE_S:.0f} s", LEASE_S + 0.06, second):
            first.freeze()
            time.sleep(FREEZE_S)
            first.thaw()
        self.wait_well()
        with self.event("The owner loses power", LEASE_S + 0.06, first):
            second.power_off()
            time.sleep(LEASE_S)
        story.show("ctl  ", self.agent.ctl(first.node, "events", "-n", "6"))

    def stop(self) -> None:
        """End the clients."""
        self.traffic.stop()
        self.asker.terminate()
        self.asker.wait(timeout=10)


def who_answered(questions: Iterable[tuple[int, set[str]]], start_ns: int) -> list[str]:
    """Say, for each machine, how many questions it answered, and from when to when these were asked."""
    found: dict[str, list[int]] = {}
    for time_ns, macs in questions:
        for mac in macs:
            found.setdefault(mac, []).append(time_ns)
    words = []
    for mac, times in sorted(found.items(), key=lambda each: min(each[1])):
        name = next((each for each in ("lvs1", "lvs2") if mac_of(each) == mac), mac)
        span = f"from {(min(times) - start_ns) / 1e6:.0f} ms to {(max(times) - start_ns) / 1e6:.0f} ms"
        words.append(f"{name} answered {len(times)} questions, {span}")
    return words


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
