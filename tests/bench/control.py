"""Loops that do nothing but sleep, as processes of their own: what the machine itself makes late, at each priority.

On each processor one runs as the core does (SCHED_RR, the same number), and wherever there is room one as everything
else. They wake up so often that a processor that stands still is hardly missed, and run from the agent's start to the end
of the measurement.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field

from hawatch.agent.priority import PRIORITY

INTERVAL_NS = 10_000_000
WAIT_S = 10


def sleep_and_note(processor: int | None) -> None:
    """Sleep until standard input ends, then print how late each sleep ended, in ms; of real time, on one processor."""
    if processor is not None:
        os.sched_setaffinity(0, {processor})
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(PRIORITY))
    os.set_blocking(0, False)
    late_ms: list[float] = []
    due_ns = time.monotonic_ns()
    while True:
        due_ns += INTERVAL_NS
        time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
        now_ns = time.monotonic_ns()
        late_ms.append((now_ns - due_ns) / 1e6)
        due_ns = max(due_ns, now_ns - INTERVAL_NS)
        try:
            if os.read(0, 1) == b"":
                break
        except BlockingIOError:
            continue
    print(json.dumps(late_ms))


@dataclass
class Control:
    """The loops."""

    processes: list[tuple[str, subprocess.Popen[bytes]]] = field(default_factory=list)

    def start(self) -> None:
        """Let them sleep."""
        places = [("real-time", str(number)) for number in sorted(os.sched_getaffinity(0))]
        for name, word in [*places, ("normal", "")]:
            command = [sys.executable, "-m", "tests.bench.control", word]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self.processes.append((name, process))

    def end(self) -> dict[str, list[float]]:
        """End them; return how late each sleep of each kind ended."""
        found: dict[str, list[float]] = {}
        for name, process in self.processes:
            output, _ = process.communicate(timeout=WAIT_S)
            found.setdefault(name, []).extend(json.loads(output))
        self.processes.clear()
        return found

    def stop(self) -> None:
        """End them without their figures, if they run still."""
        for _, process in self.processes:
            process.kill()
            process.communicate()


if __name__ == "__main__":
    sleep_and_note(int(sys.argv[1]) if sys.argv[1] else None)
