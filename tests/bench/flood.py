"""What a flood on the heartbeat port does to an owner and to a witness: nothing, and what that costs.

    python -m tests.bench.flood [--rate 100000] [--seconds 10] [--profile default]

Random datagrams, mutated copies of real ones, the same under the addresses of their senders, and a replayed capture,
from one machine on both heartbeat links. Needs no IPVS.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from tests.lab.flood import KINDS
from tests.lab.flood_trial import Result, Trial
from tests.lab.pair.shell import ended_by_signals

HEAD = (
    f"{'profile':8} {'flood':9} {'at':6} {'sent/s':>7} {'CPU':>6} {'before':>7} {'grown':>7} {'renewals':>9} {'failed':>6}"
    "  owner   new events"
)


def row(profile: str, result: Result) -> str:
    """Return the table's line of one flood."""
    events = ", ".join(f"{count} {name}" for name, count in Counter(result.new_events).items()) or "none"
    return (
        f"{profile:8} {result.kind:9} {result.target:6} {result.per_s:7.0f} {result.cpu_share:6.1%} "
        f"{result.idle_share:7.1%} {result.grown_kb:4} kB {result.renewals:9} {result.renewals_failed:6}  "
        f"{'same' if result.same_owner else 'CHANGED':7} {events}"
    )


def main() -> int:
    """Print the table; 1 if an owner changed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.flood", description=__doc__.split("\n")[0])
    parser.add_argument("--rate", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--profile", action="append", choices=("fast", "default", "vm"))
    parser.add_argument("--kind", action="append", choices=KINDS)
    arguments = parser.parse_args()
    changed = False
    print(HEAD, flush=True)
    with ended_by_signals():
        for profile in arguments.profile or ["default"]:
            with Trial(profile).run() as trial:
                for kind in arguments.kind or KINDS:
                    for target in ("owner", "rs1"):
                        result = trial.flood(kind, target, arguments.rate, arguments.seconds)
                        changed |= not result.same_owner
                        print(row(profile, result), flush=True)
    return int(changed)


if __name__ == "__main__":
    sys.exit(main())
