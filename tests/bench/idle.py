"""What an idle pair and its witness cost: processor time, wake-ups and memory of each process.

    python -m tests.bench.idle [--seconds 60] [--profile default]

The group is owned and renewed; there are no services, so that what is measured is heartbeats and lease, and the agent
around them.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.cost import cpu_ns, pss_mb, tree
from tests.lab.flood_trial import Trial
from tests.lab.pair.shell import ended_by_signals


@dataclass(frozen=True, slots=True)
class Use:
    """What a process has used."""

    cpu_ns: int
    wakeups: int

    @classmethod
    def of(cls, pid: int) -> Use:
        """Look at a process now."""
        wakeups = 0
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            lines = status.read_text(encoding="ascii").splitlines()
            wakeups += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt"))
        return cls(cpu_ns([pid]), wakeups)


def name_of(pid: int) -> str:
    """Return what a process calls itself."""
    name = Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip()
    return name if name.startswith("hawatch:") else "keeper or witness"


def rss_mb(pid: int) -> float:
    """Return the resident set size."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.idle", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--profile", default="default", choices=("fast", "default", "vm"))
    arguments = parser.parse_args()
    with ended_by_signals(), Trial(arguments.profile).run() as trial:
        owner = trial.owner.node.name
        groups = {
            **{
                f"{each.node.name}{' (owner)' if each.node.name == owner else ''}": each.pids()
                for each in trial.directors
            },
            "rs1 (witness)": sorted(tree(trial.witness_pid)),
        }
        before = {pid: Use.of(pid) for pids in groups.values() for pid in pids}
        start = time.monotonic()
        time.sleep(arguments.seconds)
        spent = time.monotonic() - start
        print(f"profile {arguments.profile}, {spent:.0f} s")
        print(f"{'node':16} {'process':18} {'CPU':>7} {'wake-ups/s':>10} {'PSS MB':>7} {'RSS MB':>7}")
        for node, pids in groups.items():
            for pid in pids:
                now = Use.of(pid)
                share = (now.cpu_ns - before[pid].cpu_ns) / 1e9 / spent
                wakeups = (now.wakeups - before[pid].wakeups) / spent
                print(
                    f"{node:16} {name_of(pid):18} {share:7.2%} {wakeups:10.1f} {pss_mb([pid]):7.1f} {rss_mb(pid):7.1f}"
                )
            share = sum(Use.of(pid).cpu_ns - before[pid].cpu_ns for pid in pids) / 1e9 / (time.monotonic() - start)
            print(f"{node:16} {'together':18} {share:7.2%} {'':10} {pss_mb(pids):7.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
