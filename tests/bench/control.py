"""Loops that do nothing but sleep, as processes of their own: what the machine itself makes late, at each priority.

One runs as the core does (SCHED_RR, the same number), one as everything else. They run from the agent's start to the
end of the measurement.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field

from hawatch.agent.priority import PRIORITY

INTERVAL_NS = 100_000_000
WAIT_S = 10


def sleep_and_note(real_time: bool) -> None:
    """Sleep until standard input ends, then print how late each sleep ended, in milliseconds."""
    if real_time:
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
    """The two loops."""

    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self) -> None:
        """Let them sleep."""
        for name, word in (("real-time", "1"), ("normal", "0")):
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "tests.bench.control", word], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )

    def end(self) -> dict[str, list[float]]:
        """End them; return how late each sleep of each ended."""
        found = {}
        for name, process in self.processes.items():
            output, _ = process.communicate(timeout=WAIT_S)
            found[name] = json.loads(output)
        self.processes.clear()
        return found

    def stop(self) -> None:
        """End them without their figures, if they run still."""
        for process in self.processes.values():
            process.kill()
            process.communicate()


if __name__ == "__main__":
    sleep_and_note(sys.argv[1] == "1")
