"""Who owns while 16 busy loops with nice -10 want every processor of this machine.

    python -m tests.bench.busy [--seconds 60] [--loops 16]

Both directors and the witness run on this one machine, beside the loops. Rows: profile default without real-time
priority, as where a container forbids it; default and fast with what the units allow.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from tests.lab.flood_trial import Trial
from tests.lab.pair.events import core_of
from tests.lab.pair.shell import ended_by_signals

NICE = -10
WITHOUT = ("setpriv", "--bounding-set", "-sys_nice,-ipc_lock", "prlimit", "--rtprio=0", "--memlock=65536")
"""Runs a program that may not take real-time turns nor lock its memory."""
ROWS = (("default", False), ("default", True), ("fast", True))


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """Keep the processors busy."""
    words = [sys.executable, "-c", "while True: pass"]
    started = [subprocess.Popen(words, preexec_fn=lambda: os.nice(NICE)) for _ in range(loops)]
    try:
        yield
    finally:
        for each in started:
            each.kill()
            each.wait()


def row(profile: str, seconds: float, loops: int, *, realtime: bool) -> tuple[str, bool]:
    """Return one line of the table, and whether the owner stayed."""
    with Trial(profile, () if realtime else WITHOUT).run() as trial:
        taken = os.sched_getscheduler(core_of(trial.owner)) == os.SCHED_RR
        assert taken == realtime, "the core's turns are not as this row wants them"
        before, events = trial.group(), trial.events()
        with busy(loops):
            time.sleep(seconds)
        after, new = trial.group(), trial.events()
        for each in events:
            new.remove(each)
    same = (after["state"], after["epoch"]) == (before["state"], before["epoch"])
    renewals = int(after["renewals"]) - int(before["renewals"])
    failed = int(after["renewals_failed"]) - int(before["renewals_failed"])
    told = ", ".join(f"{count} {name}" for name, count in Counter(new).items()) or "none"
    owner = "same" if same else "CHANGED"
    return f"{profile:8} {'yes' if realtime else 'no':9} {renewals:9} {failed:6}  {owner:8} {told}", same


def main() -> int:
    """Print the table; 1 if an owner changed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.busy", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--loops", type=int, default=16)
    arguments = parser.parse_args()
    print(f"{arguments.loops} loops, nice {NICE}, {os.cpu_count()} processors, {arguments.seconds:.0f} s", flush=True)
    print(f"{'profile':8} {'real-time':9} {'renewals':>9} {'failed':>6}  {'owner':8} events meanwhile", flush=True)
    all_same = True
    with ended_by_signals():
        for profile, realtime in ROWS:
            text, same = row(profile, arguments.seconds, arguments.loops, realtime=realtime)
            all_same &= same
            print(text, flush=True)
    return int(not all_same)


if __name__ == "__main__":
    sys.exit(main())
