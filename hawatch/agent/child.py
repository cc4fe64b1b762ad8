"""How the keeper forks a child, and what the child does before its own work begins."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hawatch.agent.priority import PROBER_NICE, run_before_others
from hawatch.agent.process import (
    Capability,
    die_with_parent,
    keep_capabilities,
    set_process_name,
)
from hawatch.model import Plan

CORE = "core"
PROBER = "prober"
PLUGINS = "prober-plugins"
CONSOLE = "console"
STATUS_CRASHED = 70
"""Exit status of a child whose main function raised."""

CORE_CAPABILITIES = frozenset(
    (Capability.NET_ADMIN, Capability.NET_RAW, Capability.IPC_LOCK, Capability.SYS_NICE, Capability.NET_BIND_SERVICE)
)
RAW_PROBES = frozenset(("ping", "exec"))
"""Probe types whose prober keeps CAP_NET_RAW: ping itself, and programs such as check_icmp and fping."""


@dataclass(frozen=True, slots=True)
class ChildKind:
    """What a child is and may do."""

    name: str
    capabilities: frozenset[Capability]
    runs_programs: bool = False
    """Its capabilities pass on to programs that it runs."""
    nice: int = 0
    """Its priority among ordinary processes; negative ones come first."""


CONSOLE_KIND = ChildKind(CONSOLE, frozenset())


def wanted_children(plan: Plan) -> dict[str, ChildKind]:
    """Return the children that a plan needs, in the order in which they are started."""
    kinds = [ChildKind(CORE, CORE_CAPABILITIES)]
    types = {check.type for check in plan.checks.values() if not check.plugin}
    marks = any(check.route and check.route.mark for check in plan.checks.values())
    raw = frozenset((Capability.NET_RAW,)) if types & RAW_PROBES or marks else frozenset[Capability]()
    kinds.append(ChildKind(PROBER, raw, runs_programs="exec" in types, nice=PROBER_NICE))
    if any(check.plugin for check in plan.checks.values()):
        kinds.append(ChildKind(PLUGINS, raw if marks else frozenset()))
    return {kind.name: kind for kind in kinds}


def fork_child(kind: ChildKind, main: Callable[[], None], close: Iterable[socket.socket]) -> int:
    """Fork a child that runs `main` and then ends; return its process id.

    `close` are the sockets of the keeper that are none of the child's business.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    keeper_pid = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _live(kind, main, close, keeper_pid)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _live(kind: ChildKind, main: Callable[[], None], close: Iterable[socket.socket], keeper_pid: int) -> None:
    """Be the child; never returns."""
    status = STATUS_CRASHED
    try:
        die_with_parent(keeper_pid)
        _reset_signals(kind)
        for other in close:
            other.close()
        set_process_name(f"hawatch:{kind.name}")
        if kind.nice and (problem := run_before_others(kind.nice)):
            print(f"hawatch {kind.name}: {problem}", file=sys.stderr, flush=True)
        keep_capabilities(kind.capabilities, for_programs=kind.runs_programs)
        if kind.name != CORE:
            os.environ.pop("NOTIFY_SOCKET", None)
        gc.enable()
        main()
        status = 0
    except SystemExit as ending:
        status = ending.code if isinstance(ending.code, int) else STATUS_CRASHED
    except BaseException:  # noqa: BLE001 - the root of a process: told, and the process ends
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _reset_signals(kind: ChildKind) -> None:
    """Leave the keeper's signals to the keeper: ctrl-C and a signal to the whole process group reach all.

    The core ignores SIGTERM by a handler, not by SIG_IGN, which programs run by a child would inherit.
    """
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, _ignore if kind.name == CORE else signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _ignore)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _ignore(_number: int, _frame: object) -> None:
    """Do nothing."""
