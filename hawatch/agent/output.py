"""Standard output and standard error that never make the agent wait.

Who reads them may be stopped, gone, or never have been there. A pipe that is full would hold up whoever writes to it:
the keeper, and with it everything. What cannot be written at once is left out; the events file has it all the same.
"""

from __future__ import annotations

import io
import os
import select
import sys

PIPE_BYTES = select.PIPE_BUF
"""A pipe that is ready takes so many bytes without waiting, and does not mix them with another process's."""


class UnwaitingOutput(io.TextIOBase):
    """A text stream on a descriptor; what the other end does not take at once is dropped."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def write(self, text: str, /) -> int:
        """Write what there is room for; never waits, never raises."""
        data = text.encode("utf-8", "replace")
        for begin in range(0, len(data), PIPE_BYTES):
            if not self._put(data[begin : begin + PIPE_BYTES]):
                break
        return len(text)

    def _put(self, data: bytes) -> bool:
        try:
            ready = self._poll.poll(0)
            return bool(ready) and ready[0][1] == select.POLLOUT and os.write(self._descriptor, data) == len(data)
        except OSError:
            return False

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def writable(self) -> bool:
        """Tell that this is for writing."""
        return True


def open_standard_descriptors() -> None:
    """Have something behind the descriptors 0, 1 and 2: else a socket gets their number, and text goes to it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def never_wait_for_output() -> None:
    """Make standard output and standard error of this process, and of those that it forks, never wait."""
    sys.stdout, sys.stderr = UnwaitingOutput(1), UnwaitingOutput(2)
