"""What processes cost: CPU time to the nanosecond, and memory with what is shared divided among its users."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def tree(pid: int) -> set[int]:
    """Return a process and all that it started, as far as they live."""
    found, todo = set(), [pid]
    while todo:
        one = todo.pop()
        if one in found:
            continue
        found.add(one)
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                todo += map(int, children.read_text().split())
            except OSError:
                continue
    return found


def cpu_ns(pids: Iterable[int]) -> int:
    """Return the CPU time, user and system, that the scheduler has given to all threads of the processes."""
    total = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            total += int(thread.read_text().split()[0])
    return total


def cpu_parts(pids: Iterable[int]) -> dict[str, float]:
    """Return the CPU seconds of each process by its name, and "in the kernel" those of all, as far as ticks tell."""
    parts: dict[str, float] = {}
    in_kernel_s = 0.0
    for pid in pids:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
        parts[name] = parts.get(name, 0.0) + cpu_ns([pid]) / 1e9
        in_kernel_s += int(rest.split()[12]) / os.sysconf("SC_CLK_TCK")
    return {**parts, "in the kernel": in_kernel_s}


def pss_mb(pids: Iterable[int]) -> float:
    """Return the proportional set size of the processes together."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024
