"""A pair and a witness under a flood: what changed, and what it cost.

The attacker is a machine on both heartbeat links. What must not change: the owner, its epoch, the number of events but
one of noise, the memory of the processes. What it costs the core is bounded by the budget of `heartbeat_noise`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.lab.flood import KINDS, Sample, capture, make, write
from tests.lab.pair.events import core_of
from tests.lab.pair.hawatch import Hawatch
from tests.lab.pair.machine import Machine, wait_owner
from tests.lab.pair.namespaces import Link, Node
from tests.lab.pair.shell import wait_until
from tests.lab.pair.site import HB, LAN, VIP, site

STRANGER = ("10.99.0.66", "192.168.1.66")
TARGETS = {
    "lvs1": ("10.99.0.1", "192.168.1.5"),
    "lvs2": ("10.99.0.2", "192.168.1.6"),
    "rs1": ("10.99.0.3", "192.168.1.1"),
}
SETTLE_S = 3.0


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one flood."""

    kind: str
    target: str
    per_s: float
    cpu_share: float
    """Of one processor, the process that was aimed at: a core, or the witness."""
    idle_share: float
    """The same before the flood."""
    grown_kb: int
    same_owner: bool
    renewals: int
    renewals_failed: int
    new_events: tuple[str, ...]
    """Of all nodes together; the witness's are lines of its log."""


class Prefixed(Hawatch):
    """hawatch run by another command."""

    def __init__(self, profile: str, prefix: Sequence[str]) -> None:
        super().__init__(profile)
        self.prefix = prefix

    def command(self, node: Node, what: str) -> list[str]:
        return [*self.prefix, *super().command(node, what)]


class Trial:
    """The site with its processes."""

    def __init__(self, profile: str, prefix: Sequence[str] = ()) -> None:
        """`prefix` is a command that runs the agents and the witness."""
        self.profile = profile
        self.adapter = Prefixed(profile, prefix)

    @contextmanager
    def run(self) -> Iterator[Trial]:
        """Start everything; it is gone afterwards."""
        with site(directors=("lvs1", "lvs2"), servers=False, witness=True) as pair:
            assert pair.witness is not None
            witness = Machine(pair.witness, self.adapter)
            witness.start()
            self.witness_log = witness.log
            wait_until(lambda: "answers" in self.log(), "the witness is there", limit_s=20)
            self.witness_pid = pair.lab.processes[-1].pid
            self.directors = [Machine(node, self.adapter) for node in pair.directors]
            for director in self.directors:
                director.start()
            links = (
                Link("eth0", LAN, (f"{STRANGER[1]}/24",), "02:00:00:00:00:66"),
                Link("eth1", HB, (f"{STRANGER[0]}/24",), "02:00:00:00:99:66"),
            )
            self.attacker = pair.lab.add(Node(pair.lab, "evil", links))
            self.owner = wait_owner(self.directors, VIP, limit_s=40)
            wait_until(self.settled, "both directors see each other", limit_s=20, poll_s=0.5)
            self.heard = capture(self.owner.node.namespace, SETTLE_S)
            self.heard += capture(pair.witness.namespace, SETTLE_S)
            yield self

    def log(self) -> str:
        """Return what the witness has said."""
        return self.witness_log.read_text(encoding="utf-8", errors="replace") if self.witness_log.exists() else ""

    def status(self, director: Machine) -> Any:
        """Return a director's status."""
        return json.loads(self.adapter.ctl(director.node, "status", "--json"))

    def group(self) -> Any:
        """Return the group as its owner sees it."""
        return self.status(self.owner)["groups"][0]

    def settled(self) -> bool:
        """Tell whether the directors hear each other and the witness on every link."""
        for director in self.directors:
            status = self.status(director)
            nodes = [*status["directors"], *status["witnesses"]]
            if any(link["state"] != "up" for node in nodes for link in node["links"]):
                return False
        return True

    def told(self, director: Machine, name: str = "") -> list[dict[str, Any]]:
        """Return a director's events so far, all or those of one name."""
        lines = (director.node.scratch / "state" / "events.jsonl").read_text(encoding="utf-8").splitlines()
        return [event for event in map(json.loads, lines) if not name or event["name"] == name]

    def events(self) -> list[str]:
        """Return the names of all events so far."""
        names = [event["name"] for director in self.directors for event in self.told(director)]
        return names + [line.split(":")[1].strip() for line in self.log().splitlines() if line.count(":") > 1]

    def flood(self, kind: str, target: str, rate: int, seconds: float, *, rest_s: float = 6.0) -> Result:
        """Flood one node and return what came of it."""
        assert kind in KINDS
        name = self.owner.node.name if target == "owner" else target
        pid = self.witness_pid if name == "rs1" else core_of(next(d for d in self.directors if d.node.name == name))
        file = self.attacker.scratch / "packets"
        write(file, make(kind, self.heard, STRANGER, TARGETS[name], seed=1))
        before, events, group = Sample.of(pid), self.events(), self.group()
        time.sleep(rest_s / 3)
        idle = Sample.of(pid)
        said = self.attacker.run(sys.executable, "-m", "tests.lab.flood", str(file), str(rate), str(seconds))
        after, later = Sample.of(pid), self.group()
        # A second look, when what was queued is gone: an owner that was lost is told by then.
        time.sleep(rest_s)
        last = self.group()
        new = self.events()
        for each in events:
            new.remove(each)
        return Result(
            kind=kind,
            target=name,
            per_s=int(said) / seconds,
            cpu_share=after.share_since(idle),
            idle_share=idle.share_since(before),
            grown_kb=after.memory_kb - idle.memory_kb,
            same_owner=(last["state"], last["epoch"]) == (group["state"], group["epoch"]) == ("owner", later["epoch"]),
            renewals=int(later["renewals"]) - int(group["renewals"]),
            renewals_failed=int(later["renewals_failed"]) - int(group["renewals_failed"]),
            new_events=tuple(new),
        )
