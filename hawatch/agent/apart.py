"""Work done in a process of its own, for what it imports: it takes that along when it ends.

A witness reads its configuration so: what understands a configuration is several times as big as what a witness is.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Generic, TypeVar

from hawatch.agent.priority import run_as_others
from hawatch.errors import HawatchError, LocalError

T = TypeVar("T")
RESULT_MAX = 16 << 20
"""Bytes of a pickled result."""
READ_BYTES = 1 << 16


class Apart(Generic[T]):
    """One piece of work under way; it may raise HawatchError, and what it returns can be pickled.

    Begin it where there are no threads, but those that only write a file.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        """Raises LocalError where the kernel has no pipe or no process for it."""
        sys.stdout.flush()
        sys.stderr.flush()
        with contextlib.ExitStack() as opened:
            try:
                self.descriptor, write_end = os.pipe2(os.O_CLOEXEC)
                """Readable when `feed` has something to do."""
                opened.callback(os.close, self.descriptor)
                opened.callback(os.close, write_end)
                self.pid = os.fork()
            except OSError as error:
                raise LocalError(f"no process to read the configuration in: {error.strerror}") from error
            opened.pop_all()
        self._data = bytearray()
        if self.pid == 0:
            _live(work, write_end)
        os.close(write_end)

    def feed(self) -> bool:
        """Read some of the result; return whether that was all. Waits where nothing is there yet."""
        data = os.read(self.descriptor, READ_BYTES)
        self._data += data
        if len(self._data) > RESULT_MAX:
            os.kill(self.pid, signal.SIGKILL)
            return True
        return not data

    def give_up(self) -> None:
        """End its process, and do not wait for that: one that waits for a disk ends when the disk answers."""
        os.kill(self.pid, signal.SIGKILL)
        os.close(self.descriptor)
        os.waitpid(self.pid, os.WNOHANG)

    def result(self) -> T:
        """Return what the work returned, or raise what it raised; LocalError when its process came to grief."""
        os.close(self.descriptor)
        _, status = os.waitpid(self.pid, 0)
        if status != 0 or not self._data:
            raise LocalError(f"a process that was to read the configuration ended with status {status}")
        done, value = pickle.loads(bytes(self._data))  # from a process of our own
        if not done:
            assert isinstance(value, HawatchError), value
            raise value
        return value  # type: ignore[no-any-return]


def do_apart(work: Callable[[], T]) -> T:
    """Do it, wait for it, and return what it returned."""
    apart = Apart(work)
    while not apart.feed():
        pass
    return apart.result()


def _live(work: Callable[[], T], write_end: int) -> None:
    """Be the process; never returns."""
    status = 1
    try:
        run_as_others()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        try:
            outcome: tuple[bool, object] = (True, work())
        except HawatchError as error:
            outcome = (False, type(error)(str(error)))  # without causes, which need not be picklable
        with os.fdopen(write_end, "wb") as pipe:
            pipe.write(pickle.dumps(outcome))
        status = 0
    except BaseException:  # noqa: BLE001 - the root of a process: told, and the process ends
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)
