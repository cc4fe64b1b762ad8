"""What a check costs: the whole agent beside keepalived (http, tcp) and fping (ping), at the same time, on like servers.

    python -m tests.bench.checks [--servers 1000] [--interval 1] [--seconds 20] [--kinds http,tcp,ping]

Both check every one of their servers once an interval, which is a second if nothing else is said. CPU is user and system time of every process of either side
(hawatch: keeper, core and prober, so schedule, verdicts and what is told to the core are in it); the part of the
kernel's network work that runs in their context is in it, the web servers' is not. What was done is counted where the
servers are.

keepalived wants IPVS. Where the kernel has none it runs with ipvs_shim.c preloaded, which answers its IPVS calls with
success, and hawatch's table is a dictionary; their schedules, checks and verdicts are their own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from hawatch.control.client import Client
from hawatch.control.protocol import Done, Status
from tests.bench.control import Control
from tests.bench.cost import cpu_ns, cpu_parts, pss_mb, tree
from tests.bench.passes import told
from tests.bench.site import Farm, Site, bench_site

START_LIMIT_S = 60
WARM_UP_S = 3
TOLD_MAX = 4000
"""Characters of an agent's words that an error shows."""
SERVERS_PER_SERVICE = 20
PROBES = {
    "http": 'type = "http", path = "/", status = [200]',
    "tcp": 'type = "tcp"',
    "ping": 'type = "ping"',
}
CHECKERS = {
    "http": "HTTP_GET {\nurl {\npath /\nstatus_code 200\n}\nconnect_timeout 1\nretry 0\n}",
    "tcp": "TCP_CHECK {\nconnect_timeout 1\nretry 0\n}",
}
HAS_IPVS = Path("/proc/net/ip_vs").exists()


@dataclass
class Cost:
    """What one side cost in the window."""

    name: str
    checks: int = 0
    cpu_us: float = 0
    pss: float = 0
    processes: int = 0
    seconds: float = 0
    """How long it was looked at."""
    parts_s: dict[str, float] = field(default_factory=dict)
    """CPU seconds by process."""
    notes: list[str] = field(default_factory=list)

    @property
    def each_us(self) -> float:
        """CPU of one check."""
        return self.cpu_us / max(1, self.checks)

    def shares(self) -> str:
        """Return what each process has of that."""
        shares = {
            name.removeprefix("hawatch:"): 1e6 * spent / max(1, self.checks) for name, spent in self.parts_s.items()
        }
        return "us a check: " + ", ".join(f"{name} {share:.1f}" for name, share in shares.items())


class Side:
    """One of the two that are compared."""

    def __init__(self, cost: Cost, process: subprocess.Popen[bytes], farm: Farm, kind: str) -> None:
        self.cost, self.process, self.farm, self.kind = cost, process, farm, kind
        self.pids = tree(process.pid)
        self.parts_s: dict[str, float] = {}

    def begin(self) -> None:
        """Begin to count."""
        self.pids = tree(self.process.pid)
        self.cost.cpu_us -= cpu_ns(self.pids) / 1000
        self.parts_s = cpu_parts(self.pids)
        self.cost.checks -= self.farm.served(self.kind)
        self.cost.seconds -= time.monotonic()

    def end(self) -> None:
        """End to count. What counting itself adds to the servers' figures is one request."""
        self.cost.cpu_us += cpu_ns(self.pids) / 1000
        self.cost.parts_s = {name: spent - self.parts_s.get(name, 0) for name, spent in cpu_parts(self.pids).items()}
        self.cost.checks += self.farm.served(self.kind)
        self.cost.seconds += time.monotonic()
        self.cost.pss, self.cost.processes = pss_mb(self.pids), len(self.pids)


def groups(farm: Farm) -> list[tuple[str, ...]]:
    """Return the servers of each service."""
    all_of_them = farm.addresses
    return [all_of_them[at : at + SERVERS_PER_SERVICE] for at in range(0, len(all_of_them), SERVERS_PER_SERVICE)]


