"""Running a program that may be anything: bounded output, and nothing of it left behind.

Theory of operation: a program gets a session of its own, so that all that it starts can be killed as one group. What
leaves that group (a daemon that calls setsid) is found otherwise: this process is made a child subreaper, so such a
process becomes our child as soon as its parent is gone, and no child of ours has another session unless a program
started it. After each run, what is left is killed and reaped until nothing is left, or a limit is reached; then the
next run goes on with it. Descendants of programs that still run are told apart by a mark in their environment. By the
same mark a new process finds what its predecessor could not clean up because it was killed.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

import trio

from hawatch.model import NS_PER_S
from hawatch.programs import make_ordinary

OUTPUT_LIMIT = 64 << 10
"""Bytes that a program may write to each of its two outputs."""
CLEANING_PASSES_LIMIT = 40
CLEANING_PAUSE_S = 0.005
"""What is killed is gone at the first look nearly always; together 0.2 s at most."""
PR_SET_CHILD_SUBREAPER = 36
MARK = "HAWATCH_RUN"
"""Name of the environment variable that tells the runs' processes apart."""

_running: dict[int, str] = {}
"""Programs that run now, by process id, with their marks."""
_starting: set[str] = set()
"""Marks of programs that are about to run and have no process id yet."""
_marks = count(1)
_subreaper_pid = 0


@dataclass(slots=True)
class Run:
    """One run of a program, filled in as it goes."""

    output: bytearray = field(default_factory=bytearray)
    errors: bytearray = field(default_factory=bytearray)
    too_much: bool = False
    """It wrote more than is read, and was killed for it."""
    terminated: bool = False
    """It was still running when its time was up."""
    status: int | None = None
    """Exit status, or minus the signal that killed it; None: not known."""


async def run_program(
    command: Sequence[str], environment: Mapping[str, str], run: Run, *, time_ns: int, merge: bool
) -> None:
    """Run a program, SIGTERM it when `time_ns` is over, and SIGKILL all that is left of it on the way out.

    `merge` joins its errors into its output. Raises OSError where it cannot be started. What is known when this is
    cancelled is in `run`.
    """
    _become_subreaper()
    process = await _start(command, environment, merge=merge)
    try:
        await _attend(process, run, time_ns)
    finally:
        with trio.CancelScope(shield=True):
            await _end(process)
        run.status = process.returncode
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                await trio.aclose_forcefully(pipe)


async def _start(command: Sequence[str], environment: Mapping[str, str], *, merge: bool) -> trio.Process:
    mark = f"{os.getpid()}.{next(_marks)}"
    _starting.add(mark)
    try:
        process = await trio.lowlevel.open_process(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merge else subprocess.PIPE,
            env={**environment, MARK: mark},
            cwd="/",
            start_new_session=True,
        )
        _running[process.pid] = mark
        make_ordinary(process.pid)
    finally:
        _starting.discard(mark)
    return process


async def _attend(process: trio.Process, run: Run, time_ns: int) -> None:
    """Read what the program writes until it ends, by itself or because its time is over or its output too long."""
    with _open_pidfd(process.pid) as pidfd:
        with trio.move_on_after(time_ns / NS_PER_S) as time_scope:
            async with trio.open_nursery() as nursery:
                for pipe, kept in _pipes(process, run):
                    nursery.start_soon(_read, pipe, kept, partial(_stop, run, nursery))
                await trio.lowlevel.wait_readable(pidfd)
                nursery.cancel_scope.cancel()
        if time_scope.cancelled_caught:
            run.terminated = True
            _signal_group(process.pid, signal.SIGTERM)
            await trio.lowlevel.wait_readable(pidfd)
    if not run.too_much:
        for pipe, kept in _pipes(process, run):
            _read_rest(pipe, kept)


