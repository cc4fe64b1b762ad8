"""Work done in another network namespace: a thread enters it, works, and ends."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import TypeVar

CLONE_NEWNET = 0x40000000
CALL_LIMIT_S = 30
T = TypeVar("T")
_libc = ctypes.CDLL(None, use_errno=True)


def enter_namespace(name: str) -> None:
    """Move the calling thread, for good, into a network namespace made with ``ip netns add``."""
    descriptor = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(descriptor, CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), name)
    finally:
        os.close(descriptor)


def call_in_namespace(name: str, work: Callable[[], T]) -> T:
    """Call `work` in a namespace and return what it returns, or raise what it raises."""
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            enter_namespace(name)
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(CALL_LIMIT_S)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"work in namespace {name} took more than {CALL_LIMIT_S} s")
    return results[0]
