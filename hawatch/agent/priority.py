"""How core, witness and prober keep running on a machine that is busy or short of memory.

Core and witness have real-time turns, and pages that stay; the prober goes before ordinary processes.

The priority is low among real-time ones, and the kernel keeps a share of each second for everybody else (5 % if nobody
changed it), so that a core gone mad can still be killed. Threads of the core inherit the priority: one that held the
interpreter's lock and had no turn would hold up the core itself.

The prober's priority among ordinary processes is raised: on a busy machine its checks would be late, and with them what
they find. Programs that a check runs do not inherit it, and the prober of outsiders' plug-ins does not have it.

Pages are locked as they are touched and not before, so that what is shared with the other processes stays shared.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource

from hawatch.agent.process import Capability, permitted_capabilities

PRIORITY = 5
"""Of 1 to 99; the kernel's own threads that matter to us run at 50."""
PROBER_NICE = -10
"""On a machine with a load of 9 and 2 cores, a loop that wakes up and works as a prober does was late by 102 ms in one
of a hundred turns at 0, by 53 ms at -5, and by 21 ms at this."""
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4
"""linux/mman.h"""

_libc = ctypes.CDLL(None, use_errno=True)


def run_promptly(who: str) -> list[str]:
    """Have this thread, and those that it will start, run before ordinary ones; return what was refused, and why.

    `who` is for the sentences: "the core".
    """
    return [problem for problem in (_take_turns(who), _lock_memory(who)) if problem]


def run_before_others(nice: int) -> str:
    """Raise this process's priority among ordinary ones; return what was refused, and why, "" when nothing was."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    except OSError as error:
        return f"it runs without raised priority ({error.strerror}): a busy machine makes its checks late"
    return ""


def run_as_others() -> None:
    """Give the priority back, in a process that was forked and is not pressed."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def fork_promptly() -> None:
    """Have the keeper run before ordinary processes and after the core, where permitted: a dead core waits for it.

    Its children begin as ordinary ones; where it is refused, the core will say so of itself.
    """
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(PRIORITY - 1))


def _take_turns(who: str) -> str:
    if os.sched_getscheduler(0) == os.SCHED_RR:
        return ""  # a service manager has seen to it
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(PRIORITY))
    except OSError as error:
        return f"{who} runs without real-time priority ({error.strerror}): a busy machine makes it late"
    return ""


def _lock_memory(who: str) -> str:
    """Lock it if there is no limit: with one, memory that is asked for later would be refused instead."""
    unlimited = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY
    if not unlimited and Capability.IPC_LOCK not in permitted_capabilities():
        reason = "RLIMIT_MEMLOCK is limited"
    elif _libc.mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0:
        reason = os.strerror(ctypes.get_errno())
    else:
        return ""
    return f"{who}'s memory is not locked ({reason}): a machine that swaps makes it late"