def _pipes(process: trio.Process, run: Run) -> list[tuple[trio.abc.ReceiveStream, bytearray]]:
    pairs = ((process.stdout, run.output), (process.stderr, run.errors))
    return [(pipe, kept) for pipe, kept in pairs if pipe is not None]


@contextmanager
def _open_pidfd(pid: int) -> Iterator[int]:
    """Open what becomes readable when a child has ended, without reaping it: its number stays its own."""
    pidfd = os.pidfd_open(pid)
    try:
        yield pidfd
    finally:
        os.close(pidfd)


def _stop(run: Run, nursery: trio.Nursery) -> None:
    run.too_much = True
    nursery.cancel_scope.cancel()


async def _read(pipe: trio.abc.ReceiveStream, kept: bytearray, stop: partial[None]) -> None:
    while data := await pipe.receive_some(OUTPUT_LIMIT):
        kept += data
        if len(kept) > OUTPUT_LIMIT:
            stop()
            return


def _read_rest(pipe: trio.abc.ReceiveStream, kept: bytearray) -> None:
    """Take what an ended program has left in its pipe, without waiting for others who hold the pipe open."""
    assert isinstance(pipe, trio.lowlevel.FdStream)
    while len(kept) <= OUTPUT_LIMIT:
        try:
            data = os.read(pipe.fileno(), OUTPUT_LIMIT)
        except BlockingIOError:
            return
        if not data:
            return
        kept += data


async def _end(process: trio.Process) -> None:
    """Kill and reap the program and all that it started."""
    _signal_group(process.pid, signal.SIGKILL)  # before it is reaped: then its number could be another's
    for _ in range(CLEANING_PASSES_LIMIT):
        if process.poll() is not None:
            _running.pop(process.pid, None)
        if process.poll() is not None and not _kill_orphans():
            return
        await trio.sleep(CLEANING_PAUSE_S)
    _running.pop(process.pid, None)


def _signal_group(pid: int, number: int) -> None:
    """Signal the group of a program that is not reaped yet."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _kill_orphans() -> bool:
    """Kill and reap children of ours that no running program answers for; tell whether there were any."""
    found = False
    for pid in children():
        if pid in _running or not _is_orphan(pid):
            continue
        found = True
        if _starting and _session(pid) == pid:
            continue  # it may be one that starts; the next pass knows
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, os.WNOHANG)
        except (ProcessLookupError, PermissionError, ChildProcessError):
            continue
    return found


def _is_orphan(pid: int) -> bool:
    """Tell whether a child of ours descends from a program that has ended."""
    session = _session(pid)
    if session in (-1, os.getsid(0)) or session in _running:
        return False
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return True
    marks = {word for word in environment.split(b"\0") if word.startswith(MARK.encode())}
    return not any(f"{MARK}={mark}".encode() in marks for mark in (*_running.values(), *_starting))


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def children() -> list[int]:
    """Return the children of this process."""
    found = []
    for path in Path("/proc/self/task").glob("*/children"):
        try:
            found += [int(word) for word in path.read_text().split()]
        except OSError:
            continue
    return found


def _become_subreaper() -> None:
    """Have orphans of our programs become our children; once in each process, since a fork loses it."""
    global _subreaper_pid
    if _subreaper_pid != os.getpid():
        _subreaper_pid = os.getpid()
        _running.clear()
        _starting.clear()
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        kill_forgotten()


def kill_forgotten() -> None:
    """Kill what programs of a process like this one have left behind when it was killed itself.

    The mark names the process that ran them. Where that one lives, or is one of another container, they stay.
    """
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            found = re.search(rb"(?:^|\0)%s=(\d{1,9})\.\d" % MARK.encode(), (directory / "environ").read_bytes())
            if found is None or Path(f"/proc/{int(found[1])}").exists():
                continue
            if os.readlink(directory / "ns/pid") == os.readlink("/proc/self/ns/pid"):
                os.kill(int(directory.name), signal.SIGKILL)
        except OSError:
            continue
