"""What the agent's processes use, as the kernel tells it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
USER_TICKS, SYSTEM_TICKS, RESIDENT_PAGES = 11, 12, 21
"""Places in /proc/PID/stat, counted from the one after the name (proc(5): fields 14, 15 and 24)."""


@dataclass(frozen=True, slots=True)
class Usage:
    """One process."""

    cpu_s: float
    resident_bytes: int


def usage(pid: int, proc: Path = Path("/proc")) -> Usage | None:
    """Return what a process uses, None when it is gone or the system does not tell."""
    try:
        words = (proc / str(pid) / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        ticks = int(words[USER_TICKS]) + int(words[SYSTEM_TICKS])
        return Usage(ticks / TICKS_PER_S, int(words[RESIDENT_PAGES]) * PAGE_BYTES)
    except (OSError, ValueError, IndexError):
        return None
