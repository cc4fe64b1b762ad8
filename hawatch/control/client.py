"""The ctl socket's client: blocking, small, and quick to import."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from hawatch.control.protocol import REPLY_LIMIT, AnyReply, Done, Refused, Request, decode_reply, encode_line
from hawatch.decoding import UNDECODABLE
from hawatch.errors import HawatchError, PeerError, RefusedError

CONNECT_LIMIT_S = 5
REPLY_WAIT_S = 60.0
"""An agent that says nothing for so long is not there; requests that wait report progress more often."""
CHUNK_BYTES = 1 << 16


class NoAgentError(HawatchError):
    """Nobody answers on the ctl socket."""


class Client:
    """One connection to an agent; making it raises NoAgentError, or RefusedError for who may not open the socket."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._buffer = bytearray()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Not settimeout: with that, connect does not wait for room in the queue of a core that is born anew.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", CONNECT_LIMIT_S, 0))
        try:
            self._socket.connect(str(path))
        except PermissionError as error:
            self._socket.close()
            raise RefusedError(f"you may not open {path}: you are neither root nor in its group") from error
        except BlockingIOError as error:
            self._socket.close()
            raise NoAgentError(f"the agent at {path} takes no new client: too many wait") from error
        except OSError as error:
            self._socket.close()
            raise NoAgentError(f"no agent answers at {path}: {error.strerror or error}") from error

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    def ask(self, request: Request, *, patient: bool = False) -> Iterator[AnyReply]:
        """Send a request and yield the replies, the last of them `Done` or `Refused`.

        A patient asker waits for ever between replies (following events).
        """
        self._socket.settimeout(None if patient else REPLY_WAIT_S)
        try:
            with contextlib.suppress(BrokenPipeError):  # who refuses us says so and closes: it is there to be read
                self._socket.sendall(encode_line(request))
            while True:
                reply = decode_reply(self._line())
                yield reply
                if isinstance(reply, Done | Refused):
                    return
        except UNDECODABLE as error:
            raise PeerError(f"the agent at {self._path} answers what this hawatch does not know: {error}") from error
        except TimeoutError as error:
            raise NoAgentError(f"the agent at {self._path} has not answered for {REPLY_WAIT_S:.0f} s") from error
        except OSError as error:
            raise NoAgentError(f"the agent at {self._path} is gone: {error.strerror or error}") from error

    def _line(self) -> bytes:
        start = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            if start > REPLY_LIMIT:
                raise PeerError(f"a reply of the agent at {self._path} is longer than {REPLY_LIMIT} bytes")
            data = self._socket.recv(CHUNK_BYTES)
            if not data:
                raise NoAgentError(f"the agent at {self._path} ended before it had answered")
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line
