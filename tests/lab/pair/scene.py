"""A pair with its witness and its clients, at work; whatever befell it, `restore` makes it whole again.

One scene serves many runs: to make it costs seconds, to restore it little. Who owns the VIP after a run owns it in the
next one, so a run speaks of the owner and the standby, not of names.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.lab.pair.arp import read_seen
from tests.lab.pair.machine import Adapter, Machine, wait_owner
from tests.lab.pair.measure import read_answers
from tests.lab.pair.namespaces import Node
from tests.lab.pair.shell import LabError, now_ns, wait_until
from tests.lab.pair.site import VIP, VIP6, Site, address_of, site

ROOT = Path(__file__).parents[3]
WELL_LIMIT_S = 60.0
WATCH_LIMIT_S = 30.0
STEADY_S = 0.3
"""The owner keeps the VIP for so long before anything befalls it."""
NGINX = """
daemon off; worker_processes 1; pid {home}/nginx.pid; error_log {home}/nginx.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {home}/t1; proxy_temp_path {home}/t2; fastcgi_temp_path {home}/t3;
    uwsgi_temp_path {home}/t4; scgi_temp_path {home}/t5;
    server {{ listen 80; listen [::]:80; location / {{ return 200 "{name}\\n"; }} }}
}}
"""


class Scene:
    """One pair. `serving`: the directors have a web server of their own behind the VIP."""

    def __init__(self, pair: Site, adapter: Adapter, *, serving: bool = False) -> None:
        self.pair = pair
        self.adapter = adapter
        self.serving = serving
        self.directors = [Machine(node, adapter) for node in pair.directors]
        self.third = Machine(pair.witness, adapter) if pair.witness is not None and adapter.witness else None
        self.machines = [*self.directors, *([self.third] if self.third else [])]
        self.owner = self.directors[0]
        self.whole_ns = 0
        """When everything was whole last."""
        for machine in self.machines:
            machine.start()
        if serving:
            for machine in self.directors:
                serve(machine.node)

    @property
    def standby(self) -> Machine:
        """Return the director that does not own."""
        return next(one for one in self.directors if one is not self.owner)

    @property
    def witness(self) -> Machine:
        """Return the machine with the third vote."""
        assert self.third is not None
        return self.third

    def restore(self) -> None:
        """Make everything whole, and wait until it is."""
        for machine in self.machines:
            machine.heal()
            machine.thaw()
            if machine.off:
                machine.power_on()
                if self.serving and machine is not self.third:
                    serve(machine.node)
            elif not machine.runs:
                machine.start()
        self.pair.node("c1").plug_back()
        for machine in self.machines:
            wait_until(
                lambda one=machine: self.adapter.ready(one), f"{machine.name}'s agent works", limit_s=WELL_LIMIT_S
            )
        if any(machine.started_ns > self.whole_ns for machine in self.machines):
            time.sleep(self.adapter.settle_s)
        wait_until(lambda: self.adapter.well(self.directors), "the pair is well", limit_s=WELL_LIMIT_S)
        self.owner = wait_owner(self.directors, VIP)
        time.sleep(STEADY_S)
        if not self.owner.has(VIP) or self.standby.has(VIP):
            raise LabError(f"{self.owner.name} did not keep the VIP")
        self.whole_ns = now_ns()

    def logs(self) -> str:
        """Return what the agents said last."""
        return "\n".join(f"--- {one.name}\n{one.last_words()}" for one in self.machines)


class Watch:
    """What is written down during a run: a pinger in one client, who answers for the VIP in the other."""

    def __init__(self, scene: Scene, controls: Sequence[str], every_ms: float, ask_every_ms: float) -> None:
        self.scene = scene
        self.controls = tuple(controls)
        self.every_ms = every_ms
        pinging, asking = scene.pair.node("c1"), scene.pair.node("c2")
        self.pings = pinging.scratch / "pings.tsv"
        self.seen = asking.scratch / "arp.tsv"
        for path in (self.pings, self.seen):
            path.unlink(missing_ok=True)
        targets = [("vip", VIP), ("vip6", VIP6), *((name, self.address(name)) for name in controls)]
        words = [f"{name}={address}" for name, address in targets]
        self.pinger = start_tool(pinging, "pinger", str(self.pings), str(every_ms), *words)
        self.asker = start_tool(asking, "arp", str(self.seen), str(ask_every_ms), VIP, VIP6)
        names = {name for name, _ in targets}
        wait_until(lambda: names <= self.answered(), "every address answers", limit_s=WATCH_LIMIT_S, poll_s=0.05)

    def address(self, control: str) -> str:
        """Return the address of a control: a machine that nothing befalls, the client itself, or the owner's own."""
        return address_of({"self": "c1", "beside": self.scene.owner.name}.get(control, control))

    def answered(self) -> set[str]:
        """Return the names that have answered until now."""
        if self.pinger.poll() is not None or self.asker.poll() is not None:
            raise LabError("a watcher ended")
        if not self.pings.exists() or not self.seen.exists():
            return set()
        self.pinger.send_signal(10)
        families = {one.family for one in read_seen(self.seen) if one.what == "reply"}
        return set(read_answers(self.pings)) if len(families) == len(self.families()) else set()

    def families(self) -> tuple[int, ...]:
        """Return the families of the VIPs."""
        return 4, 6

    def stop(self) -> None:
        """End both."""
        for process in (self.pinger, self.asker):
            process.terminate()
            process.wait(timeout=10)


def start_tool(node: Node, module: str, *words: str) -> subprocess.Popen[bytes]:
    """Start one of the lab's tools in a node."""
    argv = [sys.executable, "-S", "-m", f"tests.lab.pair.{module}", *words]
    return node.start(argv, log=node.scratch / f"{module}.log", cwd=ROOT)


def serve(node: Node) -> None:
    """Start a web server that names the director, on all its addresses."""
    (node.scratch / "nginx.conf").write_text(NGINX.format(home=node.scratch, name=node.name), encoding="ascii")
    node.start(["nginx", "-e", f"{node.scratch}/nginx.log", "-c", f"{node.scratch}/nginx.conf"])


@contextmanager
def scene(adapter: Adapter, *, serving: bool = False) -> Iterator[Scene]:
    """Make a scene; it is gone afterwards."""
    with site(directors=("lvs1", "lvs2"), servers=False, witness=True) as pair:
        found = Scene(pair, adapter, serving=serving)
        try:
            found.restore()
            yield found
        except LabError as error:
            raise LabError(f"{error}\n{found.logs()}") from error
