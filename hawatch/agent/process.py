"""What a process asks of the kernel about itself: its parent's death, its capabilities, the service manager."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
from collections.abc import Iterable
from enum import IntEnum

from hawatch.errors import KernelError

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4
LINUX_CAPABILITY_VERSION_3 = 0x20080522
CAPABILITY_HEADER = struct.Struct("=Ii")
"""Version and process id; 0 is the calling thread."""
CAPABILITY_SETS = struct.Struct("=6I")
"""Effective, permitted and inheritable: the lower halves, then the upper ones."""
CAPABILITY_LAST = 63
"""Highest number that version 3 of the capability calls can carry."""

_libc = ctypes.CDLL(None, use_errno=True)


class Capability(IntEnum):
    """The capabilities that some process of the agent keeps, with the kernel's numbers."""

    NET_BIND_SERVICE = 10
    NET_ADMIN = 12
    NET_RAW = 13
    IPC_LOCK = 14
    SYS_NICE = 23


def _prctl(option: int, value: int, third: int = 0) -> int:
    """Call prctl and return 0, or the error number."""
    words = [ctypes.c_ulong(word) for word in (value, third, 0, 0)]
    return 0 if _libc.prctl(ctypes.c_int(option), *words) >= 0 else ctypes.get_errno()


def _capget() -> tuple[int, int, int]:
    """Return the effective, permitted and inheritable sets of this thread as bit masks."""
    words = ctypes.create_string_buffer(CAPABILITY_SETS.size)
    if _libc.capget(CAPABILITY_HEADER.pack(LINUX_CAPABILITY_VERSION_3, 0), words) != 0:
        number = ctypes.get_errno()
        raise KernelError(f"capget: {os.strerror(number)}", number)
    low, high = CAPABILITY_SETS.unpack(words.raw)[:3], CAPABILITY_SETS.unpack(words.raw)[3:]
    effective, permitted, inheritable = (one | other << 32 for one, other in zip(low, high, strict=True))
    return effective, permitted, inheritable


def _capset(effective: int, permitted: int, inheritable: int) -> None:
    masks = (effective, permitted, inheritable)
    words = CAPABILITY_SETS.pack(*(mask & 0xFFFFFFFF for mask in masks), *(mask >> 32 for mask in masks))
    if _libc.capset(CAPABILITY_HEADER.pack(LINUX_CAPABILITY_VERSION_3, 0), words) != 0:
        number = ctypes.get_errno()
        raise KernelError(f"capset: {os.strerror(number)}", number)


def permitted_capabilities() -> frozenset[int]:
    """Return the numbers of the capabilities that this thread may use."""
    permitted = _capget()[1]
    return frozenset(number for number in range(CAPABILITY_LAST + 1) if permitted >> number & 1)


def keep_capabilities(keep: Iterable[Capability], *, for_programs: bool = False) -> None:
    """Give up every capability but `keep` for good, and the way to gain any by running a program.

    Capabilities of `keep` that this process does not have are passed over. With `for_programs` the kept ones
    pass on to the programs that it runs (the ambient set), so that a monitoring plug-in which needs a raw socket
    works though neither set-user-id nor file capabilities can raise anything any more.
    """
    wanted = sum(1 << capability for capability in frozenset(keep))
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(CAPABILITY_LAST + 1):
        # EPERM without CAP_SETPCAP, EINVAL above the kernel's last one: what is left in the bounding set
        # cannot be gained, because no_new_privs follows.
        if not wanted >> number & 1:
            _prctl(PR_CAPBSET_DROP, number)
    kept = wanted & _capget()[1]
    _capset(kept, kept, kept if for_programs else 0)
    number = _prctl(PR_SET_NO_NEW_PRIVS, 1)
    if number:
        raise KernelError(f"no_new_privs: {os.strerror(number)}", number)
    if for_programs:
        for capability in Capability:
            if kept >> capability & 1:
                _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent dies; end at once if that has happened already."""
    number = _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if number:
        raise KernelError(f"PR_SET_PDEATHSIG: {os.strerror(number)}", number)
    if os.getppid() != parent_pid:
        os._exit(1)


def set_process_name(name: str) -> None:
    """Set what `ps -o comm` and `top` show, cut to 15 bytes."""
    encoded = name.encode("ascii", "replace")[:15]
    buffer = ctypes.create_string_buffer(encoded)
    _libc.prctl(PR_SET_NAME, ctypes.cast(buffer, ctypes.c_void_p), 0, 0, 0)


def describe_end(wait_status: int) -> str:
    """Return how a child ended, from what waitpid told."""
    if os.WIFSIGNALED(wait_status):
        number = os.WTERMSIG(wait_status)
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        return f"killed by {name}"
    return f"ended with status {os.waitstatus_to_exitcode(wait_status)}"


def notify_service_manager(address: str, text: str) -> bool:
    """Send one datagram in systemd's notification format; False when nobody took it. Never waits.

    `address` is the value of NOTIFY_SOCKET; "" sends nothing.
    """
    if not address:
        return False
    path = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
        try:
            sender.sendto(text.encode(), path)
        except OSError:
            return False
    return True
