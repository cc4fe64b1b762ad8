"""What clients live through when a director fails: outage, and whether two machines answered for the VIP.

    python -m tests.bench.failover [--runs 3] [--advert 0.3] [--event "agent killed"]

Runs on this kernel, in network namespaces: no IPVS is needed to move an address.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence

from tests.lab.pair.director import Adapter
from tests.lab.pair.events import ALL_EVENTS, EVENTS, Outcome, run_once
from tests.lab.pair.hawatch import Hawatch
from tests.lab.pair.keepalived import Keepalived
from tests.lab.pair.shell import ended_by_signals

HEAD = f"{'agent':22} {'event':18} {'runs':>4} {'outage ms: median':>18} {'p95':>6} {'max':>6}  {'two owners':26} at the end"


def row(adapter: Adapter, event: str, outcomes: Sequence[Outcome]) -> str:
    """Return the table's line of one event."""
    outages = sorted(outcome.outage_ms for outcome in outcomes)
    p95 = outages[min(len(outages) - 1, round(0.95 * (len(outages) - 1)))]
    both = sum(outcome.two_owners > 0 for outcome in outcomes)
    overlap = max(outcome.overlap_ms for outcome in outcomes)
    owners = f"{both} of {len(outcomes)} runs, {overlap:.0f} ms" if both else "never"
    ends = ", ".join(sorted({outcome.owner for outcome in outcomes}))
    return (
        f"{adapter.name:22} {event:18} {len(outages):4} {statistics.median(outages):18.0f} {p95:6.0f} "
        f"{outages[-1]:6.0f}  {owners:26} {ends}"
    )


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.failover", description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--advert", type=float, default=0.3, metavar="SECONDS", help="keepalived's advert interval")
    parser.add_argument("--event", choices=ALL_EVENTS, action="append", help="only this one (may be repeated)")
    parser.add_argument("--all", action="store_true", help="hawatch's whole failure table, not what both agents know")
    parser.add_argument("--agent", default="", help="only agents whose name begins so")
    arguments = parser.parse_args()
    keepalived = Keepalived(arguments.advert)
    keepalived.name = f"keepalived {arguments.advert:g} s"
    adapters: list[Adapter] = [Hawatch(profile) for profile in ("fast", "default")]
    adapters.append(keepalived)
    adapters = [one for one in adapters if one.name.startswith(arguments.agent)]
    print(HEAD, flush=True)
    with ended_by_signals():
        for event in arguments.event or (ALL_EVENTS if arguments.all else EVENTS):
            for adapter in adapters:
                if event not in adapter.lacks:
                    outcomes = [run_once(adapter, ALL_EVENTS[event]) for _ in range(arguments.runs)]
                    print(row(adapter, event, outcomes), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
