"""From a server's fault to the kernel's table, and back: python -m tests.bench.reaction (needs IPVS).

Real servers, each at an address of its own, are closed, opened, silenced and given their voice back, at instants that
have nothing to do with the schedule. What is measured ends when the kernel has taken the change; the promise is `fall`
(or `rise`) intervals and 100 ms, for one that says nothing and the time-out of a check. The prober notes in the verdict
when it judged, so that the way from there to the kernel is known as well: to the core, the decision, netlink.
"""

from __future__ import annotations

import argparse
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from hawatch.agent.events import Record, read_back
from tests.bench.verdict import agent_command, stop

SERVERS, PORT, BACKLOG = 40, 8081, 1024
INTERVAL_MS, TIMEOUT_MS, RISE, FALL = 500, 300, 2, 3
SLACK_MS = 100
KERNEL_MS = 20
"""What is promised from the verdict to the kernel."""
LIMIT_S = 60.0
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"
ADDRESSES = tuple(f"127.3.0.{number}" for number in range(1, SERVERS + 1))
CONFIG = f"""
[[director]]
name = "lvs1"
[[service]]
name = "faults"
address = "192.0.2.251"
port = 80
forward = "masquerade"
on_all_down = "empty"
probe = {{ type = "http", interval = "{INTERVAL_MS}ms", timeout = "{TIMEOUT_MS}ms", rise = {RISE}, fall = {FALL} }}
""" + "".join(f'[[service.server]]\naddress = "{address}"\nport = {PORT}\n' for address in ADDRESSES)


class Servers(threading.Thread):
    """All the servers, in one thread: each answers, says nothing, or is closed."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._selector = selectors.DefaultSelector()
        self._listeners: dict[str, socket.socket] = {}
        self._silent: set[str] = set()
        self._lock = threading.Lock()

    def open(self, address: str) -> None:
        """Accept connections and answer."""
        listener = socket.create_server((address, PORT), backlog=BACKLOG)
        listener.setblocking(False)
        with self._lock:
            self._listeners[address] = listener
            self._selector.register(listener, selectors.EVENT_READ, address)

    def close(self, address: str) -> None:
        """Refuse connections."""
        with self._lock:
            listener = self._listeners.pop(address)
            self._selector.unregister(listener)
            listener.close()

    def silence(self, address: str) -> None:
        """Accept connections and say nothing."""
        self._silent.add(address)

    def voice(self, address: str) -> None:
        """Answer again."""
        self._silent.discard(address)

    def run(self) -> None:
        """Serve for ever."""
        while True:
            for key, _ in self._selector.select(0.01):
                with self._lock:
                    self._serve(key.fileobj, key.data)  # type: ignore[arg-type]

    def _serve(self, ready: socket.socket, address: str) -> None:
        if ready.fileno() < 0:
            return
        try:
            if ready is self._listeners.get(address):
                connection, _ = ready.accept()
                connection.setblocking(False)
                self._selector.register(connection, selectors.EVENT_READ, address)
                return
            if ready.recv(4096) and address in self._silent:
                return
            ready.send(ANSWER)
        except OSError:
            pass
        if ready is not self._listeners.get(address):
            self._selector.unregister(ready)
            ready.close()


@dataclass
class Phase:
    """One kind of change, what it is bound by, and what was found."""

    title: str
    event: str
    bound_ms: float
    change: Callable[[str], None]
    found_ms: list[float] = field(default_factory=list)
    kernel_ms: list[float] = field(default_factory=list)


def records(folder: Path, name: str, since_ns: int) -> dict[str, Record]:
    """Return the first event of a name about each server since an instant."""
    found: dict[str, Record] = {}
    for record in read_back(folder / "state" / "events.jsonl"):
        if record.name == name and record.id >= since_ns:
            found.setdefault(record.server, record)
    return found


def wait_all(folder: Path, name: str, since_ns: int) -> dict[str, Record]:
    """Wait until there is an event of a name about every server."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        found = records(folder, name, since_ns)
        if len(found) == SERVERS:
            return found
        time.sleep(0.2)
    raise RuntimeError(f"{name} of {len(found)} servers only")


def measure(phase: Phase, folder: Path, random: Random) -> None:
    """Change every server, each at an instant of its own, and take in when the kernel had it."""
    begun_ns = time.time_ns()
    changed_ns = {}
    for address in random.sample(ADDRESSES, SERVERS):
        time.sleep(random.uniform(0, 0.05))
        changed_ns[address] = time.time_ns()
        phase.change(address)
    for server, record in wait_all(folder, phase.event, begun_ns).items():
        phase.found_ms.append((record.id - changed_ns[server.rpartition(":")[0]]) / 1e6)
        phase.kernel_ms.append(float(record.numbers["kernel_ms"]))


def quantiles(values: list[float]) -> str:
    """Return median, 95 % and the worst of some values."""
    ordered = sorted(values)
    median, most, worst = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.95, 1))
    return f"median {median:6.1f}, 95 % {most:6.1f}, worst {worst:6.1f} ms"


def run(folder: Path, rounds: int) -> list[Phase]:
    """Run an agent and all changes; a round takes each server out twice and lets it back in twice."""
    servers = Servers()
    down_ms, up_ms = FALL * INTERVAL_MS + SLACK_MS, RISE * INTERVAL_MS + SLACK_MS
    phases = [
        Phase("closed port, out", "server_down", down_ms, servers.close),
        Phase("opened, back in", "server_up", up_ms, servers.open),
        Phase("says nothing, out", "server_down", down_ms + TIMEOUT_MS, servers.silence),
        Phase("answers, back in", "server_up", up_ms, servers.voice),
    ]
    for address in ADDRESSES:
        servers.open(address)
    servers.start()
    for _ in range(rounds):  # an agent each: what goes down too often would be held down
        (folder / "state" / "events.jsonl").unlink(missing_ok=True)
        process = subprocess.Popen(
            agent_command(folder / "hawatch.toml", folder), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        try:
            wait_all(folder, "server_up", 0)
            for phase in phases:
                measure(phase, folder, Random())
        finally:
            stop(process)
            subprocess.run(["ipvsadm", "-C"], check=True)
    return phases


def main(words: list[str] | None = None) -> int:
    """Measure, print; 1 when a bound was not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args(words).rounds
    with tempfile.TemporaryDirectory(prefix="hawatch-bench-") as name:
        folder = Path(name)
        (folder / "hawatch.toml").write_text(CONFIG, encoding="utf-8")
        phases = run(folder, rounds)
    print(
        f"{SERVERS} servers over http, interval {INTERVAL_MS} ms, time-out {TIMEOUT_MS} ms, rise {RISE}, fall {FALL}:"
    )
    missed = 0
    for phase in phases:
        over = sum(found > phase.bound_ms for found in phase.found_ms)
        missed += over
        times = len(phase.found_ms)
        print(f"  {phase.title:18} {quantiles(phase.found_ms)}; bound {phase.bound_ms} ms: {over} of {times} over it")
    kernel_ms = [found for phase in phases for found in phase.kernel_ms]
    over = sum(found > KERNEL_MS for found in kernel_ms)
    print(
        f"  {'verdict to kernel':18} {quantiles(kernel_ms)}; bound {KERNEL_MS} ms: {over} of {len(kernel_ms)} over it"
    )
    return 1 if missed or over else 0


if __name__ == "__main__":
    sys.exit(main())
