"""What a check costs: a thousand targets a second, one nginx behind them, on loopback.

    python -m tests.bench.checks [--targets 1000] [--seconds 15]

The prober runs as the agent runs it, in a process of its own; this program stands in for the core at the other end of its
work channel. Printed are the prober's user and system time a check (schedule, verdict and summaries included), the worst
late start, and its proportional memory.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hawatch.agent.link import FrameSplitter, frame, leash_pair, send_leash, work_pair
from hawatch.agent.messages import Assign, Link, Summary
from hawatch.agent.prober import prober_main
from hawatch.model import NS_PER_MS, NS_PER_S, Check
from hawatch.registry import probe_class

PORT = 18080
WARM_UP_S = 3.0
NGINX = """\
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/log;
events {{ worker_connections 4096; }}
http {{ access_log off; server {{ listen {port} backlog=4096; location / {{ return 200 "ok\\n"; }} }} }}
"""


def make_checks(kind: str, count: int) -> list[Check]:
    """Return a check of each target, all of them addresses of loopback."""
    options = probe_class(kind).options_type().model_dump(mode="json")
    port = None if kind == "ping" else PORT
    return [
        Check(f"{kind}-{n}", kind, options, f"127.1.{n // 250}.{n % 250 + 1}", port, NS_PER_S, 900 * NS_PER_MS, 2, 3)
        for n in range(count)
    ]


def cpu_s(pid: int) -> float:
    """Return a process's user and system time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pss_mb(pid: int) -> float:
    """Return a process's proportional memory."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def measure(kind: str, count: int, seconds: float) -> None:
    """Run one kind of check and print what it cost."""
    ours, theirs = leash_pair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        try:
            prober_main(theirs, "prober")
        finally:
            os._exit(0)
    theirs.close()
    core, work = work_pair()
    send_leash(ours, Link("core"), work.fileno())
    work.close()
    core.settimeout(5)
    core.sendall(frame(Assign(make_checks(kind, count), [])))
    splitter = FrameSplitter()
    summaries = listen(core, splitter, WARM_UP_S)
    began, cpu = time.monotonic(), cpu_s(pid)
    summaries = listen(core, splitter, seconds)
    took, used = time.monotonic() - began, cpu_s(pid) - cpu
    runs = sum(row.runs for summary in summaries for row in summary.checks)
    failures = sum(row.failures for summary in summaries for row in summary.checks)
    late = max(summary.late_ms_max for summary in summaries)
    print(
        f"{kind:5} {runs / took:7.0f} checks/s  {used / max(1, runs) * 1e6:6.0f} us a check  {used / took * 100:5.1f} % of a core"
        f"  latest start {late:5.1f} ms  {failures} failed  {pss_mb(pid):5.1f} MB",
        flush=True,
    )
    ours.close()
    core.close()
    os.waitpid(pid, 0)


def listen(core: socket.socket, splitter: FrameSplitter, seconds: float) -> list[Summary]:
    """Take what the prober says for a while; return its summaries."""
    found: list[Summary] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found.extend(message for message in splitter.feed(core.recv(1 << 20)) if isinstance(message, Summary))
    return found


def main() -> int:
    """Measure http, tcp and ping, one after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--targets", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=15.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hawatch-bench-") as folder:
        config = Path(folder, "nginx.conf")
        config.write_text(NGINX.format(folder=folder, port=PORT))
        with subprocess.Popen(["nginx", "-e", f"{folder}/log", "-c", str(config)]) as nginx:
            try:
                time.sleep(1)
                for kind in ("http", "tcp", "ping"):
                    measure(kind, arguments.targets, arguments.seconds)
            finally:
                nginx.terminate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
