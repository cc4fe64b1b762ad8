"""What the keeper opens before it forks: the locks of its directories and the ctl socket."""

from __future__ import annotations

import contextlib
import fcntl
import grp
import os
import socket
from pathlib import Path

from hawatch.agent.places import Places
from hawatch.errors import LocalError

CTL_BACKLOG = 64
"""Clients that wait while a core is born anew."""
CTL_MODE = 0o660


def make_directory(path: Path) -> None:
    """Make a directory of the agent's if it is not there."""
    try:
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise LocalError(f"cannot make the directory {path}: {error.strerror}") from error


def lock_runtime(places: Places) -> int:
    """Take the lock of the runtime directory, write our process id, and return the locked descriptor.

    Raises LocalError when another agent holds it: two agents with one runtime directory would fight.
    """
    make_directory(places.runtime_dir)
    try:
        descriptor = os.open(places.pid_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise LocalError(f"cannot open {places.pid_file}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise LocalError(
            f"an agent (process {holder}) runs in {places.runtime_dir} already; "
            "stop it, or give this one its own --runtime-dir and --state-dir"
        ) from None
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    except OSError as error:
        os.close(descriptor)
        raise LocalError(f"cannot write {places.pid_file}: {error.strerror}") from error
    return descriptor


def lock_state(places: Places) -> int:
    """Make the state directory, take its lock, and return the locked descriptor.

    The directory itself is locked: it may be on a disk that is full or read-only. Raises LocalError when another agent
    holds it: each would overwrite what the other remembers.
    """
    make_directory(places.state_dir)
    try:
        descriptor = os.open(places.state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise LocalError(f"cannot open the directory {places.state_dir}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise LocalError(
            f"another agent keeps its state in {places.state_dir}; stop it, or give this one its own --state-dir"
        ) from None
    return descriptor


def group_id(name: str) -> int:
    """Return the id of a group of users; raise LocalError when there is none of that name."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise LocalError(f'there is no group of users "{name}" for the ctl socket') from None


def give_to_group(path: Path, group: str) -> None:
    """Let a group of users use a socket, "" for the agent's own. Raises OSError, or LocalError for no group."""
    owner_gid = group_id(group) if group else os.getegid()
    if path.stat().st_gid != owner_gid:
        os.chown(path, -1, owner_gid)


def check_may_give(group: str) -> None:
    """Raise LocalError where this process may not let a group of users use its sockets, or there is no such group."""
    allowed = {group_id(group)} if group else set()
    if os.geteuid() != 0 and not allowed <= {os.getegid(), *os.getgroups()}:
        raise LocalError(f'the agent was started when its user was no member of group "{group}" of [control]')


def open_ctl_socket(places: Places, group: str) -> socket.socket:
    """Return the listening ctl socket, replacing what an earlier agent left. The lock must be held."""
    owner_gid = group_id(group) if group else -1
    path = places.ctl_socket
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        mask = os.umask(0o777 & ~CTL_MODE)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        if group:
            os.chown(path, -1, owner_gid)
        listener.listen(CTL_BACKLOG)
    except OSError as error:
        listener.close()
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)  # nobody would answer there
        raise LocalError(f"cannot make the ctl socket {path}: {error.strerror or error}") from error
    return listener
