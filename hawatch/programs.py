"""What a program that the agent runs is not to inherit: the precedence that the agent's own processes have.

Probe programs, alert programs and those of a group are anybody's: one that goes wild shall not do so before ordinary
processes, nor eat up the memory while the kernel looks for somebody else to kill.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

OOM_SCORE_ADJUST = "oom_score_adj"
"""The kernel's file: below 0 a process is spared when memory runs out."""


def make_ordinary(pid: int, proc: Path = Path("/proc")) -> None:
    """Take from a program that was just started what it inherited of this process's precedence."""
    with suppress(OSError):  # it has ended
        if os.getpriority(os.PRIO_PROCESS, 0) < 0:
            os.setpriority(os.PRIO_PROCESS, pid, 0)
    with suppress(OSError):
        if int((proc / "self" / OOM_SCORE_ADJUST).read_text()) < 0:
            (proc / str(pid) / OOM_SCORE_ADJUST).write_text("0")