def keepalived_config(kind: str, farm: Farm, interval_s: int) -> str:
    """Return a configuration with services of twenty servers, each checked once an interval."""
    lines = ["global_defs {\nrouter_id bench\n}"]
    for number, addresses in enumerate(groups(farm)):
        lines.append(f"virtual_server 10.200.{number // 250}.{1 + number % 250} 80 {{")
        lines.append(f"delay_loop {interval_s}\nlb_algo rr\nlb_kind DR\nprotocol TCP")
        lines += [f"real_server {address} 80 {{\nweight 1\n{CHECKERS[kind]}\n}}" for address in addresses]
        lines.append("}")
    return "\n".join(lines) + "\n"


def hawatch_config(kind: str, farm: Farm, interval_s: int) -> str:
    """Return the same for hawatch. One failed check is one too many: it would be an event."""
    lines = ['[cluster]\nname = "bench"\n[[director]]\nname = "bench"']
    for number, addresses in enumerate(groups(farm)):
        address = f"10.201.{number // 250}.{1 + number % 250}"
        lines.append(f'[[service]]\nname = "s{number}"\naddress = "{address}"\nport = 80\nscheduler = "rr"')
        lines.append(f'probe = {{ {PROBES[kind]}, interval = "{interval_s}s", timeout = "1s", rise = 1, fall = 1 }}')
        lines.append("server = [" + ", ".join(f'{{ address = "{one}" }}' for one in addresses) + "]")
    return "\n".join(lines) + "\n"


def start_keepalived(kind: str, site: Site, interval_s: int) -> subprocess.Popen[bytes]:
    """Start keepalived's checkers."""
    config = site.directory / "keepalived.conf"
    config.write_text(keepalived_config(kind, site.theirs, interval_s))
    environment = {}
    if not HAS_IPVS:
        shim = site.directory / "ipvs_shim.so"
        source = Path(__file__).with_name("ipvs_shim.c")
        subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", shim, source, "-ldl"], check=True)
        environment["LD_PRELOAD"] = str(shim)
    return site.start(
        "keepalived", "--check", "--dont-fork", "--log-console", f"--use-file={config}",
        f"--pid={site.directory}/ka.pid", f"--checkers_pid={site.directory}/kac.pid", **environment,
    )  # fmt: skip


def start_fping(site: Site, interval_s: int) -> subprocess.Popen[bytes]:
    """Start fping on all addresses, each once an interval."""
    return site.start("fping", "-l", "-Q", "1", "-i", "1", "-p", f"{interval_s}000", *site.theirs.addresses)


def start_hawatch(kind: str, site: Site, interval_s: int) -> subprocess.Popen[bytes]:
    """Start the whole agent."""
    config = site.directory / "hawatch.toml"
    config.write_text(hawatch_config(kind, site.ours, interval_s))
    return site.start(sys.executable, "-m", "tests.bench.agent", str(config), str(site.directory))


def status(site: Site) -> dict[str, object]:
    """Return what `hawatch ctl status --json` shows."""
    with Client(site.directory / "run" / "ctl.sock") as client:
        for reply in client.ask(Status()):
            if isinstance(reply, Done):
                return json.loads(bytes(reply.data))  # type: ignore[no-any-return]
    raise RuntimeError("no status")


def wait_all_up(site: Site) -> float:
    """Wait until every server is up; return the seconds."""
    begun = time.monotonic()
    while time.monotonic() - begun < START_LIMIT_S:
        try:
            servers = [server for service in status(site)["services"] for server in service["servers"]]  # type: ignore[attr-defined]
        except Exception:
            servers = []
        if servers and all(server["state"] == "up" and server["latency_ms"] is not None for server in servers):
            return time.monotonic() - begun
        time.sleep(0.5)
    raise RuntimeError(
        "not all servers are up: " + (site.directory / f"{Path(sys.executable).name}.out").read_text()[-TOLD_MAX:]
    )


