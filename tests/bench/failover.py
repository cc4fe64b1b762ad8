"""What clients live through when a director fails: outage, and whether two machines answered for the VIP.

    python -m tests.bench.failover [--runs 3] [--row "clean stop"] [--agent "hawatch fast"]     beside keepalived
    python -m tests.bench.failover --all [--runs 20] [--jobs 2]                 the failure table, with its bounds

Runs on this kernel, in network namespaces: no IPVS is needed to move an address. Rows that need a kernel of their own
(`--place kernel`) run in User-Mode Linux. The exit status is 1 when hawatch broke a bound, or two machines answered.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from tests.lab.pair.hawatch import Hawatch
from tests.lab.pair.keepalived import Keepalived
from tests.lab.pair.machine import Adapter
from tests.lab.pair.rows import GUEST, NAMESPACES, Row, named, row_for, rows
from tests.lab.pair.run import SLACK_MS, Outcome, problems, run_row
from tests.lab.pair.scene import scene
from tests.lab.pair.shell import LabError, ended_by_signals

FREEZE_S, CORE_KILLS = 10.0, 100
COMPARED = ("switchover", "giveaway")
"""What keepalived has no command for; a clean stop is the nearest."""
GUEST_SLACK_MS = 60.0
HEAD = (
    f"{'agent':16} {'event':22} {'runs':>4} {'outage ms: median':>18} {'p95':>6} {'max':>6} {'bound':>6} "
    f"{'http max':>8} {'noise':>6}  {'two owners':22} {'owner':8} held"
)


@dataclass(slots=True)
class Stage:
    """An agent in a mode, with the rows that it goes through on one scene."""

    adapter: Adapter
    rows: list[Row]


@dataclass(slots=True)
class Tally:
    """What the runs of one row came to."""

    row: Row
    outcomes: list[Outcome] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def line(self, adapter: Adapter) -> str:
        """Return the table's line."""
        head = f"{adapter.name:16} {self.row.name:22} {len(self.outcomes):4}"
        if not self.outcomes:
            return f"{head} no run came to its end"
        outages = sorted(each.outage_ms for each in self.outcomes)
        p95 = outages[min(len(outages) - 1, round(0.95 * (len(outages) - 1)))]
        http = max(each.http_ms for each in self.outcomes)
        both = sum(each.two_owners > 0 for each in self.outcomes)
        overlap = max(each.overlap_ms for each in self.outcomes)
        owners = f"{both} of {len(outages)}, {overlap:.0f} ms" if both else "never"
        ends = ", ".join(sorted({each.owner for each in self.outcomes}))
        promised = isinstance(adapter, Hawatch)
        bound = f"{self.row.limit_ms(adapter.takeover_ms):.0f}" if promised else "-"
        held = f"{len(outages) - len(self.broken)}/{len(outages)}" if promised else "-"
        return (
            f"{head} {statistics.median(outages):18.1f} {p95:6.1f} {outages[-1]:6.1f} {bound:>6} "
            f"{f'{http:.0f}' if http else '-':>8} {max(each.noise_ms for each in self.outcomes):6.1f}  "
            f"{owners:22} {ends:8} {held}"
        )


def run_stage(stage: Stage, runs: int, *, serving: bool, slack_ms: float) -> int:
    """Run every row so often, print its line and what it broke; return how many runs broke a promise."""
    broken = 0
    with ExitStack() as stack:
        at_hand = stack.enter_context(scene(stage.adapter, serving=serving))
        for row in stage.rows:
            tally, failures = Tally(row), list[str]()
            for _ in range(min(runs, row.runs_max)):
                try:
                    outcome = run_row(at_hand, row)
                except LabError as error:
                    failures.append(str(error))
                    stack.close()
                    at_hand = stack.enter_context(scene(stage.adapter, serving=serving))
                    continue
                tally.outcomes.append(outcome)
                if isinstance(stage.adapter, Hawatch):
                    found = problems(row, outcome, stage.adapter.takeover_ms, slack_ms=slack_ms)
                    tally.broken += ["; ".join(found)] if found else []
            words = [tally.line(stage.adapter), *(f"    broken: {each}" for each in tally.broken)]
            words += [f"    did not come to its end: {each}" for each in failures]
            print("\n".join(words), flush=True)
            broken += len(tally.broken) + len(failures)
    return broken


def run_all(stages: Sequence[Stage], jobs: int, runs: int, *, serving: bool, slack_ms: float) -> int:
    """Run the stages, some beside each other; return how many broke a promise or did not come to their end."""
    waiting, under_way, bad = list(stages), set[int](), 0
    try:
        while waiting or under_way:
            while waiting and len(under_way) < jobs:
                stage = waiting.pop(0)
                under_way.add(fork(lambda one=stage: run_stage(one, runs, serving=serving, slack_ms=slack_ms)))  # type: ignore[misc]
            pid, status = os.wait()
            under_way.discard(pid)
            bad += status != 0
    finally:
        for pid in under_way:
            os.kill(pid, signal.SIGTERM)
        for pid in under_way:
            os.waitpid(pid, 0)
    return bad


def fork(work: Callable[[], int]) -> int:
    """Do work in a process of its own, whose status is 0 if it returned 0; return its number."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with ended_by_signals():
                status = int(work() != 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    return pid


def compared_rows(found: Iterable[Row]) -> list[Row]:
    """Return the rows for the table beside keepalived."""
    return [row for row in found if row.any_agent or row.name in COMPARED]


def stages_of(arguments: argparse.Namespace) -> list[Stage]:
    """Return what is to be run, the longest first."""
    chosen = named(rows(freeze_s=FREEZE_S, core_kills=CORE_KILLS), arguments.row)
    chosen = [row for row in chosen if row.place == arguments.place]
    if not (arguments.all or arguments.row):
        chosen = compared_rows(chosen)
    found = []
    for quorum in ("witness", "gateway", "none"):
        for profile in ("default", "fast"):
            adapter = Hawatch(profile, quorum)
            found.append(Stage(adapter, [row_for(row, adapter) for row in chosen if row.quorum == quorum]))
    if not arguments.all:
        for advert_s in arguments.advert:
            found.append(Stage(Keepalived(advert_s), [row for row in chosen if row.any_agent]))
    return [one for one in found if one.rows and any(one.adapter.name.startswith(word) for word in arguments.agent)]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.failover", description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="so many agents beside each other, each on its own site")
    parser.add_argument("--advert", type=float, action="append", metavar="SECONDS", help="keepalived's; 0.3 and 1")
    parser.add_argument("--row", action="append", default=[], help="rows whose name contains this (may be repeated)")
    parser.add_argument("--agent", action="append", help="agents whose name begins so: hawatch fast (may be repeated)")
    parser.add_argument("--all", action="store_true", help="hawatch's whole failure table, not what both agents know")
    parser.add_argument(
        "--place", choices=(NAMESPACES, GUEST), default=NAMESPACES, help="rows for namespaces, or a guest"
    )
    arguments = parser.parse_args()
    arguments.advert = arguments.advert or [0.3, 1.0]
    arguments.agent = arguments.agent or [""]
    print(HEAD, flush=True)
    slack_ms = GUEST_SLACK_MS if arguments.place == GUEST else SLACK_MS
    began = time.monotonic()
    with ended_by_signals():
        bad = run_all(
            stages_of(arguments), arguments.jobs, arguments.runs, serving=not arguments.all, slack_ms=slack_ms
        )
    print(f"{time.monotonic() - began:.0f} s; every bound allows {slack_ms:.0f} ms for measuring", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
