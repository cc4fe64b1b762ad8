"""What a check costs: hawatch's prober beside keepalived (http, tcp) and fping (ping), in one run on the same servers.

    python -m tests.bench.checks [--servers 1000] [--seconds 15] [--kinds http,tcp,ping]

Both check every address once a second. CPU is user and system time of every process of either side; the part of the
kernel's network work that runs in their context is in it, the web server's is not. hawatch's side is the prober and a
process that stands in for the core at the other end of its channel, so that telling verdicts is in the figure.

keepalived wants IPVS. Where the kernel has none it runs with ipvs_shim.c preloaded, which answers its IPVS calls with
success; its schedule, checks and verdicts are its own.
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

from tests.bench.cost import cpu_ns, pss_mb, tree
from tests.bench.site import Site, bench_site

WARM_UP_S = 4
SERVERS_PER_SERVICE = 20
CHECKERS = {
    "http": "HTTP_GET {\nurl {\npath /\nstatus_code 200\n}\nconnect_timeout 1\n}",
    "tcp": "TCP_CHECK {\nconnect_timeout 1\n}",
}


@dataclass
class Cost:
    """What one side cost in the window."""

    name: str
    checks: float = 0
    cpu_us: float = 0
    pss: float = 0
    processes: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def each_us(self) -> float:
        """CPU of one check."""
        return self.cpu_us / max(1.0, self.checks)


def keepalived_config(kind: str, addresses: tuple[str, ...]) -> str:
    """Return a configuration with services of twenty servers, each checked every second."""
    lines = ["global_defs {\nrouter_id bench\n}"]
    for number in range(0, len(addresses), SERVERS_PER_SERVICE):
        lines.append(f"virtual_server 10.78.0.{1 + number // SERVERS_PER_SERVICE} 80 {{")
        lines.append("delay_loop 1\nlb_algo rr\nlb_kind DR\nprotocol TCP")
        for address in addresses[number : number + SERVERS_PER_SERVICE]:
            lines.append(f"real_server {address} 80 {{\nweight 1\n{CHECKERS[kind]}\n}}")
        lines.append("}")
    return "\n".join(lines) + "\n"


def start_keepalived(kind: str, site: Site) -> subprocess.Popen[bytes]:
    """Start keepalived's checkers."""
    config = site.directory / "keepalived.conf"
    config.write_text(keepalived_config(kind, site.addresses))
    environment = {}
    if not Path("/proc/net/ip_vs").exists():
        shim = site.directory / "ipvs_shim.so"
        source = Path(__file__).with_name("ipvs_shim.c")
        subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", shim, source, "-ldl"], check=True)
        environment["LD_PRELOAD"] = str(shim)
    return site.start(
        "keepalived", "--check", "--dont-fork", "--log-console", f"--use-file={config}",
        f"--pid={site.directory}/ka.pid", f"--checkers_pid={site.directory}/kac.pid", **environment,
    )  # fmt: skip


class Hawatch:
    """hawatch's prober and its stand-in core."""

    def __init__(self, kind: str, site: Site) -> None:
        self.output = site.directory / "standin.out"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", site.client, sys.executable, "-m", "tests.bench.standin", kind, *site.addresses],
                stdout=output,
            )  # fmt: skip

    def pids(self) -> list[int]:
        """Return prober and core."""
        return [int(word) for word in self.output.read_text().split("\n")[0].split()[1:]]

    def summaries(self) -> list[dict[str, object]]:
        """Return all summaries so far."""
        lines = self.output.read_text().split("\n")[1:-1]
        return [json.loads(line) for line in lines]


def percentile(values: list[int], share: float) -> int:
    """Return a percentile of sorted values."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0


def measure(kind: str, site: Site, seconds: float) -> tuple[Cost, Cost]:
    """Run both sides for a while."""
    ours, theirs = Cost("hawatch"), Cost("fping" if kind == "ping" else "keepalived")
    hawatch = Hawatch(kind, site)
    other = start_fping(site) if kind == "ping" else start_keepalived(kind, site)
    try:
        time.sleep(WARM_UP_S)
        seen, served = len(hawatch.summaries()), site.served()
        begun, pids, their_pids = time.monotonic(), hawatch.pids(), tree(other.pid)
        before, their_before = cpu_ns(pids), cpu_ns(their_pids)
        core_before = cpu_ns(pids[1:])
        time.sleep(seconds)
        ours.cpu_us = (cpu_ns(pids) - before) / 1000
        core_us = (cpu_ns(pids[1:]) - core_before) / 1000
        theirs.cpu_us = (cpu_ns(their_pids) - their_before) / 1000
        took = time.monotonic() - begun
        served_now = site.served()
        ours.pss, theirs.pss = pss_mb(pids), pss_mb(their_pids)
        ours.processes, theirs.processes = len(pids), len(their_pids)
        time.sleep(2.2)
        summaries = hawatch.summaries()[seen:]
        per_second = sum(int(one["runs"]) for one in summaries) / (2 * max(1, len(summaries)))  # type: ignore[call-overload]
        ours.checks = per_second * took
        theirs.checks = served_now[kind] - served[kind] - ours.checks
        latencies = list(summaries[-1]["latency_us"])  # type: ignore[call-overload]
        ours.notes += [
            f"failures {sum(int(one['failures']) for one in summaries)}, up {summaries[-1]['up']}, "  # type: ignore[call-overload]
            f"reasons {summaries[-1]['reasons']}",
            f"late at most {max(float(one['late_ms_max']) for one in summaries):.1f} ms; "  # type: ignore[arg-type]
            f"latency p50 {percentile(latencies, 0.5)} us, p99 {percentile(latencies, 0.99)} us",
            f"the stand-in core: {core_us / max(1, ours.checks):.1f} us a check",
        ]
    finally:
        for process in (hawatch.process, other):
            process.terminate()
            process.wait(10)
        for pid in hawatch.pids():
            subprocess.run(["kill", str(pid)], check=False, capture_output=True)
    return ours, theirs


def start_fping(site: Site) -> subprocess.Popen[bytes]:
    """Start fping on all addresses, once a second each."""
    return site.start("fping", "-l", "-Q", "1", "-i", "1", "-p", "1000", *site.addresses)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--kinds", default="http,tcp,ping")
    arguments = parser.parse_args()
    for tool in ("keepalived", "fping", "nginx", "gcc"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is missing: run make packages")
    stubbed = "" if Path("/proc/net/ip_vs").exists() else " (keepalived: its IPVS calls stubbed)"
    for kind in arguments.kinds.split(","):
        with bench_site(arguments.servers) as site:
            ours, theirs = measure(kind, site, arguments.seconds)
        print(f"{kind}: {arguments.servers} servers, every second, {arguments.seconds:g} s{stubbed}")
        for one in (ours, theirs):
            print(f"  {one.name:10} {one.checks / arguments.seconds:7.0f} checks/s {one.each_us:7.1f} us of CPU a check "
                  f"{one.pss:6.1f} MB PSS in {one.processes} processes")  # fmt: skip
            for note in one.notes:
                print(f"             {note}")
        print(f"  ratio      {ours.each_us / theirs.each_us if theirs.each_us else 0:.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