def percentile(values: list[float], share: float) -> float:
    """Return a percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def our_notes(site: Site, control: dict[str, list[float]]) -> list[str]:
    """Return what the agent tells of itself after the window: of the last minute or two, a start within it included.

    What the machine makes late is told by loops that only sleep, what the agent makes late by its own longest passes.
    """
    state = status(site)
    servers = [server for service in state["services"] for server in service["servers"]]  # type: ignore[attr-defined]
    latencies = [float(server["latency_ms"] or 0) for server in servers]
    workers = {worker["name"]: worker for worker in state["workers"]}  # type: ignore[attr-defined]
    lag = state["loop_lag_ms"]
    events = [json.loads(line) for line in (site.directory / "state/events.jsonl").read_text().splitlines()]
    failures = sum(event["name"] in ("server_down", "worker_lost", "ipvs_refused") for event in events)
    shares = ", ".join(f"{name} {pss_mb([workers[name]['pid']]):.1f}" for name in workers)
    return [
        f"failures {failures}, up {sum(server['state'] == 'up' for server in servers)}; "
        f"latency p50 {percentile(latencies, 0.5):.2f} ms, p99 {percentile(latencies, 0.99):.2f} ms; "
        f"PSS of {shares} MB, the keeper the rest",
        f"latest start {workers['prober']['late_ms_max']:.1f} ms; {sleeper('normal', control)}",
        f"    the prober's own doing: {told(site.directory, 'prober')}",
        f"core's loop lag p50 {lag['p50']} ms, p99.9 {lag['p99_9']} ms, max {lag['max']} ms; "  # type: ignore[index]
        f"{sleeper('real-time', control)}",
        f"    the core's own doing: {told(site.directory, 'core')}",
    ]


def sleeper(name: str, control: dict[str, list[float]]) -> str:
    """Return how late a loop was that only sleeps."""
    late = control[name]
    return (
        f"a {name} loop that only sleeps: p50 {percentile(late, 0.5):.2f} ms, "
        f"p99.9 {percentile(late, 0.999):.2f} ms, max {max(late):.2f} ms"
    )


def their_notes(site: Site, kind: str) -> list[str]:
    """Return the failures that the program beside us tells of."""
    if kind == "ping":
        return []
    text = (site.directory / "keepalived.out").read_text(errors="replace")
    return [f"failures {sum('removing service' in line.lower() for line in text.splitlines())}"]


def measure(kind: str, site: Site, seconds: float, interval_s: int) -> tuple[Cost, Cost]:
    """Run both sides for a while."""
    name = "fping" if kind == "ping" else "keepalived"
    control = Control()
    control.start()
    processes = [start_hawatch(kind, site, interval_s)]
    try:
        started_s = wait_all_up(site)
        processes.append(start_fping(site, interval_s) if kind == "ping" else start_keepalived(kind, site, interval_s))
        time.sleep(WARM_UP_S + interval_s)
        sides = (
            Side(Cost("hawatch"), processes[0], site.ours, kind),
            Side(Cost(name), processes[1], site.theirs, kind),
        )
        for side in sides:
            side.begin()
        time.sleep(seconds)
        for side in sides:
            side.end()
        ours, theirs = sides[0].cost, sides[1].cost
        ours.notes += [*our_notes(site, control.end()), f"start to all up and shown: {started_s:.1f} s"]
        theirs.notes += their_notes(site, kind)
    finally:
        control.stop()
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(10)
    return ours, theirs


def report(kind: str, ours: Cost, theirs: Cost, arguments: argparse.Namespace) -> None:
    """Print the figures of one kind of check."""
    stubbed = "" if HAS_IPVS else ", IPVS stubbed on both sides" if kind != "ping" else ""
    print(
        f"{kind}: {arguments.servers} servers a side, each every {arguments.interval} s, {arguments.seconds:g} s{stubbed}"
    )
    for one in (ours, theirs):
        print(
            f"  {one.name:10} {one.checks / one.seconds:7.0f} checks/s {one.each_us:7.1f} us of CPU a check "
            f"{one.pss:6.1f} MB PSS in {one.processes} processes"
        )
        for note in (one.shares(), *one.notes):
            print(f"             {note}")
    print(f"  ratio      {ours.each_us / theirs.each_us if theirs.each_us else 0:.2f}", flush=True)


def main(words: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", type=int, default=1000)
    parser.add_argument("--interval", type=int, default=1, help="seconds")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--kinds", default="http,tcp,ping")
    arguments = parser.parse_args(words)
    for tool in ("keepalived", "fping", "nginx", "gcc"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is missing: run make packages")
    for kind in arguments.kinds.split(","):
        with bench_site(arguments.servers) as site:
            ours, theirs = measure(kind, site, arguments.seconds, arguments.interval)
        report(kind, ours, theirs, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
