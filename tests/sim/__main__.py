"""Simulate a site for hours and print what came of it.

python -m tests.sim --hours 10             every profile, until so many hours have been simulated
python -m tests.sim --profile fast --seed 17 --trace     one seed again, with everything that happened
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import multiprocessing.pool
import sys
from collections import Counter
from collections.abc import Iterator

from hawatch.cluster.parameters import PROFILES
from tests.sim.episode import Outcome, live

NS_PER_HOUR = 3_600_000_000_000
FAILURES_SHOWN = 10


def one(job: tuple[int, str]) -> Outcome:
    """Run a seed in a process of its own."""
    return live(*job)


def percentile(values: list[int], share: float) -> float:
    """Return a percentile in milliseconds."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1e6 if ordered else float("nan")


def spread(values: list[int]) -> str:
    """Return median, 99th percentile and maximum."""
    return f"{percentile(values, 0.5):.0f} / {percentile(values, 0.99):.0f} / {percentile(values, 1):.0f} ms ({len(values)})"


def outcomes(profile: str, hours: float, seed: int, jobs: int) -> Iterator[Outcome]:
    """Run seeds until so many hours have been simulated."""
    simulated_ns = 0
    with multiprocessing.Pool(jobs, maxtasksperchild=50) as pool:
        for outcome in batches(pool, profile, seed, jobs):
            simulated_ns += outcome.simulated_ns
            yield outcome
            if simulated_ns >= hours * NS_PER_HOUR:
                return


def batches(pool: multiprocessing.pool.Pool, profile: str, seed: int, jobs: int) -> Iterator[Outcome]:
    """Run seeds a few at a time, in order."""
    for first in itertools.count(seed, 4 * jobs):
        yield from pool.map(one, [(number, profile) for number in range(first, first + 4 * jobs)], chunksize=1)


def simulate(profile: str, hours: float, seed: int, jobs: int) -> int:
    """Simulate one profile, print its figures, and return how many seeds failed."""
    faults: Counter[str] = Counter()
    takeovers: dict[str, list[int]] = {}
    switchovers: list[int] = []
    recoveries: list[int] = []
    simulated_ns = acquisitions = seeds = overlaps = best_effort = 0
    failures: list[Outcome] = []
    for outcome in outcomes(profile, hours, seed, jobs):
        seeds += 1
        simulated_ns += outcome.simulated_ns
        faults += outcome.faults
        acquisitions += outcome.acquisitions
        overlaps += len(outcome.overlaps)
        takeovers.setdefault(outcome.kind, []).extend(outcome.takeovers_ns)
        best_effort += outcome.best_effort
        switchovers += outcome.switchovers_ns
        recoveries += outcome.recoveries_ns
        if outcome.failed():
            failures.append(outcome)
            tell(outcome, shown=len(failures) <= FAILURES_SHOWN)
    print(
        f"{profile}: {simulated_ns / NS_PER_HOUR:.2f} h simulated in {seeds} seeds, {faults.total()} faults of {len(faults)} kinds"
    )
    print(f"  acquisitions {acquisitions}, owners > 1: {overlaps}, seeds that failed: {len(failures)}")
    print(f"  two open where nothing is promised (no witness, one name twice): {best_effort} times")
    print(f"  takeover median / p99 / max, with a lease of {PROFILES[profile].lease_ns / 1e6:.0f} ms:")
    for kind, values in sorted(takeovers.items()):
        print(f"    {kind:8} {spread(values)}")
    print(f"  after the last fault the preferred director owns within median / p99 / max: {spread(recoveries)}")
    print(f"  switchover, silent for median / p99 / max: {spread(switchovers)}", flush=True)
    return len(failures)


def tell(outcome: Outcome, *, shown: bool) -> None:
    """Print a seed that failed, and the command that shows it again."""
    if not shown:
        return
    for what in (*outcome.overlaps[:3], *outcome.stuck, *outcome.crashes):
        print(f"FAILED {what}")
    print(
        f"  again: {sys.executable} -m tests.sim --profile {outcome.profile} --seed {outcome.seed} --trace", flush=True
    )


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="Simulate sites with faults.")
    parser.add_argument("--hours", type=float, default=1.0, help="simulated hours, spread over the profiles")
    parser.add_argument("--profile", choices=sorted(PROFILES), help="this profile only")
    parser.add_argument("--seed", type=int, default=1, help="the first seed, or with --trace the only one")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--trace", action="store_true", help="print everything that happened in one seed")
    arguments = parser.parse_args()
    if arguments.trace:
        outcome = live(arguments.seed, arguments.profile or "default", trace=True)
        print("\n".join(outcome.notes))
        tell(outcome, shown=True)
        return int(outcome.failed())
    profiles = [arguments.profile] if arguments.profile else sorted(PROFILES)
    failed = [simulate(each, arguments.hours / len(profiles), arguments.seed, arguments.jobs) for each in profiles]
    return int(any(failed))


if __name__ == "__main__":
    sys.exit(main())
