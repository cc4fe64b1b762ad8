"""Small helpers of the lab: commands that say why they failed, waits with a limit, the clock."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

COMMAND_LIMIT_S = 60.0
"""No command of the lab takes longer, in User-Mode Linux either."""
POLL_S = 0.02


class LabError(AssertionError):
    """Something in the lab is not as it should be; the message is a sentence for people."""


def run(argv: Sequence[str], *, stdin: str = "", check: bool = True, limit_s: float = COMMAND_LIMIT_S) -> str:
    """Run a command and return what it printed; raise LabError with its words when it fails."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=limit_s)
    if check and done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip() or "it said nothing")[-2000:]
        raise LabError(f"{' '.join(argv)!r} ended with status {done.returncode}: {words}\n{stdin[:2000]}")
    return done.stdout


def wait_until(condition: Callable[[], object], what: str, *, limit_s: float, poll_s: float = POLL_S) -> float:
    """Wait until `condition` holds and return the seconds it took; raise LabError naming `what` at the limit."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > limit_s:
            raise LabError(f"{what}: not within {limit_s:g} s")
        time.sleep(poll_s)
    return time.monotonic() - start


def now_ns() -> int:
    """Return CLOCK_BOOTTIME, which all namespaces share: instants of different processes compare."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def alive(pid: int) -> bool:
    """Tell whether a process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def family_of(pid: int) -> list[int]:
    """Return a process and all its descendants, parents first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                stat = Path(entry, "stat").read_text(encoding="utf-8", errors="replace")
                children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    family = [pid]
    for member in family:
        family.extend(children.get(member, []))
    return family


def signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    """Send a signal to each process that still exists."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit, so that context managers clean up."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
